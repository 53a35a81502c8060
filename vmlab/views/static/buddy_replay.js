// The free lists of a window of events, moved event by event in the browser: no round trip for a step.
// What is applied is what the events say; nothing is decided here.

function replay(window) {
  const bitsOf = (packed) => bytesOf(packed).slice();
  let at; // the event after which `state` stands
  let state;

  function rewind() {
    at = window.start - 1;
    state = { zones: new Map(), block: bytesOf(window.block).slice(), moving: null };
    for (const zone of window.zones) {
      state.zones.set(zone.index, { ...zone, counts: [...zone.counts], lists: zone.lists.map((list) => [...list]), bits: zone.bits.map(bitsOf) });
    }
  }

  function apply([name, ...f]) {
    const zone = state.zones.get(name === "alloc" || name === "free" ? f[2] : f[0]);
    if (name === "list_add" && zone) {
      const [, order, pfn] = f;
      zone.lists[order].unshift(pfn);
      zone.counts[order]++;
      state.block[pfn] = 0x80 | order;
      if (state.moving?.pfn === pfn) state.moving = null;
    } else if (name === "list_del" && zone) {
      const [, order, pfn] = f;
      const where = zone.lists[order].indexOf(pfn);
      if (where >= 0) zone.lists[order].splice(where, 1);
      zone.counts[order]--;
      state.block[pfn] = 0;
    } else if (name === "map_toggle" && zone) {
      const [, order, index, bit] = f;
      const bits = zone.bits[order];
      if (bit) bits[index >> 3] |= 1 << (index & 7);
      else bits[index >> 3] &= ~(1 << (index & 7));
    } else if (name === "rmqueue" && zone) {
      const [, order, found, pfn] = f;
      zone.free -= 1 << order;
      state.moving = { pfn, order: found };
    } else if (name === "expand" && zone) {
      const [, order, , high] = f;
      state.moving = { pfn: high, order };
    } else if (name === "alloc") {
      state.block[f[0]] = 0x40 | f[1];
      state.moving = null;
    } else if (name === "free") {
      if (zone) zone.free += 1 << f[1];
      state.block[f[0]] = 0;
      state.moving = { pfn: f[0], order: f[1] };
    } else if (name === "merge") {
      state.moving = { pfn: Math.min(f[2], f[3]), order: f[1] + 1 };
    } else if (name === "boot_block" && zone) {
      zone.free += 512;
      zone.lists[9].unshift(f[1]);
      zone.counts[9]++;
      state.block[f[1]] = 0x89;
    }
  }

  rewind();
  return {
    get state() {
      return state;
    },
    has: (event) => event >= window.start - 1 && event < window.end,
    event: (event) => window.events[event - window.start],
    sentence: (event) => window.sentences[event - window.start] ?? "",
    opAt: (event) => window.ops.find(([first, end]) => event >= first && event <= end),
    to(event) {
      if (event < at) rewind();
      while (at < event) apply(window.events[++at - window.start]);
      return state;
    },
    // The allocation or free that `event` is part of: [first, last] event numbers inside the window.
    segment(event) {
      const opens = (e) => /^(alloc_begin|free|boot_block|boot_stage|zone_init|bootmem_.*)$/.test(window.events[e - window.start][0]);
      let first = Math.max(event, window.start);
      if (first >= window.end) return null;
      while (first > window.start && !opens(first)) first--;
      let last = Math.max(event, first);
      while (last + 1 < window.end && !opens(last + 1)) last++;
      return [first, last];
    },
  };
}

// The tree of one allocation or free, largest block first: each node has frame, order, the event that makes it and what it is.
function treeOf(player, first, last) {
  const nodes = [];
  let kind = "";
  let base = 0;
  for (let e = first; e <= last; e++) {
    const [name, ...f] = player.event(e);
    if (name === "rmqueue") {
      kind = "alloc";
      nodes.length = 0;
      nodes.push({ pfn: f[3], order: f[2], at: e, done: f[2] === f[1] ? e : Infinity });
    } else if (name === "expand" && kind === "alloc") {
      const [, order, low, high] = f;
      const above = nodes[nodes.length - 1];
      above.done = e;
      nodes.push({ pfn: high, order, at: e, done: Infinity, sibling: { pfn: low, order, at: e } });
    } else if (name === "alloc" && kind === "alloc") {
      nodes[nodes.length - 1].final = e;
    } else if (name === "free") {
      kind = "free";
      nodes.length = 0;
      nodes.push({ pfn: f[0], order: f[1], at: e, done: Infinity });
    } else if (name === "merge" && kind === "free") {
      const [, order, pfn, buddy] = f;
      const below = nodes[0];
      below.sibling = { pfn: buddy, order, gone: e };
      below.done = e;
      nodes.unshift({ pfn: Math.min(pfn, buddy), order: order + 1, at: e, done: Infinity });
    } else if (name === "list_add" && kind === "free" && f[2] === nodes[0].pfn) nodes[0].final = e;
    if (name === "rmqueue" || name === "free") base = f[name === "free" ? 2 : 0];
  }
  return nodes.length ? { kind, nodes, zone: base } : null;
}
