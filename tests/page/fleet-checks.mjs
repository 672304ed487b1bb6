// What the page must do with a fleet, on a made-up daemon.

import assert from 'node:assert/strict';

import { shown } from './checks.mjs';
import { FleetWorld, every, halted, hostileFleet, inFleet } from './fleet-world.mjs';
import { ADRIFT, FAINT, FOREIGN, NAMELESS, OVERFLOW, textOf } from './probes.mjs';
import { diverse } from './world.mjs';

export const fleetChecks = [];
const check = (name, run, errors) => fleetChecks.push({ name, run, errors });

/** The states and names of the tiles of a lane. */
const tilesOf = (label) =>
  `[...(document.querySelector('[role=listbox][aria-label^="${label}"]')?.children ?? [])].map((tile) => tile.ariaLabel)`;
const THERE = `document.querySelectorAll('#fleet .tile').length > 0`;

async function fleetPage(stage, fleet, options = {}) {
  const { mock, page } = await shown(stage, inFleet(fleet), { hash: '#/fleet', width: 1440, height: 900, ...options });
  await page.until('tiles', THERE);
  return { mock, page };
}

check('without a fleet there is none to be seen, and with one it is a view of its own', async (stage) => {
  const { page } = await shown(stage, diverse());
  assert.equal(await page.value(textOf('#views')), '');
  const { mock, page: other } = await shown(stage, inFleet(halted(12)));
  assert.equal(mock.fleetAsked, undefined, 'nobody looks');
  await other.click('#view-fleet');
  await other.until('tiles', THERE);
  assert.equal(await other.value(`document.querySelector('#views [aria-current]').textContent`), 'Fleet');
  assert.equal(await other.value(textOf('#tools') + ' + ' + textOf('#list')), '');
  await other.click('#view-watches');
  await other.until('watches', `${textOf('#list')}.includes('repo') && !document.querySelector('#fleet').checkVisibility()`);
});

check('a halted rollout says why, where, on which hosts and with which commands it goes on', async (stage) => {
  const { page } = await fleetPage(stage, halted(36));
  const text = await page.value(textOf('#fleet'));
  for (const expected of [
    'repo',
    '/git/head',
    'Halted',
    'change 41, for 3 min',
    'steward web-07',
    '3 hosts failed, 2 allowed. No other host starts.',
    'twitcher fleet retry repo',
    'twitcher fleet resume repo',
    'twitcher fleet rollback repo',
    'twitcher fleet abort repo',
    'canary=yes',
    'bakes 10 min',
    '40 % of all',
    'then waits for promote',
    'all others',
    'exit code 1, attempt 3; on the host, twitcher logs 1m83w1vm50f0a',
    'twitcher fleet release web-03 repo',
  ])
    assert.ok(text.includes(expected), `${expected} in ${text}`);
  assert.deepEqual(await page.value(tilesOf('Hosts of wave 1 of repo')), ['web-01, Current', 'web-02, Current']);
  const second = await page.value(tilesOf('Hosts of wave 2 of repo'));
  assert.match(second[0], /^web-\d\d, Failed, exit code 1, attempt 3, run 1m83w1vm50f0a$/);
  assert.ok(second.some((tile) => /^web-\d\d, Lost, went away with a slot$/.test(tile)), second.join('\n'));
  const lanes = await page.value(`[...document.querySelectorAll('.lane-head .badge')].map((node) => node.innerText)`);
  assert.deepEqual(lanes, ['Through', 'Halted', 'To come']);
  assert.deepEqual(await page.value(NAMELESS), []);
  assert.deepEqual(await page.value(ADRIFT), []);
  await stage.shot(page, 'fleet-light');
});

