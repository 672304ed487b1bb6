// What the page must do, on a made-up daemon. Each check has a name, and may name the console errors that it provokes.

import assert from 'node:assert/strict';

import { until } from './browser.mjs';
import { ADRIFT, FAINT, FOREIGN, NAMELESS, NAMES, OVERFLOW, rowOf, scrolling, textOf } from './probes.mjs';
import { LONG, MARKUP, MINUTE, REORDERING, World, ago, diverse, hostile, many } from './world.mjs';

const ROWS_THERE = `document.querySelectorAll('#rows .row:not([hidden])').length > 0`;
const LIVE = `document.querySelector('#link').innerText === 'Live'`;
const DEPLOY = '#/watch/deploy%20api';

/** A page that shows a world, live. */
export async function shown(stage, world, { hash = '', ...options } = {}) {
  const mock = await stage.mock(world);
  const page = await stage.page(options);
  await page.goto(mock.url + hash);
  await page.until('live', LIVE);
  await until('a follower', () => mock.followers > 0);
  if (world.watches.length) await page.until('rows', ROWS_THERE);
  return { mock, page };
}

export const checks = [];
const check = (name, run, errors) => checks.push({ name, run, errors });

check('watches are shown, those in trouble first, and the daemon above them', async (stage) => {
  const { page } = await shown(stage, diverse());
  const names = await page.value(NAMES);
  assert.deepEqual(names.slice(0, 4), ['deploy api', 'signing key', 'reload certificates', 'retry budget']);
  assert.equal(names.length, 15);
  assert.match(
    await page.value(rowOf('deploy api')),
    /Parked\s+exit code 3 after 5 retries\s+Failed\s+1 h 35 min ago\s+1 h 37 min/,
  );
  assert.match(await page.value(rowOf('blue green switch')), /Absent\s+No run yet/);
  const header = await page.value(textOf('.daemon'));
  for (const text of ['Twitcher', 'web-7.example', 'Ready', 'zk1:2181,zk2:2181,zk3:2181/app', '2 of 64', '3 d 4 h', '0.6.0'])
    assert.ok(header.includes(text), `${text} in ${header}`);
  assert.match(await page.value('document.title'), /^\([67]\) Twitcher web-7\.example$/);
  assert.deepEqual(await page.value(NAMELESS), []);
  assert.deepEqual(await page.value(ADRIFT), []);
  await stage.shot(page, 'desktop-light');
});

check('an event changes its row, its filter and the order; one of an unknown watch adds it', async (stage) => {
  const world = diverse();
  const { mock, page } = await shown(stage, world);
  const watch = world.watches.find(({ name }) => name === 'pull the repo');
  mock.emit('changed', {
    watch: { ...watch, state: 'parked', why: 'exit code 9', last_run: { success: false, ended: new Date().toISOString() } },
  });
  await page.until('the row', `${rowOf('pull the repo')}.includes('exit code 9')`);
  await page.until('the order', `${NAMES}[1] === 'pull the repo' && ${NAMES}[2] === 'signing key'`);
  await page.until('the filter', `${textOf('#filters')}.match(/Parked\\s+2/)`);
  mock.emit('changed', { watch: { ...watch, name: 'a new one' } });
  await page.until('the new row', `${rowOf('a new one')} !== ''`);
  mock.emit('changed', { watch: { ...watch, name: 'a new one', state: 'retired' } });
  await page.until('its end', `${rowOf('a new one')} === ''`);
});

check('times go on by themselves', async (stage) => {
  const { page } = await shown(stage, diverse());
  const before = await page.value(rowOf('index search'));
  await page.until('a tick', `${rowOf('index search')} !== ${JSON.stringify(before)}`);
});

