// Drives headless Chromium by its DevTools protocol over a pipe: no port, no package.

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const DEADLINE = 20_000;

/** Waits until `probe` returns something truthy, and returns that. */
export async function until(what, probe, deadline = DEADLINE) {
  const end = Date.now() + deadline;
  for (;;) {
    const value = await probe();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited ${deadline} ms in vain: ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

/** The program, or null: what needs it then says that it is left out. */
export function findChromium() {
  const candidates = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
  return candidates.find((path) => path && existsSync(path)) ?? null;
}

export class Browser {
  #next = 1;
  #waiting = new Map();
  #pages = new Map();

  static async launch(program) {
    const browser = new Browser();
    browser.profile = mkdtempSync(join(tmpdir(), 'twitcher-page-'));
    const flags = [
      '--headless=new',
      '--remote-debugging-pipe',
      `--user-data-dir=${browser.profile}`,
      '--no-first-run',
      '--disable-gpu',
      '--disable-dev-shm-usage',
      '--disable-background-networking',
      '--disable-component-update',
      '--hide-scrollbars',
      '--force-color-profile=srgb',
    ];
    // Its sandbox refuses root, whom containers and build hosts often are; what is shown here is ours.
    if (process.getuid() === 0) flags.push('--no-sandbox');
    // A process group of its own, to be killed with all that it starts.
    browser.child = spawn(program, [...flags, 'about:blank'], { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'], detached: true });
    browser.child.on('exit', () => browser.#fail(new Error('Chromium has ended')));
    browser.#read(browser.child.stdio[4]);
    browser.child.stdio[3].on('error', () => {});
    return browser;
  }

  #read(stream) {
    let rest = '';
    stream.setEncoding('utf8');
    stream.on('data', (chunk) => {
      const messages = (rest + chunk).split('\0');
      rest = messages.pop();
      for (const message of messages) this.#take(JSON.parse(message));
    });
  }

  #take({ id, result, error, method, params, sessionId }) {
    if (id === undefined) return this.#pages.get(sessionId)?.take(method, params);
    const { resolve, reject } = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) reject(new Error(error.message));
    else resolve(result);
  }

  #fail(error) {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  send(method, params = {}, sessionId) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.child.stdio[3].write(JSON.stringify({ id, method, params, sessionId }) + '\0');
    });
  }

  /** A new page in a profile of its own, so that nothing is remembered from another. */
  async page({ width = 1280, height = 800, scheme = 'light', touch = false, motion = 'no-preference' } = {}) {
    const { browserContextId } = await this.send('Target.createBrowserContext');
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank', browserContextId });
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true });
    const page = new Page(this, sessionId, browserContextId);
    this.#pages.set(sessionId, page);
    await page.send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: touch ? 2 : 1, mobile: touch });
    await page.scheme(scheme, motion);
    for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await page.send(`${domain}.enable`);
    await page.send('Page.addScriptToEvaluateOnNewDocument', { source: WITNESS });
    return page;
  }

  async close() {
    // It may have ended by itself: a failing check is to say that, not this.
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const ended = new Promise((done) => this.child.once('exit', done));
      process.kill(-this.child.pid, 'SIGKILL');
      await ended;
    }
    // The others of its group may still be on their way out, and write.
    await until('the profile is removed', () => {
      try {
        rmSync(this.profile, { recursive: true, force: true });
      } catch (error) {
        if (error.code !== 'ENOTEMPTY') throw error;
      }
      return !existsSync(this.profile);
    });
  }
}

/** Notes what the policy refused. */
const WITNESS = `
  window.refused = [];
  document.addEventListener('securitypolicyviolation', (event) => window.refused.push(event.violatedDirective + ' ' + event.blockedURI));
`;

export class Page {
  /** What went wrong in it: uncaught exceptions, and what was written to the console as an error. */
  errors = [];

  constructor(browser, sessionId, context) {
    Object.assign(this, { browser, sessionId, context });
  }

  send(method, params) {
    return this.browser.send(method, params, this.sessionId);
  }

  take(method, params) {
    if (method === 'Runtime.exceptionThrown')
      this.errors.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    if (method === 'Runtime.consoleAPICalled' && params.type === 'error') this.errors.push(JSON.stringify(params.args));
    if (method === 'Log.entryAdded' && params.entry.level === 'error')
      this.errors.push(`${params.entry.text} ${params.entry.url ?? ''}`);
  }

  scheme(scheme, motion = 'no-preference') {
    return this.send('Emulation.setEmulatedMedia', {
      features: [
        { name: 'prefers-color-scheme', value: scheme },
        { name: 'prefers-reduced-motion', value: motion },
      ],
    });
  }

  async goto(url) {
    await this.send('Page.navigate', { url });
    await this.until('the page to be there', `document.readyState === 'complete' && location.href.startsWith('http')`);
  }

  /** The value of an expression in the page. */
  async value(expression) {
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', {
      expression,
      returnByValue: true,
      awaitPromise: true,
    });
    if (exceptionDetails) throw new Error(`${exceptionDetails.exception?.description ?? exceptionDetails.text} in ${expression}`);
    return result.value;
  }

  until(what, expression, deadline) {
    return until(what, () => this.value(expression), deadline);
  }

  async click(selector) {
    const place = await this.until(
      `${selector} to click on`,
      `(() => {
      const node = document.querySelector(${JSON.stringify(selector)});
      node?.scrollIntoView({ block: 'nearest' }); // As whoever clicks on it would.
      const box = node?.getBoundingClientRect();
      return box && box.width > 0 ? { x: box.x + box.width / 2, y: box.y + box.height / 2 } : null;
    })()`,
    );
    for (const type of ['mousePressed', 'mouseReleased'])
      await this.send('Input.dispatchMouseEvent', { type, ...place, button: 'left', clickCount: 1 });
  }

  async hover(selector) {
    const box = await this.value(
      `(({ x, y, width, height }) => ({ x: x + width / 2, y: y + height / 2 }))(document.querySelector(${JSON.stringify(selector)}).getBoundingClientRect())`,
    );
    await this.send('Input.dispatchMouseEvent', { type: 'mouseMoved', ...box });
  }

  async press(key) {
    const text = key.length === 1 ? key : { Enter: '\r' }[key];
    const code = {
      Enter: 13,
      Escape: 27,
      ArrowUp: 38,
      ArrowDown: 40,
      ArrowLeft: 37,
      ArrowRight: 39,
      Home: 36,
      End: 35,
      PageDown: 34,
      Tab: 9,
    }[key];
    await this.send('Input.dispatchKeyEvent', { type: 'keyDown', key, text, windowsVirtualKeyCode: code });
    await this.send('Input.dispatchKeyEvent', { type: 'keyUp', key, windowsVirtualKeyCode: code });
  }

  type(text) {
    return this.send('Input.insertText', { text });
  }

  async shot(file) {
    const { data } = await this.send('Page.captureScreenshot', { format: 'png' });
    writeFileSync(file, Buffer.from(data, 'base64'));
  }

  close() {
    return this.browser.send('Target.disposeBrowserContext', { browserContextId: this.context });
  }
}