check('each state of a rollout and of a host has a shape and a word, also one that this page does not know', async (stage) => {
  const { page } = await fleetPage(stage, every());
  const states = await page.value(`[...document.querySelectorAll('.card-head .badge')].map((node) => node.innerText)`);
  assert.deepEqual(states, [
    'Rolling out', 'Baking', 'Waits to be promoted', 'Halted', 'Paused', 'Aborted', 'Done', 'thawing', 'Nothing has gone out yet',
  ]);
  const card = `document.querySelector('.card[aria-label="Rollout is rolling"]')`;
  const shapes = await page.value(`[...${card}.querySelectorAll('.figures .badge use')].map((use) => use.getAttribute('href'))`);
  assert.equal(shapes.length, 12);
  assert.ok(new Set(shapes).size >= 11, shapes.join());
  for (const [state, command] of [
    ['promoting', 'twitcher fleet promote'],
    ['paused', 'twitcher fleet resume'],
    ['halted', 'twitcher fleet retry'],
  ])
    assert.ok((await page.value(textOf(`.card[aria-label="Rollout is ${state}"] .advice`))).includes(`${command} 'is ${state}'`), state);
  await stage.shot(page, 'fleet-states');
});

check('it is live: what changes keeps its place and the keyboard its tile', async (stage) => {
  const fleet = new FleetWorld();
  const rollout = fleet.rollout('repo');
  for (let i = 1; i <= 12; i++) fleet.part(rollout, fleet.host(`web-${i}`), 'waiting');
  const { mock, page } = await fleetPage(stage, fleet);
  await page.value(`document.querySelector('.tiles').focus()`);
  for (let i = 0; i < 2; i++) await page.press('ArrowRight');
  const active = `document.querySelector('.tile.active')?.ariaLabel`;
  assert.equal(await page.value(active), 'web-3, Waiting, last had change 40');
  await page.until('what it says', `${textOf('#tip')}.includes('web-3')`);
  Object.assign(rollout.hosts[2], { state: 'acting', slot: true, serial: 41 });
  await page.until('the change', `${active} === 'web-3, Running, holds a slot'`);
  assert.equal(await page.value(tilesOf('Hosts of wave 1') + '[0]'), 'web-3, Running, holds a slot');
  await page.press('Enter');
  await page.until('the host', `${textOf('#member')}.includes('holds a slot') && document.activeElement.id === 'member-name'`);
  assert.equal(await page.value('location.hash'), '#/fleet/host/web-3');
  await stage.shot(page, 'fleet-member');
  await page.press('Escape');
  await page.until('the lane again', `document.activeElement.matches('.tiles') && !document.querySelector('#member').checkVisibility()`);
  await page.press('End');
  assert.equal(await page.value(active), 'web-12, Waiting, last had change 40');
  fleet.list.pop();
  await page.until('it is gone', `document.querySelectorAll('#rollouts .card').length === 0`);
  assert.ok(mock.fleetAsked < 40, `${mock.fleetAsked} requests`);
});

check('no text of a fleet becomes markup, and none hides or reorders', async (stage) => {
  const { page } = await fleetPage(stage, hostileFleet());
  assert.deepEqual(await page.value(FOREIGN), []);
  assert.equal(await page.value(`document.querySelectorAll('script, img, iframe, object, link, style').length`), 3);
  const whole = `document.body.textContent + [...document.querySelectorAll('[aria-label]')].map((node) => node.ariaLabel).join('')`;
  const hidden = /[\u0000-\u0008\u000b-\u001f\u007f\u200b\u202a-\u202e\u2066-\u2069]/u;
  assert.doesNotMatch(await page.value(whole), hidden);
  assert.ok((await page.value(textOf('#fleet'))).includes(`'it'\\''s \`rm -rf /\`; $(reboot)'`), 'a name as a shell takes it');
  for (const tile of ['Hosts of wave 1', 'Hosts of the fleet']) {
    await page.value(`document.querySelector('[aria-label^="${tile}"]').focus()`);
    for (const key of ['Home', 'ArrowDown', 'End']) await page.press(key);
    await page.press('Enter');
    await page.until('the host', `document.querySelector('#member').checkVisibility() && document.querySelector('#member-name').innerText !== ''`);
    assert.deepEqual(await page.value(FOREIGN), []);
    assert.doesNotMatch(await page.value(whole), hidden);
    await page.press('Escape');
  }
  assert.deepEqual(await page.value(OVERFLOW), []);
  await stage.shot(page, 'fleet-hostile');
});

