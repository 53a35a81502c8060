
// Zones and watermarks. Everything drawn here was worked out in Python by the core; see views/zones_lab.py.

function machineControls(model, send) {
  const { ram: steps, nodes: layouts, highmem } = model.get("choices");
  const slider = h("input", { type: "range", class: "vml-slider", min: 0, max: steps.length - 1, step: 1, "aria-label": "RAM",
    oninput: () => { show(Number(slider.value)); send({ ram: steps[Number(slider.value)] }); } });
  const size = h("output", { class: "vml-big" });
  const show = (at) => {
    size.textContent = MIB_TEXT(steps[at]);
    slider.setAttribute("aria-valuetext", MIB_TEXT(steps[at]) + (steps[at] > 4096 ? ", with PAE" : ""));
  };
  const nodes = select(layouts, model.get("nodes"), (value) => send({ nodes: value }));
  const numa = tick("CONFIG_NUMA", (on) => send({ numa: on }));
  const high = select(highmem.map((n) => [n, n < 0 ? "not given" : `${n}M`]), model.get("highmem"), (value) => send({ highmem: Number(value) }));
  const badge = h("span", { class: "vml-badge" });
  const update = () => {
    const at = Math.max(steps.indexOf(model.get("ram")), 0);
    if (document.activeElement !== slider || steps[Number(slider.value)] === model.get("ram")) {
      slider.value = at;
      show(at);
    }
    nodes.value = model.get("nodes");
    numa.box.checked = model.get("numa");
    numa.box.disabled = model.get("nodes") === "one";
    numa.title = numa.box.disabled ? "Only for a machine with several nodes" : "On: a request starts at the local node. Off: round robin";
    high.value = String(model.get("highmem"));
    high.disabled = model.get("nodes") !== "one";
    const facts = model.get("facts");
    badge.textContent = facts.pae ? "PAE" : "";
    badge.hidden = !facts.pae;
  };
  return {
    element: h("div", { class: "vml-card vml-stack" },
      h("div", { class: "vml-row" }, h("label", { class: "vml-field vml-grow" }, h("span", {}, "RAM"), slider), size, badge),
      h("div", { class: "vml-row vml-wide" }, labelled("machine", nodes), numa, labelled("highmem=", high))),
    update,
  };
}

function memoryBar(facts) {
  const bar = h("div", { class: "vml-membar", role: "img", "aria-label": "Physical memory, to scale: " + facts.zones.map((z) => `${z.label} ${pagesText(z.size)}`).join(", ") });
  for (const [at, zone] of facts.zones.entries()) {
    const share = (100 * zone.size) / facts.frames;
    bar.append(h("div", { class: `vml-z vml-z-${zone.name}`, style: `left:${(100 * zone.start) / facts.frames}%;width:max(${share}%,4px);z-index:${facts.zones.length - at}`, title: zone.label },
      share > 3 ? h("b", {}, zone.name[0]) : null, share > 13 ? h("span", {}, zone.label + (share > 30 ? ` · ${pagesText(zone.size)}` : "")) : null));
  }
  if (facts.low_limit && facts.low_limit < facts.frames)
    bar.append(h("i", { class: "vml-limit", style: `left:${(100 * facts.low_limit) / facts.frames}%`, title: "896 MiB: the end of the kernel's direct map" }));
  const legend = h("ul", { class: "vml-legend" }, ...facts.zones.map((zone) => {
    const share = (100 * zone.size) / facts.frames;
    const note = share < 0.5 ? ` (${share.toPrecision(1)} % of the bar)` : "";
    return h("li", {}, zoneSwatch(zone), `${zone.label}: frames ${thin(zone.start)} to ${thin(zone.end - 1)}, ${thin(zone.size)} pages, ${pagesText(zone.size)}${note}`);
  }));
  const low = facts.zones.filter((z) => z.node === 0 && z.name !== "HighMem").reduce((sum, z) => sum + z.size, 0);
  const map = pagesText(Math.ceil(facts.mem_map / 4096));
  const note = h("p", { class: "vml-note" }, `mem_map, one struct page a frame, takes ${map}` + (facts.nodes > 1 ? ", each node's share in its own low memory." : ` of the ${pagesText(low)} of low memory.`)
    + (facts.booted ? "" : " Above 4 GiB only sizes, watermarks and zonelists are worked out here: no frame is built, and a zone counts as all free until you set its level."));
  return h("div", {}, bar, legend, note);
}

