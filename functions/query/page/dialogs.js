// Dialogs: the browser keeps the focus inside and gives it back afterwards.

import {$, el, fill, icon} from "./dom.js";

// A click beside a dialog closes it, as Escape does.
export function prepare(dialog) {
  dialog.addEventListener("pointerdown", (event) => {
    dialog.pressedBeside = event.target === dialog;
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog && dialog.pressedBeside) dialog.close();
  });
  return dialog;
}

export function head(title, id, close) {
  return el(
    "header.dialog-head",
    {},
    el("h2", {id}, title),
    el("button.quiet.only-icon", {type: "button", "aria-label": "Close", onclick: close}, icon("close")),
  );
}

// True once the person agreed. The safe answer has the focus.
export function confirmed({title, text, agree}) {
  const dialog = $("#confirm");
  return new Promise((resolve) => {
    const answer = (value) => () => {
      dialog.returnValue = value;
      dialog.close();
    };
    const cancel = el("button", {type: "button", onclick: answer("no"), autofocus: true}, "Cancel");
    fill(
      dialog,
      el("h2", {id: "confirm-title"}, title),
      el("p", {id: "confirm-text"}, text),
      el("div.dialog-actions", {}, cancel, el("button.danger", {type: "button", onclick: answer("yes")}, agree)),
    );
    dialog.returnValue = "no";
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
    dialog.showModal();
    cancel.focus();
  });
}

const SHORTCUTS = [
  ["/", "Write a question"],
  ["n", "New conversation"],
  ["e", "Why the last answer found what it found"],
  ["g a", "Go to Ask"],
  ["g d", "Go to Documents"],
  ["g u", "Go to Usage"],
  ["u", "Add files"],
  ["?", "These shortcuts"],
  ["Esc", "Close what is open; stop the answer"],
];

export function showHelp(preferences) {
  const dialog = $("#help");
  const single = el("input", {
    type: "checkbox",
    checked: preferences.shortcuts,
    onchange: () => {
      preferences.shortcuts = single.checked;
    },
  });
  const rows = SHORTCUTS.map(([keys, what]) =>
    el(
      "div",
      {},
      el(
        "dt",
        {},
        keys.split(" ").map((key) => el("kbd", {}, key)),
      ),
      el("dd", {}, what),
    ),
  );
  fill(
    dialog,
    head("Keyboard shortcuts", "help-title", () => dialog.close()),
    el("dl.shortcuts", {}, rows),
    el("label.check", {}, single, "Single keys are shortcuts"),
    el(
      "p.hint",
      {},
      "Programs speak to the same API: ",
      el("a", {href: "docs", target: "_blank", rel: "noopener noreferrer"}, "its reference"),
      ".",
    ),
  );
  dialog.showModal();
}
