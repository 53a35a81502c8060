// What the zones, boot memory and host views share on top of common.js.

const MIB_TEXT = (mib) => (mib >= 1024 ? `${mib / 1024} GiB` : `${mib} MiB`);
const pagesText = (pages) => {
  const kib = pages * 4;
  const trim = (n) => String(Number(n.toPrecision(4)));
  return kib >= 1 << 20 ? `${trim(kib / (1 << 20))} GiB` : kib >= 1024 ? `${trim(kib / 1024)} MiB` : `${kib} KiB`;
};

function zoneSwatch(zone) {
  return h("span", { class: `vml-swatch vml-z vml-z-${zone.name}`, "aria-hidden": "true" }, zone.name[0]);
}

function labelled(text, input) {
  return h("label", { class: "vml-field" }, h("span", {}, text), input);
}

function select(options, chosen, action, attributes = {}) {
  const element = h("select", { onchange: () => action(element.value), ...attributes }, ...options.map(([value, text]) => h("option", { value }, text)));
  element.value = String(chosen);
  return element;
}

function tick(label, action) {
  const box = h("input", { type: "checkbox", onchange: () => action(box.checked) });
  const element = h("label", { class: "vml-tick" }, box, h("span", {}, label));
  element.box = box;
  return element;
}
