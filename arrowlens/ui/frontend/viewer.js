// One file over the whole page: the picture to zoom, or a player at the moment that matched, and all that is known.
//
// Its place is in the address (#open=ID), so that the browser's back closes it, and a reload or a link opens it again.

import { markFavourite, relevanceBar, starButton } from "./cards.js";
import { clock, el, fromMoment, matchedWindow, refusal, textLine } from "./dom.js";
import { copyText } from "./selection.js";
import { Zoom } from "./zoom.js";

const SWIPE = 60; // pixels
const HASH = /^#open=([0-9a-f]{32})$/;
const SOURCES = { speech: "said", ocr: "written" };

export class Viewer {
  constructor(gallery) {
    this.gallery = gallery;
    this.hit = null;
    this.dialog = null;
    // Before Streamlit's own listener, which would run the page again although the question is the same.
    this.onPop = (event) => this.followHistory(event);
    window.addEventListener("popstate", this.onPop, true);
  }

  // Open a file, as one step of the browser's history.
  open(hit) {
    this.question = location.search;
    history.pushState(null, "", `${location.pathname}${location.search}#open=${hit.id}`);
    this.show(hit);
  }

  // Show the file that the address names, if any: after a reload, by a link, or among new results.
  async follow() {
    const id = HASH.exec(location.hash)?.[1];
    if (!id) return this.hide();
    if (id === this.hit?.id) return this.listChanged();
    const hit = this.gallery.byId.get(id) ?? (await details(id).catch(() => null))?.hit;
    if (hit && HASH.exec(location.hash)?.[1] === id) this.show(hit);
  }

  followHistory(event) {
    const isOpen = this.hit !== null;
    if (isOpen && !location.hash && location.search === this.question) event.stopImmediatePropagation();
    this.follow();
    const then = this.then;
    this.then = null;
    then?.();
  }

  // Go back to the results, and then do something.
  close(then = null) {
    this.then = then;
    if (HASH.test(location.hash) && this.question !== undefined) history.back();
    else {
      history.replaceState(null, "", location.pathname + location.search); // opened by a link: there is no way back
      this.hide();
      this.then = null;
      then?.();
    }
  }

  // Close the view; the list follows to the card of what was shown last.
  hide() {
    const card = this.hit && this.gallery.shownCard(this.hit.id);
    this.dialog?.remove();
    this.dialog = this.hit = this.zoom = null;
    card?.querySelector(".al-open").focus({ preventScroll: true });
    card?.scrollIntoView({ block: "nearest" });
  }

  // Say where among the results the file stands now, and let the ones beside it be reached.
  listChanged() {
    if (!this.hit) return;
    const { hits } = this.gallery;
    const at = hits.findIndex((each) => each.id === this.hit.id);
    const [previous, next] = this.dialog.querySelectorAll(".al-step");
    this.dialog.querySelector("header .al-quiet").textContent = at < 0 ? "" : `${at + 1} of ${hits.length}`;
    previous.disabled = at <= 0;
    next.disabled = at < 0 || at === hits.length - 1;
  }

  // Show the file before or after this one.
  go(step) {
    const { hits } = this.gallery;
    const at = hits.findIndex((hit) => hit.id === this.hit.id);
    const next = at < 0 ? undefined : hits[at + step];
    if (step > 0 && at + step > hits.length - 8) this.gallery.more();
    if (!next) return;
    history.replaceState(null, "", `${location.pathname}${location.search}#open=${next.id}`);
    this.show(next);
  }

  show(hit) {
    this.gallery.player.close();
    this.hit = hit;
    if (!this.dialog) {
      this.dialog = el("dialog", { class: "al-viewer" });
      this.dialog.addEventListener("cancel", (event) => {
        event.preventDefault();
        this.close();
      });
      this.dialog.addEventListener("keydown", (event) => this.pressed(event));
      this.gallery.root.append(this.dialog);
    }
    this.dialog.setAttribute("aria-label", hit.name);
    this.draw(hit);
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.focus();
  }

  draw(hit) {
    const at = this.gallery.hits.findIndex((each) => each.id === hit.id);
    const { hits } = this.gallery;
    const button = (label, name, act, extra = {}) =>
      el("button", { type: "button", "aria-label": name, title: name, onclick: act, ...extra }, label);
    const stage = this.stage(hit);
    const toggle = () => this.gallery.setFavourites([this.hit], !this.hit.is_favourite);
    this.star = this.gallery.options.may_change && starButton(hit, { onclick: toggle });
    this.about = el("aside", { class: "al-side" }, this.actions(hit), this.facts(hit, []));
    this.dialog.replaceChildren(
      el(
        "header",
        {},
        el("h2", { class: "al-name" }, hit.name),
        el("span", { class: "al-quiet" }, at < 0 ? "" : `${at + 1} of ${hits.length}`),
        this.star,
        button("✕", "Close", () => this.close()),
      ),
      el(
        "div",
        { class: "al-main" },
        button("‹", "Previous", () => this.go(-1), { class: "al-step", disabled: at <= 0 }),
        stage,
        button("›", "Next", () => this.go(1), { class: "al-step", disabled: at < 0 || at === hits.length - 1 }),
      ),
      this.about,
    );
    details(hit.id)
      .then((known) => this.hit?.id === hit.id && this.showDetails(hit, known))
      .catch((error) => this.about.append(el("p", { role: "alert" }, String(error.message || error).slice(0, 200))));
  }

