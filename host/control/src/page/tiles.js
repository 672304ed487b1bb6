
  // ── Tiles: a list box a lane, as many hosts as there may be ────────────────────────────────────

  /** Up to so many are shown with their names. */
  const NAMED_MAX = 40;
  /** More tiles than these nobody looks at; those that need somebody are among the first. */
  const tilesMax = () => (narrow.matches ? 240 : 1200);

  const rankOf = (table, state) => {
    const rank = Object.keys(table).indexOf(state);
    return rank < 0 ? 3 : rank; // Among those that somebody should look at.
  };

  /** Puts a child behind another one, or at the beginning; one that is there already is not touched. */
  function putAfter(parent, before, node) {
    const place = before ? before.nextSibling : parent.firstChild;
    if (place !== node) parent.insertBefore(node, place);
    return node;
  }

  let tileIds = 0;
  let pointed = null; // The tile that the tip is about.

  function newTiles(table) {
    const node = el('div', { class: 'tiles', role: 'listbox', tabindex: 0, 'aria-orientation': 'horizontal' });
    const tiles = { node, more: el('div', { class: 'more' }), by: new Map(), table, at: null, last: null, all: false };
    node.addEventListener('keydown', (event) => moveTile(tiles, event));
    node.addEventListener('blur', () => pointAtTile(tiles, null));
    node.addEventListener('focus', () => node.matches(':focus-visible') && pointAtTile(tiles, tiles.last ?? node.firstChild));
    node.addEventListener('pointermove', (event) => event.pointerType === 'mouse' && pointAtTile(tiles, event.target.closest?.('.tile')));
    node.addEventListener('pointerleave', () => document.activeElement === node || pointAtTile(tiles, null));
    node.addEventListener('click', (event) => {
      const tile = event.target.closest?.('.tile');
      if (tile) location.hash = memberAddress(tile.member.name);
    });
    return tiles;
  }

  /** `members` are {name, state, words}: as many tiles, and those that stay keep their element. */
  function fillTiles(tiles, table, members, label) {
    const { node } = tiles;
    members.sort((a, b) => rankOf(table, a.state) - rankOf(table, b.state) || COUNTED.compare(a.name, b.name));
    const most = tiles.all ? Infinity : tilesMax();
    const shown = members.slice(0, members.length > most * 1.1 ? most : Infinity);
    node.classList.toggle('named', members.length <= NAMED_MAX);
    node.setAttribute('aria-label', `${label}; arrow keys go through them`);
    const names = new Set(shown.map((member) => member.name));
    for (const [name, tile] of tiles.by)
      if (!names.has(name)) {
        if (tile === tiles.at) pointAtTile(tiles, null);
        tile.remove();
        tiles.by.delete(name);
      }
    let before = null;
    for (const member of shown) {
      let tile = tiles.by.get(member.name);
      if (!tile) {
        tile = el('div', { role: 'option', id: `tile-${tileIds++}`, 'aria-selected': 'false' }, icon('dot'), el('span', { class: 'theirs' }, short(member.name, 60)));
        tiles.by.set(member.name, tile);
      }
      tile.member = member;
      const [word, shapeName, tone] = lookOf(table, member.state);
      const chosenNow = member.name === fleet.member;
      const look = `tile ${tone}${tile === tiles.at ? ' active' : ''}${chosenNow ? ' chosen' : ''}`;
      if (tile.className !== look) tile.className = look;
      if (tile.ariaSelected !== String(chosenNow)) tile.setAttribute('aria-selected', chosenNow);
      const use = tile.firstChild.firstChild;
      if (use.getAttribute('href') !== `#i-${shapeName}`) use.setAttribute('href', `#i-${shapeName}`);
      const spoken = [short(member.name, 100), word, short(member.words, 120)].filter(Boolean).join(', ');
      if (tile.ariaLabel !== spoken) tile.setAttribute('aria-label', spoken);
      before = putAfter(node, before, tile);
    }
    const left = members.length - shown.length;
    tiles.more.hidden = left === 0;
    refill(
      tiles.more,
      ...(left
        ? [`and ${count(left, 'more host')}: ${countsOf(table, members.slice(shown.length))}. `, el('button', { type: 'button', onclick: () => ((tiles.all = true), redraw('fleet')) }, 'Show all')]
        : []),
    );
  }

  function countsOf(table, members) {
    return countStatesOf(table, members)
      .map(([state, number]) => `${number.toLocaleString('en')} ${lookOf(table, state)[0].toLowerCase()}`)
      .join(', ');
  }

  function countStatesOf(table, members) {
    const counts = new Map();
    for (const { state } of members) counts.set(state, (counts.get(state) ?? 0) + 1);
    return [...counts].sort(([a], [b]) => rankOf(table, a) - rankOf(table, b));
  }

  function moveTile(tiles, event) {
    const all = [...tiles.node.children];
    const at = all.indexOf(tiles.at);
    const moves = {
      ArrowLeft: () => all[Math.max(at - 1, 0)],
      ArrowRight: () => all[Math.min(at + 1, all.length - 1)],
      ArrowUp: () => tileBeside(all, at, -1),
      ArrowDown: () => tileBeside(all, at, 1),
      Home: () => all[0],
      End: () => all.at(-1),
    };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in moves) pointAtTile(tiles, moves[event.key]());
    else if ((event.key === 'Enter' || event.key === ' ') && tiles.at) {
      focusDetail = true;
      cameFrom = tiles.node;
      location.hash = memberAddress(tiles.at.member.name);
    } else return;
    event.preventDefault();
  }

  /** The tile nearest to this one in the row above or below. */
  function tileBeside(all, at, step) {
    const here = all[at];
    if (!here) return all[0];
    const there = all.filter((tile) => (tile.offsetTop - here.offsetTop) * step > 0);
    if (there.length === 0) return here;
    const row = there.reduce((a, b) => ((b.offsetTop - a.offsetTop) * step < 0 ? b : a)).offsetTop;
    const away = (tile) => Math.abs(tile.offsetLeft + tile.offsetWidth / 2 - here.offsetLeft - here.offsetWidth / 2);
    return there.filter((tile) => tile.offsetTop === row).reduce((a, b) => (away(b) < away(a) ? b : a));
  }

  function pointAtTile(tiles, tile) {
    tile ??= null;
    if (tile === tiles.at) return;
    tiles.at?.classList.remove('active');
    tiles.at = pointed = tile;
    if (!tile) {
      tiles.node.removeAttribute('aria-activedescendant');
      return hideTip();
    }
    tiles.last = tile;
    tile.classList.add('active');
    tiles.node.setAttribute('aria-activedescendant', tile.id);
    tile.scrollIntoView({ block: 'nearest' });
    const { member } = tile;
    $('tip').replaceChildren(
      el('strong', { class: 'theirs' }, short(member.name, 100)),
      el('div', {}, badge(lookOf(tiles.table, member.state))),
      el('div', { class: 'dim theirs' }, short(member.words, 240)),
    );
    placeTip(tile.getBoundingClientRect());
  }
