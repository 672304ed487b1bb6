// A daemon that only talks: serves the page under its policy, and the interface of `host/control/src/api.rs` from what a test made up.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

const PAGE = new URL('../../host/control/src/page/index.html', import.meta.url);

/** The policy that the daemon sends, and beyond it a refusal of every way to turn text into markup. */
export function policyOf(html) {
  const hash = (tag) => {
    const texts = [...html.matchAll(new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`, 'g'))];
    if (texts.length !== 1) throw new Error(`the page has ${texts.length} elements <${tag}>, not one`);
    return `'sha256-${createHash('sha256').update(texts[0][1]).digest('base64')}'`;
  };
  return (
    `default-src 'none'; style-src ${hash('style')}; script-src ${hash('script')}; connect-src 'self'; img-src data:; base-uri 'none'; ` +
    `form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'`
  );
}

export class Mock {
  seq = 0;
  /** Set to answer every request of the interface with this status and text. */
  failing = null;
  /** The same for what is asked of the fleet. */
  fleetFailing = null;
  /** How often that was. */
  fleetAsked;
  /** How long answers take, in milliseconds. */
  delay = 0;
  #streams = new Set();
  #sockets = new Set();

  /** `states` is what a daemon says of them. */
  constructor(world, states) {
    this.world = world;
    this.states = states;
  }

  async start(port = 0) {
    this.html = readFileSync(PAGE, 'utf8').replace(/\/\* @include (\S+) \*\//g, (_, part) => readFileSync(new URL(part, PAGE), 'utf8'));
    this.server = createServer((request, response) => this.#answer(new URL(request.url, 'http://mock'), response));
    this.server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    await new Promise((done) => this.server.listen(port, '127.0.0.1', done));
    this.url = `http://127.0.0.1:${this.server.address().port}/`;
    return this;
  }

  /** As a daemon ends: every connection with it. */
  async stop() {
    const closed = new Promise((done) => this.server.close(done));
    for (const socket of this.#sockets) socket.destroy();
    this.#streams.clear();
    await closed;
  }

  /** Sends an event to all that follow. */
  emit(kind, { watch = null, run = null } = {}) {
    const event = { seq: ++this.seq, at: new Date().toISOString(), kind, message: kind, watch, run };
    this.#write(`id: ${event.seq}\nevent: ${kind}\ndata: ${JSON.stringify(event)}\n\n`);
  }

  /** Sends what is not an event. */
  emitRaw(data) {
    this.#write(`data: ${data}\n\n`);
  }

  get followers() {
    return this.#streams.size;
  }

  #write(text) {
    for (const stream of this.#streams) stream.write(text);
  }

  async #answer(url, response) {
    if (url.pathname === '/') {
      response.writeHead(200, {
        'content-type': 'text/html; charset=utf-8',
        'content-security-policy': policyOf(this.html),
        'x-content-type-options': 'nosniff',
      });
      return response.end(this.html);
    }
    if (this.delay) await new Promise((done) => setTimeout(done, this.delay));
    if (this.failing) {
      response.writeHead(this.failing.status, { 'content-type': 'application/json' });
      return response.end(this.failing.text);
    }
    if (this.fleetFailing && url.pathname.startsWith('/v1/fleet')) {
      response.writeHead(this.fleetFailing.status, { 'content-type': 'application/json' });
      return response.end(this.fleetFailing.text);
    }
    if (url.pathname === '/v1/events') return this.#follow(response);
    const body = this.#find(url);
    response.writeHead(body ? 200 : 404, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body ?? { error: 'there is no such watch or run', help: 'twitcher status lists all watches' }));
  }

  #follow(response) {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    response.write(':\n\n');
    this.#streams.add(response);
    response.on('close', () => this.#streams.delete(response));
  }

  #find(url) {
    const [, , kind, id] = url.pathname.split('/').map(decodeURIComponent);
    if (kind === 'states') return this.states;
    if (kind === 'fleet') {
      if (!this.world.fleet) return null;
      this.fleetAsked = (this.fleetAsked ?? 0) + 1;
      return id === 'rollouts' ? this.world.fleet.rollouts() : this.world.fleet.hosts();
    }
    if (kind === 'status') return this.world.status();
    if (kind === 'watches') return id === undefined ? { watches: this.world.watches } : this.world.detail(id);
    if (kind === 'runs') return id === undefined ? this.world.runsPage(url.searchParams) : this.world.runDetail(id);
    return null;
  }
}
