// The buddy allocator: time line, controls, free lists, the tree of an operation, the frames around it, the pair bits.

const NARROW = 640;

function render({ model, el }) {
  let player = replay(model.get("window"));
  let here = model.get("position");
  let saving = false;
  let saveTimer = 0;
  let follow = true; // the zone and order of the event are shown, until somebody chooses
  let looked = null; // the frame the strip and the bits are about
  let chosenLevel = null; // the order somebody looks at; else it is the event's
  let stripFrames = [0, 0];

  const root = viewRoot("buddy", "Buddy allocator");
  const live = announcer();

  // -- moving in time ----------------------------------------------------------------------------------------------

  function go(event, byHand = true) {
    here = clamp(event, -1, model.get("length") - 1);
    if (byHand) looked = chosenLevel = null;
    if (player.has(here)) draw();
    clearTimeout(saveTimer);
    saveTimer = setTimeout(save, player.has(here) ? 150 : 0);
  }
  function save() {
    saving = true;
    model.set("position", here);
    saving = false;
    model.save_changes();
  }
  function goOp(direction) {
    const op = player.opAt(direction > 0 ? Math.min(here + 1, model.get("length") - 1) : Math.max(here, 0));
    if (op) go(direction > 0 ? op[1] : op[0] - 1);
    else go(here + direction);
  }
  const line = timeLine({ go, goOp });

  // -- controls ----------------------------------------------------------------------------------------------------

  const menus = model.get("menus");
  const options = (list) => list.map(([value, text]) => h("option", { value }, text));
  const field = (label, control) => h("label", { class: "vml-field" }, label, control);
  const gfp = h("select", { "aria-label": "GFP flags" }, ...options(menus.gfp.map((name) => [name, name])));
  const order = h("select", { "aria-label": "Order to allocate" }, ...options([...Array(menus.orders).keys()].map((o) => [o, o])));
  const owner = h("input", { type: "text", "aria-label": "Owner, a label for the pictures", placeholder: "owner", maxlength: 24 });
  const block = h("select", { "aria-label": "Allocated block to free" });
  const workload = h("select", { "aria-label": "Workload" }, ...options(menus.workloads.map(([name]) => [name, name])));
  for (const [i, [, text]] of menus.workloads.entries()) workload.options[i].title = text;
  const seed = h("input", { type: "number", "aria-label": "Seed", value: 1, min: 0, step: 1, required: true });
  const steps = h("input", { type: "number", "aria-label": "Steps", value: 200, min: 1, max: 20000, step: 1, required: true });
  const allocate = button("Allocate", "Allocate", null, { type: "submit", class: "vml-button vml-main" });
  const release = button("Free", "Free", null, { type: "submit", class: "vml-button vml-main" });
  const runIt = button("Run", "Run workload", null, { type: "submit", class: "vml-button vml-main" });
  const past = h("p", { class: "vml-past" });
  const message = h("p", { class: "vml-message", role: "status", "aria-live": "polite" });
  const runs = h("select", { "aria-label": "Run shown", onchange: () => askPython(model, { action: "run", index: Number(runs.value) }) });
  const runField = field("Run", runs);
  const form = (label, send, ...children) =>
    h("form", { "aria-label": label, onsubmit: (event) => {
      event.preventDefault();
      clearTimeout(saveTimer);
      save(); // Python acts at the position it knows
      follow = true;
      looked = chosenLevel = null;
      askPython(model, send());
    } }, ...children);
  const controls = h("div", { class: "vml-act", role: "group", "aria-label": "Act on the machine" },
    form("Allocate a block", () => ({ action: "allocate", gfp: gfp.value, order: order.value, owner: owner.value }), gfp, field("order", order), owner, allocate),
    form("Free a block", () => ({ action: "free", pfn: block.value }), block, release),
    form("Run a workload", () => ({ action: "workload", name: workload.value, seed: seed.value, n: steps.value }), workload, field("seed", seed), field("steps", steps), runIt),
    runField, past, message);

  // -- the picture -------------------------------------------------------------------------------------------------

  const zones = h("div", { class: "vml-row vml-spread vml-zones" });
  const lists = h("div", { class: "vml-lists", role: "grid", "aria-label": "Free lists by order, head first" });
  const treeTitle = h("h4", {}, "This operation");
  const tree = svg("svg", { class: "vml-tree", role: "img" });
  const stripTitle = h("h4", {});
  const strip = h("canvas", { class: "vml-map vml-strip", role: "img", tabindex: 0 });
  const bitsTitle = h("h4", {});
  const bits = h("div", { class: "vml-bits", role: "img" });
  const legend = h("ul", { class: "vml-legend", "aria-label": "Legend" }, ...["free", "allocated", "reserved", "moving"].map((state) =>
    legendEntry(PALETTE.state[state], PALETTE.letter[state], state === "moving" ? "on its way" : state)));
  const pictures = h("div", {}, zones,
    h("div", { class: "vml-two" }, h("div", {}, h("h4", {}, "Free lists, head first"), lists), h("div", {}, treeTitle, tree)),
    h("div", { class: "vml-row vml-spread" }, stripTitle, legend), strip, bitsTitle, bits);
  root.append(controls, line, pictures, wordsAndNumbers(model, lists), live.element);
  el.append(root);

  const zoneNow = () => player.state.zones.get(model.get("zone"));
  const eventNow = () => (here >= 0 && player.has(here) ? player.event(here) : null);
  // The order of the event, which the lists and the pair bits follow; or the chosen one.
  function levelNow() {
    const [name, ...f] = eventNow() ?? [];
    const at = { rmqueue: 1, expand: 1, alloc: 1, free: 1, merge: 1, list_add: 1, list_del: 1, map_toggle: 1 }[name];
    return chosenLevel ?? (at ? clamp(f[at], 0, 9) : model.get("order"));
  }
  const segmentNow = () => (here >= 0 ? player.segment(here) : null);

  function setZone(index) {
    follow = false;
    looked = null;
    model.set("zone", Number(index));
    model.save_changes();
    draw();
  }
  function setOrder(value) {
    chosenLevel = value;
    if (value === model.get("order")) return draw();
    model.set("order", value); // draws
    model.save_changes();
  }

  // Show the zone and the order the event is about.
  function followEvent(operation) {
    if (!follow) return;
    const event = eventNow();
    if (!event) return;
    const index = operation ? operation.zone : null;
    if (index !== null && index !== model.get("zone") && player.state.zones.has(index)) {
      model.set("zone", index);
      model.save_changes();
    }
  }

  function draw() {
    if (!player.has(here)) return;
    const state = player.to(here);
    const segment = segmentNow();
    const operation = segment && treeOf(player, ...segment);
    followEvent(operation);
    drawTime();
    drawZones();
    if (!state.zones.size || !zoneNow()) {
      lists.replaceChildren(h("p", {}, "The zones are not set up yet."));
      for (const element of [treeTitle, tree, stripTitle, legend, strip, bitsTitle, bits]) element.style.display = "none";
    } else {
      for (const element of [treeTitle, tree, stripTitle, legend, strip, bitsTitle, bits]) element.style.display = "";
      drawLists(operation);
      drawTree(operation);
      drawStrip(operation);
      drawBits(operation);
    }
    root.dataset.painted = model.get("window").serial;
    root.dataset.event = here;
  }

  function drawTime() {
    const length = model.get("length");
    const op = here >= 0 ? player.opAt(here) : null;
    const text = here < 0 ? "Before the first event." : player.sentence(here);
    line.update({ position: here, length, sentence: text, call: op?.[2] });
    const inPast = here < length - 1 || !model.get("growing");
    past.classList.toggle("vml-in-past", inPast);
    past.textContent = !inPast ? "At the end of the tape: acting here changes the machine itself."
      : here < length - 1 ? "You are in the past: acting here starts a new branch, a second machine, before the request shown; this run stays as it is."
        : "This tape is finished: acting here starts a new branch, a second machine.";
    for (const [element, name] of [[allocate, "Allocate"], [release, "Free"], [runIt, "Run"]]) {
      element.textContent = inPast ? `${name} in a branch` : name;
    }
    // On a branch the blocks are those of its past, not of the end: read them off the frames.
    const choices = here === length - 1 && model.get("choices").length ? model.get("choices") : usedBlocks();
    const key = choices.map(([, label]) => label).join();
    if (key !== block.dataset.key) {
      block.dataset.key = key;
      const kept = block.value;
      block.replaceChildren(...options(choices.length ? choices : [["", "nothing allocated"]]));
      if (choices.some(([pfn]) => String(pfn) === kept)) block.value = kept;
    }
    release.disabled = block.disabled = !choices.length;
  }
  function usedBlocks() {
    const found = [];
    const { block: column } = player.state;
    for (let pfn = 0; pfn < column.length && found.length < 400; pfn++) if (column[pfn] & 0x40) found.push([pfn, `${pfn} · order ${column[pfn] & 15}`]);
    return found;
  }

  function drawZones() {
    const all = [...player.state.zones.values()];
    const key = all.map((z) => z.index).join();
    if (zones.dataset.key !== key) {
      zones.dataset.key = key;
      zones.tabs = choice("Zone", all.map((z) => [String(z.index), z.name]), String(model.get("zone")), setZone);
      zones.total = h("span", { class: "vml-more" });
      zones.replaceChildren(zones.tabs, zones.total);
    }
    zones.hidden = !all.length;
    zones.tabs.set(model.get("zone"));
    const zone = zoneNow();
    zones.total.textContent = zone ? `${thin(zone.free)} of ${thin(zone.end - zone.start)} pages free` : "";
  }

  const bitAt = (zone, level, pfn) => {
    const index = (pfn - zone.start) >> (level + 1);
    return level < 9 && zone.bits[level].length ? [(zone.bits[level][index >> 3] >> (index & 7)) & 1, index] : [null, index];
  };

  // The frame everything is about: chosen by hand, or the block of the operation.
  function focus(operation) {
    const zone = zoneNow();
    if (looked !== null && looked >= zone.start && looked < zone.end) return looked;
    if (operation && operation.zone === zone.index) return operation.nodes[operation.nodes.length - 1].pfn;
    for (let level = 9; level >= 0; level--) if (zone.lists[level].length) return zone.lists[level][0];
    return zone.start;
  }

  function drawLists(operation) {
    const zone = zoneNow();
    const event = eventNow();
    const [name, eventZone, eventOrder, eventPfn] = event ?? [];
    const about = focus(operation);
    const current = levelNow();
    const room = Math.max(2, Math.floor(((lists.clientWidth || 500) - 46 - 64 - 88 - 96) / (String(zone.end).length * 7.2 + 20)));
    const hadFocus = lists.contains(document.activeElement) ? document.activeElement.dataset.at : null;
    const rows = [h("div", { class: "vml-list vml-list-head", role: "row" }, h("span", { role: "columnheader" }, "order"), h("span", { role: "columnheader", class: "vml-count" }, "blocks"),
      h("span", { role: "columnheader" }, "first frames"), h("span", { role: "columnheader", title: `The bit of the pair that frame ${about} is in, at each order` }, `bit of ${about}`))];
    for (let level = 0; level < 10; level++) {
      const mine = event && eventZone === zone.index && eventOrder === level;
      const [bit, index] = bitAt(zone, level, about);
      const chips = zone.lists[level].slice(0, room).map((pfn, i) => h("button", {
        type: "button", class: `vml-chip${(mine && name === "list_add" && pfn === eventPfn) || pfn === looked ? " vml-new" : ""}`, tabindex: -1,
        style: `background:${PALETTE.order[level]};color:${inkOn(PALETTE.order[level])}`, "data-at": `${level}.${i + 1}`, "data-pfn": pfn,
        "aria-label": `free block at frame ${pfn}, order ${level}, place ${i + 1}`, onclick: () => look(pfn, level),
      }, pfn));
      if (mine && name === "list_del") chips.unshift(h("span", { class: "vml-gone", title: "has just left the list" }, eventPfn));
      const more = zone.counts[level] - Math.min(room, zone.lists[level].length);
      rows.push(h("div", { class: "vml-list", role: "row", "aria-selected": String(level === current), "data-order": level, onclick: () => setOrder(level) },
        h("button", { type: "button", role: "rowheader", class: "vml-button vml-order", tabindex: level === current ? 0 : -1, "data-at": `${level}.0`,
          "aria-label": `order ${level}: ${zone.counts[level]} free blocks of ${1 << level} pages`, onclick: () => setOrder(level) }, level),
        h("span", { role: "gridcell", class: "vml-count" }, thin(zone.counts[level])),
        h("span", { role: "gridcell", class: "vml-chips" }, ...chips, more > 0 ? h("span", { class: "vml-more" }, `… ${thin(more)} more`) : zone.counts[level] ? null : h("span", { class: "vml-more" }, "empty")),
        h("span", { role: "gridcell", class: `vml-bit${mine && name === "map_toggle" ? " vml-new" : ""}`, title: bit === null ? "order 9 has no pair bits" : `pair ${index}` },
          mine && name === "map_toggle" ? event[4] : bit === null ? "–" : bit)));
    }
    lists.replaceChildren(...rows);
    if (hadFocus) (lists.querySelector(`[data-at="${hadFocus}"]`) ?? lists.querySelector('[tabindex="0"]'))?.focus({ preventScroll: true });
  }

  function look(pfn, level) {
    looked = pfn;
    setOrder(level);
    live.say(`Block at frame ${pfn}, order ${level}, is shown below.`);
  }

  lists.addEventListener("keydown", (event) => {
    const at = event.target.dataset?.at;
    if (!at || event.ctrlKey || event.metaKey || event.altKey) return;
    let [level, place] = at.split(".").map(Number);
    if (event.key === "ArrowDown") level++;
    else if (event.key === "ArrowUp") level--;
    else if (event.key === "ArrowRight") place++;
    else if (event.key === "ArrowLeft") place--;
    else if (event.key === "Home") place = 0;
    else return;
    event.preventDefault();
    event.stopPropagation();
    level = clamp(level, 0, 9);
    const last = lists.querySelectorAll(`[data-order="${level}"] [data-at]`).length - 1;
    place = clamp(place, 0, last);
    if (level !== levelNow()) setOrder(level);
    lists.querySelector(`[data-at="${level}.${place}"]`)?.focus();
  });

  function drawTree(operation) {
    const elsewhere = operation && operation.zone !== model.get("zone") ? ` (zone ${player.state.zones.get(operation.zone)?.name})` : "";
    treeTitle.textContent = (operation ? treeHeading(operation) : "No block is split or merged here") + elsewhere;
    tree.style.display = operation ? "" : "none";
    if (operation) paintTree(tree, operation, here, player.state);
  }

  // -- frames and bits ---------------------------------------------------------------------------------------------

  function drawStrip(operation) {
    const zone = zoneNow();
    const about = focus(operation);
    const biggest = operation && looked === null && operation.zone === zone.index ? operation.nodes[0].order : player.state.block[about] & 0x80 ? player.state.block[about] & 15 : 0;
    const size = 1 << clamp(biggest + 1, 6, 10);
    const first = zone.start + Math.floor((about - zone.start) / size) * size;
    const last = Math.min(first + size, zone.end) - 1;
    stripFrames = [first, last];
    const { block } = player.state;
    const chosen = looked !== null && block[looked] & 0xc0 ? [[looked, 1 << (block[looked] & 15)]] : [];
    const steps = operation && operation.zone === zone.index ? operation.nodes.filter((n) => n.at <= here).map((n) => [n.pfn, 1 << n.order]) : [];
    paintStrip(strip, player.state, zone, first, last, looked === null ? steps : chosen);
    stripTitle.textContent = `Frames ${first} to ${last}`;
    const counts = { free: 0, allocated: 0 };
    for (let f = first; f <= last; f++) if (block[f] & 0x80) counts.free++;
    else if (block[f] & 0x40) counts.allocated++;
    strip.setAttribute("aria-label", `Frames ${first} to ${last}: ${counts.free} free and ${counts.allocated} allocated blocks begin here. Left and right arrow keys look at the blocks.`);
  }

  function lookAt(pfn) {
    if (pfn === null) return;
    const kind = player.state.block[pfn];
    looked = pfn;
    if (kind & 0x40 && !block.disabled) block.value = pfn;
    setOrder(kind & 15);
    live.say(`${kind & 0x80 ? "Free" : "Allocated"} block at frame ${pfn}, order ${kind & 15}`);
  }
  strip.addEventListener("click", (event) => {
    const [first, last] = stripFrames;
    lookAt(blockOver(player.state.block, zoneNow(), Math.floor(first + (event.offsetX / strip.clientWidth) * (last - first + 1))));
  });
  strip.addEventListener("keydown", (event) => {
    if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    const zone = zoneNow();
    const { block: column } = player.state;
    const by = event.key === "ArrowRight" ? 1 : -1;
    let pfn = (looked ?? (by > 0 ? stripFrames[0] - 1 : stripFrames[1] + 1)) + by;
    while (pfn >= zone.start && pfn < zone.end && !(column[pfn] & 0xc0)) pfn += by;
    if (pfn >= zone.start && pfn < zone.end) lookAt(pfn);
    event.preventDefault();
    event.stopPropagation();
  });

  function drawBits(operation) {
    const zone = zoneNow();
    const level = levelNow();
    const about = focus(operation);
    const [bit, index] = bitAt(zone, level, about);
    const many = clamp(Math.floor((bits.clientWidth || 800) / 52), 5, 24);
    const pairs = Math.ceil((zone.end - zone.start) / (2 << level));
    bitsTitle.textContent = level === 9 ? "Order 9 is the largest: it has no buddies to merge with and no pair bits"
      : `Pair bits of order ${level}: 1 where exactly one of the two buddies is free`;
    if (bit === null) return bits.replaceChildren();
    const first = clamp(index - (many >> 1), 0, Math.max(0, pairs - many));
    const event = eventNow();
    const cells = [];
    const words = [];
    for (let i = first; i < Math.min(first + many, pairs); i++) {
      const value = (zone.bits[level][i >> 3] >> (i & 7)) & 1;
      const pfn = zone.start + (i << (level + 1));
      const toggled = event?.[0] === "map_toggle" && event[1] === zone.index && event[2] === level && event[3] === i;
      cells.push(h("span", { class: `vml-pair${value ? " vml-one" : ""}${toggled || (i === index && looked !== null) ? " vml-new" : ""}`, "data-pair": i,
        title: `pair ${i}: frames ${pfn} and ${pfn + (1 << level)}` }, h("b", {}, value), h("small", {}, pfn)));
      words.push(value);
    }
    bits.replaceChildren(...cells);
    bits.setAttribute("aria-label", `Pair bits ${first} to ${first + words.length - 1} of order ${level}: ${words.join(" ")}. Bit ${index} is ${bit}.`);
  }

  // -- from Python, and keys ---------------------------------------------------------------------------------------

  model.on("change:window", () => {
    player = replay(model.get("window"));
    if (!player.has(here)) here = model.get("position");
    draw();
  });
  model.on("change:position", () => {
    if (saving || model.get("position") === here) return;
    here = model.get("position");
    draw();
  });
  for (const name of ["zone", "order", "length", "choices", "growing"]) model.on(`change:${name}`, draw);
  const showMessage = () => {
    const { text = "", failed = false } = model.get("message");
    message.textContent = text;
    message.classList.toggle("vml-failed", failed);
  };
  const showRuns = () => {
    const names = model.get("runs");
    runField.hidden = names.length < 2;
    runs.replaceChildren(...options(names.map((name, i) => [i, name])));
    runs.value = model.get("run");
  };
  model.on("change:message", () => {
    showMessage();
    // After an action the end of the tape is shown, wherever the slider was.
    here = model.get("position");
    draw();
  });
  model.on("change:runs", showRuns);
  model.on("change:run", () => {
    showRuns();
    here = model.get("position");
    draw();
  });
  root.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || /^(INPUT|SELECT|SUMMARY|BUTTON)$/.test(event.target.tagName)) return;
    line.onKey(event);
  });
  const watch = new ResizeObserver(() => {
    root.classList.toggle("vml-narrow", root.clientWidth < NARROW);
    draw();
  });
  watch.observe(root);
  showMessage();
  showRuns();
  draw();
  return () => {
    watch.disconnect();
    line.stop();
    clearTimeout(saveTimer);
  };
}

export default { render };
