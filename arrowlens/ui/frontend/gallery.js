// The gallery: results drawn from JSON. Streamlit calls the function at the end whenever the page has new results.
//
// Results come in batches: the first one with the page, further ones from `batch.more` while they are scrolled to. A
// batch is {key, sections, more, folded, total}, a section {title, detail, hits}; `gallery.py` writes them.

import { actOf, markSelected, pictureCard, recordingRow } from "./cards.js";
import { el } from "./dom.js";
import { GAP, justifiedRows, rowHeight } from "./layout.js";
import { Player } from "./player.js";
import { Selection } from "./selection.js";
import { Viewer } from "./viewer.js";

const AHEAD = "1200px 0px"; // how far before they are reached further results are asked for
const KEPT = "300% 0px"; // how far from what is seen cards stay in the page

class Gallery {
  constructor(parent) {
    this.act = () => {};
    this.batch = null;
    this.hits = [];
    this.byId = new Map();
    this.root = el("div", { class: "al-gallery" });
    this.list = el("div", { class: "al-list" });
    this.foot = el("div", { class: "al-foot", role: "status" });
    this.selection = new Selection(this);
    this.player = new Player(() => this.showPlaying());
    this.viewer = new Viewer(this);
    this.root.append(this.list, this.foot, this.player.bar, this.selection.bar);
    parent.append(this.root);
    this.scroller = scrollerOf(this.root);
    this.list.addEventListener("click", (event) => this.clicked(event));
    this.list.addEventListener("keydown", (event) => this.pressed(event));
    this.width = Math.floor(this.root.getBoundingClientRect().width);
    this.resizing = new ResizeObserver(() => this.fit());
    this.resizing.observe(this.root);
    this.seen = new IntersectionObserver((entries) => entries.forEach(blockSeen), {
      root: this.scroller,
      rootMargin: KEPT,
    });
    this.reaching = new IntersectionObserver((entries) => entries.some((each) => each.isIntersecting) && this.more(), {
      root: this.scroller,
      rootMargin: AHEAD,
    });
    this.reaching.observe(this.foot);
  }

  // Show the first batch of an answer; the same one again changes nothing.
  show(batch) {
    const text = JSON.stringify(batch);
    if (text === this.text) return;
    const isOther = this.batch !== null && this.key !== batch.key;
    this.text = text;
    this.key = batch.key;
    this.hits = [];
    this.byId.clear();
    this.blocks?.forEach((block) => this.seen.unobserve(block.element));
    this.blocks = [];
    this.lastSection = null;
    this.list.replaceChildren();
    if (isOther && this.scroller) this.scroller.scrollTop = 0;
    if (isOther) this.player.close();
    this.total = batch.total;
    this.append(batch);
    this.selection.keep(this.byId);
    this.viewer.follow();
  }

  append(batch) {
    this.batch = batch;
    for (const section of batch.sections) {
      for (const hit of section.hits) {
        this.hits.push(hit);
        this.byId.set(hit.id, hit);
      }
      this.appendSection(section);
    }
    this.showFoot();
  }

  appendSection({ title, detail, noun, hits }) {
    let section = this.lastSection;
    const goesOn = section !== null && section.title === title && section.detail === detail;
    if (!goesOn) {
      section = { title, detail, n: 0, head: title ? el("h2", { class: "al-title", title: detail }) : null };
      this.lastSection = section;
      if (section.head) this.list.append(section.head);
    }
    section.n += hits.length;
    section.head?.replaceChildren(
      ...[`${title} · ${section.n.toLocaleString("en")} ${section.n === 1 ? noun[0] : noun[1]}`],
      ...(detail ? [" ", el("span", { class: "al-quiet" }, detail)] : []),
    );
    const isSound = (hit) => hit.kind === "audio";
    const pictures = hits.filter((hit) => !isSound(hit));
    const before = this.blocks.at(-1);
    this.appendBlock(pictures, true, goesOn && before?.isPictures ? before : null);
    this.appendBlock(hits.filter(isSound), false, null);
  }

