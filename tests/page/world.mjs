// What the made-up daemon watches: one watch for each thing that the page must be able to show, or any number of dull ones.

export const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
export const ago = (ms) => new Date(Date.now() - ms).toISOString();

export const MARKUP = '<img src=x onerror="alert(1)"><script>alert(2)</script>';
export const REORDERING = 'safe\u202egnp.exe\u202c \u0007bell \u200bzero\nline two';
export const LONG = 'long-' + 'x'.repeat(4091);

const OUTCOMES = {
  success: { words: 'success', exit_code: 0 },
  exited: { words: 'exit code 3', exit_code: 3 },
  signaled: { words: 'killed by SIGSEGV', signal: 11 },
  timed_out: { words: 'timed out after 60 s, SIGTERM', signal: 15 },
  terminated: { words: 'terminated for a newer update', signal: 15 },
  launch_failed: { words: 'cannot execute /usr/local/bin/deploy: no such file' },
  unknown: { words: 'its daemon was killed before' },
};

export class World {
  watches = [];
  runs = []; // Newest first.
  outputs = new Map();
  changes = {}; // Of the status.
  #ids = 0;

  watch(name, znode, changes = {}) {
    const watch = {
      name,
      znode,
      watch_type: 'data',
      run_mode: 'QUEUE',
      action: 'shell',
      origin: '/etc/twitcher/app.twc:12',
      state: 'armed',
      why: null,
      seen: { exists: true, version: 12, zxid: 4294967711, at: ago(4 * MINUTE) },
      handled: { exists: true, version: 12, zxid: 4294967711, at: ago(4 * MINUTE) },
      behind_since: null,
      next_attempt: null,
      running: [],
      last_run: { success: true, ended: ago(4 * MINUTE), run: null, words: null },
      unreadable: null,
      as_of: null,
      ...changes,
    };
    this.watches.push(watch);
    return watch;
  }

  /** A run that started `before` milliseconds ago; without an outcome it still runs. */
  run(watch, before, outcome, took = 800, changes = {}) {
    const id = `1m82x${(this.#ids++).toString(36).padStart(8, '0')}`;
    const done = outcome && OUTCOMES[outcome];
    const run = {
      run: id,
      watch,
      event: 'data',
      attempt: 1,
      outcome: outcome ?? null,
      words: null,
      exit_code: null,
      signal: null,
      pid: done ? null : 4711,
      started: ago(before),
      ended: done ? ago(before - took) : null,
      duration: done ? took / 1000 : null,
      max_rss_kib: done ? 4452 : null,
      output_bytes: done ? 311 : null,
      ...done,
      ...changes,
    };
    this.runs.unshift(run);
    return run;
  }

  status() {
    const counts = new Map();
    for (const { state } of this.watches) counts.set(state, (counts.get(state) ?? 0) + 1);
    return {
      version: '0.6.0',
      host: 'web-7.example',
      pid: 4242,
      started: ago(76 * HOUR),
      phase: 'ready',
      unready: null,
      source: {
        kind: 'zookeeper',
        target: 'zk1:2181,zk2:2181,zk3:2181/app',
        connected: true,
        since: ago(30 * HOUR),
        problem: null,
      },
      config: { paths: ['/etc/twitcher'], loaded: ago(26 * HOUR), errors: [], notes: [] },
      watches: [...counts].map(([state, count]) => ({ state, count })),
      running: this.watches.reduce((sum, { running }) => sum + running.length, 0),
      waiting: counts.get('waiting') ?? 0,
      max_running: 64,
      launcher_restarts: 0,
      state_problem: null,
      ...this.changes,
    };
  }

  detail(name) {
    const watch = this.watches.find((one) => one.name === name);
    return (
      watch && {
        ...watch,
        command: 'cd /srv/repo && git pull --quiet --ff-only',
        runs: this.runs.filter((run) => run.watch === name).slice(0, 10),
        settings: [
          { key: 'run_mode', value: watch.run_mode },
          { key: 'timeout', value: '60' },
          { key: 'uid', value: '"deploy"' },
          { key: 'on_failure', value: 'Retry(times=5, initial=1, max_delay=60, then=STOP)' },
          { key: 'env', value: '{"STAGE": "production"}' },
        ],
      }
    );
  }

  runsPage(query) {
    const limit = Number(query.get('limit') ?? 50);
    const before = query.get('before');
    const runs = this.runs.filter(
      (run) => (!query.get('watch') || run.watch === query.get('watch')) && (!before || run.run < before),
    );
    return { runs: runs.slice(0, limit), before: runs.length > limit ? runs[limit - 1].run : null };
  }

  runDetail(id) {
    const run = this.runs.find((one) => one.run === id);
    return (
      run && { ...run, output: this.outputs.get(id) ?? '', truncated: this.outputs.has(id) && this.outputs.get(id).length > 2000 }
    );
  }
}