function zoneCard(zone, send) {
  const fill = h("div", { class: "vml-fill" });
  const marks = h("div", { class: "vml-marks" });
  const gauge = h("div", { class: "vml-gauge", role: "img" }, fill, marks);
  const ticks = h("div", { class: "vml-ticks", "aria-hidden": "true" });
  const level = (pages) => send({ levels: { [zone.index]: pages } });
  const slider = h("input", { type: "range", class: "vml-slider", min: 0, step: 1, "aria-label": `Free pages of ${zone.label}`,
    oninput: () => { box.value = now.stops[Number(slider.value)]; draw({ ...now, free: Number(box.value) }); level(Number(box.value)); } });
  const box = h("input", { type: "number", min: 0, step: 1, "aria-label": `Free pages of ${zone.label}, exactly`, oninput: () => (typing = true), onchange: () => enter(), onkeydown: (event) => event.key === "Enter" && enter() });
  let typing = false;
  const enter = () => {
    typing = false;
    level(Math.round(Number(box.value)) || 0);
  };
  const size = h("span", { class: "vml-soft" });
  const wait = h("p", { class: "vml-note" });
  let now = zone;
  const draw = (z) => {
    const top = z.high * 1.25 || 1;
    const at = (n) => Math.min((100 * n) / top, 100);
    fill.style.width = `${at(z.free)}%`;
    fill.className = `vml-fill vml-z vml-z-${z.name}` + (z.free > top ? " vml-more" : "");
    fill.replaceChildren(h("b", {}, z.free > top ? "▸" : ""));
    const names = [["min", z.min], ["low", z.low], ["high", z.high]];
    marks.replaceChildren(...names.map(([name, n]) => h("i", { style: `left:${at(n)}%` })));
    ticks.replaceChildren(...names.map(([name, n]) => h("span", { style: `left:${at(n)}%` }, h("b", {}, name), ` ${thin(n)}`)));
    const place = z.free < z.min ? "below min" : z.free < z.low ? "between min and low" : z.free < z.high ? "between low and high" : "at or above high";
    gauge.setAttribute("aria-label", `${z.label}: ${z.free} pages free, ${place}; min ${z.min}, low ${z.low}, high ${z.high}`);
    slider.setAttribute("aria-valuetext", `${thin(z.free)} pages, ${place}`);
  };
  const update = (z) => {
    now = z;
    slider.max = z.stops.length - 1;
    if (document.activeElement !== slider || now.stops[Number(slider.value)] !== z.free)
      slider.value = Math.max(z.stops.findLastIndex((stop) => stop <= z.free), 0);
    box.max = z.most;
    if (!typing) box.value = z.free;
    size.textContent = pagesText(z.size);
    wait.textContent = `${thin(z.size)} pages${z.real !== z.size ? `, ${thin(z.real)} without holes` : ""} · wait table: ${thin(z.wait)} queue${z.wait === 1 ? "" : "s"}, shift ${z.shift}`;
    draw(z);
  };
  update(zone);
  const element = h("div", { class: "vml-card vml-zone" },
    h("div", { class: "vml-row vml-spread" }, h("strong", {}, zoneSwatch(zone), ` ${zone.label}`), size), gauge, ticks,
    h("div", { class: "vml-row vml-level" }, h("span", { class: "vml-soft" }, "free"), slider, box), wait);
  return { element, update };
}

function chain(indexes, byIndex) {
  return h("span", { class: "vml-chain" }, ...indexes.flatMap((index, i) => [i ? h("span", { "aria-hidden": "true" }, "→") : null,
    h("span", { class: "vml-link" }, zoneSwatch(byIndex[index]), byIndex[index].label)]));
}

function zonelistTable(facts, byIndex, picked) {
  const rows = facts.zonelists.map((list) => {
    const chosen = list.values.includes(picked);
    return h("tr", { class: chosen ? "vml-chosen" : null }, facts.nodes > 1 ? h("td", {}, `node ${list.node}`) : null, h("th", { scope: "row" }, list.bits.join(", ")),
      h("td", { class: "vml-zonechain" }, list.zones.length ? chain(list.zones, byIndex) : "none: such a request fails at once"), h("td", { class: "vml-soft" }, list.values.join(" ")), h("td", {}, chosen ? "◀ this request" : ""));
  });
  return h("div", { class: "vml-table" }, h("table", { class: "vml-lists" }, h("caption", {}, "Zonelists: where a request may fall back to"),
    h("thead", {}, h("tr", {}, facts.nodes > 1 ? h("th", { scope: "col" }, "node") : null, h("th", { scope: "col" }, "gfp zone bits"), h("th", { scope: "col" }, "zones, first to last"),
      h("th", { scope: "col" }, "gfp & 0xf"), h("th", {}))), h("tbody", {}, ...rows)));
}

