// Where things are, worked out from sizes that are known before any picture has come: nothing moves while it loads.

export const GAP = 10; // pixels between cards
const NARROW = 560; // pixels; below it the layout is that of a phone
const RATIOS = [0.55, 2.6]; // width over height; what is beyond is cropped
const FULL = 0.75; // of the width: a last row that has as much is stretched over all of it
const CAPTION = 46; // pixels below a picture: its name, and a line about it
const TEXT = 34; // pixels of two lines of text that found a file

export const isNarrow = (width) => width < NARROW;

// Pictures and films in rows that fill the width.
// Returns rows: {cards: [{hit, width}], height of the pictures, full height, isWhole}.
export function justifiedRows(hits, width) {
  const target = isNarrow(width) ? 130 : 200; // pixels; stored thumbnails have 320 on their longer side
  const rows = [];
  let row = [], sum = 0;
  const height = (n, ratios) => (width - GAP * (n - 1)) / ratios;
  for (const hit of hits) {
    const ratio = ratioOf(hit);
    const before = row.length ? height(row.length, sum) : Infinity;
    const after = height(row.length + 1, sum + ratio);
    // A row ends before this picture if that leaves it nearer to the height that is wanted.
    if (before - target < target - after) {
      rows.push(madeRow(row, before, width, true));
      row = [], sum = 0;
    }
    row.push(hit), sum += ratio;
  }
  if (row.length) {
    const last = height(row.length, sum);
    const isWhole = last <= target / FULL;
    rows.push(madeRow(row, isWhole ? last : target, width, isWhole));
  }
  return rows;
}

// The heights of recordings in rows of one line, or two with a text.
export function rowHeight(hit, width) {
  return (isNarrow(width) ? 64 : 36) + (hit.text.length ? 20 : 0);
}

function ratioOf(hit) {
  const ratio = hit.width && hit.height ? hit.width / hit.height : 1;
  return Math.min(Math.max(ratio, RATIOS[0]), RATIOS[1]);
}

function madeRow(hits, height, width, isWhole) {
  const cards = hits.map((hit) => ({ hit, width: Math.floor(ratioOf(hit) * height) }));
  if (isWhole) {
    const used = cards.reduce((sum, card) => sum + card.width, GAP * (cards.length - 1));
    cards[cards.length - 1].width += Math.floor(width) - used;
  }
  const caption = CAPTION + (hits.some((hit) => hit.text.length) ? TEXT : 0);
  return { cards, height: Math.round(height), full: Math.round(height) + caption, isWhole };
}
