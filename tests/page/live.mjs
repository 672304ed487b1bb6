// What the page must do on a real daemon, whose address is given, with at least one watch that has run.

import assert from 'node:assert/strict';

import { FOREIGN, OVERFLOW, rowOf, textOf } from './probes.mjs';

export const liveChecks = [];
const check = (name, run, errors) => liveChecks.push({ name, run, errors });

check('a real daemon is shown live, with a watch, its run and what that wrote', async (stage) => {
  const { url, watch, output, note } = stage.options;
  const policy = (await fetch(url)).headers.get('content-security-policy') ?? '';
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe/);
  const page = await stage.page({ width: 1440, height: 900 });
  await page.goto(url);
  await page.until('live', `document.querySelector('#link').innerText === 'Live'`);
  await page.until('ready', `document.querySelector('#phase').innerText === 'Ready'`);
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
