// A card of a picture or a film, and a row of a recording.

import { el, matchedWindow, textLine } from "./dom.js";

const DOTS = "[data-act]";

// Every card tells what is to be done by data-act; the gallery listens once for all of them.
export function pictureCard({ hit, width }, height, isSelected, mayChange) {
  const isFilm = hit.kind === "video";
  return el(
    "article",
    { class: `al-card al-${hit.kind}`, "data-id": hit.id, "data-selected": isSelected, style: { width: `${width}px` } },
    el(
      "div",
      { class: "al-picture", style: { height: `${height}px` } },
      el(
        "button",
        { type: "button", class: "al-open", "data-act": "open", "aria-label": `Open ${hit.name}` },
        el("img", { src: hit.thumbnail, alt: hit.name, width, height, loading: "lazy", decoding: "async" }),
      ),
      isFilm && el("span", { class: "al-length" }, `▶ ${hit.length}`),
      isFilm && strip(hit),
      refinements(hit, mayChange),
      checkMark(hit, isSelected),
    ),
    caption(hit),
  );
}

export function recordingRow(hit, height, isSelected, mayChange) {
  return el(
    "article",
    { class: "al-card al-audio", "data-id": hit.id, "data-selected": isSelected, style: { height: `${height}px` } },
    checkMark(hit, isSelected),
    el(
      "button",
      { type: "button", class: "al-play", "data-act": "play", "aria-label": `Play ${hit.name}`, tabindex: -1 },
      "▶",
    ),
    el(
      "button",
      {
        type: "button",
        class: "al-open",
        "data-act": "open",
        "aria-label": `Open ${hit.name}`,
        "aria-keyshortcuts": "Space",
        title: hit.path,
      },
      el("span", { class: "al-name" }, hit.name),
      el("span", { class: "al-folder" }, hit.folder),
    ),
    el(
      "div",
      { class: "al-wave", "data-act": "seek" },
      el("img", { src: hit.waveform, alt: `${hit.name}: loudness over time`, loading: "lazy", decoding: "async" }),
      matchedWindow(hit),
      el("i", { class: "al-progress" }),
    ),
    el("span", { class: "al-facts" }, hit.facts),
    why(hit),
    refinements(hit, mayChange),
    hit.text.length > 0 && textLine(hit.text),
  );
}

export function markSelected(card, isSelected) {
  card.toggleAttribute("data-selected", isSelected);
  card.querySelector(".al-check").setAttribute("aria-checked", String(isSelected));
}

export function relevanceBar(hit) {
  if (hit.relevance === null) return null;
  const percent = Math.round(hit.relevance * 100);
  const attributes = { role: "meter", "aria-label": "Relevance", "aria-valuemin": 0, "aria-valuemax": 100 };
  return el(
    "div",
    { class: "al-bar", ...attributes, "aria-valuenow": percent, title: hit.meaning },
    el("span", { style: { width: `${Math.max(percent, 1)}%` } }),
  );
}

export const actOf = (event) => event.target.closest(DOTS)?.dataset.act;

function strip(hit) {
  const shots = el("img", { src: hit.strip, alt: `${hit.name}: some of its shots`, loading: "lazy", decoding: "async" });
  return el("div", { class: "al-wave al-strip" }, shots, matchedWindow(hit));
}

function checkMark(hit, isSelected) {
  return el(
    "button",
    {
      type: "button",
      class: "al-check",
      "data-act": "select",
      role: "checkbox",
      "aria-checked": String(isSelected),
      "aria-label": `Select ${hit.name}`,
    },
    "✓",
  );
}

// Say on a star whether the file is a favourite.
export function markFavourite(star, hit) {
  star.setAttribute("aria-pressed", String(hit.is_favourite));
  star.title = hit.is_favourite ? "A favourite: click to take that back" : "Make it a favourite";
}

export function starButton(hit, attributes = {}) {
  const star = el("button", { type: "button", class: "al-star", "aria-label": `Favourite ${hit.name}`, ...attributes }, "★");
  markFavourite(star, hit);
  return star;
}

function refinements(hit, mayChange) {
  return el(
    "div",
    { class: "al-refine" },
    el("button", { type: "button", "data-act": "like", "aria-label": "More like this", title: "More like this" }, "+"),
    el("button", { type: "button", "data-act": "unlike", "aria-label": "Less like this", title: "Less like this" }, "−"),
    mayChange && starButton(hit, { "data-act": "favourite" }),
  );
}

function why(hit) {
  return el("span", { class: "al-why", title: hit.meaning }, hit.why, relevanceBar(hit));
}

function caption(hit) {
  return el(
    "div",
    { class: "al-caption", title: hit.path },
    el("div", { class: "al-name" }, hit.name),
    el("div", { class: "al-line" }, el("span", { class: "al-facts" }, hit.facts), why(hit)),
    hit.text.length > 0 && textLine(hit.text),
  );
}