  stage(hit) {
    const stage = el("div", { class: `al-stage al-large al-${hit.kind}` });
    this.media = null;
    this.zoom = null;
    if (hit.kind === "image") {
      const picture = el("img", {
        src: hit.is_shown ? hit.original : hit.thumbnail,
        alt: hit.name,
        draggable: "false",
        style: { backgroundImage: `url("${hit.thumbnail}")` },
        width: hit.width,
        height: hit.height,
      });
      picture.addEventListener("load", () => (picture.style.backgroundImage = "none"));
      picture.addEventListener(
        "error",
        () => {
          picture.src = hit.thumbnail;
          this.explain(hit, stage, "show");
        },
        { once: true },
      );
      stage.append(picture);
      this.zoom = new Zoom(stage, picture, (left) => this.go(left ? 1 : -1), SWIPE);
      return stage;
    }
    const name = { "aria-label": hit.name, controls: true, preload: "metadata", src: fromMoment(hit) };
    const isFilm = hit.kind === "video";
    this.media = isFilm ? el("video", { ...name, poster: hit.thumbnail, playsinline: true }) : el("audio", name);
    this.media.addEventListener("error", () => this.explain(hit, stage, "play"), { once: true });
    const drawn = isFilm
      ? el("img", { src: hit.strip, alt: `${hit.name}: some of its shots` })
      : el("img", { src: hit.waveform, alt: `${hit.name}: loudness over time` });
    const progress = el("i", { class: "al-progress" });
    const wave = el("div", { class: "al-wave" }, drawn, matchedWindow(hit), progress);
    wave.addEventListener("click", (event) => {
      const box = wave.getBoundingClientRect();
      this.playFrom(((event.clientX - box.left) / box.width) * (hit.duration ?? 0));
    });
    this.media.addEventListener("timeupdate", () => {
      progress.style.left = `${(100 * this.media.currentTime) / (hit.duration || 1)}%`;
    });
    stage.append(...(isFilm ? [this.media, wave] : [wave, this.media]));
    return stage;
  }

  // Say why a file is not shown or played.
  async explain(hit, stage, verb) {
    const why = (await refusal(hit)) ?? `This browser does not ${verb} ${hit.format} files: download it.`;
    stage.append(el("p", { class: "al-quiet", role: "alert" }, why));
  }

  playFrom(seconds) {
    this.media.currentTime = seconds;
    this.media.play().catch(() => {}); // what cannot be played says so by its event
  }

  actions(hit) {
    const refine = (type, label) =>
      el(
        "button",
        { type: "button", class: "al-button", onclick: () => this.close(() => this.gallery.act({ type, id: hit.id })) },
        label,
      );
    const copy = el("button", { type: "button", class: "al-button" }, "Copy path");
    copy.addEventListener("click", () =>
      copyText(hit.path).then(
        () => (copy.textContent = "Copied"),
        () => (copy.textContent = "Not copied"),
      ),
    );
    return el(
      "div",
      { class: "al-actions" },
      refine("like", "More like this"),
      refine("unlike", "Less like this"),
      copy,
      el("a", { class: "al-button", href: `${hit.original}?download=1`, download: true }, "Download original"),
    );
  }

  showFavourite() {
    if (this.hit && this.star) markFavourite(this.star, this.hit);
  }

  facts(hit, known) {
    const rows = [...known];
    if (hit.start !== null) rows.push(["Best match", `${clock(hit.start)} – ${clock(hit.end)}`]);
    if (hit.why && hit.relevance === null) rows.push(["Found by", hit.why]);
    if (hit.meaning) rows.push(["Relevance", hit.meaning]);
    return el(
      "div",
      {},
      relevanceBar(hit),
      hit.text.length > 0 && textLine(hit.text),
      hit.kind === "image" && !hit.is_shown && el("p", {}, `A small copy: browsers do not show ${hit.format} files.`),
      el("dl", { class: "al-about" }, rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    );
  }

  showDetails(hit, { about, paths, texts, spectrogram }) {
    const lines = texts.map(({ source, text, start }) =>
      el(
        "li",
        {},
        start === null
          ? el("span", { class: "al-quiet" }, SOURCES[source] ?? source)
          : el("button", { type: "button", class: "al-time", onclick: () => this.playFrom(start) }, clock(start)),
        el("span", {}, text),
      ),
    );
    const title = paths.length === 1 ? "Path" : `The same content lies at ${paths.length} paths`;
    this.about.replaceChildren(
      ...[
        this.actions(hit),
        this.facts(hit, about),
        spectrogram &&
          el(
            "details",
            {},
            el("summary", {}, "Spectrogram"),
            el("img", { src: spectrogram, alt: "Frequencies from 0 to 8 kHz over time", loading: "lazy" }),
          ),
        lines.length > 0 && el("h3", {}, "Texts"),
        lines.length > 0 && el("ul", { class: "al-texts" }, lines),
        el("h3", {}, title),
        el("pre", { class: "al-paths" }, paths.join("\n")),
      ].filter(Boolean),
    );
  }

  pressed(event) {
    const isField = event.target.closest("input, video, audio, summary");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowLeft" && !isField) this.go(-1);
    else if (event.key === "ArrowRight" && !isField) this.go(1);
    else if (event.key === "f") this.star?.click?.();
    else if (event.key === " " && this.media && event.target === this.dialog) {
      if (this.media.paused) this.playFrom(this.media.currentTime);
      else this.media.pause();
    } else if (event.key === "+" || event.key === "-") this.zoom?.by(event.key === "+" ? 1.5 : 1 / 1.5);
    else return;
    event.preventDefault();
  }

  end() {
    window.removeEventListener("popstate", this.onPop, true);
    this.gallery.selection.end();
    this.dialog?.remove();
  }
}

async function details(id) {
  const response = await fetch(`/details/${id}`, { headers: { Accept: "application/json" } });
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}
