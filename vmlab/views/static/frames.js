// The physical memory map. Frames lie in rows of a power of two, so that buddies stand beside or below each other.

const CLOSE = 72; // CSS pixels of one frame at the closest
const [LOWEST, TALLEST] = [240, 460]; // CSS pixels of the map
const MODES = [["state", "state"], ["order", "order"], ["zone", "zone"], ["owner", "owner"]];
const PANEL = [["pfn", "frame"], ["physical", "physical"], ["virtual", "virtual"], ["zone", "zone"], ["count", "count"],
  ["state", "state"], ["block", "block"], ["owner", "owner"], ["flags", "flags"]];

function render({ model, el }) {
  const now = { cells: bytesOf(model.get("cells")), owners: bytesOf(model.get("owner_cells")) };
  const { colourOf, letterOf, paintImage, fillLegend } = frameColours(model, now);
  let cols = 1;
  let rows = 1;
  let scale = 1; // CSS pixels per frame
  let fitted = 1; // the scale that shows everything
  let left = 0; // what is seen begins here, in frames
  let top = 0;
  let width = 0;
  let height = 0;
  let changed = []; // runs [first, last] of frames that changed at the last refresh
  let changedAt = 0;
  let asked = 0;
  const image = document.createElement("canvas");

  const root = viewRoot("frames", "Physical memory map");
  const live = announcer();
  const canvas = h("canvas", {
    class: "vml-map", tabindex: 0, role: "application", "aria-roledescription": "memory map",
    "aria-label": "Map of all frames. Arrow keys move the cursor, plus and minus zoom, Page Up and Page Down go from block to block.",
  });
  const legend = h("ul", { class: "vml-legend", "aria-label": "Legend" });
  const note = h("span", { class: "vml-hint" });
  const goTo = h("input", { type: "text", "aria-label": "Go to frame or address", placeholder: "frame or 0x…" });
  const modes = choice("Colour shows", MODES, model.get("mode"), (mode) => {
    model.set("mode", mode);
    model.save_changes();
    repaint();
  });
  const panel = h("dl", { class: "vml-panel" });
  const values = {};
  for (const [key, label] of PANEL) {
    values[key] = h("dd", {});
    panel.append(h("div", { class: key === "block" ? "vml-wide" : null }, h("dt", {}, label), values[key]));
  }
  const send = sender(model, "change:detail", 300);
  const line = timeLine({
    go: (event) => {
      line.update({ position: event, length: model.get("length"), sentence: model.get("sentence"), call: model.get("call") }); // until Python answers
      send({ position: event });
    },
    goOp: (by) => askPython(model, { step: "op", by }),
  });

  root.append(
    h("div", { class: "vml-row vml-spread vml-bar" }, modes,
      h("div", { class: "vml-row" },
        h("form", { class: "vml-field", onsubmit: jump }, h("label", { class: "vml-field" }, "Go to", goTo), button("Go", "Go to this frame or address", null, { type: "submit" })),
        button("−", "Zoom out", () => zoom(0.5)), button("+", "Zoom in", () => zoom(2)), button("All", "Show all frames", showAll))),
    canvas, legend, h("div", { class: "vml-row" }, note), panel, line, wordsAndNumbers(model, canvas), live.element);
  el.append(root);

  // -- geometry ----------------------------------------------------------------------------------------------------

  const frames = () => now.cells.length;
  const cursor = () => model.get("cursor");
  const pfnAt = (x, y) => {
    const [column, row] = [Math.floor(left + x / scale), Math.floor(top + y / scale)];
    const pfn = row * cols + column;
    return column >= 0 && column < cols && row >= 0 && pfn < frames() ? pfn : -1;
  };

  function layout() {
    width = canvas.clientWidth;
    if (!width || !frames()) return;
    cols = 2 ** Math.floor(Math.log2(2.01 * Math.sqrt(frames())));
    rows = Math.ceil(frames() / cols);
    const whole = scale === fitted;
    fitted = Math.min(width / cols, TALLEST / rows);
    height = Math.max(Math.ceil(rows * fitted), LOWEST);
    if (whole || scale < fitted) scale = fitted;
    hold();
  }

  // Keep the map inside its window; centred where it is smaller.
  function hold() {
    const [w, tall] = [width / scale, height / scale];
    left = w >= cols ? (cols - w) / 2 : clamp(left, 0, cols - w);
    top = tall >= rows ? (rows - tall) / 2 : clamp(top, 0, rows - tall);
  }

  function zoomTo(next, x, y) {
    const [column, row] = [left + x / scale, top + y / scale];
    scale = clamp(next, fitted, CLOSE);
    left = column - x / scale;
    top = row - y / scale;
    hold();
    draw();
  }

  function zoom(factor) {
    const [x, y] = place(cursor());
    const seen = x >= 0 && y >= 0 && x < width && y < height;
    seen ? zoomTo(scale * factor, x + scale / 2, y + scale / 2) : zoomTo(scale * factor, width / 2, height / 2);
    reveal();
  }

  function showAll() {
    scale = fitted;
    hold();
    draw();
  }

  const place = (pfn) => [((pfn % cols) - left) * scale, (Math.floor(pfn / cols) - top) * scale];

  function reveal() {
    const [column, row] = [cursor() % cols, Math.floor(cursor() / cols)];
    const margin = Math.min(2, width / scale / 4, height / scale / 4);
    if (column < left + margin) left = column - margin;
    if (column + 1 > left + width / scale - margin) left = column + 1 - width / scale + margin;
    if (row < top + margin) top = row - margin;
    if (row + 1 > top + height / scale - margin) top = row + 1 - height / scale + margin;
    hold();
    draw();
  }

  // -- drawing -----------------------------------------------------------------------------------------------------

  function draw() {
    if (!width || !frames()) return;
    const context = fitCanvas(canvas, width, height);
    context.fillStyle = PALETTE.ground;
    context.fillRect(0, 0, width, height);
    context.imageSmoothingEnabled = scale * (window.devicePixelRatio || 1) < 1;
    context.drawImage(image, -left * scale, -top * scale, cols * scale, rows * scale);
    if (scale >= 5) drawCells(context);
    drawZones(context);
    drawChanges(context);
    drawCursor(context);
    root.dataset.scale = scale.toFixed(3);
  }

  // Runs of a block, one a row: [x, y, width] in CSS pixels.
  function* runs(first, last) {
    while (first <= last) {
      const end = Math.min(last, first - (first % cols) + cols - 1);
      const [x, y] = place(first);
      yield [x, y, (end - first + 1) * scale];
      first = end + 1;
    }
  }

  function drawCells(context) {
    const [c0, c1] = [Math.max(0, Math.floor(left)), Math.min(cols, Math.ceil(left + width / scale))];
    const [r0, r1] = [Math.max(0, Math.floor(top)), Math.min(rows, Math.ceil(top + height / scale))];
    const letters = scale >= 13;
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let row = r0; row < r1; row++) {
      for (let column = c0; column < c1; column++) {
        const pfn = row * cols + column;
        if (pfn >= frames()) break;
        const [x, y] = [(column - left) * scale, (row - top) * scale];
        const state = stateAt(now.cells[pfn]);
        if (now.cells[pfn] & HEAD) {
          context.fillStyle = colourOf(pfn);
          context.fillRect(x, y, scale, scale);
        }
        context.strokeStyle = "rgba(10,12,16,0.55)";
        context.lineWidth = 1;
        context.strokeRect(x + 0.5, y + 0.5, scale, scale);
        if (state === "hole") hatch(context, x, y);
        if (now.cells[pfn] & HEAD) {
          context.fillStyle = "#000";
          context.fillRect(x, y, Math.max(2, scale / 16), scale);
        }
        if (!letters) continue;
        context.fillStyle = inkOn(colourOf(pfn));
        if (scale < 40) {
          context.font = `600 ${Math.min(scale * 0.62, 16)}px system-ui, sans-serif`;
          context.fillText(letterOf(pfn), x + scale / 2, y + scale / 2 + 0.5);
        } else {
          context.font = "700 17px system-ui, sans-serif";
          context.fillText(letterOf(pfn), x + scale / 2, y + scale * 0.36);
          context.font = "11px ui-monospace, monospace";
          context.fillText(pfn, x + scale / 2, y + scale * 0.68);
          if (scale >= 60 && state !== "hole" && state !== "reserved") context.fillText(`order ${now.cells[pfn] & 15}`, x + scale / 2, y + scale * 0.86);
        }
      }
    }
  }

  function hatch(context, x, y) {
    context.strokeStyle = "#59616d";
    context.beginPath();
    context.moveTo(x + scale * 0.2, y + scale * 0.8);
    context.lineTo(x + scale * 0.8, y + scale * 0.2);
    context.stroke();
  }

  function drawZones(context) {
    context.font = "600 11px system-ui, sans-serif";
    context.textAlign = "left";
    context.textBaseline = "middle";
    let free = -99;
    for (const zone of model.get("zones")) {
      const [x, y] = place(zone.start);
      if (zone.start) {
        context.strokeStyle = "#fff";
        context.lineWidth = 1.5;
        context.setLineDash([6, 4]);
        context.beginPath();
        context.moveTo(-left * scale, y + (x > -left * scale + 0.5 ? scale : 0));
        if (x > -left * scale + 0.5) {
          context.lineTo(x, y + scale);
          context.lineTo(x, y);
        }
        context.lineTo((cols - left) * scale, y);
        context.stroke();
        context.setLineDash([]);
      }
      const tall = ((zone.end - zone.start) / cols) * scale;
      const at = Math.max(y, 0) + 10;
      if (tall < 18 || at < free || at > height - 6 || y + tall < 16) continue;
      const right = Math.min(width, (cols - left) * scale) - 6;
      const wide = context.measureText(zone.name).width + 12;
      context.fillStyle = "rgba(20,23,28,0.86)";
      context.fillRect(right - wide, at - 8, wide, 17);
      context.fillStyle = "#fff";
      context.fillText(zone.name, right - wide + 6, at + 1);
      free = at + 18;
    }
  }

  function drawChanges(context) {
    if (!changed.length) return;
    context.lineWidth = 2;
    for (const [first, last] of changed.slice(0, 400)) {
      for (const [x, y, wide] of runs(first, last)) {
        const grow = Math.max(0, (8 - scale) / 2); // a single frame of all RAM is less than a pixel
        for (const [colour, out] of [["#000", 2.5], ["#fff", 1]]) {
          context.strokeStyle = colour;
          context.strokeRect(x - grow - out, y - grow - out, wide + 2 * (grow + out), scale + 2 * (grow + out));
        }
      }
    }
  }

  function drawCursor(context) {
    const pfn = cursor();
    const [first, last] = blockOf(pfn);
    if (last > first && scale >= 3) {
      context.lineWidth = 1.5;
      context.strokeStyle = "#fff";
      context.setLineDash([3, 2]);
      for (const [x, y, wide] of runs(first, last)) context.strokeRect(x + 0.5, y + 0.5, wide - 1, scale - 1);
      context.setLineDash([]);
    }
    const [x, y] = place(pfn);
    const grow = Math.max(0, (9 - scale) / 2);
    for (const [colour, inset, line] of [["#000", 0, 5], ["#fff", 0, 2.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = line;
      context.strokeRect(x - grow + inset, y - grow + inset, scale + 2 * grow, scale + 2 * grow);
    }
  }

  // The block a frame is in, from the cells alone: back to the nearest head that reaches it.
  function blockOf(pfn) {
    const state = stateAt(now.cells[pfn]);
    if (state !== "free" && state !== "allocated") return [pfn, pfn];
    let head = pfn;
    while (head > 0 && pfn - head < 512 && !(now.cells[head] & HEAD)) head--;
    return [head, Math.min(head + (1 << (now.cells[head] & 15)), frames()) - 1];
  }

  function repaint() {
    layout();
    paintImage(image, cols, rows);
    draw();
    fillLegend(legend);
  }

  // Draw once for all the changes that arrive together, and let outlines of what changed fade or, without motion, stand a while.
  function schedule() {
    if (asked) return;
    asked = requestAnimationFrame(() => {
      asked = 0;
      repaint();
      root.dataset.painted = model.get("serial");
    });
  }

  function runsBetween(before, after) {
    const found = [];
    if (before.length !== after.length) return found;
    for (let pfn = 0; pfn < after.length; pfn++) {
      if (before[pfn] === after[pfn]) continue;
      const first = pfn;
      while (pfn < after.length && before[pfn] !== after[pfn]) pfn++;
      found.push([first, pfn - 1]);
    }
    return found;
  }

  function showChanges(runs) {
    changed = runs;
    const count = runs.reduce((sum, [first, last]) => sum + last - first + 1, 0);
    root.dataset.changed = count;
    note.textContent = count ? `${thin(count)} frames changed (outlined), the first at ${changed[0][0]}` : "";
    if (!count) return;
    const stamp = (changedAt = performance.now());
    const blink = (times) => setTimeout(() => {
      if (stamp !== changedAt) return;
      const kept = changed;
      if (times % 2) changed = [];
      draw();
      changed = kept;
      if (times > 0) blink(times - 1);
      else {
        changed = [];
        draw();
      }
    }, reducedMotion() ? 2500 : times ? 260 : 1500);
    blink(reducedMotion() ? 0 : 4);
  }

  // -- legend and panel --------------------------------------------------------------------------------------------

  function fillPanel() {
    const detail = model.get("detail");
    for (const [key] of PANEL) values[key].textContent = detail[key] ?? "";
    root.dataset.shown = detail.pfn;
    if (document.activeElement === canvas && model.get("hover") < 0) {
      live.say(`Frame ${detail.pfn}, ${detail.zone}, ${detail.state}, ${detail.block === "none" ? "" : `block of ${detail.block}, `}count ${detail.count}, flags ${detail.flags}` +
        (detail.owner === "none" ? "" : `, owner ${detail.owner}`));
    }
  }

  function moveTo(pfn) {
    model.set("cursor", clamp(pfn, 0, frames() - 1));
    send({ cursor: cursor(), hover: -1 });
    reveal();
  }

  function jump(event) {
    event.preventDefault();
    const text = goTo.value.trim().replaceAll(/[\s_,]/g, "");
    let pfn = Number(text);
    if (/^0x/i.test(text)) pfn = Math.floor((pfn >= 0xc0000000 && pfn / 4096 >= frames() ? pfn - 0xc0000000 : pfn) / 4096);
    if (text === "" || !Number.isInteger(pfn) || pfn < 0 || pfn >= frames()) {
      note.textContent = `“${goTo.value}” is not a frame (0 to ${frames() - 1}) or an address in RAM (0x0 to ${hex(frames() * 4096 - 1)}).`;
      live.say(note.textContent);
      goTo.setAttribute("aria-invalid", "true");
      return;
    }
    goTo.removeAttribute("aria-invalid");
    note.textContent = "";
    if (scale < 20) scale = Math.max(20, fitted);
    model.set("cursor", pfn);
    const [column, row] = [pfn % cols, Math.floor(pfn / cols)];
    left = column - width / scale / 2;
    top = row - height / scale / 2;
    moveTo(pfn);
    live.say(`At frame ${pfn}`);
  }

  const nextBlock = (pfn, by) => {
    if (by < 0) {
      const head = blockOf(pfn)[0];
      return head < pfn ? head : blockOf(Math.max(0, head - 1))[0];
    }
    return Math.min(blockOf(pfn)[1] + 1, frames() - 1);
  };

  // -- keys and mouse ----------------------------------------------------------------------------------------------

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = cursor();
    const step = event.shiftKey ? cols : 1;
    if (event.key === "ArrowRight") moveTo(at + step);
    else if (event.key === "ArrowLeft") moveTo(at - step);
    else if (event.key === "ArrowDown") moveTo(at + cols < frames() ? at + cols : at);
    else if (event.key === "ArrowUp") moveTo(at - cols >= 0 ? at - cols : at);
    else if (event.key === "PageDown") moveTo(nextBlock(at, 1));
    else if (event.key === "PageUp") moveTo(nextBlock(at, -1));
    else if (event.key === "Home") moveTo(0);
    else if (event.key === "End") moveTo(frames() - 1);
    else if (event.key === "+" || event.key === "=") zoom(2);
    else if (event.key === "-") zoom(0.5);
    else if (event.key === "Enter") zoom(CLOSE / scale);
    else if (event.key === "0") showAll();
    else return;
    event.preventDefault();
  });

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left - canvas.clientLeft, event.clientY - box.top - canvas.clientTop];
  };
  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, y: event.clientY, left, top, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (drag && Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > 4) drag.moved = true;
    if (drag?.moved) {
      left = drag.left - (event.clientX - drag.x) / scale;
      top = drag.top - (event.clientY - drag.y) / scale;
      hold();
      draw();
      return;
    }
    const pfn = pfnAt(...at(event));
    if (pfn !== model.get("hover")) send({ hover: pfn });
  });
  canvas.addEventListener("pointerup", (event) => {
    if (drag && !drag.moved) {
      const pfn = pfnAt(...at(event));
      if (pfn >= 0) moveTo(pfn);
    }
    drag = null;
  });
  canvas.addEventListener("pointercancel", () => (drag = null));
  canvas.addEventListener("pointerleave", () => model.get("hover") >= 0 && send({ hover: -1 }));
  canvas.addEventListener("wheel", (event) => {
    // Not while somebody scrolls through the notebook: only on a map that was clicked, or with Ctrl.
    if (!event.ctrlKey && document.activeElement !== canvas) return;
    event.preventDefault();
    zoomTo(scale * 2 ** clamp(-event.deltaY / 240, -1, 1), ...at(event));
  }, { passive: false });

  // -- changes from Python -----------------------------------------------------------------------------------------

  const showTime = () => {
    line.hidden = model.get("length") < 0;
    line.update({ position: model.get("position"), length: model.get("length"), sentence: model.get("sentence"), call: model.get("call") });
  };
  model.on("change:cells", () => {
    const before = now.cells;
    now.cells = bytesOf(model.get("cells"));
    showChanges(runsBetween(before, now.cells));
    schedule();
  });
  model.on("change:patch", () => {
    // Into the model's own bytes: a second display of this widget finds them there.
    const runs = model.get("patch").map(([first, view]) => [first, bytesOf(view)]);
    for (const [first, bytes] of runs) now.cells.set(bytes, first);
    showChanges(runs.map(([first, bytes]) => [first, first + bytes.length - 1]));
    schedule();
  });
  model.on("change:owner_cells", () => {
    now.owners = bytesOf(model.get("owner_cells"));
    schedule();
  });
  for (const name of ["zones", "owners", "mode", "serial"]) model.on(`change:${name}`, schedule);
  model.on("change:mode", () => modes.set(model.get("mode")));
  model.on("change:detail", fillPanel);
  model.on("change:cursor", draw);
  for (const name of ["length", "position", "sentence", "call"]) model.on(`change:${name}`, showTime);

  const watch = new ResizeObserver(() => {
    if (canvas.clientWidth !== width) schedule();
  });
  watch.observe(canvas);
  showTime();
  fillPanel();
  schedule();
  return () => {
    watch.disconnect();
    line.stop();
    changedAt = 0;
  };
}

export default { render };