function requestControls(model, send) {
  const { gfp: masks, bits, presets, reclaim } = model.get("choices");
  const mask = select(masks, model.get("gfp"), (value) => send({ gfp: Number(value) }));
  const ticks = bits.map(([name, bit]) => [tick(name, (on) => send({ gfp: on ? model.get("gfp") | bit : model.get("gfp") & ~bit })), bit]);
  const order = h("input", { type: "range", class: "vml-slider vml-short", min: 0, max: 10, step: 1, "aria-label": "Order", oninput: () => { show(); send({ order: Number(order.value) }); } });
  const size = h("output", { class: "vml-order" });
  const show = () => {
    const n = Number(order.value);
    size.textContent = `${n}: ${n ? `${1 << n} pages` : "1 page"}`;
    order.setAttribute("aria-valuetext", size.textContent);
  };
  const memalloc = tick("PF_MEMALLOC", (on) => send({ memalloc: on }));
  memalloc.title = "The task is reclaiming memory itself: once passes 1 and 2 have failed, watermarks do not hold for it";
  const reclaims = select(reclaim.map((n) => [n, n ? `frees ${n} page${n > 1 ? "s" : ""}` : "frees nothing"]), model.get("reclaims"), (value) => send({ reclaims: Number(value) }));
  const one = button("Allocate", "Make this request for good", () => askPython(model, { do: "allocate", times: 1 }), { class: "vml-button vml-main" });
  const many = button("× 32", "Make this request 32 times", () => askPython(model, { do: "allocate", times: 32 }));
  const said = h("span", { class: "vml-soft", role: "status" });
  const update = () => {
    const value = String(model.get("gfp"));
    if (![...mask.options].some((option) => option.value === value)) mask.append(h("option", { value }, `${model.get("request").gfp_name} (${hex(Number(value))})`));
    mask.value = value;
    for (const [element, bit] of ticks) element.box.checked = Boolean(model.get("gfp") & bit);
    if (document.activeElement !== order) order.value = model.get("order");
    show();
    memalloc.box.checked = model.get("memalloc");
    reclaims.value = String(model.get("reclaims"));
    one.disabled = many.disabled = !model.get("facts").booted;
    said.textContent = model.get("said");
  };
  return {
    element: h("div", { class: "vml-card vml-stack" },
      h("div", { class: "vml-row" }, labelled("gfp mask", mask), ...ticks.map(([element]) => element), h("span", { class: "vml-field" }, labelled("order", order), size)),
      h("div", { class: "vml-row" }, memalloc, labelled("reclaim", reclaims), one, many),
      h("div", { class: "vml-row", role: "group", "aria-label": "Free levels" }, h("span", { class: "vml-soft" }, "set all levels"),
        ...presets.map(([name, text]) => button(text, `Free levels ${text}`, () => askPython(model, { do: "preset", name })))), said),
    update,
  };
}

function passCell(cell, step, names, zone, request, top, served) {
  const at = (n) => Math.min((100 * n) / top, 100);
  const letters = names.map((name) => name[0]);
  const needs = h("div", { class: "vml-lane" }, h("div", { class: "vml-piece vml-order-piece", style: `width:${at(request.pages)}%` }),
    ...cell.parts.map((part, i) => h("div", { class: `vml-piece vml-z vml-z-${names[i]}`, style: `width:${at(part)}%` }, at(part) > 6 ? h("b", {}, letters[i]) : null)));
  const free = h("div", { class: "vml-lane" }, h("div", { class: "vml-piece vml-free", style: `width:${at(cell.free)}%` }), cell.free > top ? h("span", { class: "vml-over" }, "▸") : null);
  const sum = `${thin(request.pages)} + ${cell.parts.map((part, i) => `${thin(part)} ${letters[i]}`).join(" + ")} = ${thin(cell.min)}`;
  const verdict = cell.ok ? (cell.found ? "yes: it serves" : "yes, but it has no block of this order") : "no";
  return h("div", { class: `vml-cell ${cell.ok && cell.found ? "vml-yes" : "vml-no"}` },
    h("div", { class: "vml-lanes", "aria-hidden": "true" }, h("span", {}, "needs"), needs, h("span", {}, "free"), free),
    h("p", { class: "vml-sum" }, sum), h("p", {}, h("b", {}, `${thin(cell.free)} > ${thin(cell.min)}? `), `${cell.ok && cell.found ? "✓" : "✗"} ${verdict}`));
}

