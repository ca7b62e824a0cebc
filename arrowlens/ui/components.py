"""HTML of the pages other than Search: tiles of files, groups of duplicates, figures. All text is escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from arrowlens.modalities import MODALITIES
from arrowlens.search import DuplicateGroup, DuplicateKind, Hit, Member, byte_size, printable
from arrowlens.ui.html import clock, counted
from arrowlens.ui.media import original_url, thumbnail_url

if TYPE_CHECKING:
    from arrowlens.doctor import Finding
    from arrowlens.library_status import FolderStatus

STYLE = """<style>
[data-testid="stMainBlockContainer"] { padding-top: 4.6rem !important; }
[data-testid^="stBaseButton-primary"] { background: #3b5bdb; border-color: #3b5bdb; color: #fff; }
.st-key-sign-out { position: absolute; height: 0; }
.st-key-sign-out a { position: fixed; top: 1.05rem; right: 1.2rem; z-index: 1000000; color: inherit; font-size: .9rem; }
.stHtml dl.al-numbers, .stHtml .al-tile dl { padding: 0 !important; font-size: inherit; }
.stHtml .al-tile dl * { font-size: inherit; }
.al-tiles { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); }
.al-tiles.al-wide { grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); }
.al-tile { margin: 0; min-width: 0; font-size: .82rem; line-height: 1.35; }
.al-tile a { display: block; border-radius: .6rem; }
.al-tile a:focus-visible { outline: 3px solid #748ffc; outline-offset: 2px; }
.al-tile img { display: block; width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: .6rem;
  background: rgba(128, 128, 128, .15); }
.al-tile audio { display: block; width: 100%; height: 2.4rem; margin: .3rem 0; }
.al-tile figcaption { margin-top: .35rem; }
.al-tile .al-name { font-weight: 600; }
section.al-group { border: 1px solid rgba(128, 128, 128, .3); border-radius: .8rem; padding: .9rem 1rem 1rem; }
section.al-group h2 { font-size: 1rem; margin: 0 0 .1rem; padding: 0; }
section.al-group > p { margin: 0 0 .8rem; opacity: .7; font-size: .88rem; }
.al-tile dl { display: grid; grid-template-columns: auto 1fr; gap: 0 .6rem; margin: .3rem 0 0; }
.al-tile dt { opacity: .65; } .al-tile dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; }
.al-tile dd.al-differs { font-weight: 600; text-decoration: underline dotted; text-underline-offset: .2em; }
.al-flicker { margin-top: .3rem; } .al-flicker summary { cursor: pointer; }
.al-flicker div { position: relative; margin-top: .3rem; }
.al-flicker img + img { position: absolute; inset: 0; height: 100%; animation: al-flicker 1.2s steps(1) infinite; }
@keyframes al-flicker { 0% { opacity: 1; } 50% { opacity: 0; } }
.al-path { overflow-wrap: anywhere; opacity: .65; font-size: .78rem; margin-top: .3rem; }
.al-best { display: inline-block; font-size: .72rem; font-weight: 600; border-radius: 1rem; padding: 0 .5rem;
  background: #2f9e44; color: #fff; }
.al-numbers { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); margin: 0; }
.al-numbers div { border: 1px solid rgba(128, 128, 128, .3); border-radius: .8rem; padding: .7rem .9rem; }
.al-numbers dt { opacity: .7; font-size: .85rem; } .al-numbers dd { margin: 0; font-size: 1.5rem; font-weight: 600; }
.al-rows { width: 100%; border-collapse: collapse; font-size: .88rem; }
.al-rows th, .al-rows td { text-align: left; padding: .35rem .8rem .35rem 0; vertical-align: top; border: 0;
  overflow-wrap: anywhere; border-bottom: 1px solid rgba(128, 128, 128, .2); }