  appendBlock(hits, isPictures, before) {
    if (!hits.length) return;
    const block = new Block(hits, isPictures, before, this);
    block.layOut(this.width);
    block.fill();
    this.blocks.push(block);
    this.list.append(block.element);
    this.seen.observe(block.element);
  }

  fit() {
    const width = Math.floor(this.root.getBoundingClientRect().width);
    if (!width || width === this.width) return;
    this.width = width;
    for (const block of this.blocks ?? []) block.layOut(width);
  }

  async more() {
    const { batch } = this;
    if (!batch?.more || this.isLoading) return;
    this.isLoading = true;
    this.showFoot();
    try {
      const response = await fetch(batch.more, { headers: { Accept: "application/json" } });
      if (!response.ok) throw new Error(await response.text());
      const next = await response.json();
      if (this.batch === batch) this.append(next); // else another question was asked meanwhile
      this.isLoading = false;
      this.showFoot();
      this.reaching.unobserve(this.foot); // asked again, it says whether its place is still in sight
      this.reaching.observe(this.foot);
    } catch (error) {
      this.isLoading = false;
      if (this.batch === batch) this.showFoot(String(error.message || error).slice(0, 200));
    }
  }

  showFoot(error = null) {
    const { more, folded } = this.batch;
    const { total } = this;
    const n = this.hits.length.toLocaleString("en");
    const again = (act, label, title) =>
      el("button", { type: "button", class: "al-button", title, onclick: act }, label);
    this.foot.replaceChildren(
      ...[
        el("p", {}, total ? `${n} of ${total}` : more ? `${n} results, and more` : `${n} results`),
        this.isLoading && el("p", {}, "Loading more…"),
        error && el("p", { role: "alert" }, `More results did not come: ${error} `),
        error && again(() => this.more(), "Try again"),
        folded &&
          again(
            () => this.act({ type: "everything" }),
            "Show the nearest anyway",
            "They do not match, but are the nearest there are",
          ),
      ].filter(Boolean),
    );
  }

  clicked(event) {
    const act = actOf(event);
    const hit = this.hitOf(event.target);
    if (!act || !hit) return;
    if (act === "open" && (this.selection.size || event.shiftKey)) this.selection.toggle(hit, event.shiftKey);
    else if (act === "select") this.selection.toggle(hit, event.shiftKey);
    else if (act === "open") this.viewer.open(hit);
    else if (act === "play") this.player.toggle(hit);
    else if (act === "seek") {
      const box = event.target.closest(".al-wave").getBoundingClientRect();
      this.player.seek(hit, (event.clientX - box.left) / box.width);
    } else this.act({ type: act, id: hit.id });
  }

  pressed(event) {
    const hit = this.hitOf(event.target);
    if (!hit || event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in steps) this.moveFocus(event.target.closest(".al-card"), ...steps[event.key]);
    else if (event.key === " " && hit.kind === "audio" && actOf(event) === "open") this.player.toggle(hit);
    else if (event.key === "x") this.selection.toggle(hit, false);
    else return;
    event.preventDefault();
  }

  // Move the focus to the card beside, above or below.
  moveFocus(card, across, down) {
    const cards = [...this.list.querySelectorAll(".al-card")];
    let next = cards[cards.indexOf(card) + across];
    if (down) {
      const here = card.getBoundingClientRect();
      const distance = (each) => {
        const box = each.getBoundingClientRect();
        const away = down * (box.top - here.top);
        return away < 1 ? Infinity : away * 10 + Math.abs(box.left + box.width / 2 - here.left - here.width / 2);
      };
      next = cards.reduce((best, each) => (distance(each) < distance(best) ? each : best), card);
    }
    next?.querySelector(".al-open").focus();
    next?.scrollIntoView({ block: "nearest" });
  }

