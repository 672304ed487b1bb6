// Expressions that are evaluated in the page, as text: what a reader of it would see or measure.

/** Names in the rows in sight, from top to bottom. */
export const NAMES = `[...document.querySelectorAll('#rows .row:not([hidden])')].sort((a, b) => a.ariaRowIndex - b.ariaRowIndex).map((row) => row.querySelector('.name').textContent)`;

/** The text of a named watch's row; empty if it is not in sight. */
export const rowOf = (name) =>
  `(([...document.querySelectorAll('#rows .row:not([hidden])')].find((row) => row.querySelector('.name').textContent === ${JSON.stringify(name)}))?.innerText ?? '')`;

/** The text that is to be seen of an element; empty if nothing is. */
export const textOf = (selector) =>
  `((node) => (node?.checkVisibility() ? node.innerText : ''))(document.querySelector(${JSON.stringify(selector)}))`;

/** Every element that the page's own markup and script do not make. */
export const FOREIGN = `[...document.querySelectorAll('body *')].map((node) => node.localName).filter((tag) => !new Set(
  ('a aside b button caption code dd details div dl dt footer h1 h2 h3 header input kbd main nav noscript option p pre script section select span strong summary svg g use rect line path text circle symbol '
  + 'table tbody td th thead time tr').split(' ')).has(tag))`;

/** Texts whose contrast with what is behind them is below 4.5, with the ratio. */
export const FAINT = `(() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (node) => { for (; node; node = node.parentElement) { const [r, g, b, a = 1] = numbers(getComputedStyle(node).backgroundColor); if (a > 0) return [r, g, b]; } return [255, 255, 255]; };
  const faint = new Set();
  for (const node of document.querySelectorAll('body *')) {
    if (!node.checkVisibility() || ![...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim())) continue;
    const style = getComputedStyle(node);
    const [a, b] = [luminance(numbers(node.ownerSVGElement ? style.fill : style.color)), luminance(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.add(ratio.toFixed(2) + ' ' + node.className + ' ' + node.textContent.slice(0, 30));
  }
  return [...faint];
})()`;

/** Whether anything makes the page wider than the screen. */
export const OVERFLOW = `[...document.querySelectorAll('html, body, .detail, .grid, .fleet, .card, .lane, .problems')].filter((node) => node.scrollWidth > node.clientWidth + 1).map((node) => node.tagName + '.' + node.className + ' ' + node.scrollWidth + ' > ' + node.clientWidth)`;

/** Texts and controls that lie in no landmark, where whoever hears the page does not find them: axe-core's rule `region`. */
export const ADRIFT = `[...document.querySelectorAll('body *')].filter((node) => node.checkVisibility()
  && ((node.matches('button, input, select, a') || [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()))
  && !node.closest('header, main, footer, nav, aside, section[aria-label], [role=search], [role=region], [role=tooltip], svg, script, style')))
  .map((node) => node.outerHTML.slice(0, 80))`;

/** Controls without a name for those who do not see them. */
export const NAMELESS = `[...document.querySelectorAll('button, input, select, [role=grid], [role=listbox]')].filter((node) => node.checkVisibility() && !(node.ariaLabel || node.innerText?.trim())).map((node) => node.outerHTML.slice(0, 80))`;

/** Scrolls from end to end for so many milliseconds, and measures the time between frames. */
export const scrolling = (ms) => `new Promise((done) => {
  const grid = document.getElementById('grid');
  const tasks = [];
  new PerformanceObserver((list) => tasks.push(...list.getEntries().map((entry) => Math.round(entry.duration)))).observe({ type: 'longtask' });
  const frames = [];
  const start = performance.now();
  let last = start, rows = 0;
  requestAnimationFrame(function frame(at) {
    frames.push(at - last);
    last = at;
    rows = Math.max(rows, document.querySelectorAll('#rows .row').length);
    grid.scrollTop = (grid.scrollHeight - grid.clientHeight) * (0.5 - 0.5 * Math.cos((at - start) / 400));
    if (at - start < ${ms}) return requestAnimationFrame(frame);
    frames.sort((a, b) => a - b);
    const slow = frames.filter((time) => time > 50);
    setTimeout(() => done({ frames: frames.length, median: frames[frames.length >> 1], worst: frames.at(-1), slow: slow.length, tasks, rows, elements: document.querySelectorAll('*').length }), 100);
  });
})`;
