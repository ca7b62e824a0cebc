// Elements from plain data. Text is always a text node: nothing here reads HTML.

export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// "1:05"; an hour is "60:00".
export function clock(seconds) {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

// The part of a recording or a film that matched, as a mark over its waveform or its strip.
export function matchedWindow(hit) {
  if (hit.start === null || !hit.duration) return null;
  const left = `${((100 * hit.start) / hit.duration).toFixed(2)}%`;
  const width = `${((100 * (hit.end - hit.start)) / hit.duration).toFixed(2)}%`;
  return el("span", {
    style: { left, width },
    title: `the best match: ${clock(hit.start)} to ${clock(hit.end)}`,
  });
}

// The line of text that found a file, its words marked.
export function textLine(parts) {
  return el(
    "div",
    { class: "al-text" },
    parts.map(([text, isMarked]) => (isMarked ? el("mark", {}, text) : text)),
  );
}

// The address of a file, to be played from the moment that matched on.
export function fromMoment(hit) {
  return hit.start ? `${hit.original}#t=${hit.start}` : hit.original;
}

// The server's line where it does not send a file; null where it does, and the browser is to blame.
export async function refusal(hit) {
  try {
    const response = await fetch(hit.original, { headers: { Range: "bytes=0-0" } });
    return response.ok ? null : (await response.text()).trim().slice(0, 200);
  } catch {
    return "The server does not answer.";
  }
}
