// Lines to choose and to order. Buttons for everything; on a chosen line also Alt+Up/Down to move and Delete to put back.
// JupyterLab's shortcuts look at the focused element first: each one must say that its keys are its own.
const ownKeys = (box) => box.querySelectorAll("input, button, [tabindex]").forEach((e) => { e.dataset.lmSuppressShortcuts = "true"; });

function render({ model, el }) {
  const box = document.createElement("div");
  box.className = "vmlab-order";
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", model.get("title") + ": bring the lines into order");
  const said = document.createElement("div");
  said.className = "said"; said.setAttribute("role", "status"); said.setAttribute("aria-live", "polite");
  const text = Object.fromEntries(model.get("lines"));

  function put(order, message, focus) {
    model.set("order", order);
    model.save_changes();
    draw();
    said.textContent = message;
    const target = focus && box.querySelector(focus);
    if (target) target.focus();
  }
  function button(label, name, action, disabled) {
    const b = document.createElement("button");
    b.type = "button"; b.textContent = label; b.setAttribute("aria-label", name); b.disabled = !!disabled;
    b.addEventListener("click", action);
    return b;
  }
  function move(letter, by) {
    const order = [...model.get("order")];
    const at = order.indexOf(letter), to = at + by;
    if (to < 0 || to >= order.length) return;
    order.splice(at, 1); order.splice(to, 0, letter);
    put(order, `Line ${letter} is now number ${to + 1} of ${order.length}.`, `[data-chosen="${letter}"]`);
  }
  function item(letter) {
    const li = document.createElement("li");
    const mark = document.createElement("span"); mark.className = "letter"; mark.textContent = letter;
    const line = document.createElement("span"); line.className = "line"; line.textContent = text[letter].trimStart();
    const indent = text[letter].length - text[letter].trimStart().length; // kept when a long line is broken in a narrow notebook
    line.style.cssText = `padding-left: ${indent + 2}ch; text-indent: -2ch`;
    li.append(mark, line);
    return li;
  }
  function draw() {
    const order = model.get("order");
    const rest = model.get("lines").map(([letter]) => letter).filter((x) => !order.includes(x));
    box.textContent = "";
    const columns = document.createElement("div"); columns.className = "columns";
    const left = document.createElement("div"), right = document.createElement("div");
    const bank = document.createElement("ul"), list = document.createElement("ol");
    left.append(Object.assign(document.createElement("h4"), { textContent: "Lines to choose from (not all belong)" }), bank);
    right.append(Object.assign(document.createElement("h4"), { textContent: "Your order" }), list);
    for (const letter of rest) {
      const li = item(letter);
      const add = button("Add", `Add line ${letter}: ${text[letter]}`, () =>
        put([...order, letter], `Line ${letter} added as number ${order.length + 1}.`, `[data-chosen="${letter}"]`));
      add.dataset.add = letter;
      li.append(add);
      bank.append(li);
    }
    order.forEach((letter, i) => {
      const li = item(letter);
      li.tabIndex = 0; li.dataset.chosen = letter;
      li.setAttribute("aria-label", `${i + 1} of ${order.length}: line ${letter}: ${text[letter]}. Alt and arrow keys move it.`);
      const back = () => put(order.filter((x) => x !== letter), `Line ${letter} put back.`, `[data-add="${letter}"]`);
      li.addEventListener("keydown", (e) => {
        if (e.target !== li) return;
        if (e.altKey && e.key === "ArrowUp") { e.preventDefault(); move(letter, -1); }
        if (e.altKey && e.key === "ArrowDown") { e.preventDefault(); move(letter, 1); }
        if (e.key === "Delete" || e.key === "Backspace") { e.preventDefault(); back(); }
      });
      li.append(button("↑", `Move line ${letter} up`, () => move(letter, -1), i === 0),
        button("↓", `Move line ${letter} down`, () => move(letter, 1), i === order.length - 1),
        button("×", `Put line ${letter} back`, back));
      list.append(li);
    });
    if (!order.length) list.append(Object.assign(document.createElement("li"), { textContent: "nothing yet" }));
    columns.append(left, right);
    const label = document.createElement("label");
    label.append("Copy this into the solution cell: ");
    const field = document.createElement("input");
    field.className = "list"; field.readOnly = true;
    field.value = `${model.get("variable")} = [${order.map((x) => `"${x}"`).join(", ")}]`;
    field.addEventListener("focus", () => field.select());
    label.append(field);
    box.append(columns, label, said);
    ownKeys(box);
  }
  box.dataset.lmSuppressShortcuts = "true";
  box.addEventListener("keydown", (e) => { if (e.key === "Escape") box.closest(".jp-Cell")?.focus(); }); // back to the notebook
  model.on("change:order", draw);
  draw();
  el.append(box);
}

export default { render };