.al-rows th { opacity: .7; font-weight: 500; white-space: nowrap; }
.al-rows th.al-below { padding-left: 1.2rem; }
.al-folders th { white-space: normal; } .al-folders td { text-align: right; white-space: nowrap; }
.al-rows code { font-size: .85em; }
</style>"""

MOST_ROWS = 200  # of a table
MEANINGS: dict[DuplicateKind, tuple[str, str]] = {
    "identical": ("Identical", "the same bytes"),
    "copy": ("Copies", "the same picture, recording or film in another format, size or quality"),
    "near": ("Nearly the same", "as two shots of one moment"),
}
_COMPARED = {
    "format": "format",
    "size": "size",
    "width": "pixels",
    "height": "pixels",
    "duration": "length",
    "sample_rate": "sample rate",
    "channels": "channels",
}


def numbers(values: Iterable[tuple[str, str]]) -> str:
    """Return the HTML of a row of figures with their labels."""
    cells = (f"<div><dt>{html.escape(label)}</dt><dd>{html.escape(value)}</dd></div>" for label, value in values)
    return f'<dl class="al-numbers">{"".join(cells)}</dl>'


def rows(values: Iterable[Sequence[str]], heads: Sequence[str] = ()) -> str:
    """Return the HTML of a table; the first cell of each row is its label."""
    head = f"<thead><tr>{''.join(f'<th>{_safe(text)}</th>' for text in heads)}</tr></thead>" if heads else ""
    lines = (
        f'<tr><th scope="row">{_safe(first)}</th>{"".join(f"<td>{_safe(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in values
    )
    return f'<table class="al-rows">{head}<tbody>{"".join(lines)}</tbody></table>'


def folder_rows(folders: Sequence[FolderStatus]) -> str:
    """Return the HTML of a table of folders with their files and sizes; those below an ingested one are indented."""
    if not folders:
        return rows([("folder", "none yet")])
    lines = "".join(
        f'<tr><th scope="row"{"" if folder.path == folder.root else " class=al-below"}>{_safe(name)}</th>'
        f"<td>{folder.n_files:,}</td><td>{byte_size(folder.n_bytes)}</td></tr>"
        for folder in folders[:MOST_ROWS]
        for name in [str(folder.path) if folder.path == folder.root else folder.path.name]
    )
    more = f'<p class="al-quiet">{len(folders) - MOST_ROWS:,} more</p>' if len(folders) > MOST_ROWS else ""
    head = "<thead><tr><th>folder</th><th>files</th><th>size</th></tr></thead>"
    return f'<table class="al-rows al-folders">{head}<tbody>{lines}</tbody></table>{more}'


def findings_rows(findings: Iterable[Finding]) -> str:
    """Return the HTML of what was examined: how bad each is, what was measured, and what to do about it."""
    cells = (
        (each.level, each.what, each.value if isinstance(each.value, str) else f"{each.value:,}", each.cure)
        for each in findings
    )
    return rows(cells, ("", "examined", "measured", "what to do"))


def tiles(hits: Iterable[Hit]) -> str:
    """Return the HTML of a grid of files: thumbnails that link to the original, players of recordings, names."""
    figures = (_figure(hit, f'<div class="al-folder">{_safe(hit.path.parent.name)}</div>') for hit in hits)
    return f'<div class="al-tiles">{"".join(figures)}</div>'


def duplicate_group(group: DuplicateGroup) -> str:
    """Return the HTML of the files of a group side by side; what differs is marked."""
    info = MODALITIES[group.best.modality]
    n_files = counted(len(group.files), info.noun, info.plural)
    differing = list(dict.fromkeys(_COMPARED[name] for name in group.differences))
    details = [f"{byte_size(group.saving)} beside the first"]
    details.append(f"differ in {', '.join(differing)}" if differing else MEANINGS[group.kind][1])
    figures = (_figure(member, _compared(member, group)) for member in group.files)
    return (
        f'<section class="al-group"><h2>{MEANINGS[group.kind][0]}: {n_files}</h2>'
        f'<p>{html.escape(" · ".join(details))}</p><div class="al-tiles al-wide">{"".join(figures)}</div></section>'
    )


def _figure(item: Hit | Member, caption: str) -> str:
    name = _safe(item.path.name)
    if item.modality != "audio":
        shown = (
            f'<a href="{original_url(item.media_id)}" target="_blank" title="{name}">'
            f'<img src="{html.escape(thumbnail_url(item))}" alt="{name}" loading="lazy"></a>'
        )
    else:
        source = original_url(item.media_id)
        shown = f'<audio controls preload="none" src="{source}" title="{name}" aria-label="{name}"></audio>'
    return (
        f'<figure class="al-tile">{shown}<figcaption><div class="al-name" title="{name}">{name}</div>{caption}'
        "</figcaption></figure>"
    )


def _compared(member: Member, group: DuplicateGroup) -> str:
    differing = {_COMPARED[name] for name in group.differences}
    dates = {_day(other) for other in group.files}
    facts = [(label, value, label in differing) for label, value in _facts(member)]
    facts += [("date", _day(member), len(dates) > 1)]
    if member is not group.best and group.kind != "identical":
        facts += [("alike", f"{member.similarity:.1%}", False)]
    flicker = ""
    if member is not group.best and group.kind != "identical" and member.modality != "audio":
        images = (
            f'<img src="{html.escape(thumbnail_url(each))}" alt="" loading="lazy">' for each in (group.best, member)
        )
        summary = "<summary>Flicker with the first</summary>"
        flicker = f'<details class="al-flicker">{summary}<div>{"".join(images)}</div></details>'
    lines = (
        f"<dt>{label}</dt><dd{' class=al-differs' if differs else ''}>{html.escape(value)}</dd>"
        for label, value, differs in facts
        if value
    )
    is_best = member is group.best and group.kind != "identical"
    best = '<span class="al-best" title="most pixels, then most bytes">largest</span>' if is_best else ""
    return f'{best}<dl>{"".join(lines)}</dl>{flicker}<div class="al-path">{_safe(str(member.path))}</div>'


def _facts(member: Member) -> list[tuple[str, str]]:
    return [
        ("format", member.format or ""),
        ("size", byte_size(member.size)),
        ("pixels", f"{member.width} × {member.height}" if member.width and member.height else ""),
        ("length", clock(member.duration) if member.duration is not None else ""),
        ("sample rate", f"{member.sample_rate:,} Hz" if member.sample_rate else ""),
        ("channels", str(member.channels) if member.channels else ""),
    ]


def _day(member: Member) -> str:
    return f"{member.taken:%Y-%m-%d %H:%M}" if member.taken is not None else ""


def _safe(text: str) -> str:
    return html.escape(printable(text))
