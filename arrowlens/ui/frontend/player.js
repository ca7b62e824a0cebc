// The one player that all recordings of the gallery share: a bar at the bottom of the page.

import { clock, el, fromMoment, refusal } from "./dom.js";

export class Player {
  constructor(onChange) {
    this.hit = null;
    this.audio = el("audio", { preload: "none" });
    this.button = el("button", { type: "button", class: "al-play", "aria-label": "Pause", onclick: () => this.toggle() });
    this.name = el("span", { class: "al-name" });
    this.time = el("span", { class: "al-facts" });
    this.slider = el("input", { type: "range", min: 0, step: "any", "aria-label": "Place in the recording" });
    this.slider.addEventListener("input", () => (this.audio.currentTime = Number(this.slider.value)));
    this.bar = el(
      "div",
      { class: "al-dock al-player", role: "region", "aria-label": "Player", hidden: true },
      ...[this.button, this.name, this.slider, this.time],
      el("button", { type: "button", "aria-label": "Close the player", onclick: () => this.close() }, "✕"),
      this.audio,
    );
    this.onChange = onChange;
    for (const name of ["play", "pause", "timeupdate", "ended", "durationchange"]) {
      this.audio.addEventListener(name, () => this.refresh());
    }
    this.audio.addEventListener("error", () => this.explain());
  }

  // Say why a recording is not played.
  async explain() {
    const { hit } = this;
    const why = hit && ((await refusal(hit)) ?? `this browser does not play ${hit.format} files`);
    if (hit && this.hit === hit) this.time.textContent = this.time.title = why;
  }

  get isPlaying() {
    return this.hit !== null && !this.audio.paused;
  }

  // Where it is, from 0 to 1.
  get place() {
    return this.hit?.duration ? Math.min(this.audio.currentTime / this.hit.duration, 1) : 0;
  }

  // Play a recording from the moment that matched, or pause it.
  toggle(hit = this.hit) {
    if (hit.id === this.hit?.id) return this.audio.paused ? this.play() : this.audio.pause();
    this.hit = hit;
    this.audio.src = fromMoment(hit);
    this.bar.hidden = false;
    this.time.title = "";
    this.name.textContent = hit.name;
    this.slider.max = hit.duration ?? 0;
    this.play();
  }

  // Play a recording from a place on, from 0 to 1.
  seek(hit, place) {
    const seconds = place * (hit.duration ?? 0);
    if (hit.id !== this.hit?.id) this.toggle(hit);
    if (this.audio.readyState) this.audio.currentTime = seconds;
    else this.audio.addEventListener("loadedmetadata", () => (this.audio.currentTime = seconds), { once: true });
    if (this.audio.paused) this.play();
  }

  close() {
    this.hit = null;
    this.audio.pause();
    this.audio.removeAttribute("src");
    this.bar.hidden = true;
    this.onChange();
  }

  play() {
    this.audio.play().catch(() => this.refresh()); // what cannot be played says so by its event
  }

  refresh() {
    if (this.hit === null) return;
    this.button.textContent = this.audio.paused ? "▶" : "❚❚";
    this.button.setAttribute("aria-label", this.audio.paused ? "Play" : "Pause");
    this.slider.value = this.audio.currentTime;
    if (!this.audio.error) this.time.textContent = `${clock(this.audio.currentTime)} / ${clock(this.hit.duration ?? 0)}`;
    this.onChange();
  }
}