/** One of everything. */
export function diverse() {
  const world = new World();
  world.watch('pull the repo', '/git/head');
  world.watch('render nginx', '/app/upstreams', {
    watch_type: 'children',
    action: 'wasm',
    run_mode: 'RESTART',
    state: 'running',
    running: ['1m82xrunning0'],
    behind_since: ago(42_000),
    seen: { exists: true, version: 88, zxid: 4294968000, at: ago(42_000) },
  });
  world.watch('deploy api', '/deploy/api', {
    state: 'parked',
    why: 'exit code 3 after 5 retries',
    behind_since: ago(97 * MINUTE),
    last_run: { success: false, ended: ago(95 * MINUTE) },
    seen: { exists: true, version: 31, zxid: 4294970000, at: ago(97 * MINUTE) },
    handled: { exists: true, version: 30, zxid: 4294969000, at: ago(22 * HOUR) },
  });
  world.watch('reload certificates', '/tls/bundle', {
    state: 'backing_off',
    why: 'exit code 1; attempt 3 of 6',
    behind_since: ago(3 * MINUTE),
    next_attempt: ago(-14_500),
    last_run: { success: false, ended: ago(20_000) },
    seen: { exists: true, version: 4, zxid: 4294971000, at: ago(3 * MINUTE) },
  });
  world.watch('feature flags', '/app/flags', {
    action: 'function',
    state: 'settling',
    why: 'until the node is quiet for 5 s',
    behind_since: ago(2500),
    next_attempt: ago(-2500),
  });
  world.watch('warm the cache', '/app/cache', {
    state: 'spaced',
    why: 'min_interval of 300 s',
    behind_since: ago(70_000),
    next_attempt: ago(-230_000),
  });
  world.watch('fleet restart', '/ops/restart', {
    state: 'splaying',
    why: 'this host’s share of splay=600 is 312 s',
    behind_since: ago(200_000),
    next_attempt: ago(-112_000),
    action: 'exec',
  });
  world.watch('database migration', '/db/schema', { state: 'paused', why: 'by an operator', behind_since: ago(5 * HOUR) });
  world.watch('region map', '/geo/regions', { state: 'refused_empty', why: 'the node is empty', watch_type: 'tree' });
  world.watch('blue green switch', '/deploy/colour', {
    state: 'absent',
    seen: { exists: false, version: null, zxid: null, at: ago(HOUR) },
    handled: null,
    last_run: null,
  });
  world.watch('index search', '/app/index', {
    state: 'queued',
    run_mode: 'QUEUE',
    running: ['1m82xrunning1'],
    behind_since: ago(9000),
  });
  world.watch('import feeds', '/feeds', {
    state: 'waiting',
    why: 'group "db" is full',
    behind_since: ago(31_000),
    run_mode: 'PARALLEL',
  });
  world.watch('retry budget', '/app/budget', { last_run: { success: false, ended: ago(12 * MINUTE) } });
  world.watch('signing key', '/vault/key', {
    state: 'unreadable',
    why: 'no permission to read it (NoAuth)',
    unreadable: {
      why: 'no permission to read it (NoAuth)',
      remedy: '`zkCli.sh getAcl /vault/key` shows who may: let this daemon’s user, app read it (r)',
      parts: null,
      since: ago(11 * MINUTE),
      next_attempt: ago(-12_000),
    },
  });
  world.watch('just added', '/new', { state: 'unread', seen: null, handled: null, last_run: null });
  deployHistory(world);
  return world;
}

function deployHistory(world) {
  const name = 'deploy api';
  for (let hour = 30; hour >= 4; hour--)
    world.run(
      name,
      hour * HOUR - 7 * MINUTE,
      hour === 22 ? 'terminated' : hour === 13 ? 'timed_out' : 'success',
      hour === 13 ? 60_000 : 2000 + hour * 150,
    );
  for (let attempt = 1; attempt <= 6; attempt++) {
    const run = world.run(name, 97 * MINUTE - attempt * 14_000, 'exited', 3200, {
      attempt,
      event: attempt > 1 ? 'retry' : 'data',
    });
    world.outputs.set(
      run.run,
      `Fetching release 31 …\nunpacking api-31.tar.zst (18.2 MiB)\nerror: migration 0031_orders.sql failed: relation "orders" is locked\nattempt ${attempt} gave up after 3 s\n`,
    );
  }
  const feeds = 'import feeds';
  for (let i = 0; i < 40; i++)
    world.run(feeds, 50 * MINUTE - i * 70_000, i % 9 === 4 ? 'signaled' : 'success', 150_000 - (i % 5) * 20_000);
  world.run(feeds, 90_000, null);
}

/** Names, outputs and reasons that try to be more than text. */
export function hostile() {
  const world = new World();
  for (const name of [MARKUP, REORDERING, LONG, '../..', '"quoted" \'too\' & <b>', 'ملف', '%2f%00', '\u001b[31mred\u001b[0m']) {
    world.watch(name, `/z/${name}`, {
      why: MARKUP,
      state: 'parked',
      action: MARKUP,
      origin: MARKUP,
      last_run: { success: false, ended: ago(MINUTE) },
    });
  }
  const run = world.run(MARKUP, MINUTE, 'exited', 300, { words: MARKUP, event: MARKUP, pid: 1 });
  world.outputs.set(run.run, `${MARKUP}\n\u202ereversed\n\u001b[31mred\u0000\r\nend\n`);
  world.changes = {
    source: { kind: 'zookeeper', target: MARKUP, connected: false, since: ago(MINUTE), problem: MARKUP },
    state_problem: MARKUP,
    version: MARKUP,
  };
  return world;
}

/** Many dull ones, with a few in trouble. */
export function many(count) {
  const world = new World();
  for (let i = 0; i < count; i++) {
    const failed = i % 1250 === 7;
    world.watch(
      `service-${i}`,
      `/services/${i % 100}/config-${i}`,
      failed
        ? {
            state: 'parked',
            why: 'exit code 1',
            behind_since: ago(9 * MINUTE),
            last_run: { success: false, ended: ago(9 * MINUTE) },
          }
        : {},
    );
  }
  return world;
}