  hitOf(target) {
    return this.byId.get(target.closest(".al-card")?.dataset.id);
  }

  cardOf(hit) {
    return this.list.querySelector(`.al-card[data-id="${CSS.escape(hit.id)}"]`);
  }

  showPlaying() {
    for (const card of this.list.querySelectorAll(".al-audio")) {
      const isHere = card.dataset.id === this.player.hit?.id;
      const isPlaying = isHere && this.player.isPlaying;
      const button = card.querySelector(".al-play");
      card.toggleAttribute("data-playing", isHere);
      if (button.textContent !== (isPlaying ? "❚❚" : "▶")) button.textContent = isPlaying ? "❚❚" : "▶";
      card.querySelector(".al-progress").style.left = isHere ? `${100 * this.player.place}%` : "";
    }
  }

  showSelected() {
    for (const card of this.list.querySelectorAll(".al-card")) {
      markSelected(card, this.selection.has(card.dataset.id));
    }
    this.root.toggleAttribute("data-selecting", this.selection.size > 0);
  }

  end() {
    this.resizing.disconnect();
    this.seen.disconnect();
    this.reaching.disconnect();
    this.player.close();
    this.viewer.end();
    this.root.remove();
  }
}

// Cards that come and go together: far from what is seen, only their height is there. Pictures go on with those of the
// block `before`, if any.
class Block {
  constructor(hits, isPictures, before, gallery) {
    this.hits = hits;
    this.isPictures = isPictures;
    this.before = before;
    this.gallery = gallery;
    this.isFilled = false;
    this.element = el("div", { class: "al-block" });
    this.element.block = this;
  }

  layOut(width) {
    if (this.before) this.hits = [...this.before.takeOpenRow(width), ...this.hits];
    this.rows = this.isPictures ? justifiedRows(this.hits, width) : this.hits.map((hit) => rowHeight(hit, width));
    const height = this.rows.reduce((sum, row) => sum + (this.isPictures ? row.full + GAP : row), 0);
    this.element.style.height = `${height}px`;
    if (this.isFilled) this.draw();
  }

  // Take away and return the pictures of a last row that does not fill the width.
  takeOpenRow(width) {
    const last = this.rows.at(-1);
    if (!last || last.isWhole) return [];
    const taken = last.cards.map((card) => card.hit);
    this.hits = this.hits.slice(0, -taken.length);
    this.layOut(width);
    return taken;
  }

  fill() {
    if (this.isFilled) return;
    this.isFilled = true;
    this.draw();
  }

  empty() {
    if (this.element.contains(document.activeElement)) return;
    this.isFilled = false;
    this.element.replaceChildren();
  }

  draw() {
    const { selection } = this.gallery;
    const row = ({ cards, height, full }) =>
      el(
        "div",
        { class: "al-cards", style: { height: `${full}px`, gap: `${GAP}px`, marginBottom: `${GAP}px` } },
        cards.map((card) => pictureCard(card, height, selection.has(card.hit.id))),
      );
    this.element.replaceChildren(
      ...(this.isPictures
        ? this.rows.map(row)
        : this.hits.map((hit, place) => recordingRow(hit, this.rows[place], selection.has(hit.id)))),
    );
  }
}

function blockSeen({ target, isIntersecting }) {
  if (isIntersecting) target.block.fill();
  else target.block.empty();
}

function scrollerOf(element) {
  for (let each = element.parentElement; each; each = each.parentElement) {
    if (["auto", "scroll"].includes(getComputedStyle(each).overflowY)) return each;
  }
  return null;
}

const galleries = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  let gallery = galleries.get(parentElement);
  if (!gallery) galleries.set(parentElement, (gallery = new Gallery(parentElement)));
  gallery.act = (action) => setTriggerValue("action", action);
  gallery.options = data.options;
  gallery.show(data.batch);
  return () => {
    galleries.delete(parentElement);
    gallery.end();
  };
}
