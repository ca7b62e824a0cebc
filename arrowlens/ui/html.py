"""HTML of the search page, and functions that make text safe for HTML and Markdown."""

from __future__ import annotations

import html
import re

from arrowlens.modalities import EXTRACTED
from arrowlens.search import Hit, byte_size, printable

# Drawn here because Streamlit fetches emoji and material icons for the browser's tab from another host.
ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" width="32" height="32">
<rect width="32" height="32" rx="8" fill="#3b5bdb"/>
<circle cx="14" cy="14" r="7" fill="none" stroke="#fff" stroke-width="3"/>
<path d="M19.5 19.5 26 26" stroke="#fff" stroke-width="3.4" stroke-linecap="round"/>
<path d="M11.2 14h5.4m-2.2-2.4 2.4 2.4-2.4 2.4" fill="none" stroke="#fff" stroke-width="1.8"/></svg>"""

STYLE = """<style>
[data-testid="InputInstructions"] { display: none; }
[data-testid="stMainBlockContainer"] { padding-top: 4.4rem; max-width: 96rem; }
.al-head { display: flex; align-items: baseline; gap: .2rem .8rem; flex-wrap: wrap; }
.al-head h1 { font-size: 1.7rem; padding: 0; margin: 0; }
.al-quiet { opacity: .7; font-size: .9rem; font-weight: 400; }
.al-title { font-weight: 600; margin: .4rem 0 -.4rem; overflow-wrap: anywhere; }
[class*="st-key-grid-"] { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(9.5rem, 44%), 1fr)); }
[class*="st-key-grid-"] > div { min-width: 0; width: 100%; }
[class*="st-key-hit-"] { position: relative; }
[class*="st-key-grid-"] > div:has(> [class*="st-key-hit-audio-"]),
[class*="st-key-grid-"] > [class*="st-key-hit-audio-"] { grid-column: span 2; }
.al-picture { aspect-ratio: 1; border-radius: .6rem; overflow: hidden; background: rgba(128, 128, 128, .18); }
.al-picture img { width: 100%; height: 100%; object-fit: cover; display: block; }
.al-player { border-radius: .6rem; padding: .5rem; background: rgba(128, 128, 128, .14); }
.al-player video { width: 100%; max-height: 60vh; display: block; margin-bottom: .4rem; border-radius: .3rem; }
.al-player audio { width: 100%; height: 2.4rem; display: block; margin-top: .4rem; }
.al-wave { position: relative; height: 3.9rem; overflow: hidden; }
.al-wave img { width: 100%; height: 100%; display: block; object-fit: fill; }
.al-wave span { position: absolute; top: 0; bottom: 0; min-width: 2px; border-radius: .2rem;
  background: rgba(245, 159, 0, .28); border: solid #f59f00; border-width: 0 2px; }
.al-player details { font-size: .85rem; margin-top: .3rem; }
.al-player summary { cursor: pointer; opacity: .8; }
.al-spectrum { position: relative; aspect-ratio: 600 / 128; margin-top: .3rem; background: #000; border-radius: .3rem; }
.al-spectrum img { width: 100%; height: 100%; display: block; border-radius: .3rem; }
.al-hit { font-size: .85rem; line-height: 1.35; }
.al-name, .al-folder { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.al-folder, .al-facts { opacity: .7; }
.al-text { display: -webkit-box; -webkit-line-clamp: 3; -webkit-box-orient: vertical; overflow: hidden; }
.al-text mark { background: rgba(245, 159, 0, .35); color: inherit; border-radius: .15rem; }
.al-why { text-align: right; overflow-wrap: anywhere; }
.al-facts { display: flex; justify-content: space-between; gap: .5rem; font-variant-numeric: tabular-nums; }
.al-bar { height: .3rem; margin-top: .3rem; border-radius: .15rem; background: rgba(128, 128, 128, .25); }
.al-bar span { display: block; height: 100%; border-radius: .15rem; background: #5c7cfa; }
[class*="st-key-open-"], [class*="st-key-near-"], [class*="st-key-far-"] { position: absolute; z-index: 1; }
.st-key-hit-image [class*="st-key-open-"], [class*="st-key-hit-image-"] [class*="st-key-open-"] {
  inset: 0 0 auto 0; aspect-ratio: 1; width: 100% !important; }
[class*="st-key-hit-image-"] [class*="st-key-open-"] :is(div, button) { width: 100%; height: 100%; }
[class*="st-key-open-"] button { background: transparent; border-color: transparent; border-radius: .6rem; }
[class*="st-key-hit-image-"] [class*="st-key-open-"] button * { opacity: 0; }
[class*="st-key-open-"] button:is(:hover, :focus-visible) { border-color: #5c7cfa; background: transparent; }
[class*="st-key-near-"], [class*="st-key-far-"],
:is([class*="st-key-hit-audio-"], [class*="st-key-hit-video-"]) [class*="st-key-open-"] {
  top: .35rem; width: auto !important; }
[class*="st-key-near-"] { right: 2.35rem; } [class*="st-key-far-"] { right: .35rem; }
:is([class*="st-key-hit-audio-"], [class*="st-key-hit-video-"]) [class*="st-key-open-"] { right: 4.35rem; }
:is([class*="st-key-near-"], [class*="st-key-far-"],
:is([class*="st-key-hit-audio-"], [class*="st-key-hit-video-"]) [class*="st-key-open-"]) button {
  width: 1.8rem; height: 1.8rem; min-height: 0; padding: 0; border-radius: 50%; overflow: hidden; opacity: 0;
  background: rgba(20, 22, 30, .72); color: #fff; border: 1px solid rgba(255, 255, 255, .35); }
:is([class*="st-key-near-"], [class*="st-key-far-"],
:is([class*="st-key-hit-audio-"], [class*="st-key-hit-video-"]) [class*="st-key-open-"])
  button > * { font-size: 0; width: 0; height: 0; overflow: hidden; position: absolute; }
[class*="st-key-near-"] button::after { content: "+"; } [class*="st-key-far-"] button::after { content: "−"; }
:is([class*="st-key-hit-audio-"], [class*="st-key-hit-video-"]) [class*="st-key-open-"] button::after { content: "⤢"; }
[class*="st-key-hit-"]:is(:hover, :focus-within) button { opacity: 1 !important; }
@media (hover: none) { [class*="st-key-hit-"] button { opacity: .85 !important; } }
[class*="st-key-hit-"] button:focus-visible { outline: 2px solid #5c7cfa; outline-offset: 1px; }
.st-key-parts button { min-height: 0; padding: .15rem .7rem; border-radius: 1rem; }
.al-large img { max-width: 100%; max-height: 70vh; display: block; margin: auto; border-radius: .4rem; }
.al-about { display: grid; grid-template-columns: max-content 1fr; gap: .15rem .9rem; font-size: .9rem;
  margin: .4rem 0 0; padding: 0 !important; }
.al-about dt { opacity: .7; } .al-about dd { margin: 0; overflow-wrap: anywhere; }
.stHtml .al-download { display: inline-block; font-size: .875rem; padding: .4rem .75rem; border-radius: .5rem;
  text-decoration: none !important; color: inherit !important; border: 1px solid rgba(128, 128, 128, .45); }
.al-download:hover, .al-download:focus-visible { border-color: #5c7cfa; }
.al-empty { text-align: center; padding: 4rem 1rem; opacity: .85; overflow-wrap: anywhere; }
.al-empty b { display: block; font-size: 1.15rem; margin-bottom: .4rem; }
.st-key-way-on { margin-top: -4rem; }
div:has(> .st-key-busy), .st-key-busy { position: fixed; top: 4.4rem; right: 2rem; width: auto; z-index: 2; }
.st-key-way-on a { border: 1px solid rgba(128, 128, 128, .45); border-radius: .5rem; padding: .4rem .75rem; }
@media (max-width: 640px) { [data-testid="stMainBlockContainer"] { padding: 3.2rem .8rem 2rem; } }
</style>"""

_WORD = re.compile(r"([^\W_]+)")
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def plain(text: str) -> str:
    """Return ``text`` escaped for Markdown: a file may be called ``![](https://example.org/x.png)``."""
    return _PUNCTUATION.sub(r"\\\1", printable(text))


def hit_caption(hit: Hit) -> str:
    """Return the HTML below a hit: name, folder, facts, and how likely it is right; details as a tooltip."""
    path, name, folder = (escaped(part) for part in (str(hit.path), hit.path.name, hit.path.parent.name))
    alike = f" · {hit.cluster_size} alike" if hit.cluster_size > 1 else ""
    why = escaped(hit.reason) or (f"{hit.relevance:.0%}" if hit.relevance is not None else "")
    percent = f'<span class="al-why" title="{_meaning(hit)}">{why}</span>' if why else ""
    return (
        f'<div class="al-hit" title="{path}"><div class="al-name">{name}</div><div class="al-folder">{folder}</div>'
        f"{text_line(hit)}"
        f'<div class="al-facts"><span>{escaped(facts(hit) + alike)}</span>{percent}</div>{relevance_bar(hit)}</div>'
    )


def text_line(hit: Hit) -> str:
    """Return the HTML of the line that found a hit, its words marked; "" where its name or tags did, or its looks."""
    if hit.source not in EXTRACTED and hit.found_by != "text":
        return ""
    words = {word for matched in hit.matched_words.values() for word in matched.split()}
    parts = _WORD.split(hit.line)
    marked = (f"<mark>{escaped(part)}</mark>" if part in words else escaped(part) for part in parts)
    return f'<div class="al-text">{"".join(marked)}</div>'


def relevance_bar(hit: Hit) -> str:
    """Return the HTML of a bar for the relevance; "" where it is not known, or where words found the file."""
    if hit.relevance is None or hit.reason:
        return ""
    return (
        f'<div class="al-bar" role="meter" aria-label="Relevance" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{hit.relevance * 100:.0f}" title="{_meaning(hit)}">'
        f'<span style="width: {max(hit.relevance * 100, 1):.0f}%"></span></div>'
    )


def _meaning(hit: Hit) -> str:
    by = f"; found by {escaped(hit.reason)}" if hit.reason else ""
    likely = "" if hit.relevance is None else f"{hit.relevance:.0%} likely to be right by what it shows; "
    return f"{likely}cosine similarity {hit.score:.3f}{by}"


def picture(hit: Hit, url: str) -> str:
    """Return the HTML of a thumbnail, in a square that keeps its place while it loads."""
    return f'<div class="al-picture"><img loading="lazy" src="{escaped(url)}" alt="{escaped(hit.path.name)}"></div>'


def player(hit: Hit, original: str, waveform: str, spectrogram: str) -> str:
    """Return the HTML of a player below the waveform; it starts at the best window, which is marked.

    The recording loads when it is played, waveform and spectrogram when they are scrolled into view.
    """
    source = escaped(original + (f"#t={hit.start:g}" if hit.start else ""))
    name, title = escaped(hit.path.name), escaped(f"{hit.path.name}: loudness over time")
    drawn = f'<img loading="lazy" src="{escaped(spectrogram)}" alt="Frequencies from 0 to 8 kHz over time">'
    return (
        f'<div class="al-player"><div class="al-wave"><img loading="lazy" src="{escaped(waveform)}" alt="{title}">'
        f'{_window(hit)}</div><audio controls preload="none" aria-label="{name}" src="{source}"></audio>'
        f'<details><summary>Spectrogram</summary><div class="al-spectrum">{drawn}</div></details></div>'
    )


def film(hit: Hit, original: str, thumbnail: str, strip: str) -> str:
    """Return the HTML of a film below a strip of its shots; it starts at the best moment, which is marked there.

    The film loads when it is played.
    """
    source = escaped(original + (f"#t={hit.start:g}" if hit.start else ""))
    name, title = escaped(hit.path.name), escaped(f"{hit.path.name}: some of its shots")
    return (
        f'<div class="al-player"><video controls preload="none" aria-label="{name}" poster="{escaped(thumbnail)}" '
        f'src="{source}"></video><div class="al-wave"><img loading="lazy" src="{escaped(strip)}" alt="{title}">'
        f"{_window(hit)}</div></div>"
    )


def _window(hit: Hit) -> str:
    if hit.start is None or hit.end is None or not hit.duration or hit.end - hit.start >= hit.duration:
        return ""
    left, width = 100 * hit.start / hit.duration, 100 * (hit.end - hit.start) / hit.duration
    where = f"the best match: {clock(hit.start)} to {clock(hit.end)}"
    return f'<span style="left: {left:.2f}%; width: {width:.2f}%" title="{where}"></span>'


def heading(title: str, detail: str) -> str:
    """Return the HTML of a page's title with a detail beside it."""
    return (
        f'<div class="al-head"><h1>{html.escape(title)}</h1><span class="al-quiet">{html.escape(detail)}</span></div>'
    )


def empty_state(title: str, detail: str) -> str:
    """Return the HTML that stands in place of results when there are none: why, and what to do."""
    return f'<div class="al-empty"><b>{html.escape(title)}</b>{html.escape(detail)}</div>'


def results_line(summary: str, *, nothing_matches: bool) -> str:
    """Return the HTML of the line above results. A warning of its own line would move the results."""
    warning = " · <b>Nothing here really matches</b>"
    return f'<span class="al-quiet">{escaped(summary)}</span>{warning if nothing_matches else ""}'


def group_title(name: str, path: str, count: str) -> str:
    """Return the HTML above the results of a folder, with its path, or of a day."""
    where = f' <span class="al-quiet">{escaped(path)}</span>' if path else ""
    return f'<div class="al-title" title="{escaped(path)}">{escaped(name)} · {count}{where}</div>'


def counted(count: int, singular: str, plural: str) -> str:
    """Return "1 picture", "1,200 pictures"."""
    return f"{count:,} {singular if count == 1 else plural}"


def escaped(text: str) -> str:
    """Return ``text`` escaped for HTML and its attributes, without characters that reorder a line."""
    return html.escape(printable(text))


def facts(hit: Hit) -> str:
    """Return the size of a picture, or the part of a recording or a film that matched."""
    if hit.modality == "image":
        return f"{hit.width} × {hit.height}" if hit.width and hit.height else ""
    if hit.start is None or hit.end is None or (hit.duration and hit.end - hit.start >= hit.duration):
        return clock(hit.duration) if hit.duration else ""
    return f"{clock(hit.start)} – {clock(hit.end)}" + (f" of {clock(hit.duration)}" if hit.duration else "")


def clock(seconds: float) -> str:
    """Return seconds as "1:05"; an hour is "60:00"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def large_picture(hit: Hit, url: str) -> str:
    """Return the HTML of a picture as large as fits; its place is kept while it loads, if its size is known."""
    size = f' width="{hit.width}" height="{hit.height}" style="height: auto"' if hit.width and hit.height else ""
    return f'<div class="al-large"><img src="{escaped(url)}" alt="{escaped(hit.path.name)}"{size}></div>'


def download_link(url: str) -> str:
    """Return the HTML of a link that downloads a file."""
    return f'<a class="al-download" href="{escaped(url)}" download>Download original</a>'


def facts_table(hit: Hit) -> str:
    """Return the HTML of everything that is known of a file, a line each."""
    place = f"{hit.latitude:.5f}, {hit.longitude:.5f}" if hit.latitude is not None and hit.longitude is not None else ""
    known = {
        "Caption": hit.caption,
        "Description": hit.description,
        "Title": hit.title,
        "Artist": hit.artist,
        "Album": hit.album,
        "Taken": hit.taken and f"{hit.taken:%Y-%m-%d %H:%M}",
        "Size": hit.width and f"{hit.width} × {hit.height} pixels",
        "Length": hit.duration and clock(hit.duration),
        "Best match": hit.start is not None and hit.end is not None and f"{clock(hit.start)} – {clock(hit.end)}",
        "Sound": hit.sample_rate and f"{hit.sample_rate:,} Hz, {counted(hit.channels or 1, 'channel', 'channels')}",
        "Format": hit.format and f"{hit.format}, {byte_size(hit.size or 0)}",
        "Camera": hit.camera,
        "Place": place,
        "Found by": hit.reason,
        "Text": hit.line if hit.source in EXTRACTED else "",
        "Relevance": hit.relevance is not None and f"{hit.relevance:.0%} (cosine similarity {hit.score:.3f})",
        **{name.replace("_", " ").capitalize(): value for name, value in sorted(hit.metadata.items())},
    }
    rows = [f"<dt>{escaped(name)}</dt><dd>{escaped(str(value))}</dd>" for name, value in known.items() if value]
    return f'<dl class="al-about">{"".join(rows)}</dl>'
