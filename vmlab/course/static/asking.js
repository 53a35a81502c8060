// A question with choices or a field. Native controls, so the keyboard works as everywhere; the region `said` is announced.
let made = 0;
// JupyterLab's shortcuts look at the focused element first: each one must say that its keys are its own.
const ownKeys = (box) => box.querySelectorAll("input, button, [tabindex]").forEach((e) => { e.dataset.lmSuppressShortcuts = "true"; });


function words(target, text) { // `code` in backticks, everything else as text
  text.split("`").forEach((part, i) => {
    if (i % 2) { const c = document.createElement("code"); c.textContent = part; target.append(c); } else target.append(part);
  });
}

function render({ model, el }) {
  const name = `vmlab-ask-${++made}`;
  const box = document.createElement("form");
  box.className = "vmlab-ask";
  const set = document.createElement("fieldset");
  const legend = document.createElement("legend");
  legend.append("Your prediction: ");
  words(legend, model.get("question"));
  set.append(legend);
  const choices = model.get("choices");
  let field = null;
  for (const choice of choices) {
    const label = document.createElement("label");
    label.className = "choice";
    const radio = document.createElement("input");
    radio.type = "radio"; radio.name = name; radio.value = choice;
    label.append(radio, " ");
    words(label, choice);
    set.append(label);
  }
  if (!choices.length) {
    field = document.createElement("input");
    field.type = "text"; field.id = name; field.autocomplete = "off"; field.setAttribute("aria-label", "Your prediction: " + model.get("question").replaceAll("`", ""));
    set.append(field, " " + model.get("unit") + " ");
  }
  const button = document.createElement("button");
  button.type = "submit";
  const said = document.createElement("div");
  said.className = "said"; said.setAttribute("role", "status"); said.setAttribute("aria-live", "polite");
  set.append(button);
  box.append(set, said);
  el.append(box);

  // With a unit the answer is a number; "12 bits", "1,024", "0x400" and "12 %" are understood (predictions.py reads them).
  const unit = model.get("unit");
  const number = (text) => {
    const digits = (text.endsWith(unit) ? text.slice(0, -unit.length) : text).replace(/[\s,_]|%$/g, "");
    return digits !== "" && Number.isFinite(Number(digits));
  };
  const typed = () => field ? field.value.trim() : (box.querySelector("input:checked") || {}).value || "";
  const refresh = () => {
    const answer = model.get("answer");
    button.textContent = answer ? "Change my prediction" : "Commit my prediction";
    if (answer && field && document.activeElement !== field) field.value = answer;
    if (answer) for (const radio of box.querySelectorAll("input[type=radio]")) radio.checked = radio.value === answer;
    said.textContent = model.get("outcome") || (answer ? `Kept: you predict ${answer}. Now run the next cell.` : "No prediction yet.");
  };
  const commit = (event) => {
    event.preventDefault();
    if (!typed()) { said.textContent = field ? "Write a prediction first." : "Choose one first."; return; }
    if (field && unit && !number(typed())) { said.textContent = `That is not a number: the answer is in ${unit}; write it in digits, such as 1024 or 0x400.`; return; }
    try {
      model.send({ committing: true }); // nobody listens to it; it fails when there is no kernel to keep the answer
    } catch (error) {
      said.textContent = "Not kept: the kernel was restarted. Run this cell again, then commit.";
      return;
    }
    model.set("outcome", "");
    model.set("answer", typed());
    model.save_changes();
    refresh();
  };
  box.addEventListener("submit", commit);
  for (const input of box.querySelectorAll("input")) // Jupyter swallows what Enter does in a form
    input.addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.shiftKey) commit(event); });
  // The notebook's own keys, which suppressed shortcuts would take away: Escape goes back to the cell, Shift+Enter on to the next.
  box.addEventListener("keydown", (event) => {
    const cell = box.closest(".jp-Cell");
    if (!cell) return;
    if (event.key === "Escape") cell.focus();
    if (event.key === "Enter" && event.shiftKey) {
      event.preventDefault();
      if (typed()) commit(event);
      (cell.nextElementSibling ?? cell).focus();
    }
  });
  box.dataset.lmSuppressShortcuts = "true";
  ownKeys(box);
  model.on("change:answer", refresh);
  model.on("change:outcome", refresh);
  refresh();
}

export default { render };
