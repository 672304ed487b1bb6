// Made-up fleets: of any size, in any trouble.

import { MARKUP, MINUTE, LONG, REORDERING, World, ago } from './world.mjs';

const DONE = { run: '1m83w1vm50002', outcome: 'success', attempt: 1, started: ago(MINUTE), duration: 1.25 };
const FAILED = { run: '1m83w1vm50f0a', outcome: 'exit code 1', attempt: 3, started: ago(2 * MINUTE), duration: 0.51 };

export class FleetWorld {
  members = []; // Of /v1/fleet.
  list = []; // Of /v1/fleet/rollouts.
  root = '/twitcher';

  host(name, changes = {}) {
    this.members.push({
      name,
      id: null,
      live: ago(26 * 60 * MINUTE),
      labels: { rack: `r${this.members.length % 4}` },
      version: '2.0.0',
      problem: null,
      lagging: 0,
      watches: [],
      ...changes,
    });
    return name;
  }

  rollout(name, changes = {}) {
    const rollout = {
      name,
      znode: '/git/head',
      watch_type: 'data',
      serial: 41,
      goal: '0x7b00001a2c',
      newest: '0x7b00001a2c',
      state: 'rolling',
      since: ago(3 * MINUTE),
      why: null,
      by: 'web-07',
      wave: 1,
      waves: 1,
      plan: [{ labels: {}, percent: 100, bake: 0, manual: false }],
      at_once: 5,
      slots: 0,
      max_failures: 2,
      steward: 'web-07',
      hosts: [],
      ...changes,
    };
    this.list.push(rollout);
    return rollout;
  }

  part(rollout, host, state, changes = {}) {
    const part = {
      host,
      state,
      wave: ['absent', 'declined', 'other'].includes(state) ? null : 1,
      live: !['absent', 'lost'].includes(state),
      slot: ['acting', 'running', 'verifying', 'granted', 'lost'].includes(state),
      serial: ['waiting', 'absent', 'declined'].includes(state) ? 40 : 41,
      policy_differs: false,
      last_run: state === 'failed' ? FAILED : DONE,
      ...changes,
    };
    rollout.hosts.push(part);
    rollout.slots += part.slot ? 1 : 0;
    return part;
  }

  rollouts() {
    return { at: new Date().toISOString(), rollouts: this.list };
  }

  hosts() {
    return { root: this.root, host: this.members[0]?.name ?? 'web-1', at: new Date().toISOString(), hosts: this.members };
  }
}

/** A daemon in this fleet. */
export function inFleet(fleet) {
  const world = new World();
  world.watch('repo', '/git/head');
  world.fleet = fleet;
  world.changes = {
    fleet: { root: '/twitcher', host: 'web-1', since: ago(60 * MINUTE), problem: null, unpublished: 0, lag: 0, rollouts: [] },
  };
  return world;
}

const THREE = [
  { labels: { canary: 'yes' }, percent: 100, bake: 600, manual: false },
  { labels: {}, percent: 40, bake: 0, manual: true },
  { labels: {}, percent: 100, bake: 0, manual: false },
];

/** Of so many hosts the first are canaries; a bad change has been halted in its second wave. */
export function halted(size) {
  const fleet = new FleetWorld();
  const rollout = fleet.rollout('repo', { state: 'halted', why: '3 hosts failed, 2 allowed', wave: 2, waves: 3, plan: THREE });
  for (let i = 0; i < size; i++) {
    const canaries = Math.max(Math.round(size / 30), 2);
    const canary = i < canaries;
    const second = !canary && i < size * 0.4;
    const state = canary
      ? 'current'
      : second
        ? (['lost', 'current', 'failed', 'acting', 'verifying', 'granted', 'failed'][i - canaries] ?? 'current')
        : i % 41 === 40
          ? 'absent'
          : i % 67 === 60
            ? 'declined'
            : 'waiting';
    const name = fleet.host(`web-${String(i + 1).padStart(size > 99 ? 4 : 2, '0')}`, {
      labels: { canary: canary ? 'yes' : 'no', rack: `r${i % 7}` },
      live: state === 'lost' || state === 'absent' ? null : ago(26 * 60 * MINUTE),
      lagging: state === 'current' ? 0 : 1,
    });
    fleet.part(rollout, name, state, { wave: ['absent', 'declined'].includes(state) ? null : canary ? 1 : second ? 2 : 3 });
  }
  return fleet;
}

/** One rollout in each state, with a few hosts in every state that there is. */
export function every() {
  const fleet = new FleetWorld();
  const states = ['current', 'acting', 'verifying', 'granted', 'waiting', 'failed', 'lost', 'absent', 'declined', 'ungoverned', 'other', 'thawing'];
  for (const name of states.map((state, i) => `${state}-${i + 1}`)) fleet.host(name);
  for (const state of ['rolling', 'baking', 'promoting', 'halted', 'paused', 'aborted', 'done', 'thawing']) {
    const rollout = fleet.rollout(`is ${state}`, { state, znode: `/app/${state}` });
    states.forEach((one, i) => fleet.part(rollout, `${one}-${i + 1}`, one));
  }
  fleet.rollout('fresh', { znode: null, serial: 0, goal: null, newest: null, steward: null });
  return fleet;
}

/** Everything that can be written by others, written by somebody who means ill. */
export function hostileFleet() {
  const fleet = new FleetWorld();
  fleet.root = MARKUP;
  const names = [MARKUP, "it's `rm -rf /`; $(reboot)", REORDERING, LONG, 'ملف', '../..', '__proto__', 'constructor'];
  const rollout = fleet.rollout(MARKUP, {
    state: 'halted',
    why: `${MARKUP}\n\u202ereversed`,
    znode: LONG,
    steward: REORDERING,
    by: MARKUP,
    plan: [{ labels: { [MARKUP]: REORDERING }, percent: 1e9, bake: -1, manual: 'yes' }, { labels: null, percent: 'all', bake: {} }],
  });
  for (const [i, name] of names.entries()) {
    fleet.host(name, { labels: { [MARKUP]: LONG }, version: MARKUP, problem: i % 2 ? MARKUP : null, lagging: i });
    fleet.part(rollout, name, ['failed', 'lost', MARKUP, 'constructor', '__proto__'][i] ?? 'acting', {
      serial: MARKUP,
      last_run: { run: MARKUP, outcome: REORDERING, attempt: MARKUP, started: MARKUP, duration: MARKUP },
    });
  }
  fleet.rollout('constructor', { hosts: [{ host: 'x', state: 'failed', last_run: 'no' }], plan: 'none', wave: 'one' });
  return fleet;
}
