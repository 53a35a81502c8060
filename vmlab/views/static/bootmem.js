
// The boot bitmap. The steps come from Python, each with the bitmap as it was after a real call; see views/bootmem_lab.py.

const WINDOW = 512; // frames seen one by one: 8 rows of 64, or 16 of 32 where there is little room
const OWNER_LOOK = {
  free: ["#14171c", ""], "reserved: not known to be RAM": ["#59616d", ""], "in the buddy lists": ["#009e73", "b"], "kernel image": ["#0072b2", "K"],
  "kernel image and bitmap": ["#0072b2", "K"], "bootmem bitmap": ["#cc79a7", "B"], "BIOS data page": ["#d55e00", "0"], "page tables": ["#f0e442", "P"], mem_map: ["#e69f00", "M"],
  "wait tables": ["#56b4e9", "W"], "buddy bitmaps": ["#b4b9c2", "L"], "struct resource": ["#d55e00", "R"], valid_addr_bitmap: ["#cc79a7", "V"], yours: ["#ffffff", "Y"], "reserved by hand": ["#cc79a7", "H"],
};
const look = (name) => OWNER_LOOK[name] ?? ["#b4b9c2", (name[0] ?? "?").toUpperCase()];

function paintRange(context, owner, x, y, width, height) {
  context.fillStyle = look(owner)[0];
  context.fillRect(x, y, width, height);
  if (owner !== "reserved: not known to be RAM") return;
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  context.strokeStyle = "#14171c";
  context.lineWidth = 1.5;
  context.beginPath();
  for (let at = Math.floor((x - height) / 7) * 7; at < x + width; at += 7) {
    context.moveTo(at, y + height);
    context.lineTo(at + height, y);
  }
  context.stroke();
  context.restore();
}

function ownerAt(ranges, frame) {
  let low = 0;
  let high = ranges.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    if (frame < ranges[middle][0]) high = middle - 1;
    else if (frame >= ranges[middle][1]) low = middle + 1;
    else return ranges[middle][2];
  }
  return -1;
}

function transport(go, stageOf) {
  let position = 0;
  let length = 1;
  let timer = 0;
  const slider = h("input", { type: "range", class: "vml-slider", min: 0, step: 1, "aria-label": "Step of the boot" });
  const where = h("output", { class: "vml-where" });
  const speed = select([[900, "slow"], [450, "medium"], [150, "fast"]], 450, () => timer && (stop(), start()), { "aria-label": "Speed" });
  const move = (to) => {
    stop();
    go(clamp(to, 0, length - 1));
  };
  const stage = (direction) => {
    let at = position + direction;
    while (at > 0 && at < length - 1 && stageOf(at) !== "stage") at += direction;
    move(at);
  };
  const play = button("▶", "Play", () => (timer ? stop() : start()));
  const first = button("|‹", "To the start", () => move(0));
  const back2 = button("«", "To the previous stage of the boot", () => stage(-1));
  const back = button("‹", "One step back", () => move(position - 1));
  const ahead = button("›", "One step forward", () => move(position + 1));
  const ahead2 = button("»", "To the next stage of the boot", () => stage(1));
  const last = button("›|", "To the end", () => move(length - 1));
  function label() {
    play.textContent = timer ? "❚❚" : "▶";
    play.setAttribute("aria-label", timer ? "Pause" : "Play");
    play.title = timer ? "Pause" : "Play";
  }
  function start() {
    if (position >= length - 1) go(0);
    timer = setInterval(() => (position >= length - 1 ? stop() : go(position + 1)), Number(speed.value));
    label();
  }
  function stop() {
    clearInterval(timer);
    timer = 0;
    label();
  }
  slider.addEventListener("input", () => move(Number(slider.value)));
  const element = h("div", { class: "vml-timeline", role: "group", "aria-label": "Steps" }, h("div", { class: "vml-row" }, first, back2, back, play, ahead, ahead2, last, slider, where, speed));
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target === speed) return;
    if (event.key === " " && event.target.tagName !== "BUTTON") timer ? stop() : start();
    else if (event.key === "ArrowLeft") event.shiftKey ? stage(-1) : move(position - 1);
    else if (event.key === "ArrowRight") event.shiftKey ? stage(1) : move(position + 1);
    else if (event.key === "Home") move(0);
    else if (event.key === "End") move(length - 1);
    else return;
    event.preventDefault();
  });
  return { element, stop, update(now, total, text) {
    [position, length] = [now, total];
    slider.max = total - 1;
    slider.value = now;
    where.textContent = `step ${now + 1} of ${total}`;
    slider.setAttribute("aria-valuetext", `${where.textContent}: ${text}`);
    first.disabled = back.disabled = back2.disabled = now <= 0;
    last.disabled = ahead.disabled = ahead2.disabled = now >= total - 1;
    if (timer && now >= total - 1) stop();
  } };
}