check('filters and search narrow down, and say how far', async (stage) => {
  const { page } = await shown(stage, diverse());
  await page.value(`[...document.querySelectorAll('.filter')].find((node) => node.innerText.startsWith('Paused')).click()`);
  await page.until('paused ones', `${NAMES}.join() === 'database migration'`);
  assert.equal(await page.value(textOf('#shown')), '1 of 15 watches');
  await page.value(`[...document.querySelectorAll('.filter')].find((node) => node.innerText.startsWith('Troubled')).click()`);
  await page.until('troubled ones', `${NAMES}.length === 6`);
  await page.value(`[...document.querySelectorAll('.filter')][0].click()`);
  await page.until('all', `${NAMES}.length === 15`);
  await page.click('#search');
  await page.type('APP bud');
  await page.until('by znode and part of the name', `${NAMES}.join() === 'retry budget'`);
  await page.type('zzz');
  await page.until('nothing', `${textOf('#nothing')}.includes('Nothing matches')`);
  await page.click('#nothing button');
  await page.until('all again', `${NAMES}.length === 15`);
});

check('columns sort, and say so', async (stage) => {
  const { page } = await shown(stage, diverse());
  const sort = (word) =>
    page.value(`[...document.querySelectorAll('#columns button')].find((node) => node.innerText.startsWith('${word}')).click()`);
  await sort('Watch');
  await page.until('by name', `${NAMES}[0] === 'blue green switch'`);
  await sort('Watch');
  await page.until(
    'backwards',
    `${NAMES}[0] === 'warm the cache' && document.querySelector('[aria-sort]').ariaSort === 'descending'`,
  );
  await sort('Behind');
  await page.until('longest behind', `${NAMES}[0] === 'database migration'`);
});

check('the keyboard reaches everything', async (stage) => {
  const { page } = await shown(stage, diverse());
  await page.press('/');
  await page.until('the search', `document.activeElement.id === 'search'`);
  await page.type('app');
  await page.press('Enter');
  await page.until('the first', `document.querySelector('.row.active .name')?.textContent === 'retry budget'`);
  await page.press('ArrowDown');
  await page.until('the second', `document.querySelector('.row.active .name')?.textContent === 'feature flags'`);
  assert.equal(
    await page.value(
      `document.getElementById(document.getElementById('grid').getAttribute('aria-activedescendant')).querySelector('.name').textContent`,
    ),
    'feature flags',
  );
  await stage.shot(page, 'keyboard');
  await page.press('Enter');
  await page.until('the watch', `location.hash === '#/watch/feature%20flags' && document.activeElement.id === 'detail-name'`);
  await page.press('Escape');
  await page.until('the list again', `document.getElementById('detail').hidden && document.activeElement.id === 'grid'`);
  await page.press('End');
  await page.until('the last', `document.querySelector('.row.active .name')?.textContent === 'warm the cache'`);
  await page.press('Escape');
  await page.until('all watches', `${NAMES}.length === 15`);
});

