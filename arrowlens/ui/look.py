"""How things look, and how other people's text is shown without being obeyed."""

from __future__ import annotations

import html
import re

from arrowlens.search import Hit, printable

# Drawn here because Streamlit fetches emoji and material icons for the browser's tab from another host.
ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" width="32" height="32">
<rect width="32" height="32" rx="8" fill="#3b5bdb"/>
<circle cx="14" cy="14" r="7" fill="none" stroke="#fff" stroke-width="3"/>
<path d="M19.5 19.5 26 26" stroke="#fff" stroke-width="3.4" stroke-linecap="round"/>
<path d="M11.2 14h5.4m-2.2-2.4 2.4 2.4-2.4 2.4" fill="none" stroke="#fff" stroke-width="1.8"/></svg>"""

STYLE = """<style>
[data-testid="stMainBlockContainer"] { padding-top: 2.2rem; max-width: 88rem; }
.al-head { display: flex; align-items: baseline; gap: .8rem; flex-wrap: wrap; }
.al-head h1 { font-size: 1.7rem; padding: 0; margin: 0; }
.al-quiet { opacity: .65; font-size: .9rem; }
.st-key-pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 1rem; }
.st-key-sounds { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem; }
.st-key-pictures > div, .st-key-sounds > div { min-width: 0; width: 100%; }
.st-key-pictures img { aspect-ratio: 1; object-fit: cover; border-radius: .6rem; background: rgba(128, 128, 128, .15); }
.al-hit { font-size: .85rem; line-height: 1.3; }
.al-name, .al-folder { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.al-folder, .al-facts { opacity: .65; }
.al-facts { display: flex; justify-content: space-between; gap: .5rem; font-variant-numeric: tabular-nums; }
.al-empty { text-align: center; padding: 4rem 1rem; opacity: .8; }
.al-empty b { display: block; font-size: 1.15rem; margin-bottom: .4rem; }
</style>"""

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def plain(text: str) -> str:
    """``text`` so that Markdown shows it as it is: a file may be called ``![](https://example.org/x.png)``."""
    return _PUNCTUATION.sub(r"\\\1", printable(text))


def hit_caption(hit: Hit) -> str:
    """HTML below a hit: name, folder, what it is, relevance, or the score where that is not known.

    The whole path and the score appear under the pointer.
    """
    path, name, folder = (html.escape(printable(str(part))) for part in (hit.path, hit.path.name, hit.path.parent.name))
    facts = html.escape(_facts(hit))
    value, meaning = f"{hit.score:.3f}", "cosine similarity"
    if hit.relevance is not None:
        value, meaning = f"{hit.relevance:.0%}", f"how likely it is right; cosine similarity {hit.score:.3f}"
    return (
        f'<div class="al-hit" title="{path}"><div class="al-name">{name}</div><div class="al-folder">{folder}</div>'
        f'<div class="al-facts"><span>{facts}</span><span title="{meaning}">{value}</span></div></div>'
    )


def heading(title: str, detail: str) -> str:
    """HTML of the page's first line."""
    return (
        f'<div class="al-head"><h1>{html.escape(title)}</h1><span class="al-quiet">{html.escape(detail)}</span></div>'
    )


def empty_state(title: str, detail: str) -> str:
    """HTML where results would be, when there are none: what is so, and what to do."""
    return f'<div class="al-empty"><b>{html.escape(title)}</b>{html.escape(detail)}</div>'


def counted(count: int, singular: str, plural: str) -> str:
    """``1 picture``, ``1,200 pictures``."""
    return f"{count:,} {singular if count == 1 else plural}"


def _facts(hit: Hit) -> str:
    if hit.modality == "image":
        return f"{hit.width} × {hit.height}" if hit.width and hit.height else ""
    if hit.start is None or hit.end is None:
        return ""
    return f"{_clock(hit.start)} – {_clock(hit.end)}" + (f" of {_clock(hit.duration)}" if hit.duration else "")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