function render({ model, el }) {
  const root = viewRoot("bootmem", "The boot memory allocator's bitmap");
  const speaker = announcer();
  const send = sender(model, "change:serial");
  let position = model.get("position");
  let columns = 64;
  let rows = 8;
  let windowStart = 0;
  let cursor = 0;
  let follow = true;
  let hover = -1;

  const step = () => model.get("steps")[position] ?? { ranges: [], lists: {}, text: "" };
  const names = () => model.get("owners");
  const line = transport((to) => {
    position = to;
    send({ position: to });
    draw(true);
  }, (at) => model.get("steps")[at]?.kind);

  const banner = h("p", { class: "vml-sentence vml-stagetext" });
  const whole = h("canvas", { class: "vml-map vml-whole", role: "img", "aria-label": "The whole bitmap, to scale; click to look closer" });
  const scale = h("div", { class: "vml-scale vml-soft" });
  const map = h("canvas", { class: "vml-map vml-close", tabindex: 0, role: "application", "aria-label": "Frames one by one: arrow keys move the cursor, Page Up and Page Down the window", "aria-roledescription": "frame map" });
  const info = h("p", { class: "vml-info", role: "status" });
  const legend = h("ul", { class: "vml-legend" });
  const panels = h("div", { class: "vml-panels" });
  const followTick = tick("follow the request", (on) => {
    follow = on;
    draw(true);
  });
  followTick.box.checked = true;
  const jump = (frame) => {
    follow = followTick.box.checked = false;
    setWindow(frame);
    cursor = frame;
    draw();
  };
  const jumps = h("div", { class: "vml-row vml-jumps", role: "group", "aria-label": "Look at" }, h("span", { class: "vml-soft" }, "look at"),
    button("frame 0", "Look at the first frames", () => jump(0)), button("1 MiB: kernel image", "Look at the kernel image, from frame 256 on", () => jump(256)),
    button("16 MiB: usual goal", "Look at the usual goal, frame 4096", () => jump(4096)),
    button("last page", "Look at the page where the last allocation ended", () => jump(step().last_pos ?? 0)), followTick);

  function setWindow(frame) {
    const { base = 0, end = 0 } = step();
    const row = Math.floor((frame - base) / columns) - 1;
    const last = Math.max(Math.ceil((end - base) / columns) - rows, 0);
    windowStart = base + clamp(row, 0, last) * columns;
  }

  function drawWhole(now) {
    const width = whole.clientWidth;
    if (!width) return;
    const context = fitCanvas(whole, width, 40);
    context.fillStyle = PALETTE.ground;
    context.fillRect(0, 0, width, 40);
    const { base, end } = now;
    const x = (frame) => ((frame - base) / Math.max(end - base, 1)) * width;
    const owners = names();
    const text = [];
    for (const [a, b, owner] of now.ranges) {
      const wide = Math.max(x(b) - x(a), owner ? 1 : 0);
      paintRange(context, owners[owner], x(a), 0, wide, 40);
      const [colour, letter] = look(owners[owner]);
      if (wide > 13 && letter) text.push([letter, x(a) + wide / 2, colour]);
    }
    context.font = "700 13px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const [letter, at, colour] of text) {
      context.fillStyle = inkOn(colour);
      context.fillText(letter, at, 20);
    }
    if (now.goal && now.kind === "alloc") {
      context.fillStyle = "#fff";
      context.beginPath();
      const at = x(now.goal / 4096);
      context.moveTo(at - 5, 0);
      context.lineTo(at + 5, 0);
      context.lineTo(at, 8);
      context.fill();
    }
    context.strokeStyle = "#fff";
    context.lineWidth = 2;
    context.strokeRect(x(windowStart) + 1, 1, Math.max(x(Math.min(windowStart + WINDOW, end)) - x(windowStart), 5) - 2, 38);
    const middle = base === 0 && end > 4096 && end < 65536 ? h("span", { style: `left:${(100 * 4096) / end}%` }, "16 MiB") : null;
    scale.replaceChildren(h("span", { class: "vml-left" }, pagesText(base) === "0 KiB" ? "0" : pagesText(base)), middle ?? "", h("span", { class: "vml-right" }, pagesText(end)));
  }

  function drawClose(now) {
    const width = map.clientWidth;
    if (!width) return;
    columns = width - 66 < 64 * 9 ? 32 : 64;
    rows = WINDOW / columns;
    const cell = Math.floor((width - 66) / columns) || 1;
    const tall = clamp(cell + 4, 13, 22);
    const left = 62;
    const context = fitCanvas(map, width, rows * tall + 8);
    context.fillStyle = PALETTE.ground;
    context.fillRect(0, 0, width, rows * tall + 8);
    const owners = names();
    context.font = "11px ui-monospace, monospace";
    context.textBaseline = "middle";
    const fresh = now.runs ?? [];
    const retiring = now.kind === "retire";
    for (let row = 0; row < rows; row++) {
      const y = 4 + row * tall;
      context.fillStyle = "#c9ced6";
      context.textAlign = "right";
      const first = windowStart + row * columns;
      if (first < now.end) context.fillText(thin(first), left - 6, y + tall / 2);
      context.textAlign = "center";
      for (let column = 0; column < columns; column++) {
        const frame = first + column;
        const owner = ownerAt(now.ranges, frame);
        if (owner < 0) continue;
        const x = left + column * cell;
        const name = owners[owner];
        paintRange(context, name, x, y, cell - 1, tall - 1);
        const [colour, letter] = look(name);
        if (name === "free") {
          context.strokeStyle = "#3b424d";
          context.strokeRect(x + 0.5, y + 0.5, cell - 2, tall - 2);
        } else if (letter && cell >= 8) {
          context.fillStyle = inkOn(colour);
          context.font = "700 10px system-ui, sans-serif";
          context.fillText(letter, x + (cell - 1) / 2, y + tall / 2);
          context.font = "11px ui-monospace, monospace";
        }
        if (!retiring && fresh.some(([a, b]) => frame >= a && frame < b)) {
          context.fillStyle = "#fff";
          context.fillRect(x, y + tall - 3, cell - 1, 2);
        }
        if (now.alive && now.last_offset && frame === now.last_pos) {
          context.fillStyle = "#14171c";
          context.fillRect(x, y, cell - 1, 5);
          context.fillStyle = "#fff";
          context.fillRect(x, y + 1, ((cell - 1) * now.last_offset) / 4096, 3);
        }
        if (now.goal && now.kind === "alloc" && frame === Math.floor(now.goal / 4096)) {
          context.strokeStyle = "#fff";
          context.setLineDash([2, 2]);
          context.strokeRect(x + 0.5, y + 0.5, cell - 2, tall - 2);
          context.setLineDash([]);
        }
        if (frame === cursor || frame === hover) {
          context.strokeStyle = "#fff";
          context.lineWidth = 2;
          context.strokeRect(x, y, cell - 1, tall - 1);
          context.lineWidth = 1;
        }
      }
    }
    map.geometry = { cell, tall, left };
  }

  function describeFrame(now) {
    const frame = hover >= 0 ? hover : cursor;
    const owner = ownerAt(now.ranges, frame);
    if (owner < 0) return "No bitmap at this step.";
    const here = model.get("consumers").filter((c) => c.step <= position && c.node === now.node && c.start < (frame + 1) * 4096 && c.start + c.size > frame * 4096);
    const part = (c) => {
      const a = Math.max(c.start - frame * 4096, 0);
      const b = Math.min(c.start + c.size - frame * 4096, 4096);
      return `${c.name} (${b - a === 4096 ? "the whole page" : `bytes ${thin(a)} to ${thin(b - 1)}`})`;
    };
    const inside = owner === 0 || names()[owner] === "in the buddy lists" ? "" : here.length ? `: ${here.slice(0, 5).map(part).join(", ")}${here.length > 5 ? ` and ${here.length - 5} more` : ""}` : "";
    const bit = now.alive && names()[owner] !== "in the buddy lists" ? ` · bit ${owner === 0 ? 0 : 1}` : "";
    return `Frame ${thin(frame)} at ${hex(frame * 4096)}${bit} · ${names()[owner]}${inside}`;
  }

  let most = 1;
  function draw(moved = false) {
    const now = step();
    const consumers = model.get("consumers");
    if (moved && follow && now.ranges.length) {
      const target = now.kind === "retire" ? now.runs[now.runs.length - 1]?.[0] : now.address !== undefined && now.address !== null ? Math.floor(now.address / 4096) : now.runs?.[0]?.[0];
      if (target !== undefined) {
        setWindow(target);
        cursor = target;
      }
    }
    cursor = clamp(cursor, now.base ?? 0, Math.max((now.end || 1) - 1, 0));
    if (windowStart < now.base || windowStart >= now.end) setWindow(cursor);
    line.update(position, model.get("steps").length, now.text);
    const trial = model.get("mode") === "trial";
    root.classList.toggle("vml-trial", trial);
    banner.replaceChildren(h("span", { class: "vml-stage" }, trial ? "by hand" : now.stage + (model.get("zones").some((z) => z.node) ? `, node ${now.node}` : "")), ` ${now.text}`);
    drawWhole(now);
    drawClose(now);
    info.textContent = describeFrame(now);
    const shown = new Set(now.ranges.map(([, , owner]) => owner));
    legend.replaceChildren(...names().map((name, at) => [name, at]).filter(([, at]) => shown.has(at)).map(([name]) => {
      const [colour, letter] = look(name);
      return h("li", {}, h("span", { class: `vml-swatch${name.startsWith("reserved: not") ? " vml-hatched" : ""}`, style: `background:${colour};color:${inkOn(colour)}` }, letter), name);
    }), h("li", { class: "vml-soft" }, now.ranges.length ? (now.alive ? `${thin(now.free)} of ${thin(now.end - now.base)} bits are 0` : "the bitmap is gone") : "no bitmap yet"));
    panels.replaceChildren(requestPanel(now, consumers), pagePanel(now, consumers, position), listsPanel(now, model.get("zones"), most));
  }

  const hands = tryPanel(model, () => line.stop());
  const frameUnder = (event) => {
    const { cell, tall, left } = map.geometry ?? {};
    if (!cell) return -1;
    const box = map.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left - left) / cell);
    const row = Math.floor((event.clientY - box.top - 4) / tall);
    const frame = windowStart + row * columns + column;
    return column < 0 || column >= columns || row < 0 || row >= rows || frame >= step().end ? -1 : frame;
  };
  map.addEventListener("pointermove", (event) => {
    const frame = frameUnder(event);
    if (frame === hover) return;
    hover = frame;
    drawClose(step());
    info.textContent = describeFrame(step());
  });
  map.addEventListener("pointerleave", () => {
    hover = -1;
    drawClose(step());
    info.textContent = describeFrame(step());
  });
  map.addEventListener("click", (event) => {
    const frame = frameUnder(event);
    if (frame >= 0) cursor = frame;
    draw();
  });
  map.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, PageUp: -WINDOW, PageDown: WINDOW, Home: -Infinity, End: Infinity };
    if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const { base = 0, end = 1 } = step();
    cursor = clamp(cursor + moves[event.key], base, Math.max(end - 1, base));
    follow = followTick.box.checked = false;
    if (cursor < windowStart) windowStart = base + Math.floor((cursor - base) / columns) * columns;
    else if (cursor >= windowStart + WINDOW) windowStart = base + (Math.floor((cursor - base) / columns) - rows + 1) * columns;
    draw();
  });
  whole.addEventListener("click", (event) => {
    const { base = 0, end = 1 } = step();
    const box = whole.getBoundingClientRect();
    jump(Math.floor(base + ((event.clientX - box.left) / box.width) * (end - base)));
  });

  const track = () => {
    most = Math.max(1, ...model.get("steps").flatMap((one) => Object.values(one.lists).flat()));
  };
  const answered = () => {
    const fresh = model.get("position");
    hands.update();
    if (fresh !== position && !sending()) position = fresh;
    position = clamp(position, 0, model.get("steps").length - 1);
    draw(true);
    speaker.say(step().text);
  };
  let length = -1;
  const sending = () => {
    // While the reader scrubs, Python's answers lag behind; a new track always wins.
    const key = model.get("steps").length + model.get("mode");
    const changed = key !== length;
    length = key;
    return !changed && document.activeElement && line.element.contains(document.activeElement);
  };
  model.on("change:steps", track);
  model.on("change:serial", answered);
  const watcher = new ResizeObserver(() => draw());
  watcher.observe(root);
  root.append(line.element, banner, whole, scale, jumps, map, info, legend, panels, hands.element, speaker.element);
  root.append(wordsAndNumbers(model, root));
  track();
  sending();
  hands.update();
  el.append(root);
  draw(true);
  return () => {
    line.stop();
    watcher.disconnect();
    model.off("change:steps", track);
    model.off("change:serial", answered);
  };
}

export default { render };
