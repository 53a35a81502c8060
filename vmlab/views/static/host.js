
// Your kernel, now. Python reads /proc and puts both sides into one form; see views/host.py.

const zoneName = (row, facts) => row.zone + (facts.several ? ` · node ${row.node}` : "");
const count = (n) => (n === null || n === undefined ? "—" : thin(n));

function hostControls(model) {
  const { source, interval } = model.get("choices");
  const set = (name) => (value) => {
    model.set(name, name === "interval" ? Number(value) : value);
    model.save_changes();
  };
  const from = select(source, model.get("source"), set("source"));
  const every = select(interval, model.get("interval"), set("interval"));
  const once = button("Read now", "Read this kernel's memory once", () => askPython(model, { do: "read" }));
  const run = button("▶ Start", "Start reading again and again", () => {
    model.set("running", !model.get("running"));
    model.save_changes();
  }, { class: "vml-button vml-main vml-run" });
  const state = h("span", { class: "vml-soft vml-state" });
  const update = (paused) => {
    const running = model.get("running");
    const sample = !model.get("facts").live;
    run.textContent = running ? "❚❚ Stop" : "▶ Start";
    run.setAttribute("aria-label", running ? "Stop reading" : "Start reading again and again");
    run.title = run.getAttribute("aria-label");
    run.disabled = sample && !running;
    once.disabled = sample;
    from.value = model.get("source");
    every.value = String(model.get("interval"));
    const times = model.get("readings");
    state.textContent = sample ? "a sample does not change" : paused ? "paused while out of sight" : `${running ? "running, " : ""}read ${times === 1 ? "once" : `${thin(times)} times`}`;
  };
  return { element: h("div", { class: "vml-row vml-card" }, labelled("look at", from), run, labelled("read", every), once, state), update };
}

function bar(share, title, className = "") {
  return h("i", { class: `vml-share ${className}`, style: `--share:${Math.max(0, Math.min(share, 1)) * 100}%`, title });
}

function ordersTable(facts) {
  const orders = [...Array(facts.orders).keys()];
  const row = (zone, limit) => {
    const pages = zone.counts.reduce((sum, n, order) => sum + n * 2 ** order, 0) || 1;
    return h("tr", {}, h("th", { scope: "row" }, zoneName(zone, facts)), ...orders.map((order) => {
      if (order >= limit || order >= zone.counts.length) return h("td", { class: "vml-none", title: "there is no such order" }, "none");
      const n = zone.counts[order];
      const share = (n * 2 ** order) / pages;
      return h("td", { class: n ? null : "vml-zero" }, thin(n), bar(share, `${(100 * share).toFixed(1)} % of the zone's free pages`));
    }), h("td", {}, count(zone.free)));
  };
  const heading = (text) => h("tr", {}, h("th", { class: "vml-whose", colspan: facts.orders + 2, scope: "rowgroup" }, text));
  return h("div", { class: "vml-table" }, h("table", { class: "vml-orders" }, h("caption", {}, "Free blocks; the bar is their share of the zone's free pages"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "order"), ...orders.map((order) => h("th", { scope: "col" }, order)), h("th", { scope: "col" }, "pages free"))),
    h("tbody", {}, heading(facts.model_label), ...facts.model.map((zone) => row(zone, facts.model_orders))),
    h("tbody", {}, heading(facts.label), ...facts.now.map((zone) => row(zone, facts.orders)))));
}

