// Keys of the whole page: "/" goes to the search box, which has the focus on load, and "?" shows all keys.

import { el } from "./dom.js";

const BOX = 'input[aria-label="Search by words"]';
const TYPED = "input:not([type=range], [type=checkbox], [type=radio]), textarea, select, [contenteditable], [role=combobox]";
const KEYS = [
  ["/", "type what to look for"],
  ["← → ↑ ↓", "from file to file; in the large view the one before and after"],
  ["Enter", "open a file large, or select it while some are"],
  ["Space", "play a recording or a film, or pause it"],
  ["x", "select a file; with Shift and a click all up to it"],
  ["f", "make a file a favourite, or take that back"],
  ["+ −", "zoom, in the large view"],
  ["Esc", "close the large view, or select nothing"],
  ["?", "these keys"],
];

// The box may come a moment later than this.
function focusBox(tries = 40) {
  const box = document.querySelector(BOX);
  if (box && [document.body, null].includes(document.activeElement)) box.focus({ preventScroll: true });
  else if (!box && tries) setTimeout(() => focusBox(tries - 1), 50);
}

// Within the component, where colours of the theme are known.
function showKeys(parent) {
  const rows = KEYS.flatMap(([key, does]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, does)]);
  const close = el("button", { type: "button", "aria-label": "Close", onclick: () => dialog.close() }, "✕");
  const dialog = el("dialog", { class: "al-keys", "aria-label": "Keys" }, close, el("h2", {}, "Keys"), el("dl", {}, rows));
  dialog.addEventListener("close", () => dialog.remove());
  parent.append(dialog);
  dialog.showModal();
}

function pressed(event, parent) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.(TYPED)) return;
  if (event.key === "/" && !document.querySelector("dialog[open]")) document.querySelector(BOX)?.focus();
  else if (event.key === "?" && !document.querySelector("dialog.al-keys")) showKeys(parent);
  else return;
  event.preventDefault();
}

const listeners = new WeakMap(); // by the element of the component

export default function ({ parentElement }) {
  if (!listeners.has(parentElement)) {
    listeners.set(parentElement, (event) => pressed(event, parentElement));
    document.addEventListener("keydown", listeners.get(parentElement));
    focusBox();
  }
  return () => {
    document.removeEventListener("keydown", listeners.get(parentElement));
    listeners.delete(parentElement);
  };
}
