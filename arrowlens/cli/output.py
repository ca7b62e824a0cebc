"""What commands print: JSON for programs, short aligned text for people."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arrowlens.addresses import as_path, is_bucket
from arrowlens.modalities import EXTRACTED, MODALITIES, SOUND_MISSING
from arrowlens.search import Hit, byte_size, printable

if TYPE_CHECKING:
    from arrowlens.doctor import Finding
    from arrowlens.evaluation import Recall, Reliability
    from arrowlens.ingest import IngestPlan, IngestReport
    from arrowlens.ingest.walk import LeftAlone
    from arrowlens.library_status import LibraryStatus
    from arrowlens.store import IndexState, MediaText, ModelRecord


_MOST_CAUSES = 8
REAL_TIMES = 5.0  # the speech model base on two cores (docs/performance.md)
_TIMES_SMALL = 3.0  # by its parameters
_MOST_TEXT = 100  # characters of a line of text in a table
_DETAILS = re.compile(r": | \(")
_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")
_NOUNS = {"text": "text"} | {str(name): info.noun for name, info in MODALITIES.items()}


def write_json(value: Mapping[str, Any]) -> None:
    """One JSON object on one line of stdout, in ASCII: bytes of a name that are not UTF-8 are escaped surrogates."""
    sys.stdout.write(json.dumps(value, default=str) + "\n")


def write_paths(hits: Sequence[Hit], *, nul: bool) -> None:
    """The absolute path of each hit on stdout, byte for byte, ended by a line break or a NUL."""
    end = b"\0" if nul else b"\n"
    sys.stdout.flush()
    sys.stdout.buffer.write(b"".join(os.fsencode(str(hit.path)) + end for hit in hits))


def note(text: str) -> None:
    """A line for the user beside the result: on stderr."""
    print(text, file=sys.stderr)


def hit_record(hit: Hit) -> dict[str, Any]:
    """A hit as ``--json`` shows it: all its fields, times as ISO 8601."""
    fields = {field.name: getattr(hit, field.name) for field in dataclasses.fields(hit)}
    times = {name: value.isoformat() for name, value in fields.items() if isinstance(value, dt.datetime)}
    companion = None if hit.companion is None else str(hit.companion)
    return fields | times | {"path": str(hit.path), "companion": companion}


def results_table(hits: Sequence[Hit], *, has_scores: bool = True) -> str:
    """A header and a line a hit: score, kind and path; relevance or words, time and alike where hits have them.

    Without scores, for files that were listed, the day that they were taken stands in their place.
    """
    shown: dict[str, list[str]] = {
        "score": [f"{hit.score:.3f}" if has_scores else "" for hit in hits],
        "taken": ["" if has_scores or hit.taken is None else f"{hit.taken:%Y-%m-%d}" for hit in hits],
        # What words found stands where it does for their sake.
        "relevance": ["" if hit.relevance is None or hit.reason else f"{hit.relevance:.0%}" for hit in hits],
        "kind": [hit.modality for hit in hits],
        "time": [time_range(hit.start, hit.end) for hit in hits],
        "alike": [str(hit.cluster_size) if any(other.cluster_size > 1 for other in hits) else "" for hit in hits],
        "words": [printable(hit.reason) for hit in hits],
        "text": [_line(hit) for hit in hits],
        "path": [shown_path(hit.path) for hit in hits],
    }
    used = [(name, column) for name, column in shown.items() if any(column)]
    return table([[name for name, _ in used], *zip(*(column for _, column in used), strict=True)])


def _line(hit: Hit) -> str:
    """The line that found a hit, where neither its path nor the matched words say it all."""
    text = printable(hit.line) if hit.source in EXTRACTED or hit.found_by == "text" else ""
    return text if len(text) <= _MOST_TEXT else f"{text[: _MOST_TEXT - 1]}…"


def file_text(hit: Hit, texts: Sequence[MediaText]) -> str:
    """All that is known of a file: facts, a line each, then its texts with their times."""
    size = f"{hit.width} x {hit.height} pixels" if hit.width and hit.height else ""
    place = f"{hit.latitude:.5f}, {hit.longitude:.5f}" if hit.latitude is not None and hit.longitude is not None else ""
    missing = hit.metadata.get(SOUND_MISSING) if hit.modality == "video" else None
    facts = {
        "path": shown_path(hit.path),
        "kind": hit.modality,
        "format": f"{hit.format}, {byte_size(hit.size or 0)}",
        "size": size,
        "length": clock(hit.duration) if hit.duration else "",
        "sound": f"left out: {missing}" if missing else "",
        "taken": f"{hit.taken:%Y-%m-%d %H:%M}" if hit.taken else "",
        "camera": hit.camera or "",
        "place": place,
        "artist": hit.artist or "",
        "album": hit.album or "",
    }
    rows = [[name, printable(value)] for name, value in facts.items() if value]
    for text in texts:
        lines = [printable(line) for line in text.text.splitlines() if line.strip()]
        about = text.source if text.start is None else f"{text.source} {time_range(text.start, text.end)}"
        rows += [[about if number == 0 else "", line] for number, line in enumerate(lines)]
    return table(rows, has_header=False)


def recall_table(recalls: Sequence[Recall]) -> str:
    """R@1, R@5 and R@10 of each direction, chance in brackets."""
    rows = [["question", "answers", *(f"R@{k} (chance)" for k in recalls[0].at)]]
    for recall in recalls:
        shares = [f"{share:.3f} ({recall.chance[k]:.3f})" for k, share in recall.at.items()]
        asked, given = _NOUNS[recall.question], _NOUNS[recall.answer]
        rows.append([amount(recall.n_questions, asked), amount(recall.n_answers, given), *shares])
    return columns(rows)


def reliability_table(reliability: Reliability) -> str:
    """By tenths of relevance: what was claimed, and what is so."""
    rows = [["relevance", "pairs", "claimed", "true"]]
    for tenth in reliability.tenths:
        span = f"{tenth.least:.0%} to {tenth.least + 0.1:.0%}"
        rows.append([span, f"{tenth.n_pairs:,}", f"{tenth.claimed:.0%}", f"{tenth.true:.0%}"])
    return columns(rows)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """``rows`` of one length as text, two blanks between columns, the last one not padded."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[-1] = 0
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


