// Files that are selected, and what can be done with them: a bar at the bottom of the page.

import { el } from "./dom.js";

export class Selection {
  constructor(gallery) {
    this.gallery = gallery;
    this.hits = new Map(); // by id
    this.last = null; // where a range begins
    this.isAsking = false;
    this.bar = el("div", { class: "al-dock al-selection", role: "toolbar", "aria-label": "Selected files", hidden: true });
    this.told = "";
    this.forgotten = null; // the turn of the files that the server forgot last
    this.onKey = (event) => {
      const isElsewhere = event.target.closest?.("input, textarea, [contenteditable], [role=dialog], [role=listbox]");
      if (event.key === "Escape" && this.size && !isElsewhere && !document.querySelector("dialog[open]")) this.clear();
    };
    document.addEventListener("keydown", this.onKey);
  }

  get size() {
    return this.hits.size;
  }

  has(id) {
    return this.hits.has(id);
  }

  // Select a file, or not; with `isRange` all from the last one to this one, in the order that is shown.
  toggle(hit, isRange) {
    const { hits } = this.gallery;
    const from = hits.findIndex((each) => each.id === this.last?.id);
    const to = hits.indexOf(hit);
    if (isRange && from >= 0 && to >= 0) {
      for (const each of hits.slice(Math.min(from, to), Math.max(from, to) + 1)) this.hits.set(each.id, each);
    } else if (!this.hits.delete(hit.id)) this.hits.set(hit.id, hit);
    this.last = hit;
    this.changed();
  }

  clear() {
    this.hits.clear();
    this.last = null;
    this.changed();
  }

  // After another question: leave out what is not among its results.
  keep() {
    for (const id of this.hits.keys()) if (!this.gallery.byId.has(id)) this.hits.delete(id);
    this.changed();
  }

  // After another answer to the same question: what is not among its results stays selected, until it is forgotten.
  update() {
    for (const id of this.hits.keys()) this.hits.set(id, this.gallery.byId.get(id) ?? this.hits.get(id));
    this.gallery.showSelected();
  }

  // Leave out files that the server forgot; it says so again with each answer.
  forget(forgotten) {
    if (!forgotten || forgotten.turn === this.forgotten) return;
    this.forgotten = forgotten.turn;
    if (forgotten.ids.filter((id) => this.hits.delete(id)).length) this.changed();
  }

  changed() {
    this.isAsking = false;
    this.told = "";
    this.gallery.showSelected();
    this.draw();
  }

  draw() {
    const { options } = this.gallery;
    const selected = [...this.hits.values()];
    const n = `${selected.length} selected`;
    const button = (label, act, title) => el("button", { type: "button", class: "al-button", title, onclick: act }, label);
    const areAll = selected.every((hit) => hit.is_favourite);
    this.bar.hidden = !selected.length;
    this.bar.replaceChildren(
      ...(this.isAsking
        ? [
            el("span", { role: "alert" }, `Forget ${selected.length} from the library? The files stay on disk.`),
            button("Forget", () => this.gallery.act({ type: "forget", ids: [...this.hits.keys()] })),
            button("Cancel", () => this.ask(false)),
          ]
        : [
            el("span", { role: "status" }, this.told || n),
            button("Copy paths", () => this.copy(selected)),
            button("Download ZIP", () => this.send(selected, "zip")),
            button("JSON", () => this.send(selected, "json"), "All that the library knows of these files"),
            selected.some((hit) => hit.kind === "audio") &&
              button("M3U", () => this.send(selected, "m3u"), "A playlist of the recordings"),
            options?.may_change && button(areAll ? "☆ No favourite" : "★ Favourite", () => this.gallery.setFavourites(selected, !areAll)),
            options?.may_change && button("Forget", () => this.ask(true), "Takes them out of the library, not off the disk"),
            button("✕", () => this.clear(), "Select nothing"),
          ].filter(Boolean)),
    );
    this.bar.lastChild?.setAttribute("aria-label", this.isAsking ? "Cancel" : "Select nothing");
  }

  ask(isAsking) {
    this.isAsking = isAsking;
    this.draw();
    // The button that had the focus is gone.
    const name = isAsking ? "Cancel" : "Forget";
    [...this.bar.querySelectorAll("button")].find((each) => each.textContent === name)?.focus();
  }

  tell(text) {
    this.told = text;
    this.draw();
  }

  async copy(selected) {
    try {
      await copyText(selected.map((hit) => hit.path).join("\n"));
      this.tell(selected.length === 1 ? "1 path copied" : `${selected.length} paths copied`);
    } catch {
      this.tell("The browser did not let the paths be copied");
    }
  }

  // Have the server send the files, or what it knows of them, as a download. First it is asked whether it would: in
  // answer to a form, an error would take the place of the page.
  async send(selected, format) {
    const { max_files: most, max_bytes: bytes } = this.gallery.options;
    const size = selected.reduce((sum, hit) => sum + (hit.size ?? 0), 0);
    if (selected.length > most) return this.tell(`${selected.length} are too many: at most ${most} at a time`);
    if (format === "zip" && size > bytes) {
      return this.tell(`Too large for one ZIP: ${(size / 1e9).toFixed(1)} GB, at most ${(bytes / 1e9).toFixed(1)}`);
    }
    const fields = { as: format, ids: selected.map((hit) => hit.id).join(",") };
    try {
      const response = await fetch("/export", { method: "POST", body: new URLSearchParams({ ...fields, check: "1" }) });
      if (!response.ok) throw new Error((await response.text()).trim());
    } catch (error) {
      return this.tell(`Not downloaded: ${String(error.message || error).slice(0, 200)}`);
    }
    const field = (name, value) => el("input", { type: "hidden", name, value });
    const inputs = Object.entries(fields).map(([name, value]) => field(name, value));
    const form = el("form", { method: "post", action: "/export", hidden: true }, inputs);
    document.body.append(form);
    form.submit();
    form.remove();
  }

  end() {
    document.removeEventListener("keydown", this.onKey);
  }
}

// Copy a text; without HTTPS browsers know no clipboard, but for a field that is selected.
export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = el("textarea", { style: { position: "fixed", opacity: 0 } });
  field.value = text;
  (document.querySelector("dialog[open]") ?? document.body).append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  if (!isCopied) throw new Error("not copied");
}
