// What the manual must be, as `twitcher help --html` prints it: whole, without dead ends, legible anywhere.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

import { FAINT } from './probes.mjs';

export const manualChecks = [];
const check = (name, run) => manualChecks.push({ name, run });

/** A page that shows it. Nothing else is served: what it would load from elsewhere is an error. */
async function shown(stage, options) {
  const html = readFileSync(stage.options.manual);
  const server = createServer((request, response) => {
    response.writeHead(request.url === '/' ? 200 : 404, { 'content-type': 'text/html; charset=utf-8' });
    response.end(request.url === '/' ? html : '');
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  server.unref();
  const page = await stage.page(options);
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  return page;
}

const WIDE = `[...document.querySelectorAll('html, body, main, nav, p, dl, dt, dd, ul, h1, h2, h3')].filter((node) => node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).display !== 'inline').map((node) => node.tagName + ' ' + node.textContent.slice(0, 40) + ' ' + node.scrollWidth)`;

check('every link leads somewhere, every heading can be linked to, and nothing is loaded', async (stage) => {
  const page = await shown(stage, { width: 1280, height: 900 });
  const links = await page.value(`[...document.querySelectorAll('a')].map((node) => node.getAttribute('href'))`);
  const ids = await page.value(`[...document.querySelectorAll('[id]')].map((node) => node.id)`);
  assert.equal(new Set(ids).size, ids.length, 'ids are of one place each');
  assert.deepEqual(links.filter((href) => !href.startsWith('#') || !ids.includes(href.slice(1))), []);
  assert.deepEqual(await page.value(`[...document.querySelectorAll('h2, h3, dt')].filter((node) => !node.id).length`), 0);
  const contents = await page.value(`[...document.querySelectorAll('nav a')].map((node) => node.getAttribute('href').slice(1))`);
  const headings = await page.value(`[...document.querySelectorAll('main h2, main h3')].map((node) => node.id)`);
  assert.deepEqual(headings.filter((id) => !contents.includes(id)), ['command'], 'all but the program itself are in the table of contents');
  assert.equal(await page.value(`document.querySelectorAll('script, iframe, img, object, [src], [style], [hidden], details').length`), 0);
  assert.ok(links.includes('#fleet') && links.includes('#command-fleet-status'), 'text leads to topics and commands');
  await page.value(`location.hash = '#configuration-fields-of-registerwatch-run_mode'`);
  await page.until('the field', `Math.abs(document.querySelector(':target').getBoundingClientRect().top) < 40`);
  await stage.shot(page, 'manual');
  return `${ids.length} places, ${links.length} links`;
});

check('it fits a phone, and has contrast in light and dark', async (stage) => {
  for (const [width, scheme] of [
    [320, 'dark'],
    [390, 'light'],
    [1280, 'dark'],
  ]) {
    const page = await shown(stage, { width, height: 780, touch: width < 800, scheme });
    assert.deepEqual(await page.value(WIDE), [], `${width}`);
    assert.deepEqual(await page.value(FAINT), [], scheme);
    await stage.shot(page, `manual-${width}-top`);
    await page.value(`location.hash = '#fleet'`);
    await page.until('the topic', `Math.abs(document.querySelector('#fleet').getBoundingClientRect().top) < 40`);
    await stage.shot(page, `manual-${width}`);
  }
});

check('on paper everything is there, in black on white', async (stage) => {
  const page = await shown(stage, { scheme: 'dark' });
  await page.send('Emulation.setEmulatedMedia', { media: 'print', features: [{ name: 'prefers-color-scheme', value: 'dark' }] });
  assert.equal(await page.value(`getComputedStyle(document.documentElement).backgroundColor`), 'rgb(255, 255, 255)');
  assert.deepEqual(await page.value(`[...document.querySelectorAll('pre')].filter((node) => node.scrollWidth > node.clientWidth + 1).length`), 0);
  const { data } = await page.send('Page.printToPDF', { printBackground: true });
  assert.ok(data.length > 100_000);
});