function markTable(facts) {
  const row = (zone) => {
    const known = zone.min !== null && zone.high !== null;
    const top = known ? Math.max(zone.promo ?? 0, zone.high, 1) * 1.35 : 1;
    const at = (n) => Math.min((100 * n) / top, 100);
    const names = [["min", zone.min], ["low", zone.low], ["high", zone.high], ["promo", zone.promo]].filter(([, n]) => n !== null && n !== undefined);
    const gauge = known ? h("div", { class: "vml-mini", role: "img", "aria-label": `free ${count(zone.free)}; ${names.map(([name, n]) => `${name} ${n}`).join(", ")}` },
      h("div", { class: "vml-minifill", style: `width:${at(zone.free)}%` }, zone.free > top ? "▸" : ""), ...names.map(([name, n]) => h("i", { style: `left:${at(n)}%`, title: name }))) : "";
    const size = (n) => (known || n ? pagesText(Math.round((n * facts.page_size) / 4096)) : "—");
    return h("tr", {}, h("th", { scope: "row" }, zoneName(zone, facts)), h("td", {}, count(zone.pages || null)), h("td", {}, zone.pages ? size(zone.pages) : "—"), h("td", {}, count(zone.free)),
      h("td", {}, count(zone.min)), h("td", {}, count(zone.low)), h("td", {}, count(zone.high)), h("td", {}, count(zone.promo)), h("td", { class: "vml-gaugecell" }, gauge));
  };
  const heading = (text) => h("tr", {}, h("th", { class: "vml-whose", colspan: 9, scope: "rowgroup" }, text));
  return h("div", { class: "vml-table" }, h("table", { class: "vml-marks" }, h("caption", {}, "Pages, and where free pages stand against the marks"),
    h("thead", {}, h("tr", {}, ...["zone", "pages", "size", "free", "min", "low", "high", "promo", ""].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, heading("2.4.22"), ...facts.model.map(row)), h("tbody", {}, heading(`Linux ${facts.kernel}`), ...facts.now.map(row))));
}

function plainTable(caption, head, rows) {
  return h("div", { class: "vml-table" }, h("table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, ...head.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, ...rows.map(([first, ...rest]) => h("tr", {}, h("th", { scope: "row" }, first), ...rest.map((value) => h("td", {}, value)))))));
}

function sizeTable(facts) {
  return plainTable("Pages of each zone", ["zone", "spanned", "present", "managed"], facts.now.map((zone) => [zoneName(zone, facts), count(zone.spanned), count(zone.present), count(zone.managed)]));
}

function protectionTable(facts) {
  const width = Math.max(...facts.now.map((zone) => zone.protection.length));
  return plainTable("protection: pages kept from a request whose first zone is…", ["zone", ...Array(width).keys()].map((n) => (typeof n === "number" ? (facts.zone_names[n] ?? `zone ${n}`) : n)),
    facts.now.filter((zone) => zone.protection.length).map((zone) => [zoneName(zone, facts), ...zone.protection.map(thin)]));
}

function pagesetTable(facts) {
  const rows = facts.now.flatMap((zone) => zone.pagesets.map((set) => [zone, set]));
  const names = [...new Set(rows.flatMap(([, set]) => Object.keys(set)))].filter((name) => name !== "cpu" && name !== "pcp");
  const shown = rows.slice(0, 32);
  const label = (zone, set) => `${zoneName(zone, facts)}, CPU ${set.cpu}` + (set.pcp === undefined ? "" : set.pcp ? " cold" : " hot");
  const rest = rows.length > shown.length ? ` (the first ${shown.length} of ${rows.length})` : "";
  return plainTable(`Pages on each CPU's own lists${rest}`, ["zone and CPU", ...names], shown.map(([zone, set]) => [label(zone, set), ...names.map((name) => count(set[name]))]));
}

function kindTable(facts) {
  return plainTable(`Free blocks by kind and order${facts.block_pages ? `; a page block is ${facts.block_pages} pages` : ""}`, ["zone and kind", ...Array(facts.orders).keys(), "pages free", "page blocks"],
    facts.kinds.map((row) => [`${zoneName(row, facts)}, ${row.kind}`, ...Array.from({ length: facts.orders }, (_, order) => count(row.counts[order])), (row.capped ? "> " : "") + thin(row.free), count(row.blocks)]));
}

function hostSections(facts) {
  const have = (field) => facts.now.some((zone) => zone[field]?.length);
  const list = [["orders", ordersTable], ["zones", null], ["watermarks", facts.now.some((zone) => zone.min !== null) ? markTable : null], ["size", facts.now.some((zone) => zone.spanned) ? sizeTable : null],
    ["protection", have("protection") ? protectionTable : null], ["pagesets", have("pagesets") ? pagesetTable : null], ["kinds", facts.kinds.length ? kindTable : null], ["pairs", null]];
  return list.map(([name, table]) => {
    const { title, then, since } = facts.changes[name];
    const body = h("div", { class: "vml-body" });
    const here = h("p", { class: "vml-here" });
    const element = h("section", { "data-row": name }, h("h3", {}, title),
      h("div", { class: "vml-two" }, h("p", {}, h("b", {}, "2.4.22 "), then), h("p", {}, h("b", {}, "since "), since)), here, body);
    return { element, fill(now) {
      here.textContent = now.worked[name] ?? (name === "zones" && now.empty.length ? `Here: ${now.now.map((zone) => zoneName(zone, now)).join(", ")}; without a page: ${now.empty.join(", ")}.` : "");
      here.hidden = !here.textContent;
      body.replaceChildren(table ? table(now) : "");
    } };
  });
}

function render({ model, el }) {
  const root = viewRoot("host", "Your kernel, now, beside Linux 2.4.22");
  const speaker = announcer();
  const controls = hostControls(model);
  const label = h("p", { class: "vml-label" });
  const notes = h("ul", { class: "vml-notes" });
  const holder = h("div");
  let sections = [];
  let shape = "";
  let timer = 0;
  let beat = 0; // seconds between readings; 0: none
  let visible = true;
  let waiting = false;
  const update = () => {
    waiting = false;
    const facts = model.get("facts");
    if (!facts.changes) return;
    label.className = `vml-label ${facts.live ? "vml-live" : "vml-sample"}`;
    label.replaceChildren(h("b", {}, facts.live ? "● live " : "◆ sample "), facts.label);
    notes.replaceChildren(...facts.notes.map((note) => h("li", {}, note)));
    notes.hidden = !facts.notes.length;
    const now = JSON.stringify([facts.kernel, facts.now.length, facts.kinds.length > 0]);
    if (now !== shape) {
      shape = now;
      sections = hostSections(facts);
      holder.replaceChildren(...sections.map((section) => section.element));
      speaker.say(facts.label);
    }
    sections.forEach((section) => section.fill(facts));
    schedule();
  };
  const schedule = () => {
    const seen = visible && !document.hidden;
    controls.update(model.get("running") && !seen);
    const wanted = model.get("running") && seen && model.get("facts").live ? model.get("interval") : 0;
    if (wanted === beat) return; // a cell that redraws the picture must not put the next reading off
    beat = wanted;
    clearInterval(timer);
    if (beat) timer = setInterval(() => {
      if (waiting) return; // the kernel is busy: do not queue up questions
      waiting = true;
      askPython(model, { do: "read" });
    }, beat * 1000);
  };
  const watcher = new IntersectionObserver(([entry]) => {
    visible = entry.isIntersecting;
    schedule();
  });
  watcher.observe(root);
  document.addEventListener("visibilitychange", schedule);
  model.on("change:serial", update);
  model.on("change:running change:interval", schedule);
  root.append(controls.element, label, notes, holder, speaker.element);
  root.append(wordsAndNumbers(model, root));
  update();
  el.append(root);
  return () => {
    clearInterval(timer);
    watcher.disconnect();
    document.removeEventListener("visibilitychange", schedule);
    model.off("change:serial", update);
    model.off("change:running change:interval", schedule);
  };
}

export default { render };
