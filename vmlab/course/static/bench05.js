// The bench of lesson 5: three native fields, three buttons, a box a page. All it knows comes from the traits.
const PAGE = 4096;
const COLOUR = { reserved: ["#0072B2", "R", "#fff"], free: ["#009E73", "F", "#000"], allocated: ["#fff3d6", "A", "#000"] };

function make(tag, props = {}, ...children) {
  const e = document.createElement(tag);
  const { style, ...rest } = props;
  Object.assign(e, rest);
  if (style) e.style.cssText = style;
  e.append(...children);
  return e;
}

function render({ model, el }) {
  const size = make("input", { type: "number", min: 1, value: 100, style: "width:7em" });
  const align = make("select", {}, ...Array.from({ length: 13 }, (_, i) => make("option", { value: 4 << i, textContent: 4 << i })));
  align.value = "32";
  const goal = make("select", {}, make("option", { value: 0, textContent: "none" }));
  for (let i = 1; i < model.get("cells").length; i++)
    goal.append(make("option", { value: model.get("start") + i * PAGE, textContent: `page ${i}` }));
  const send = (content) => {
    try { model.send(content); } catch { said.textContent = "The kernel behind this bench was restarted. Run the cells again."; }
  };
  const ask = () => send({ do: "ask", size: size.value === "" ? null : Number(size.value), align: Number(align.value), goal: Number(goal.value) });
  const button = (text, act) => make("button", { type: "button", textContent: text, onclick: act });
  const field = (text, input) => make("label", { style: "margin-right:14px" }, text + " ", input);
  const map = make("div", { style: "display:flex;flex-wrap:wrap;gap:3px;padding:8px 0 4px" });
  map.setAttribute("role", "img");
  const said = make("div", { className: "said" });
  said.setAttribute("role", "status");
  const back = button("Take back", () => send({ do: "undo" }));
  const again = button("Start again", () => send({ do: "reset" }));
  const fields = make("div", {}, field("Size, bytes", size), field("Align", align), field("Goal", goal), button("Allocate", ask), back, again);
  const legend = make("div", { style: "font-size:12px", textContent:
    "R reserved · F free · A allocated, filled as far as it is used · thick frame: page last_pos" });
  const box = make("div", { className: "vmlab-ask", style: "max-width:none" }, fields, map, legend, said);
  size.addEventListener("keydown", (event) => { if (event.key === "Enter") ask(); }); // Jupyter swallows what Enter does in a form
  box.addEventListener("keydown", (event) => { if (event.key === "Escape") box.closest(".jp-Cell")?.focus(); }); // back to the notebook
  box.querySelectorAll("input, select, button").forEach((e) => { e.dataset.lmSuppressShortcuts = "true"; });
  el.append(box);

  const draw = () => {
    map.setAttribute("aria-label", model.get("text_alternative"));
    map.replaceChildren(...model.get("cells").map(([state, used], i) => {
      const [colour, letter, ink] = COLOUR[state];
      const level = Math.round((100 * used) / PAGE);
      const fill = state === "allocated" ? `linear-gradient(0deg,#E69F00 0 ${level}%,${colour} ${level}% 100%)` : colour;
      const border = i === model.get("last") ? "4px solid #D55E00" : "1px solid #333";
      const page = make("div", { textContent: letter, style: `width:52px;height:60px;box-sizing:border-box;border:${border};background:${fill};color:${ink};font-weight:bold` });
      return make("div", { style: "text-align:center;font-size:12px;line-height:1.4" }, page, String(i), make("br"), used ? `${used} B` : "\u00a0");
    }));
    said.replaceChildren(model.get("outcome"), make("br"), model.get("numbers"));
    back.disabled = again.disabled = model.get("requests") === 0;
  };
  model.on("change:serial", draw);
  draw();
  return () => model.off("change:serial", draw);
}
export default { render };
