// What all views share. Python puts `const PALETTE = {…}` in front of this file and the view's own file behind it.

// An element with attributes and children: h("button", {class: "x", onclick: f}, "text").
// JupyterLab's shortcuts (ArrowRight, d d) must not act on what has the focus; it looks for this attribute on the element itself.
const FOCUSABLE = ["button", "input", "select", "summary", "textarea"];
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  if (FOCUSABLE.includes(tag) || "tabindex" in attributes) element.setAttribute("data-lm-suppress-shortcuts", "true");
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const uniqueId = ((n) => (stem) => `vml-${stem}-${++n}`)(Math.floor(Math.random() * 1e9));
const bytesOf = (view) => (view ? new Uint8Array(view.buffer, view.byteOffset, view.byteLength) : new Uint8Array(0));
const thin = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f"); // 262 144
const hex = (n) => "0x" + n.toString(16);
const clamp = (n, low, high) => Math.min(Math.max(n, low), high);
const reducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const rgb = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
const mix = (a, b, share) => "#" + rgb(a).map((v, i) => Math.round(v * (1 - share) + rgb(b)[i] * share).toString(16).padStart(2, "0")).join("");
// Black or white, whichever reads better on a colour.
const inkOn = (colour) => {
  const [r, g, b] = rgb(colour).map((v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000000" : "#ffffff";
};

// The root of a view. JupyterLab's one-letter shortcuts (d d deletes a cell) must not act while the focus is in here.
// Ask the view's Python half for something. After a restart of the kernel there is none: say so instead of doing nothing.
function askPython(model, content) {
  try {
    model.send(content);
  } catch (error) {
    const root = document.activeElement?.closest(".vml");
    if (root && !root.querySelector(".vml-gone-kernel"))
      root.prepend(h("p", { class: "vml-gone-kernel", role: "alert" }, "The kernel behind this picture was restarted. Run the cells again."));
    console.warn(error);
  }
}

function viewRoot(name, label) {
  const root = h("div", { class: `vml vml-${name}`, role: "group", "aria-label": label, "data-lm-suppress-shortcuts": "true" });
  // The browser would send a form on Enter, but JupyterLab takes that key away.
  root.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.target.tagName !== "INPUT" || !event.target.form) return;
    event.preventDefault();
    event.target.form.requestSubmit();
  });
  // With the notebook's shortcuts suppressed nothing else would lead back to it: Escape focuses the view's own cell.
  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !event.defaultPrevented) root.closest(".jp-Cell")?.focus();
  });
  return root;
}

function button(text, label, action, attributes = {}) {
  return h("button", { type: "button", class: "vml-button", "aria-label": label, title: label, onclick: action, ...attributes }, text);
}

// Says things to screen readers, politely, and not a word for every frame that flies past.
function announcer() {
  const element = h("div", { class: "vml-sr", role: "status", "aria-live": "polite" });
  let timer = 0;
  return {
    element,
    say(text) {
      clearTimeout(timer);
      timer = setTimeout(() => (element.textContent = text), 250);
    },
  };
}

// One of several: real radio buttons, so arrow keys and screen readers work as everywhere.
function choice(label, options, chosen, action) {
  const name = uniqueId("choice");
  const group = h("fieldset", { class: "vml-choice" }, h("legend", {}, label));
  for (const [value, text] of options) {
    const input = h("input", { type: "radio", name, value, onchange: () => action(value) });
    input.checked = value === chosen;
    group.append(h("label", {}, input, h("span", {}, text)));
  }
  group.set = (value) => group.querySelectorAll("input").forEach((input) => (input.checked = input.value === String(value)));
  return group;
}

// One line of a legend: a swatch with its letter, and the words.
const legendEntry = (colour, letter, text, hatched) =>
  h("li", {}, h("span", { class: `vml-swatch${hatched ? " vml-hatched" : ""}`, style: `background:${colour};color:${inkOn(colour)}` }, letter), text);

// The text alternative and the data table under a picture.
function wordsAndNumbers(model, describedElement) {
  const id = uniqueId("words");
  const words = h("p", { id });
  const holder = h("div", { class: "vml-table" });
  const details = h("details", { class: "vml-details" }, h("summary", {}, "In words and numbers"), words, holder);
  describedElement.setAttribute("aria-describedby", id);
  const fill = () => {
    words.textContent = model.get("text_alternative");
    const { caption, head = [], rows = [] } = model.get("table");
    const cell = (tag, scope) => (value) => h(tag, { scope }, typeof value === "number" ? thin(value) : value);
    holder.replaceChildren(
      h("table", {}, h("caption", {}, caption ?? ""), h("thead", {}, h("tr", {}, ...head.map(cell("th", "col")))),
        h("tbody", {}, ...rows.map(([first, ...rest]) => h("tr", {}, cell("th", "row")(first), ...rest.map(cell("td")))))),
    );
  };
  model.on("change:text_alternative", fill);
  model.on("change:table", fill);
  fill();
  return details;
}

