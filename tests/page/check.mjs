// Checks the status page in headless Chromium, against a made-up daemon, or with --url against a real one; or the manual.
//
//     node tests/page/check.mjs --states FILE [--shots DIR] [--only WORDS]
//     node tests/page/check.mjs --url http://127.0.0.1:9464/ --watch NAME [--output TEXT] [--note TEXT]
//     node tests/page/check.mjs --url 'http://127.0.0.1:9464/#/fleet' --fleet TILE
//
//     node tests/page/check.mjs --manual FILE      # what `twitcher help --html` prints
//     node tests/page/check.mjs --picture --states FILE --shots DIR
//
// FILE has the answer of a daemon to /v1/states. It prints a line for each check, and exits with 1 if one failed.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { Browser, findChromium } from './browser.mjs';
import { checks } from './checks.mjs';
import { fleetChecks } from './fleet-checks.mjs';
import { liveChecks } from './live.mjs';
import { manualChecks } from './manual.mjs';
import { Mock } from './mock.mjs';
import { pictures } from './picture.mjs';

const { values: options } = parseArgs({
  options: {
    url: { type: 'string' },
    states: { type: 'string' },
    fleet: { type: 'string' },
    manual: { type: 'string' },
    picture: { type: 'boolean' },
    watch: { type: 'string' },
    output: { type: 'string' },
    note: { type: 'string' },
    shots: { type: 'string' },
    only: { type: 'string' },
  },
});

if (!options.url && !options.states && !options.manual) throw new Error('--states FILE is needed: curl --unix-socket SOCKET http://localhost/v1/states');
const states = options.states && JSON.parse(readFileSync(options.states, 'utf8'));

/** What a check is given: pages, a made-up daemon, and a place for pictures. */
class Stage {
  #pages = [];
  #mocks = [];

  constructor(browser) {
    this.browser = browser;
    this.options = options;
  }

  async mock(world) {
    const mock = await new Mock(world, states).start();
    this.#mocks.push(mock);
    return mock;
  }

  async page(options) {
    const page = await this.browser.page(options);
    this.#pages.push(page);
    return page;
  }

  async shot(page, name) {
    if (!options.shots) return;
    mkdirSync(options.shots, { recursive: true });
    await page.shot(join(options.shots, `${name}.png`));
  }

  /** In no check may the policy have had to refuse anything, nor may there be an error that the check did not provoke. */
  async finish(expected) {
    for (const page of this.#pages) {
      assert.deepEqual(await page.value('window.refused'), [], 'refused by the policy');
      assert.deepEqual(
        page.errors.filter((text) => !expected?.test(text)),
        [],
        'errors on the console',
      );
    }
  }

  async clear() {
    for (const page of this.#pages.splice(0)) await page.close().catch(() => {});
    for (const mock of this.#mocks.splice(0)) await mock.stop().catch(() => {});
  }
}

async function main() {
  const program = findChromium();
  if (!program) throw new Error('there is no chromium: apt-get install --no-install-recommends chromium, or set CHROMIUM');
  const browser = await Browser.launch(program);
  let failed = 0;
  try {
    for (const { name, run, errors } of options.picture ? pictures : options.manual ? manualChecks : options.url ? liveChecks : [...checks, ...fleetChecks]) {
      if (options.only && !name.includes(options.only)) continue;
      const stage = new Stage(browser);
      const begun = Date.now();
      try {
        const said = await run(stage);
        await stage.finish(errors);
        console.log(`ok    ${name} (${Date.now() - begun} ms)${said ? `: ${said}` : ''}`);
      } catch (error) {
        failed += 1;
        console.log(`FAIL  ${name}\n${error.stack}`);
      } finally {
        await stage.clear();
      }
    }
  } finally {
    await browser.close();
  }
  process.exitCode = failed ? 1 : 0;
}

await main();
