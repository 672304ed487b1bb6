// The picture of the status page that README shows, in light and dark: `make picture` takes it again.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { shown } from './checks.mjs';
import { withPalette } from './palette.mjs';
import { diverse } from './world.mjs';

/** What is not made up for the sake of a check. */
function world() {
  const world = diverse();
  world.changes = {
    version: '2.0.0',
    fleet: { root: '/twitcher', host: 'web-7', since: world.status().started, problem: null, unpublished: 0, lag: 0, rollouts: [] },
  };
  return world;
}

export const pictures = ['light', 'dark'].map((scheme) => ({
  name: `the picture of README, ${scheme}`,
  run: async (stage) => {
    const { page } = await shown(stage, world(), { width: 1440, height: 760, scheme, hash: '#/watch/deploy%20api' });
    await page.until('its runs', `document.querySelectorAll('#timeline .bar').length >= 20`);
    await stage.shot(page, `status-${scheme}`);
    const file = join(stage.options.shots, `status-${scheme}.png`);
    const png = withPalette(readFileSync(file));
    writeFileSync(file, png);
    return `${png.length} bytes`;
  },
}));