_STYLES = {"score": "dim", "relevance": "green", "kind": "dim", "time": "yellow", "words": "magenta", "path": "cyan"}


def table(rows: Sequence[Sequence[str]], *, has_header: bool = True) -> str:
    """``rows`` as ``columns`` gives them; on a terminal in colour, and cut or folded to its width.

    The last column is folded, so that paths stay whole; others are cut.
    """
    if not sys.stdout.isatty() or not rows:
        return columns(rows)
    from rich.console import Console  # deferred: only terminals need it
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=has_header, header_style="bold")
    names = list(rows[0]) if has_header else [""] * len(rows[0])
    for number, name in enumerate(names):
        is_last = number == len(names) - 1
        style = _STYLES.get(name) if has_header else None if is_last else "bold"
        wraps = {"overflow": "fold"} if is_last else {"overflow": "ellipsis", "no_wrap": name != "text"}
        shown.add_column(Text(name), style=style, **wraps)
    for row in rows[1:] if has_header else rows:
        shown.add_row(*(Text(cell) for cell in row))
    console = Console(file=sys.stdout, highlight=False)
    with console.capture() as capture:
        console.print(shown)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def shown_path(path: str | os.PathLike[str]) -> str:
    """``path`` made safe to print, relative to the current folder when it is below it."""
    if is_bucket(path):
        return printable(str(as_path(os.fspath(path))))
    path, here = Path(path), Path.cwd()
    return printable(str(path.relative_to(here) if path.is_relative_to(here) else path))


def time_range(start: float | None, end: float | None) -> str:
    """``0:05-0:15``; empty without times."""
    return "" if start is None or end is None else f"{clock(start)}-{clock(end)}"


