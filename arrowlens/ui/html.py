"""HTML of the search page, and functions that make text safe for HTML and Markdown."""

from __future__ import annotations

import html
import re

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
.al-name, .al-folder { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.al-folder { opacity: .7; }
.st-key-parts button { min-height: 0; padding: .15rem .7rem; border-radius: 1rem; }
.al-empty { text-align: center; padding: 4rem 1rem; opacity: .85; overflow-wrap: anywhere; }
.al-empty b { display: block; font-size: 1.15rem; margin-bottom: .4rem; }
.st-key-way-on { margin-top: -4rem; }
div:has(> .st-key-busy), .st-key-busy { position: fixed; top: 4.4rem; right: 2rem; width: auto; z-index: 2; }
.st-key-way-on a { border: 1px solid rgba(128, 128, 128, .45); border-radius: .5rem; padding: .4rem .75rem; }
@media (max-width: 640px) { [data-testid="stMainBlockContainer"] { padding: 3.2rem .8rem 2rem; } }
</style>"""

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def plain(text: str) -> str:
    """Return ``text`` escaped for Markdown: a file may be called ``![](https://example.org/x.png)``."""
    return _PUNCTUATION.sub(r"\\\1", printable(text))


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


def facts_of(hit: Hit) -> list[tuple[str, str]]:
    """Return what is known of a file, whatever found it, with a name for each fact."""
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
        "Sound": hit.sample_rate and f"{hit.sample_rate:,} Hz, {counted(hit.channels or 1, 'channel', 'channels')}",
        "Format": hit.format and f"{hit.format}, {byte_size(hit.size or 0)}",
        "Camera": hit.camera,
        "Place": place,
        **{name.replace("_", " ").capitalize(): value for name, value in sorted(hit.metadata.items())},
    }
    return [(printable(name), printable(str(value))) for name, value in known.items() if value]
