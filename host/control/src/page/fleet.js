
  // ── Fleet: what rolls out, wave by wave, and who is there ──────────────────────────────────────

  /* What is shown is asked for again every two seconds while somebody looks, and the daemon answers all who look from one reading of
     ZooKeeper. Names, reasons and outcomes were written by others, as everything else. */

  const FLEET_EVERY = 2000;
  /** Who is there changes less often, and with many watches it is much to read. */
  const HOSTS_EVERY = 10_000;

  /** By `RolloutStatus.state`: [word, symbol, tone]. */
  const GATES = {
    rolling: ['Rolling out', 'run', 'busy'],
    baking: ['Baking', 'clock', 'wait'],
    checking: ['Checking', 'armed', 'busy'],
    promoting: ['Waits to be promoted', 'pause', 'held'],
    halted: ['Halted', 'stop', 'bad'],
    paused: ['Paused', 'pause', 'held'],
    aborted: ['Aborted', 'leave', 'warn'],
    done: ['Done', 'check', 'good'],
    broken: ['Cannot be read', 'alert', 'bad'],
    unknown: ['Unknown', 'ask', 'warn'],
  };

  /** By `RolloutHost.state`, in the order of the tiles: who needs somebody comes first, then as a change goes through. */
  const PLACES = {
    failed: ['Failed', 'cross', 'bad'],
    lost: ['Lost', 'alert', 'bad'],
    declined: ['Declined', 'pause', 'warn'],
    other: ['Other znode', 'ask', 'warn'],
    acting: ['Running', 'run', 'busy'],
    running: ['Running', 'run', 'busy'],
    verifying: ['Verifying', 'armed', 'busy'],
    granted: ['Granted', 'queued', 'busy'],
    current: ['Current', 'check', 'good'],
    ungoverned: ['Ungoverned', 'leave', 'held'],
    waiting: ['Waiting', 'dots', 'wait'],
    absent: ['Absent', 'dashed', 'dim'],
  };

  /** A host of the fleet, whatever rolls out. */
  const PRESENCES = {
    unreadable: ['Unreadable', 'ask', 'bad'],
    lagging: ['Lagging', 'clock', 'warn'],
    gone: ['Absent, lagging', 'dashed', 'warn'],
    there: ['There', 'check', 'good'],
    absent: ['Absent', 'dashed', 'dim'],
  };

  const fleet = { shown: false, rollouts: null, hosts: null, asking: false, hostsAsked: -Infinity, member: null };
  const COUNTED = new Intl.Collator('en', { numeric: true });

  const isThing = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);

  /** What is not as it is described is left out: it may have been written by a later version, or by nobody who means well. */
  function takeRollouts(body) {
    const list = listIn(body, 'rollouts', 'name', 'state');
    for (const rollout of list) {
      rollout.hosts = listIn({ hosts: rollout.hosts ?? [] }, 'hosts', 'host', 'state');
      rollout.plan = Array.isArray(rollout.plan) ? rollout.plan.filter(isThing) : [];
      for (const member of rollout.hosts) if (!isThing(member.last_run)) member.last_run = null;
    }
    // Where one cannot be read, that is all there is to be said of it.
    const broken = listIn({ broken: body?.broken ?? [] }, 'broken', 'name', 'problem');
    for (const { name, problem, help } of broken) list.push({ name, state: 'broken', why: problem, help, hosts: [], plan: [], broken: true });
    fleet.rollouts = list;
  }

  function takeHosts(body) {
    fleet.hosts = { root: body?.root, list: listIn(body, 'hosts', 'name') };
  }

  async function askFleet() {
    if (!fleet.shown || document.hidden || fleet.asking) return;
    fleet.asking = true;
    const begun = performance.now();
    try {
      if (begun - fleet.hostsAsked >= HOSTS_EVERY) {
        const [rollouts, hosts] = await Promise.all([ask('v1/fleet/rollouts?max_age=2'), ask('v1/fleet?watches=false&max_age=2')]);
        takeRollouts(rollouts);
        takeHosts(hosts);
        fleet.hostsAsked = begun;
      } else takeRollouts(await ask('v1/fleet/rollouts?max_age=2'));
      fleet.since = Date.now();
      setProblem('fleet', null);
    } catch (failure) {
      if (fleet.shown)
        setProblem('fleet', {
          title: failure.status === 404 ? 'This daemon is in no fleet' : 'The fleet could not be read',
          lines: [failure.message],
          help: [failure.help, fleet.rollouts && 'What is shown is as it was then.'].filter(Boolean).join('. '),
          since: fleet.rollouts ? new Date(fleet.since + clockSkew).toISOString() : undefined,
        });
    } finally {
      fleet.asking = false;
    }
    redraw('fleet');
    // What takes long is asked for less often.
    later('fleet', Math.max(FLEET_EVERY, (performance.now() - begun) * 5), askFleet);
  }

  function showFleet(shown) {
    if (shown === fleet.shown) return;
    fleet.shown = shown;
    $('fleet').hidden = !shown;
    for (const id of ['tools', 'list', 'search-hint']) $(id).hidden = shown;
    for (const [id, mine] of [['view-watches', !shown], ['view-fleet', shown]])
      mine ? $(id).setAttribute('aria-current', 'page') : $(id).removeAttribute('aria-current');
    hideTip();
    if (!shown) setProblem('fleet', null);
    redraw('fleet', 'rows');
    askFleet();
  }

  const memberAddress = (host) => `#/fleet/host/${encoded(host)}`;

  function readFleetAddress() {
    const [, all, host] = /^#\/(fleet)(?:\/host\/([^/]*))?$/.exec(location.hash) ?? [];
    try {
      return { fleet: Boolean(all), host: host ? decodeURIComponent(host) : null };
    } catch {
      return { fleet: Boolean(all), host: null };
    }
  }

  // ── Rollouts ───────────────────────────────────────────────────────────────────────────────────

  const cards = new Map(); // Rollout → its card, kept so that focus and scrolling survive updates.

  function drawFleet() {
    if (!fleet.shown) return;
    say($('shown'), fleet.hosts ? `${count(fleet.hosts.list.length, 'host')}, ${count(fleet.rollouts.length, 'rollout')}` : '');
    $('fleet').setAttribute('aria-busy', !fleet.rollouts);
    const rollouts = fleet.rollouts ?? [];
    const names = new Set(rollouts.map((rollout) => rollout.name));
    for (const [name, card] of cards)
      if (!names.has(name)) {
        card.node.remove();
        cards.delete(name);
      }
    let before = null;
    for (const rollout of rollouts) {
      let card = cards.get(rollout.name);
      if (!card) cards.set(rollout.name, (card = newCard()));
      fillCard(card, rollout);
      before = putAfter($('rollouts'), before, card.node);
    }
    $('rollouts').hidden = rollouts.length === 0;
    drawHosts();
    drawMember();
  }

  function newCard() {
    const [title, znode] = [el('h2', { class: 'theirs' }), el('span', { class: 'mono theirs' })];
    const state = el('span', { role: 'status' });
    const [change, figures, advice] = [el('span', { class: 'dim' }), el('div', { class: 'figures' }), el('div', { class: 'advice' })];
    const [lanes, stuck] = [el('div', { class: 'lanes' }), el('div', { class: 'stuck' })];
    const node = el('section', { class: 'card' }, el('div', { class: 'card-head' }, title, znode, state, change), figures, advice, lanes, stuck);
    return { node, title, znode, state, change, figures, advice, lanes, stuck, tiles: new Map() };
  }

  /** A command to be typed. */
  const command = (...words) => el('code', { class: 'theirs' }, visible(['twitcher', ...words].join(' ')));

  const number = (value) => (Number.isFinite(value) ? value : 0);

  function fillCard(card, rollout) {
    const name = short(rollout.name, 100);
    say(card.title, name);
    card.node.setAttribute('aria-label', `Rollout ${name}`);
    say(card.znode, short(rollout.znode ?? ''));
    const states = countStatesOf(PLACES, rollout.hosts);
    if (rollout.znode == null && !rollout.broken) refill(card.state, badge(['Nothing has gone out yet', 'leave', 'dim']));
    else refill(card.state, badge(lookOf(GATES, rollout.state)));
    refill(
      card.change,
      ...(rollout.znode == null ? [] : [`change ${number(rollout.serial)}, for `, time(rollout.since, 'for')]),
      rollout.steward ? el('span', { class: 'theirs' }, `, steward ${short(rollout.steward, 60)}`) : '',
    );
    refill(
      card.figures,
      ...(rollout.broken ? [] : states).map(([state, many]) => {
        const [word, shapeName, tone] = lookOf(PLACES, state);
        const shown = badge([word, shapeName, tone]);
        shown.append(el('b', {}, many.toLocaleString('en')));
        return shown;
      }),
      ...(rollout.broken
        ? []
        : [
            el('span', { class: 'dim' }, `${number(rollout.slots)} of ${count(number(rollout.at_once), 'slot')} held`),
            el('span', { class: 'dim' }, `${number(rollout.max_failures)} may fail`),
          ]),
    );
    fillAdvice(card.advice, rollout);
    fillLanes(card, rollout);
    fillStuck(card.stuck, rollout);
  }

  /** What holds the rollout, and the commands that end that. */
  function fillAdvice(node, rollout) {
    const name = quoted(rollout.name);
    const failed = rollout.hosts.filter(({ state }) => state === 'failed' || state === 'lost').length;
    const lost = rollout.hosts.filter(({ state }) => state === 'lost').length;
    const differ = rollout.hosts.filter((host) => host.policy_differs && host.live).length;
    const why = rollout.why ? visible(rollout.why, true) : '';
    const lines = [];
    let tone = 'warn';
    if (rollout.broken) {
      tone = 'bad';
      lines.push([el('span', { class: 'theirs' }, why)]);
      if (rollout.help) lines.push([el('span', { class: 'theirs' }, visible(rollout.help, true))]);
    } else if (rollout.state === 'halted') {
      tone = 'bad';
      lines.push(
        [el('span', { class: 'theirs' }, why.includes('fleet status') || !why ? `${count(failed, 'host')} failed, ${number(rollout.max_failures)} may.` : `${why}.`), ' No other host starts.'],
        [command('fleet retry', name), ' tries them again; ', command('fleet resume', name), ' goes on without them.'],
        [command('fleet rollback', name), ' goes back to what all had before; ', command('fleet abort', name), ' ends it.'],
      );
    } else if (rollout.state === 'paused') {
      lines.push([el('span', { class: 'theirs' }, why || 'An operator holds it.'), ' No host starts.'], [command('fleet resume', name), ' lets it go on.']);
    } else if (rollout.state === 'promoting') {
      lines.push([`Wave ${number(rollout.wave)} is through.`], [command('fleet promote', name), ' lets the next one go; ', command('fleet abort', name), ' ends it.']);
    } else if (rollout.state === 'aborted') {
      lines.push([el('span', { class: 'theirs' }, why || 'An operator has ended it.'), ' This change goes no further; the next one goes out as ever.']);
    } else if (why) lines.push([el('span', { class: 'theirs' }, why)]);
    if (rollout.goal != null && rollout.newest != null && rollout.goal !== rollout.newest)
      lines.push(['The znode has changed since; that goes out next.']);
    if (lost) lines.push([`${count(lost, 'host')} went away with a slot and may still act: back they go on; `, command('fleet release HOST', name), ' takes a slot back.']);
    if (!rollout.steward && rollout.znode != null) lines.push(['There is no steward: nothing is granted until a host that has this rollout is there.']);
    if (differ) lines.push([`${count(differ, 'host')} ${differ === 1 ? 'has' : 'have'} another configuration of it than goes out.`]);
    node.hidden = lines.length === 0;
    node.className = `advice ${tone}-tone`;
    refill(node, ...lines.map((line, at) => el('p', {}, at === 0 ? el('span', { class: tone }, icon('alert')) : '', el('span', {}, ...line))));
  }

  /** What is said of a host beside its state. */
  function wordsOfMember(host, rollout) {
    const run = host.last_run;
    const words = [];
    if (host.state === 'failed' && run) words.push(`${run.outcome}, attempt ${run.attempt}, run ${run.run}`);
    if (host.state === 'verifying' && run?.outcome?.startsWith('verify: ')) words.push(`not well yet, ${run.outcome}, run ${run.run}`);
    if (host.state === 'lost') words.push('went away with a slot');
    if (host.state === 'declined') words.push('held on the host, or it cannot read the znode');
    if (host.state === 'other') words.push('its watch of this rollout watches another znode');
    if (host.slot && host.state !== 'lost') words.push('holds a slot');
    if (number(host.serial) && number(host.serial) !== number(rollout.serial)) words.push(`last had change ${number(host.serial)}`);
    if (host.policy_differs) words.push('another configuration of the rollout');
    return words.join('; ');
  }

  function fillLanes(card, rollout) {
    const lanes = new Map();
    const waves = Math.max(rollout.plan.length, 0);
    for (let wave = 1; wave <= Math.min(waves, 100); wave++) lanes.set(wave, []);
    for (const host of rollout.hosts) {
      const key = lanes.has(host.wave) ? host.wave : waves ? 0 : 1;
      if (!lanes.has(key)) lanes.set(key, []);
      lanes.get(key).push({ name: host.host, state: host.state, words: wordsOfMember(host, rollout) });
    }
    for (const [key, lane] of card.tiles)
      if (!lanes.has(key)) {
        lane.row.remove();
        card.tiles.delete(key);
      }
    let before = null;
    for (const [key, members] of lanes) {
      let lane = card.tiles.get(key);
      if (!lane) {
        lane = newTiles(PLACES);
        lane.head = el('div', { class: 'lane-head' });
        lane.row = el('div', { class: 'lane' }, lane.head, lane.node, lane.more);
        card.tiles.set(key, lane);
      }
      before = putAfter(card.lanes, before, lane.row);
      fillLaneHead(lane.head, key, members, rollout);
      fillTiles(lane, PLACES, members, key ? `Hosts of wave ${key} of ${short(rollout.name, 60)}` : `Hosts of ${short(rollout.name, 60)} in no wave`);
    }
  }

  function fillLaneHead(node, key, members, rollout) {
    const plan = rollout.plan[key - 1];
    const labels = isThing(plan?.labels) ? Object.entries(plan.labels).map(([label, value]) => `${label}=${value}`) : [];
    const percent = number(plan?.percent);
    const share = !plan || (percent >= 100 && labels.length) ? '' : percent >= 100 ? (key === 1 ? 'all hosts' : 'all others') : `${percent} % of ${labels.length ? 'them' : 'all'}`;
    const who = [...labels, share];
    const then = [plan && number(plan.bake) > 0 ? `bakes ${span(number(plan.bake) * 1000, true)}` : '', plan?.manual ? 'then waits for promote' : ''];
    const wave = number(rollout.wave);
    const look =
      key === 0 || !plan
        ? null
        : rollout.state === 'done' || key < wave
          ? ['Through', 'check', 'good']
          : key > wave
            ? ['To come', 'dots', 'dim']
            : lookOf(GATES, rollout.state);
    const current = members.filter(({ state }) => state === 'current').length;
    refill(
      node,
      el('h3', {}, key === 0 ? 'In no wave' : plan ? `Wave ${key}` : 'Hosts'),
      look ? badge(look) : '',
      el('span', { class: 'dim theirs' }, key === 0 ? 'absent, held, or of another znode' : short(who.filter(Boolean).join(', '), 120)),
      then.some(Boolean) ? el('span', { class: 'dim' }, then.filter(Boolean).join(', ')) : '',
      el('span', { class: 'dim' }, key === 0 ? count(members.length, 'host') : members.length ? `${current.toLocaleString('en')} of ${count(members.length, 'host')} current` : 'no host yet'),
    );
  }

  const ROWS_MAX = 40;

  /** Who holds a slot, and who failed. */
  function fillStuck(node, rollout) {
    const told = rollout.hosts.filter((host) => host.slot || ['failed', 'lost', 'declined', 'other', 'verifying', 'running', 'acting', 'granted'].includes(host.state));
    told.sort((a, b) => rankOf(PLACES, a.state) - rankOf(PLACES, b.state) || COUNTED.compare(a.host, b.host));
    node.hidden = told.length === 0;
    if (told.length === 0) return node.replaceChildren();
    const focused = node.contains(document.activeElement) ? document.activeElement.getAttribute('href') : null;
    const rows = told.slice(0, ROWS_MAX).map((host) => {
      const [word, shapeName, tone] = lookOf(PLACES, host.state);
      return el(
        'tr',
        {},
        el('td', {}, el('a', { class: 'theirs', href: memberAddress(host.host) }, short(host.host, 100))),
        el('td', {}, badge([word, shapeName, tone])),
        el('td', { class: 'theirs' }, ...memberNext(host, rollout)),
      );
    });
    const more = told.length - rows.length;
    refill(
      node,
      el('h3', {}, 'Slots and failures'),
      el(
        'table',
        {},
        el('thead', {}, el('tr', {}, ...['Host', 'State', 'Why, and what helps'].map((word) => el('th', { scope: 'col' }, word)))),
        el('tbody', {}, ...rows),
      ),
      more > 0 ? el('p', { class: 'dim' }, `and ${count(more, 'more host')}: `, command('fleet status', quoted(rollout.name))) : '',
    );
    // What was refilled has lost it.
    if (focused && !node.contains(document.activeElement)) [...node.querySelectorAll('a')].find((one) => one.getAttribute('href') === focused)?.focus();
  }

  /** How a host came there, and what ends it. */
  function memberNext(host, rollout) {
    const run = host.last_run;
    if (host.state === 'failed' && run)
      return [`${short(run.outcome, 160)}, attempt ${number(run.attempt)}; on the host, `, command('logs', quoted(String(run.run ?? '')))];
    if (host.state === 'lost') return ['went away with a slot; if it does not come back, ', command('fleet release', quoted(host.host), quoted(rollout.name))];
    if (host.state === 'declined') return ['held on the host, or it cannot read the znode; on the host, ', command('status')];
    if (host.slot && !host.live) return ['holds a slot, and is not there'];
    return [short(wordsOfMember(host, rollout), 240)];
  }

  // ── Hosts ──────────────────────────────────────────────────────────────────────────────────────

  let hostTiles = null;

  function presenceOf(host) {
    if (host.problem) return 'unreadable';
    const lags = number(host.lagging) > 0;
    if (host.live) return lags ? 'lagging' : 'there';
    return lags ? 'gone' : 'absent';
  }

  function drawHosts() {
    const list = fleet.hosts?.list ?? [];
    $('hosts').hidden = !fleet.hosts;
    if (!fleet.hosts) return;
    const members = list.map((host) => ({
      name: host.name,
      state: presenceOf(host),
      words: [host.problem, number(host.lagging) > 0 && `lags with ${count(host.lagging, 'watch', 'watches')}`, labelsOf(host)].filter(Boolean).join('; '),
    }));
    if (!hostTiles) {
      hostTiles = newTiles(PRESENCES);
      hostTiles.head = el('div', { class: 'figures' });
      $('hosts').append(
        el('div', { class: 'card-head' }, el('h2', {}, 'Hosts'), (hostTiles.root = el('span', { class: 'mono theirs' }))),
        hostTiles.head,
        el('div', { class: 'lanes' }, el('div', { class: 'lane alone' }, hostTiles.node, hostTiles.more)),
      );
    }
    say(hostTiles.root, short(fleet.hosts.root ?? ''));
    refill(
      hostTiles.head,
      ...countStatesOf(PRESENCES, members).map(([state, many]) => {
        const shown = badge(lookOf(PRESENCES, state));
        shown.append(el('b', {}, many.toLocaleString('en')));
        return shown;
      }),
      members.length ? '' : el('span', { class: 'dim' }, 'No host has joined yet.'),
    );
    fillTiles(hostTiles, PRESENCES, members, 'Hosts of the fleet');
  }

  const labelsOf = (host) =>
    isThing(host.labels)
      ? Object.entries(host.labels)
          .map(([key, value]) => `${key}=${value}`)
          .join(', ')
      : '';

  // ── One host ───────────────────────────────────────────────────────────────────────────────────

  let cameFrom = null;

  function showMember(name) {
    if (name === fleet.member) return;
    const inside = $('member').contains(document.activeElement) || document.activeElement === document.body;
    fleet.member = name;
    $('member').hidden = !name;
    coverList();
    hideTip();
    if (name && (focusDetail || narrow.matches)) {
      say($('member-name'), visible(name));
      $('member-name').focus({ preventScroll: true });
    }
    if (!name && inside) {
      // Where it was opened from, if that is still there.
      const back = cameFrom?.isConnected ? cameFrom : $('fleet');
      back.focus({ preventScroll: true });
      cameFrom = null;
    }
    focusDetail = false;
    redraw('fleet');
  }

  function closeMember() {
    history.pushState(null, '', '#/fleet');
    takeAddress();
  }

  function drawMember() {
    const name = fleet.member;
    if (!name) return;
    say($('member-name'), visible(name));
    const host = fleet.hosts?.list.find((one) => one.name === name);
    const parts = (fleet.rollouts ?? []).flatMap((rollout) => rollout.hosts.filter((one) => one.host === name).map((one) => [rollout, one]));
    const state = host && presenceOf(host);
    const fact = (word, ...value) => [el('dt', {}, word), el('dd', { class: 'theirs' }, ...value)];
    refill(
      $('member-state'),
      el('div', { class: 'state-line' }, host ? badge(lookOf(PRESENCES, state)) : badge(['Unknown to the fleet', 'ask', 'warn'])),
      host?.problem ? el('p', { class: 'state-why theirs' }, visible(host.problem, true)) : '',
      number(host?.lagging) > 0 ? el('p', {}, `It lags with ${count(host.lagging, 'watch', 'watches')}: `, command('fleet laggards'), ' names them.') : '',
      host && !host.live ? el('p', {}, 'If it is gone for good, ', command('fleet forget', quoted(name)), '.') : '',
    );
    refill(
      $('member-facts'),
      ...(host
        ? [
            ...fact(host.live ? 'There for' : 'There', host.live ? time(host.live, 'for') : 'no'),
            ...fact('Labels', short(labelsOf(host) || '–', 600)),
            ...fact('Version', short(host.version || '–', 60)),
          ]
        : []),
    );
    refill(
      $('member-parts'),
      el('h3', {}, 'Rollouts'),
      ...(parts.length
        ? parts.map(([rollout, one]) => memberPart(rollout, one))
        : [el('p', { class: 'dim' }, 'It takes part in none.')]),
    );
  }

  function memberPart(rollout, one) {
    const [word, shapeName, tone] = lookOf(PLACES, one.state);
    const run = one.last_run;
    const runFact = (title, value) => (value === '' ? '' : el('span', {}, `${title} `, el('b', { class: 'mono theirs' }, value)));
    return el(
      'div',
      { class: 'member-part' },
      el('div', { class: 'state-line' }, el('strong', { class: 'theirs' }, short(rollout.name, 100)), badge([word, shapeName, tone])),
      el('div', { class: 'theirs' }, ...memberNext(one, rollout)),
      el(
        'div',
        { class: 'run-facts' },
        one.wave ? el('span', {}, `wave ${number(one.wave)}`) : '',
        runFact('change', String(number(one.serial) || '–')),
        ...(run
          ? [
              runFact('last run', short(run.run, 40)),
              runFact('outcome', short(run.outcome, 120)),
              runFact('started', moment(Date.parse(run.started))),
              runFact('took', span(number(run.duration) * 1000)),
            ]
          : []),
      ),
    );
  }