def clock(seconds: float) -> str:
    """``0:05``, ``1:02:03``; tenths only where they are not zero."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest // 10:02d}" + (f".{rest % 10}" if rest % 10 else "")
    return f"{hours}:{minutes:02d}:{text}" if hours else f"{minutes}:{text}"


def amount(count: int, singular: str, plural: str | None = None) -> str:
    """``1 file``, ``2 files``, ``12,000 files``."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def status_text(status: LibraryStatus) -> str:
    """A library's status for people, a fact a line."""
    facts = [
        ("library", shown_path(status.uri)),
        ("holds", held_text(status)),
        ("skipped", f"{amount(status.skipped, 'file')} that could not be read"),
        ("texts", f"looked for in {amount(status.read, 'file')}, heard in {amount(status.heard, 'file')}"),
        *([("divided", f"into {status.n_shards} shards")] if status.n_shards > 1 else []),
        ("on disk" if status.path else "in the bucket", byte_size(status.n_bytes)),
        *([("still to go", _retained_text(status))] if status.retained_until is not None else []),
        *(("folder", shown_path(folder)) for folder in status.folders),
        *((f"{role} model", _model_text(record)) for role, record in status.models.items()),
        *((f"next {role}", f"{_model_text(record)}, not complete yet") for role, record in status.next_models.items()),
        ("text finds", status.text_finds),
        *(("calibrated", f"{route}, by {amount(n, 'pair')} of yours") for route, n in status.calibrations.items()),
        *((f"{role} vectors", _index_text(state)) for role, state in status.indexes.items() if state.n_rows),
    ]
    return table([[label, value] for label, value in facts], has_header=False)


def held_text(status: LibraryStatus) -> str:
    """How many files of each kind a library holds: "2 pictures, 1 recording, 3 films"; films only where there are."""
    films = f", {amount(status.films, 'film')}" if status.films else ""
    return f"{amount(status.images, 'picture')}, {amount(status.audio, 'recording')}{films}"


def _retained_text(status: LibraryStatus) -> str:
    until = status.retained_until
    assert until is not None
    return (
        f"{byte_size(status.n_retained)} of what was removed or replaced; the first ingest, remove or optimize that "
        f"ends after {until:%Y-%m-%d %H:%M} UTC deletes it"
    )


def report_text(report: IngestReport) -> str:
    """What a run did, for people."""
    moved = f"{report.moved:,} moved, " if report.moved else ""
    lines = [
        f"{report.indexed:,} indexed, {report.unchanged:,} unchanged, {report.skipped:,} skipped, "
        f"{moved}{report.removed:,} removed in {report.seconds:.1f} s"
    ]
    facts = [f"{amount(report.copied, 'copy', 'copies')} not encoded again"] if report.copied else []
    if report.rate and report.bound and report.indexed > report.copied:
        facts.append(f"{report.rate:,.1f} files/s, bound by {report.bound}")
    lines.append(", ".join([*facts, f"at most {byte_size(report.peak_memory)} of memory"]))
    if report.read or report.heard or report.unread_texts:
        n_failed = sum(report.unread_texts.values())
        failed = f", {amount(n_failed, 'file')} that could not be read so" if n_failed else ""
        lines.append(f"text read in {amount(report.read, 'file')}, {amount(report.heard, 'file')} listened to{failed}")
    if report.without_sound:
        n, reason = sum(report.without_sound.values()), next(iter(report.without_sound))
        lines.append(
            f"{amount(n, 'film')} without sound ({printable(reason)}); "
            "`arrowlens ingest --retry` reads it, of a long film with a larger --max-hours"
        )
    if report.left_alone:
        lines.append(left_alone_text(report.left_alone))
    if report.reasons:
        lines += [causes_text(report.reasons), "`arrowlens skipped` names them; `arrowlens ingest --retry` tries again"]
    return "\n".join(lines)