check('an address opens a watch; Back closes it; what is shown is its state, its runs and their output', async (stage) => {
  const { page } = await shown(stage, diverse(), { width: 1440, height: 900 });
  await page.click('#rows .row:not([hidden]) .name');
  await page.until('its runs', `document.querySelectorAll('#runs .run').length === 33`);
  assert.equal(await page.value('location.hash'), DEPLOY);
  const text = await page.value(textOf('#detail'));
  for (const expected of [
    'deploy api',
    '/deploy/api',
    'Parked',
    'exit code 3 after 5 retries',
    'twitcher resume',
    '0x100000a90',
    'What was seen is not handled yet',
    'git pull',
    'on_failure',
  ]) {
    assert.ok(text.includes(expected), `${expected} in ${text}`);
  }
  assert.ok((await page.value(`document.querySelectorAll('#timeline .bar').length`)) >= 20);
  assert.match(await page.value(textOf('#legend')), /Succeeded \d+\s+Terminated 1\s+Timed out 1\s+Failed 6/);
  // Why each ran and how it ended, before any is opened.
  const [headline] = (await page.value(textOf('#runs .run'))).split('\n\n');
  for (const expected of ['Failed', 'exit code 3', 'retry']) assert.ok(headline.includes(expected), `${expected} in ${headline}`);
  await stage.shot(page, 'detail-light');
  await page.click('#runs .run button');
  await page.until('its output', `${textOf('#runs .output')}.includes('attempt 6 gave up')`);
  assert.match(await page.value('location.hash'), /^#\/watch\/deploy%20api\/run\/1m82x/);
  await page.value('history.back()');
  await page.until('the list', `document.getElementById('detail').hidden`);
  await page.value('history.forward()');
  await page.until('the run again', `${textOf('#runs .output')}.includes('attempt 6 gave up')`);
});

check('the timeline can be read by pointer and keyboard', async (stage) => {
  const { page } = await shown(stage, diverse(), { width: 1440, height: 900, hash: '#/watch/import%20feeds' });
  await page.until('bars', `document.querySelectorAll('#timeline .bar').length === 41`);
  await page.hover('#timeline .bar:nth-child(21) .full');
  await page.until('what it stands for', `${textOf('#tip')}.includes('took')`);
  await stage.shot(page, 'timeline');
  await page.value(`document.querySelector('#timeline svg').focus()`);
  await page.press('End');
  await page.until('the newest', `${textOf('#tip')}.includes('still runs')`);
  await page.press('ArrowLeft');
  await page.until('the one before', `${textOf('#tip')}.includes('took')`);
  await page.press('Enter');
  await page.until('the run', `location.hash.includes('/run/') && document.querySelector('#runs .opened')`);
  const lanes = await page.value(
    `new Set([...document.querySelectorAll('#timeline .bar .ring')].map((node) => Math.round(Number(node.getAttribute('y')) / 16))).size`,
  );
  assert.ok(lanes > 1, 'runs that overlap must not cover each other');
});

check('a run that starts and ends shows up in an open watch', async (stage) => {
  const world = diverse();
  const { mock, page } = await shown(stage, world, { hash: '#/watch/pull%20the%20repo' });
  await page.until('no runs', `${textOf('#runs-none')} === 'No runs are recorded.'`);
  const run = world.run('pull the repo', 1000, null);
  mock.emit('started', { run });
  await page.until('it runs', `${textOf('#runs')}.includes('Running')`);
  await page.click('#runs .run button');
  await page.until('no output yet', `${textOf('#runs .output-note')} === 'It wrote nothing.'`);
  world.outputs.set(run.run, 'all done\n');
  Object.assign(run, { outcome: 'success', words: 'success', ended: new Date().toISOString(), duration: 1.25 });
  mock.emit('ended', { run });
  await page.until('it ended', `${textOf('#runs .run')}.includes('Succeeded') && ${textOf('#runs .run')}.includes('1.3 s')`);
  await page.until('its output', `${textOf('#runs .output')}.includes('all done')`);
});

check('no text becomes markup, and none hides or reorders', async (stage) => {
  const world = hostile();
  const { mock, page } = await shown(stage, world, { width: 1440, height: 900, hash: `#/watch/${encodeURIComponent(MARKUP)}` });
  await page.until('its run', `document.querySelectorAll('#runs .run').length === 1`);
  await page.click('#runs .run button');
  await page.until('its output', `${textOf('#runs .output')}.includes('reversed')`);
  mock.emit('changed', { watch: { ...world.watches[0], why: `${MARKUP} again` } });
  await page.until('the event', `${textOf('#detail-why')}.includes('again')`);
  assert.deepEqual(await page.value(FOREIGN), []);
  assert.equal(
    await page.value(`document.querySelectorAll('script, img, iframe, object, link, style').length`),
    3,
    'script, style and the icon',
  );
  assert.equal(await page.value(textOf('#detail-name')), MARKUP);
  const whole = await page.value(`document.body.textContent`);
  assert.doesNotMatch(whole, /[\u0000-\u0008\u000b-\u001f\u007f\u200b\u202a-\u202e\u2066-\u2069]/u);
  const names = await page.value(NAMES);
  assert.ok(names.includes('safe\\u{202e}gnp.exe\\u{202c} \\u{7}bell \\u{200b}zero\\nline two'), names.join('\n'));
  assert.ok(
    names.every((name) => name.length < 260),
    'a long name is cut',
  );
  assert.match(await page.value(textOf('#runs .output')), /\\u\{202e\}reversed\n\\u\{1b\}\[31mred\\u\{0\}\nend/);
  await stage.shot(page, 'hostile');
  for (const name of [REORDERING, LONG, '"quoted" \'too\' & <b>', '%2f%00']) {
    await page.value(`location.hash = '#/watch/' + ${JSON.stringify(encodeURIComponent(name))}`);
    await page.until(
      `details of ${name.slice(0, 20)}`,
      `${textOf('#settings')}.includes('git pull') && !document.getElementById('detail-problem').firstChild`,
    );
  }
  assert.deepEqual(await page.value(OVERFLOW), []);
});

check('what is wrong with the daemon is said', async (stage) => {
  const world = diverse();
  const broken = 'b.twc:7:43: variable `QEUE` not found\n  | run_mode = QEUE)\n  |            ^';
  world.changes = {
    phase: 'starting',
    launcher_restarts: 2,
    warm: { waiting: 2, held: 3 << 20, most: 64 << 20, ready: 7, unready: 1, ended: 0 },
    state_problem: 'no space left on device',
    source: { kind: 'zookeeper', target: 'zk1:2181', connected: false, since: null, problem: 'connection refused' },
    config: { paths: ['/etc/twitcher'], loaded: null, errors: [broken, 'another mistake'], notes: [] },
  };
  const { page } = await shown(stage, world);
  const problems = await page.value(textOf('#problems'));
  for (const text of ['Not connected to zk1:2181', 'connection refused', 'no space left', '2 mistakes in the configuration', broken, '1 more'])
    assert.ok(problems.includes(text), `${text} in ${problems}`);
  assert.match(await page.value(textOf('.daemon')), /Starting[\s\S]*Warm\s+2 with 3\.0 MiB, ready for 7 of 8 runs[\s\S]*Launcher restarts\s+2/);
  await stage.shot(page, 'problems');
});

check('what cannot be read is told with what helps, and a failure with the command that comes next', async (stage) => {
  const world = diverse();
  world.watch("it's failed", '/failed', {
    state: 'failed',
    why: 'exit code 4 (run 1m82xrunning9)',
    behind_since: ago(MINUTE),
    last_run: { success: false, ended: ago(MINUTE), run: '1m82xrunning9', words: 'exit code 4' },
  });
  const { page } = await shown(stage, world, { width: 1440, height: 900, hash: '#/watch/signing%20key' });
  await page.until('the remedy', `${textOf('#detail-next')}.includes('zkCli.sh getAcl /vault/key')`);
  const state = await page.value(textOf('#detail-state'));
  assert.match(state, /Unreadable[\s\S]*unreadable for 11 min[\s\S]*tried again in 1\d s/);
  await stage.shot(page, 'unreadable');
  await page.value(`location.hash = '#/watch/' + encodeURIComponent("it's failed")`);
  await page.until('the command', `${textOf('#detail-next')}.includes("twitcher run-now 'it'\\\\''s failed'")`);
  const failed = await page.value(textOf('#detail'));
  assert.ok(failed.includes('Failed') && failed.includes('exit code 4') && !failed.includes('Nothing to do'), failed);
  assert.match(await page.value(textOf('#filters')), /Failed\s+1[\s\S]*Unreadable\s+1/);
});

check('a daemon whose servers are gone has no green tick, and what is shown is as of then', async (stage) => {
  const world = diverse();
  world.watches[0].as_of = ago(3 * MINUTE);
  world.changes = {
    unready: 'not connected to zk1:2181',
    source: { kind: 'zookeeper', target: 'zk1:2181', connected: false, since: ago(3 * MINUTE), problem: 'connection refused' },
  };
  const { page } = await shown(stage, world, { width: 1440, height: 900, hash: '#/watch/pull%20the%20repo' });
  assert.equal(await page.value(textOf('#phase')), 'Not ready');
  assert.equal(await page.value(`document.querySelector('#phase .good')`), null);
  await page.until('as of', `${textOf('#detail-state')}.includes('as of 3 min')`);
  assert.ok((await page.value(textOf('#problems'))).includes('as of then'));
});

check(
  'errors, answers that are no JSON and slow ones are said, and got over',
  async (stage) => {
    const world = diverse();
    const mock = await stage.mock(world);
    const page = await stage.page();
    mock.delay = 300;
    mock.failing = { status: 503, text: '{"error":"the daemon is stopping","help":"see journalctl -u twitcher"}' };
    await page.goto(mock.url);
    assert.equal(await page.value(textOf('#nothing strong')), 'Loading…');
    await page.until(
      'the error',
      `${textOf('#problems')}.includes('the daemon is stopping') && ${textOf('#problems')}.includes('journalctl')`,
    );
    await stage.shot(page, 'error');
    mock.failing = { status: 200, text: '<html>not yours</html>' };
    await page.until('no JSON', `${textOf('#problems')}.includes('is not understood')`);
    mock.failing = { status: 200, text: '{"watches": [{"name": 3}], "phase": "ready"}' };
    await page.until('other JSON', `${textOf('#problems')}.includes('the status is not understood')`);
    Object.assign(mock, { failing: null, delay: 0 });
    await page.until('recovery', `${LIVE} && ${ROWS_THERE} && ${textOf('#problems')} === ''`);
    mock.emitRaw('not JSON');
    await page.until('the broken event', `${textOf('#problems')}.includes('An event was not understood')`);
  },
  /503|MIME type/,
);

check(
  'a daemon that restarts is waited for, and asked anew',
  async (stage) => {
    const world = diverse();
    const { mock, page } = await shown(stage, world);
    const port = Number(new URL(mock.url).port);
    await mock.stop();
    await page.until('the loss', `${textOf('#link')}.startsWith('Disconnected since')`);
    await page.until('the loss in words', `${textOf('#problems')}.includes('No connection to the daemon')`);
    await stage.shot(page, 'disconnected');
    world.watch('after the restart', '/new/one');
    await mock.start(port);
    await page.until('it is back', `${LIVE} && ${rowOf('after the restart')} !== '' && ${textOf('#problems')} === ''`);
  },
  /net::ERR/,
);

check('lost events and a loaded configuration have everything read anew', async (stage) => {
  const world = diverse();
  const { mock, page } = await shown(stage, world);
  // Nothing that the status counts: only who reads the watches anew sees it.
  for (const kind of ['lost', 'loaded', 'source']) {
    world.watches[0].why = `as of ${kind}`;
    mock.emit(kind);
    await page.until(`what is new after ${kind}`, `${rowOf('pull the repo')}.includes('as of ${kind}')`);
  }
  world.watches.pop();
  mock.emit('loaded');
  await page.until('one less', `${NAMES}.length === 14`);
});

check('a change that no event told of is noticed', async (stage) => {
  const world = diverse();
  const { page } = await shown(stage, world);
  Object.assign(world.watches[0], { state: 'paused', why: 'nobody said so' });
  await page.until('the change', `${rowOf('pull the repo')}.includes('nobody said so')`);
});

check(
  'nothing to show is said, too',
  async (stage) => {
    const { page } = await shown(stage, new World());
    await page.until('no watches', `${textOf('#nothing')}.includes('No file in /etc/twitcher registers one.')`);
    await page.value(`location.hash = '#/watch/gone'`);
    await page.until('no such watch', `${textOf('#detail-problem')}.includes('There is no such watch')`);
  },
  /404/,
);

check('on a phone everything fits, and a watch takes the whole screen', async (stage) => {
  for (const [width, scheme] of [
    [320, 'light'],
    [390, 'dark'],
  ]) {
    const { page } = await shown(stage, diverse(), { width, height: 700, touch: true, scheme });
    assert.deepEqual(await page.value(OVERFLOW), []);
    await stage.shot(page, `phone-${width}`);
    await page.click('#rows .row:not([hidden])');
    await page.until('its runs', `document.querySelectorAll('#runs .run').length === 33`);
    for (const expected of ['exit code 3', 'retry']) {
      assert.ok((await page.value(textOf('#runs .run'))).includes(expected), `${expected} in the first run`);
    }
    assert.deepEqual(await page.value(OVERFLOW), []);
    await page.click('#runs .run button');
    await page.until('its output', `${textOf('#runs .output')}.includes('gave up')`);
    assert.deepEqual(await page.value(OVERFLOW), []);
    const box = await page.value(
      `(({ x, width, y, height }) => [x, y, width, height])(document.getElementById('detail').getBoundingClientRect())`,
    );
    assert.deepEqual(box, [0, 0, width, 700]);
    assert.ok(await page.value(`document.querySelector('.list').inert`), 'the covered list is out of reach');
    await stage.shot(page, `phone-${width}-detail`);
    await page.click('#detail-close');
    await page.until('the list', `document.getElementById('detail').hidden && !document.querySelector('.list').inert`);
  }
});

check('light and dark have contrast; the choice is remembered', async (stage) => {
  for (const scheme of ['light', 'dark']) {
    const { page } = await shown(stage, diverse(), { scheme, width: 1440, height: 900, hash: DEPLOY });
    await page.until('its runs', `document.querySelectorAll('#runs .run').length === 33`);
    await page.click('#runs .run button');
    await page.until('its output', `${textOf('#runs .output')}.includes('gave up')`);
    assert.deepEqual(await page.value(FAINT), [], scheme);
    await stage.shot(page, `detail-run-${scheme}`);
  }
  const { page } = await shown(stage, diverse());
  const ground = `getComputedStyle(document.body).backgroundColor`;
  const light = await page.value(ground);
  await page.click('#theme');
  await page.click('#theme');
  await page.until('dark', `${ground} !== '${light}' && document.querySelector('#theme').innerText === 'Dark'`);
  await stage.shot(page, 'desktop-dark');
  await page.send('Page.reload');
  await page.until(
    'still dark',
    `document.readyState === 'complete' && document.querySelector('#theme').innerText === 'Dark' && ${ground} !== '${light}'`,
  );
  await page.scheme('light', 'reduce');
  await page.until('rows', ROWS_THERE);
  assert.equal(await page.value(`getComputedStyle(document.querySelector('.filter')).transitionDuration`), '0s');
});

check('10,000 watches and 200 events a second leave it smooth', async (stage) => {
  const world = many(10_000);
  const { mock, page } = await shown(stage, world);
  await page.until('all of them', `${textOf('#shown')} === '10,000 watches'`);
  const timer = setInterval(() => {
    for (let i = 0; i < 10; i++) {
      const watch = world.watches[Math.floor(Math.random() * world.watches.length)];
      const running = Math.random() < 0.5;
      Object.assign(watch, {
        state: running ? 'running' : 'armed',
        running: running ? ['1m82xrunning0'] : [],
        last_run: { success: true, ended: new Date().toISOString() },
      });
      mock.emit(running ? 'started' : 'ended', { watch });
    }
  }, 50);
  const begun = mock.seq;
  const measured = await page.value(scrolling(5000));
  clearInterval(timer);
  assert.ok(measured.rows < 200, `${measured.rows} rows in the document`);
  // Loose, because other tests have the processors too; without virtualising, a frame takes seconds.
  assert.ok(measured.median < 100 && measured.worst < 2000, `not smooth: ${JSON.stringify(measured)}`);
  await page.value(`document.getElementById('grid').scrollTop = 1e9`);
  await page.until('the last', `${NAMES}.at(-1) === 'service-9999'`);
  await page.click('#search');
  await page.type('config-4242');
  await page.until('one of them', `${NAMES}.join() === 'service-4242'`);
  await stage.shot(page, 'many');
  return (
    `${mock.seq - begun} events; ${measured.frames} frames, median ${measured.median.toFixed(1)} ms, worst ${measured.worst.toFixed(0)} ms, ${measured.slow} above 50 ms; ` +
    `tasks above 50 ms: [${measured.tasks}]; ${measured.rows} rows, ${measured.elements} elements`
  );
});