// Sends at most one change at a time: the next goes out when the last was answered, or after `patience` ms without an answer.
function sender(model, answeredBy, patience = 1000) {
  let waiting = null;
  let busy = 0;
  const send = () => {
    if (!waiting) return (busy = 0);
    const values = waiting;
    waiting = null;
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
    clearTimeout(busy);
    busy = setTimeout(send, patience);
  };
  model.on(answeredBy, () => {
    if (!busy) return;
    clearTimeout(busy);
    busy = 0;
    send();
  });
  return (values) => {
    waiting = { ...waiting, ...values };
    if (!busy) send();
  };
}

// A time line: play, step by event and by operation, a slider. `go(event)` and `goOp(direction)` do the moving.
// The returned element has update({position, length, sentence}) and onKey(event) → handled.
function timeLine({ go, goOp, interval = 350 }) {
  let position = -1;
  let length = 0;
  let timer = 0;
  const slider = h("input", { type: "range", class: "vml-slider", "aria-label": "Position on the tape, in events", min: -1, step: 1 });
  const where = h("output", { class: "vml-where" });
  const sentence = h("p", { class: "vml-sentence", "aria-live": "polite" });
  const inCall = h("p", { class: "vml-call" });
  const play = button("▶", "Play", () => (timer ? stop() : start()));
  const back = button("‹", "One event back", () => move(position - 1));
  const ahead = button("›", "One event forward", () => move(position + 1));
  const opBack = button("«", "One operation back", () => moveOp(-1));
  const opAhead = button("»", "One operation forward", () => moveOp(1));
  const first = button("|‹", "To the start", () => move(-1));
  const last = button("›|", "To the end", () => move(length - 1));
  const line = h("div", { class: "vml-timeline", role: "group", "aria-label": "Time line" },
    h("div", { class: "vml-row" }, first, opBack, back, play, ahead, opAhead, last, slider, where), sentence, inCall);

  function move(event) {
    stop();
    go(clamp(event, -1, length - 1));
  }
  function moveOp(direction) {
    stop();
    goOp(direction);
  }
  function start() {
    if (position >= length - 1) go(-1);
    timer = setInterval(() => (position >= length - 1 ? stop() : go(position + 1)), interval);
    label("❚❚", "Pause");
  }
  function stop() {
    clearInterval(timer);
    timer = 0;
    label("▶", "Play");
  }
  function label(text, name) {
    if (play.textContent === text) return;
    play.textContent = text;
    play.setAttribute("aria-label", name);
    play.title = name;
  }
  slider.addEventListener("input", () => move(Number(slider.value)));
  line.onKey = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const onButton = event.target.tagName === "BUTTON";
    if (event.key === " " && !onButton) timer ? stop() : start();
    else if (event.key === "ArrowLeft") event.shiftKey ? moveOp(-1) : move(position - 1);
    else if (event.key === "ArrowRight") event.shiftKey ? moveOp(1) : move(position + 1);
    else if (event.key === "Home") move(-1);
    else if (event.key === "End") move(length - 1);
    else return false;
    event.preventDefault();
    return true;
  };
  line.addEventListener("keydown", line.onKey);
  line.update = (state) => {
    ({ position, length } = state);
    slider.max = Math.max(length - 1, -1);
    slider.value = position;
    const text = position < 0 ? `start, before ${thin(length)} events` : `event ${thin(position)} of 0 to ${thin(length - 1)}`;
    slider.setAttribute("aria-valuetext", text + (state.sentence ? `: ${state.sentence}` : ""));
    where.textContent = text;
    if (sentence.textContent !== (state.sentence ?? "")) sentence.textContent = state.sentence ?? "";
    inCall.textContent = state.call ? `in ${state.call}` : "";
    first.disabled = opBack.disabled = back.disabled = position < 0;
    last.disabled = opAhead.disabled = ahead.disabled = position >= length - 1;
    if (timer && position >= length - 1) stop();
  };
  line.stop = stop;
  return line;
}

// A canvas with the screen's resolution; returns its context in CSS pixels.
function fitCanvas(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [w, tall] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== tall) {
    canvas.width = w;
    canvas.height = tall;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}