def left_alone_text(left_alone: Mapping[LeftAlone, int]) -> str:
    """What a run passed over, a folder counting as one."""
    names: dict[LeftAlone, str] = {
        "other": "of other kinds",
        "hidden": "hidden or another program's",
        "ignored": "named in .arrowlensignore",
        "raw": "raw photographs (pip install 'arrowlens[raw]' to read them)",
    }
    return "left alone: " + ", ".join(
        f"{left_alone[why]:,} {name}" for why, name in names.items() if left_alone.get(why)
    )


def effort_text(hours: float | None, cost: float | None, by_modality: Mapping[str, int]) -> str:
    """Return what encoding takes, by what ``arrowlens benchmark`` measured on this machine."""
    if not any(by_modality.values()):
        return "nothing to encode"
    if hours is None:
        return "how long encoding takes is unknown: `arrowlens benchmark` measures the models on this machine"
    told = f"encoding the pictures takes about {hours:.2g} h of a machine like this one"
    told += f", {cost:,.2f} at that price" if cost is not None else ""
    parts = {"recording": by_modality.get("audio", 0), "film": by_modality.get("video", 0)}
    others = [amount(n, noun) for noun, n in parts.items() if n]
    return f"{told}; what {' and '.join(others)} take is unknown until they are read" if others else told


def plan_text(plan: IngestPlan) -> str:
    """What a run would do, for people."""
    told = (
        f"would read {amount(plan.new, 'new file')} and {plan.changed:,} changed ({byte_size(plan.n_bytes)}), "
        f"leave {plan.unchanged:,} unchanged and {plan.unreadable:,} that cannot be read, "
        f"remove {plan.removed:,}{f' and {plan.moved:,} that moved' if plan.moved else ''}"
    )
    lines = [told]
    if plan.to_read:
        lines.append(f"would read the text in {amount(plan.to_read, 'file')}")
    if plan.to_hear:
        hours = plan.hours_to_hear / REAL_TIMES
        lines.append(
            f"would listen to {amount(plan.to_hear, 'file')} of {plan.hours_to_hear:.1f} hours together: some "
            f"{hours:.1f} hours with the speech model base, {_TIMES_SMALL:g} times as long with small"
        )
    return "\n".join([*lines, *([left_alone_text(plan.left_alone)] if plan.left_alone else [])])


def causes_text(reasons: Mapping[str, int]) -> str:
    """How many files were skipped for which cause, the most frequent first; figures and details are left out."""
    causes: Counter[str] = Counter()
    for reason, n_files in reasons.items():
        causes[_cause(reason)] += n_files
    counted = sorted(causes.items(), key=lambda item: (-item[1], item[0]))
    lines = [f"  {n_files:,} x {printable(cause)}" for cause, n_files in counted[:_MOST_CAUSES]]
    n_more = sum(n_files for _, n_files in counted[_MOST_CAUSES:])
    return "\n".join(["skipped:", *lines, *([f"  {n_more:,} for other reasons"] if n_more else [])])


def _cause(reason: str) -> str:
    """What reasons have in common: the part before the details, without its figures."""
    return _FIGURE.sub("N", _DETAILS.split(reason, maxsplit=1)[0])


def findings_text(findings: Sequence[Finding]) -> str:
    """What was examined, a finding a line; below each that is not ok, what to do about it."""
    rows = [[finding.level, printable(finding.what), _value_text(finding.value)] for finding in findings]
    lines = []
    for line, finding in zip(columns(rows).splitlines(), findings, strict=True):
        lines += [line, f"    -> {printable(finding.cure)}"] if finding.cure else [line]
    return "\n".join(lines)


def _value_text(value: float | int | str) -> str:
    return printable(value) if isinstance(value, str) else f"{value:,}"


def _model_text(record: ModelRecord) -> str:
    space = f", space {record.space}" if record.space else ""
    return printable(f"{record.source} {record.digest[:8]}, {record.dimension} dimensions{space}")


def _index_text(state: IndexState) -> str:
    if state.kind is None:
        return f"{state.n_rows:,}, exact scan"
    return f"{state.n_rows:,}, index {state.kind}, {state.n_unindexed:,} not in it yet"