check('on a phone nothing is wider than the screen, and a host takes all of it', async (stage) => {
  for (const [width, scheme, world] of [
    [360, 'light', halted(24)],
    [360, 'light', hostileFleet()],
    [390, 'dark', halted(1000)],
    [320, 'dark', every()],
  ]) {
    const { page } = await fleetPage(stage, world, { width, height: 760, touch: true, scheme });
    assert.deepEqual(await page.value(OVERFLOW), [], `${width} ${world.list[0].name.slice(0, 20)}`);
    await stage.shot(page, `fleet-phone-${width}-${world.members.length}`);
    // Large enough for a thumb, and not all of a thousand.
    const small = await page.value(`[...document.querySelectorAll('.tile')].filter((tile) => tile.getBoundingClientRect().height < 24).length`);
    assert.equal(small, 0);
    assert.ok((await page.value(`document.querySelectorAll('.lane .tile').length`)) <= 1000);
    await page.click('.tile');
    await page.until('the host', `document.querySelector('#member').checkVisibility() && document.querySelector('.fleet').inert`);
    assert.deepEqual(await page.value(OVERFLOW), []);
    await stage.shot(page, `fleet-phone-${width}-${world.members.length}-host`);
    await page.click('#member-close');
    await page.until('the fleet', `!document.querySelector('.fleet').inert`);
  }
});

check('one host, twelve and a thousand: lanes are as long as they must be, and a thousand leave it smooth', async (stage) => {
  const one = new FleetWorld();
  one.part(one.rollout('repo', { state: 'done' }), one.host('web-1'), 'current');
  const { page } = await fleetPage(stage, one);
  assert.deepEqual(await page.value(tilesOf('Hosts of wave 1')), ['web-1, Current']);
  await stage.shot(page, 'fleet-1');
  const fleet = halted(1000);
  const { page: large } = await fleetPage(stage, fleet);
  await large.until('all of them', `document.querySelectorAll('#rollouts .tile').length === 1000`);
  assert.equal(await large.value(textOf('#shown')), '1,000 hosts, 1 rollout');
  // All of it on a screen or two, those that need somebody first.
  const height = await large.value(`document.querySelector('#rollouts .lanes').getBoundingClientRect().height`);
  assert.ok(height < 900, `${height} px`);
  assert.match((await large.value(tilesOf('Hosts of wave 2')))[0], /Failed/);
  await stage.shot(large, 'fleet-1000');
  await large.value(`new PerformanceObserver((list) => (window.tasks = [...(window.tasks ?? []), ...list.getEntries().map((entry) => Math.round(entry.duration))])).observe({ type: 'longtask' })`);
  for (const host of fleet.list[0].hosts) if (host.state === 'waiting') host.state = 'current';
  await large.until('all change at once', `${textOf('#rollouts .figures')}.match(/Waiting/) === null`);
  const tasks = await large.value('window.tasks ?? []');
  assert.ok(tasks.every((ms) => ms < 1500), tasks.join());
  return `${Math.round(height)} px; tasks above 50 ms: [${tasks}]`;
});

check('light and dark have contrast', async (stage) => {
  for (const scheme of ['light', 'dark']) {
    const { page } = await fleetPage(stage, every(), { scheme });
    await page.click('.tile');
    await page.until('the host', `document.querySelector('#member').checkVisibility()`);
    assert.deepEqual(await page.value(FAINT), [], scheme);
    await stage.shot(page, `fleet-every-${scheme}`);
  }
  const { page } = await fleetPage(stage, halted(36), { scheme: 'dark' });
  await stage.shot(page, 'fleet-dark');
});

check(
  'a fleet that cannot be read is said, and what was known stays',
  async (stage) => {
    const { mock, page } = await fleetPage(stage, halted(12));
    mock.fleetFailing = { status: 503, text: `{"error":"the fleet cannot be read: no connection with ZooKeeper","help":"\`twitcher status\` shows why"}` };
    await page.until('the problem', `${textOf('#problems')}.includes('no connection with ZooKeeper') && ${textOf('#problems')}.includes('as it was then')`);
    assert.ok(await page.value(THERE));
    mock.fleetFailing = { status: 200, text: '{"rollouts":[{"name":1}]}' };
    await page.until('no answer of this interface', `${textOf('#problems')}.includes('is not understood')`);
    mock.fleetFailing = null;
    await page.until('recovery', `${textOf('#problems')} === ''`);
  },
  /503/,
);
