
// The panels under the boot bitmap: the request, the last page, the buddy lists, and calls by hand.

// The page in which the last allocation ended: what is in its 4096 bytes, and what is left.
function pagePanel(step, consumers, position) {
  const holder = h("div", { class: "vml-card vml-page" });
  const title = (text) => h("strong", {}, text);
  if (!step.alive) return holder.append(title("The last page"), h("p", { class: "vml-soft" }, "No boot allocator at this step.")), holder;
  if (!step.last_offset) {
    holder.append(title("The last page"), h("p", { class: "vml-soft" }, "last_offset is 0: the last allocation ended at the end of a page (or there was none), so there is no rest to go on in."));
    return holder;
  }
  const base = step.last_pos * 4096;
  const here = consumers.filter((c) => c.step <= position && c.start < base + 4096 && c.start + c.size > base && c.node === step.node);
  const bar = h("div", { class: "vml-pagebar", role: "img", "aria-label": `Frame ${step.last_pos}: ${here.map((c) => `${c.name}, ${c.size} bytes`).join("; ")}; unused from offset ${step.last_offset}` });
  for (const c of here) {
    const start = Math.max(c.start - base, 0);
    const end = Math.min(c.start + c.size - base, 4096);
    const [colour, letter] = look(c.group);
    const fresh = c.step === position && step.kind === "alloc";
    bar.append(h("div", { class: fresh ? "vml-fresh" : null, title: `${c.name}: offset ${start} to ${end - 1}`, style: `left:${start / 40.96}%;width:${Math.max((end - start) / 40.96, 0.25)}%;background:${colour};color:${inkOn(colour)}` }, end - start > 120 ? letter : ""));
  }
  bar.append(h("i", { style: `left:${step.last_offset / 40.96}%` }));
  const newest = step.kind === "alloc" && here.some((c) => c.step === position);
  holder.append(h("div", { class: "vml-row vml-spread" }, title(`The last page: frame ${thin(step.last_pos)}`), h("span", { class: "vml-soft" }, `last_offset ${thin(step.last_offset)}: ${thin(4096 - step.last_offset)} bytes are left`)), bar,
    h("p", { class: "vml-note" }, newest && step.merged ? "Merged: this request begins in the rest of the page (outlined)." : newest ? "This request ends here (outlined); the next may go on where it ends." : step.kind === "retire" ? "Nobody will go on here any more: the rest of the page is lost." : "The next request goes on here if its first free frame is the one that follows."));
  return holder;
}

function requestPanel(step, consumers) {
  const rows = [];
  if (step.size !== undefined) rows.push(["size", `${thin(step.size)} bytes`]);
  if (step.align !== undefined) rows.push(["align", `${thin(step.align)} bytes`], ["goal", step.goal ? `${hex(step.goal)}, frame ${thin(Math.floor(step.goal / 4096))}` : "0: anywhere"]);
  if (step.address !== undefined) rows.push([step.align === undefined ? "address" : "result", step.address === null ? "NULL" : `${hex(step.address)}, frame ${thin(Math.floor(step.address / 4096))}`]);
  if (step.merged !== undefined) rows.push(["merged", step.merged ? "yes" : "no"]);
  if (step.kind === "retire") rows.push(["pages in this step", thin(step.runs.reduce((sum, [a, b]) => sum + b - a, 0))], ["pages so far", thin(step.handed)]);
  else if (step.runs?.length) rows.push(["bits changed", thin(step.runs.reduce((sum, [a, b]) => sum + b - a, 0))]);
  else if (step.merged) rows.push(["bits changed", "0"]);
  const names = { stage: "A stage begins", init: "init_bootmem", free: "free_bootmem", reserve: "reserve_bootmem", alloc: "alloc_bootmem", fail: "alloc_bootmem", zone: "A zone stands", retire: "free_all_bootmem", high: "High memory", bug: "Stopped", start: "By hand" };
  const name = step.kind === "alloc" ? consumers[step.consumer]?.name : "";
  return h("div", { class: `vml-card vml-request vml-kind-${step.kind}` }, h("strong", {}, names[step.kind] ?? step.kind), name ? h("span", { class: "vml-badge2" }, name) : null,
    h("dl", {}, ...rows.map(([key, value]) => h("div", {}, h("dt", {}, key), h("dd", {}, value)))));
}

function listsPanel(step, zones, most) {
  const alive = Object.keys(step.lists).length;
  return h("div", { class: "vml-card vml-listpanel" }, h("strong", {}, "Buddy lists"), ...zones.map((zone) => {
    const counts = step.lists[zone.index] ?? Array(10).fill(0);
    const pages = counts.reduce((sum, n, order) => sum + (n << order), 0);
    return h("div", { class: "vml-ziplist" }, h("div", { class: "vml-row vml-spread" }, h("span", {}, zone.name), h("span", { class: "vml-soft" }, alive ? `${thin(pages)} pages` : "not there yet")),
      h("div", { class: "vml-columns", role: "img", "aria-label": `${zone.name}: ${counts.map((n, order) => `${n} of order ${order}`).join(", ")}` },
        ...counts.map((n, order) => h("div", {}, h("span", { class: "vml-count" }, n ? thin(n) : ""), h("i", { style: `height:${n ? Math.max(4, (34 * Math.log2(n + 1)) / Math.log2(most + 1)) : 0}px;background:${PALETTE.order[order]}` }), h("span", { class: "vml-order-name" }, order)))));
  }));
}

function tryPanel(model, busy) {
  const call = choice("By hand, on a copy:", [["alloc", "alloc"], ["reserve", "reserve"], ["free", "free"]], "alloc", () => show());
  const field = (name, label, value) => {
    const input = h("input", { type: "text", value, "aria-label": label, title: label, size: 9, spellcheck: "false" });
    input.addEventListener("keydown", (event) => event.key === "Enter" && submit());
    return [labelled(name, input), input];
  };
  const [size, sizeInput] = field("size", "Size in bytes, such as 28, 4K or 0x1000", "5000");
  const [align, alignInput] = field("align", "Alignment in bytes", "32");
  const [goal, goalInput] = field("goal", "Goal: look from this address on first", "0");
  const [address, addressInput] = field("address", "Address in bytes", "16M");
  const chosen = () => call.querySelector("input:checked").value;
  const show = () => {
    align.hidden = goal.hidden = chosen() !== "alloc";
    address.hidden = chosen() === "alloc";
  };
  const submit = () => {
    busy();
    askPython(model, { do: "try", call: chosen(), size: sizeInput.value, align: alignInput.value, goal: goalInput.value, address: addressInput.value });
  };
  const go = button("Call it", "Make this call on a copy of the boot allocator", submit, { class: "vml-button vml-main" });
  const undo = button("Undo", "Take the last call back", () => askPython(model, { do: "undo" }));
  const leave = button("Back to the boot", "End the trial and show the boot again", () => askPython(model, { do: "leave" }));
  const said = h("p", { class: "vml-said", role: "alert" });
  show();
  return { element: h("div", { class: "vml-card vml-try", role: "group", "aria-label": "Try it by hand" }, h("div", { class: "vml-row" }, call, size, align, goal, address, go, undo, leave), said), update() {
    const trial = model.get("mode") === "trial";
    undo.disabled = !trial || model.get("steps").length < 2;
    leave.disabled = !trial;
    said.textContent = model.get("said");
  } };
}
