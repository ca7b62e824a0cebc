// The gallery: results drawn from JSON. Streamlit calls the function at the end whenever the page has new results.
//
// Results come in batches: the first one with the page, further ones from `batch.more` while they are scrolled to. A
// batch is {key, sections, more, folded, is_later, total, n_total}, a section {title, detail, noun, hits}; `gallery.py` writes
// them, in the order of the page.

import { actOf, markFavourite, markSelected, pictureCard, recordingRow } from "./cards.js";
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
    this.batch = null; // the last one
    this.batches = [];
    this.unfinished = null; // the first batch of an answer whose further ones did not come
    this.blocks = [];
    this.hits = [];
    this.byId = new Map();
    this.root = el("div", { class: "al-gallery" });
    this.list = el("div", { class: "al-list" });
    this.foot = el("div", { class: "al-foot", role: "status" });
    this.selection = new Selection(this);
    this.player = new Player(() => this.showPlaying());
    this.viewer = new Viewer(this);
    this.note = el("div", { class: "al-dock al-note", role: "alert", hidden: true });
    this.root.append(this.list, this.foot, this.player.bar, this.selection.bar, this.note);
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
    const isSame = this.key === batch.key;
    const isFirst = this.key === undefined;
    this.text = text;
    this.key = batch.key;
    this.isRefreshing = false;
    this.unfinished = null;
    if (isSame && this.batches.length > 1) {
      this.refresh(batch);
      return;
    }
    if (!isSame && !isFirst) {
      if (this.scroller) this.scroller.scrollTop = 0;
      this.player.close();
    }
    this.keepPlace(() => this.replace([batch]), isSame);
    this.lookForMore();
    if (isSame) this.selection.update();
    else this.selection.keep();
    this.viewer.follow();
  }

  // Show a new answer to the same question, with as many further results as were there before, at the same place.
  async refresh(batch) {
    const { text, batches: before } = this;
    const batches = [batch];
    let failure = null;
    this.isRefreshing = true;
    while (failure === null && batches.length < before.length && batches.at(-1).more) {
      try {
        batches.push(await further(batches.at(-1).more, batches.flatMap(idsOf)));
      } catch (error) {
        failure = error;
      }
      if (this.text !== text) return; // another answer has come meanwhile
    }
    this.isRefreshing = false;
    if (failure) batches.push(...this.leftOf(before.slice(batches.length), batches.at(-1).more));
    this.unfinished = failure ? batch : null;
    this.keepPlace(() => this.replace(batches), true);
    this.selection.update();
    this.showFoot(failure);
    if (!failure) this.lookForMore();
    this.viewer.follow();
  }

  // What is left of earlier batches once files are forgotten; `more` is what follows them.
  leftOf(batches, more) {
    const gone = new Set(this.options.forgotten?.ids);
    const left = (section) => ({ ...section, hits: section.hits.filter((hit) => !gone.has(hit.id)) });
    return batches.map((batch) => ({ ...batch, sections: batch.sections.map(left), more }));
  }

  replace(batches) {
    this.hits = [];
    this.byId.clear();
    this.blocks.forEach((block) => this.seen.unobserve(block.element));
    this.blocks = [];
    this.batches = [];
    this.lastSection = null;
    this.list.replaceChildren();
    this.total = batches[0].total;
    this.nTotal = batches[0].n_total;
    batches.forEach((batch) => this.append(batch));
  }

  append(batch) {
    this.batch = batch;
    this.batches.push(batch);
    if (batch.is_later && batch.total) [this.total, this.nTotal] = [batch.total, batch.n_total];
    const isAll = this.batches.length === 1 && !batch.more;
    for (const section of batch.sections) {
      const hits = section.hits.filter((hit) => !this.byId.has(hit.id)); // a file stands once, whatever comes
      for (const hit of hits) {
        this.hits.push(hit);
        this.byId.set(hit.id, hit);
      }
      if (hits.length) this.appendSection({ ...section, hits }, isAll);
    }
    this.showFoot();
  }

  // Change the list. What has the focus keeps it; with `keepsScroll` the first card in sight stays where it is, too.
  keepPlace(change, keepsScroll = false) {
    const active = this.list.contains(document.activeElement) ? document.activeElement : null;
    const id = active?.closest(".al-card")?.dataset.id;
    const act = active?.dataset.act;
    const top = this.scroller?.getBoundingClientRect().top ?? 0;
    const isAway = keepsScroll && this.scroller?.scrollTop > 0;
    const inSight = (isAway ? [...this.list.querySelectorAll(".al-card")] : [])
      .map((card) => ({ id: card.dataset.id, box: card.getBoundingClientRect() }))
      .filter(({ box }) => box.bottom > top);
    change();
    const anchor = inSight.find((each) => this.byId.has(each.id));
    if (anchor) this.scroller.scrollTop += this.shownCard(anchor.id).getBoundingClientRect().top - anchor.box.top;
    if (active && !active.isConnected && this.byId.has(id)) {
      this.shownCard(id).querySelector(`[data-act="${act}"]`)?.focus({ preventScroll: true });
    }
  }

  // The card of a file in the list, drawn if it was too far away to be; null for a file that is not there.
  shownCard(id) {
    this.blocks.find((block) => block.hits.some((hit) => hit.id === id))?.fill();
    return this.list.querySelector(`.al-card[data-id="${CSS.escape(id)}"]`);
  }

  // Only where all results are there is their number that of the section.
  appendSection({ title, detail, noun, hits }, isAll) {
    let section = this.lastSection;
    const goesOn = section !== null && section.title === title && section.detail === detail;
    if (!goesOn) {
      section = { title, detail, head: title ? el("h2", { class: "al-title", title: detail }) : null };
      this.lastSection = section;
      if (section.head) this.list.append(section.head);
    }
    const count = isAll ? ` · ${hits.length.toLocaleString("en")} ${hits.length === 1 ? noun[0] : noun[1]}` : "";
    section.head?.replaceChildren(
      `${title}${count}`,
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
    this.keepPlace(() => this.blocks.forEach((block) => block.layOut(width)));
  }

  async more() {
    const { batch } = this;
    if (!batch?.more || this.isLoading || this.isRefreshing) return;
    this.isLoading = true;
    this.showFoot();
    try {
      const next = await further(batch.more, this.hits.map((hit) => hit.id));
      this.isLoading = false;
      if (this.batch === batch) this.keepPlace(() => this.append(next)); // else another question was asked meanwhile
      this.showFoot();
      this.lookForMore();
      this.viewer.listChanged();
    } catch (error) {
      this.isLoading = false;
      if (this.batch === batch) this.showFoot(error);
    }
  }

  // Observed again, the foot says whether its place is still in sight.
  lookForMore() {
    this.reaching.unobserve(this.foot);
    this.reaching.observe(this.foot);
  }

  showFoot(error = null) {
    const { folded } = this.batch;
    const again = (act, label, title) =>
      el("button", { type: "button", class: "al-button", title, onclick: act }, label);
    const line = String(error?.message || error).slice(0, 200);
    const tryAgain = () => (this.unfinished ? this.refresh(this.unfinished) : this.more());
    const searchAgain = () => this.act({ type: "again", at: Date.now() }); // a value that was sent before is not sent
    const isLater = this.batches.some((batch) => batch.is_later);
    this.foot.replaceChildren(
      ...[
        el("p", {}, this.countLine()),
        this.isLoading && el("p", {}, "Loading more…"),
        error && el("p", { role: "alert" }, `More results did not come: ${line}`),
        error && again(tryAgain, "Try again"),
        isLater && el("p", {}, "The library has changed meanwhile: what is new stands after what was shown before."),
        isLater && again(searchAgain, "Search again"),
        folded &&
          again(
            () => this.act({ type: "everything" }),
            "Show the nearest anyway",
            "They do not match, but are the nearest there are",
          ),
      ].filter(Boolean),
    );
  }

  // How many results are shown, and of how many, unless that is fewer: matches are counted otherwise than listed.
  countLine() {
    const n = this.hits.length;
    const shown = n.toLocaleString("en");
    if (!n) return "No matches";
    if (this.total && (this.nTotal === null || n <= this.nTotal)) return `${shown} of ${this.total}`;
    return `${shown} ${n === 1 ? "result" : "results"}${this.batch.more ? ", and more" : ""}`;
  }

  clicked(event) {
    const act = actOf(event);
    const hit = this.hitOf(event.target);
    if (!act || !hit) return;
    if (act === "open" && (this.selection.size || event.shiftKey)) this.selection.toggle(hit, event.shiftKey);
    else if (act === "select") this.selection.toggle(hit, event.shiftKey);
    else if (act === "open") this.viewer.open(hit);
    else if (act === "play") this.player.toggle(hit);
    else if (act === "favourite") this.setFavourites([hit], !hit.is_favourite);
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
    else if (event.key === "f" && this.options.may_change) this.setFavourites([hit], !hit.is_favourite);
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

  // Make files favourites, or take that back; the page need not run again for it.
  async setFavourites(hits, are) {
    const { max_files: most } = this.options;
    try {
      if (hits.length > most) throw new Error(`${hits.length} are too many: at most ${most} at a time`);
      const fields = { ids: hits.map((hit) => hit.id).join(","), are: are ? "yes" : "no" };
      await fetched("/favourites", { method: "POST", body: new URLSearchParams(fields) });
    } catch (error) {
      this.tell(`Not marked: ${String(error.message || error).slice(0, 200)}`);
      return;
    }
    for (const hit of hits) {
      hit.is_favourite = are;
      const shown = this.byId.get(hit.id); // another object where it was selected in an earlier list
      if (shown) shown.is_favourite = are;
    }
    for (const card of this.root.querySelectorAll("[data-id]")) {
      const hit = this.byId.get(card.dataset.id);
      const star = card.querySelector(".al-star");
      if (hit && star) markFavourite(star, hit);
    }
    this.viewer.showFavourite();
    this.selection.draw();
  }

  // Say something for some seconds.
  tell(line) {
    this.note.textContent = line;
    this.note.hidden = false;
    clearTimeout(this.noted);
    this.noted = setTimeout(() => (this.note.hidden = true), 8000);
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
    if (this.before) this.hits = [...this.before.takeOpenRow(), ...this.hits];
    this.rows = this.isPictures ? justifiedRows(this.hits, width) : this.hits.map((hit) => rowHeight(hit, width));
    this.fitHeight();
    if (this.isFilled) this.draw();
  }

  fitHeight() {
    const height = this.rows.reduce((sum, row) => sum + (this.isPictures ? row.full + GAP : row), 0);
    this.element.style.height = `${height}px`;
  }

  // Take away and return the pictures of a last row that does not fill the width.
  takeOpenRow() {
    const last = this.rows.at(-1);
    if (!last || last.isWhole) return [];
    const taken = last.cards.map((card) => card.hit);
    this.hits = this.hits.slice(0, -taken.length);
    this.rows.pop();
    this.fitHeight();
    if (this.isFilled) this.element.lastChild.remove(); // the rows before it stay as they are
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
    const { selection, options } = this.gallery;
    const row = ({ cards, height, full }) =>
      el(
        "div",
        { class: "al-cards", style: { height: `${full}px`, gap: `${GAP}px`, marginBottom: `${GAP}px` } },
        cards.map((card) => pictureCard(card, height, selection.has(card.hit.id), options.may_change)),
      );
    this.element.replaceChildren(
      ...(this.isPictures
        ? this.rows.map(row)
        : this.hits.map((hit, place) => {
            const isSelected = selection.has(hit.id);
            return recordingRow(hit, this.rows[place], isSelected, options.may_change);
          })),
    );
  }
}

function blockSeen({ target, isIntersecting }) {
  if (isIntersecting) target.block.fill();
  else target.block.empty();
}

const idsOf = (batch) => batch.sections.flatMap((section) => section.hits.map((hit) => hit.id));

// Further results. Where the library has changed, a place in the list means nothing: it is asked again, for what is not
// among those with the ids `shown`.
async function further(address, shown) {
  const batch = await fetched(address);
  return batch.is_outdated
    ? fetched(address, { method: "POST", body: new URLSearchParams({ shown: shown.join(",") }) })
    : batch;
}

// A refusal is an Error with the server's line.
async function fetched(address, options = {}) {
  const response = await fetch(address, { headers: { Accept: "application/json" }, ...options });
  if (!response.ok) throw new Error((await response.text()).trim());
  return response.status === 204 ? null : response.json();
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
  gallery.selection.forget(data.options.forgotten);
  gallery.show(data.batch);
  return () => {
    galleries.delete(parentElement);
    gallery.end();
  };
}
