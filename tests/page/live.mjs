// What the page must do on a real daemon, whose address is given, with at least one watch that has run.

import assert from 'node:assert/strict';

import { FOREIGN, OVERFLOW, rowOf, textOf } from './probes.mjs';

export const liveChecks = [];
const check = (name, run, errors) => liveChecks.push({ name, run, errors });

check('a real daemon is shown live, with a watch, its run and what that wrote', async (stage) => {
  const { url, watch, output, note } = stage.options;
  const policy = (await fetch(url.split('#')[0])).headers.get('content-security-policy') ?? '';
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe/);
  const page = await stage.page({ width: 1440, height: 900 });
  await page.goto(url);
  await page.until('live', `document.querySelector('#link').innerText === 'Live'`);
  await page.until('ready', `document.querySelector('#phase').innerText === 'Ready'`);
  if (stage.options.fleet) {
    const tiles = `[...document.querySelectorAll('[role=listbox][aria-label^="Hosts of wave 1 of repo"] .tile')].map((tile) => tile.ariaLabel)`;
    await page.until('the canary', `${tiles}.some((tile) => tile.startsWith(${JSON.stringify(stage.options.fleet)}))`);
    const text = await page.value(textOf('#fleet'));
    for (const expected of ['Halted', '1 host failed, 0 may', 'canary=yes', 'twitcher fleet retry repo', 'Waiting', 'Lagging'])
      assert.ok(text.includes(expected), `${expected} in ${text}`);
    assert.deepEqual(await page.value(FOREIGN), []);
    return stage.shot(page, 'live-fleet');
  }
  if (!watch) return;
  await page.until('the watch', `${rowOf(watch)} !== ''`);
  await page.value(`location.hash = '#/watch/' + ${JSON.stringify(encodeURIComponent(watch))}`);
  await page.until(
    'a run',
    `document.querySelectorAll('#runs .run').length > 0 && document.querySelectorAll('#timeline .bar').length > 0`,
  );
  await page.click('#runs .run button');
  await page.until('its facts', `${textOf('#runs .run-facts')}.includes('run')`);
  if (output) await page.until('its output', `${textOf('#runs .output')}.includes(${JSON.stringify(output)})`);
  if (note) await page.until('what stands in for it', `${textOf('#runs .output-note')}.includes(${JSON.stringify(note)})`);
  if (note) await page.until('and for the definition', `${textOf('#settings')}.includes(${JSON.stringify(note)})`);
  assert.deepEqual(await page.value(FOREIGN), []);
  assert.deepEqual(await page.value(OVERFLOW), []);
  await stage.shot(page, 'live');
});