function passes(facts, request, byIndex) {
  const holder = h("div", { class: "vml-passes" });
  const all = request.attempts.flatMap((attempt) => attempt.passes.flatMap((step) => step.cells));
  const top = Math.max(1, ...all.map((cell) => cell.min)) * 1.3;
  request.attempts.forEach((attempt, n) => {
    if (facts.nodes > 1) holder.append(h("h4", {}, `${n ? "then" : "first"} node ${attempt.node}`));
    const width = attempt.zones.length;
    const grid = h("div", { class: "vml-grid", style: `grid-template-columns: 128px repeat(${width}, minmax(0, 1fr))` });
    grid.append(h("div"), ...attempt.zones.map((index, i) => h("div", { class: "vml-zonehead" }, i ? h("span", { class: "vml-soft" }, "→ ") : null, zoneSwatch(byIndex[index]), ` ${byIndex[index].label}`)));
    const note = (after) => {
      const texts = (attempt.between ?? []).filter((b) => b.after === after).map((b) => b.text);
      if (texts.length) grid.append(h("p", { class: "vml-between" }, "↓ " + texts.join("; ")));
    };
    note(0);
    attempt.passes.forEach((step, i) => {
      const rule = step.quarter ? "sum of pages_min ÷ 4: the request cannot wait" : `sum of ${step.mark}` + (step.no === 3 ? ", after reclaim" : "");
      grid.append(h("div", { class: "vml-passname" }, h("b", {}, `Pass ${step.no}`), h("span", {}, rule)));
      attempt.zones.forEach((index, j) => {
        const cell = step.cells[j];
        grid.append(cell ? passCell(cell, step, attempt.zones.map((z) => byIndex[z].name), byIndex[index], request, top) : h("div", { class: "vml-cell vml-skipped" }, "not asked"));
      });
      note(i + 1);
    });
    holder.append(grid);
  });
  const good = request.result.kind === "ok";
  holder.append(h("p", { class: `vml-result ${good ? "vml-yes" : "vml-no"}` }, h("b", {}, good ? "✓ " : "✗ "), request.result.text));
  return holder;
}

function render({ model, el }) {
  const root = viewRoot("zones", "Zones and watermarks");
  const speaker = announcer();
  const send = sender(model, "change:serial");
  const controls = machineControls(model, send);
  const request = requestControls(model, send);
  const memory = h("div", { class: "vml-memory" });
  const cards = h("div", { class: "vml-cards" });
  const lists = h("div");
  const walk = h("div");
  let shown = {};
  const update = () => {
    const facts = model.get("facts");
    const asked = model.get("request");
    if (!facts.zones || !asked.result) return;
    const byIndex = Object.fromEntries(facts.zones.map((zone) => [zone.index, zone]));
    controls.update();
    request.update();
    memory.replaceChildren(memoryBar(facts));
    const same = facts.zones.length === Object.keys(shown).length && facts.zones.every((zone) => shown[zone.index]?.label === zone.label);
    if (same) facts.zones.forEach((zone) => shown[zone.index].update(zone));
    else {
      shown = Object.fromEntries(facts.zones.map((zone) => [zone.index, { ...zoneCard(zone, send), label: zone.label }]));
      cards.replaceChildren(...facts.zones.map((zone) => shown[zone.index].element));
    }
    lists.replaceChildren(zonelistTable(facts, byIndex, asked.gfp & 15));
    walk.replaceChildren(passes(facts, asked, byIndex));
    speaker.say(asked.result.text);
  };
  model.on("change:serial", update);
  root.append(controls.element, memory, cards, lists, h("h3", {}, "One request, pass by pass"), request.element, walk, speaker.element);
  root.append(wordsAndNumbers(model, root));
  update();
  el.append(root);
  return () => model.off("change:serial", update);
}

export default { render };
