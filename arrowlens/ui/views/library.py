"""The page Library: its folders, models and state, what could not be read; runs are started and watched here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from arrowlens.errors import ArrowlensError, LibraryBusyError
from arrowlens.library import DEFAULT_SPEECH_MODEL, Library
from arrowlens.library_status import FolderStatus, LibraryStatus, SkippedFile
from arrowlens.models import SPEECH_MODELS
from arrowlens.search import byte_size, printable
from arrowlens.ui.components import MOST_ROWS, findings_rows, folder_rows, numbers, rows
from arrowlens.ui.html import clock, counted, heading, plain
from arrowlens.ui.ingest_jobs import IngestRun, IngestRuns, folder_of, ingest_runs_of
from arrowlens.ui.new_library import choose_models
from arrowlens.ui.session import errors_shown, library_or_stop, may_ingest

BOUNDS = {"reading": "the disk", "decoding": "decoding", "encoding": "the model", "writing": "the library"}


@dataclasses.dataclass(frozen=True, slots=True)
class Overview:
    """What the page shows of one revision of a library."""

    status: LibraryStatus
    folders: list[FolderStatus]
    formats: dict[str, int]
    skipped: list[SkippedFile]
    runs_on: str


@st.cache_resource(max_entries=4, show_spinner=False)
def overview_of(_library: Library, path: str, version: str) -> Overview:
    """Return the overview, read once for each revision of a library."""
    status, folders = _library.status(), _library.folder_status()
    return Overview(status, folders, dict(_library.facets().formats), _library.skipped(), _library.runtime.summary)


def show_run(runs: IngestRuns) -> None:
    """Show the current run, or how the last one ended; a fragment that reruns each second."""
    run = runs.latest
    if run is None:
        if st.session_state.setdefault("run_seen", None) is not None:
            st.rerun()
        return
    seen = (run.started, run.is_over)
    if st.session_state.get("run_seen") != seen:  # the figures below, and the interval of reruns, change with it
        st.session_state.run_seen = seen
        st.rerun()
    if run.is_over:
        show_end(run)
        if run.report is not None and run.report.held_back:
            show_held_back(runs, run.folders, run.report.held_back)
        return
    st.progress(share(run), text=plain(progress_text(run)))
    if run.is_stopping:
        st.html('<span class="al-quiet">Cancelling: what is encoded is stored first, nothing is lost.</span>')
    else:
        st.button("Cancel", on_click=runs.stop, help="What is done is kept; the next run goes on from there.")


def share(run: IngestRun) -> float:
    """Return how much of a run is done, from 0 to 1."""
    event = run.event
    return min(1.0, event.done / event.total) if event is not None and event.total else 0.0


def progress_text(run: IngestRun) -> str:
    """Return the progress of a run in a line: files, rate, time left, what limits it."""
    event = run.event
    folders = ", ".join(printable(str(folder)) for folder in run.folders)
    changing = f"Changing to the models {printable(run.models)}: " if run.models else ""
    if event is None and (changing or run.step):
        return f"{changing}{run.step or 'loading them…'}"
    if event is None or event.phase == "walk":
        return f"Looking for files in {folders}…"
    if event.phase == "calibrate":
        return f"Learning what counts as a match: {event.done:,} of {event.total:,}"
    if event.phase in ("read", "listen"):
        what = "Reading text in pictures" if event.phase == "read" else "Listening to recordings"
        left = f" · {clock(event.seconds_left)} left" if event.seconds_left is not None else ""
        return f"{what}: {event.done:,} of {event.total:,}{left}"
    if event.phase != "index":
        return f"{changing}{event.done:,} of {event.total:,} files read; tidying up…"
    parts = [f"{changing}{event.done:,} of {event.total:,} files"]
    if event.rate:
        parts.append(f"{event.rate:,.1f} a second")
    if event.seconds_left is not None:
        parts.append(f"{clock(event.seconds_left)} left")
    if event.bound is not None:
        parts.append(f"bound by {BOUNDS[event.bound]}")
    if event.skipped:
        parts.append(f"{event.skipped:,} cannot be read")
    return " · ".join(parts)


def show_end(run: IngestRun) -> None:
    """Show how a run ended."""
    if run.error is not None:
        st.error(plain(run.error))
        return
    if run.migration is not None:
        show_change(run)
        return
    report = run.report
    assert report is not None
    counts = (
        f"{report.indexed:,} indexed, {report.unchanged:,} unchanged, {report.skipped:,} cannot be read, "
        f"{report.removed:,} removed in {report.seconds:.1f} s"
    )
    if run.read_text:
        counts += f"; text was looked for in {counted(report.read, 'file', 'files')}"
    if run.transcribe:
        counts += f"; {counted(report.heard, 'file was', 'files were')} listened to"
    if report.stopped:
        st.warning(plain(f"Cancelled. {counts}. What was done is kept; the next run goes on from there."))
    elif not (report.indexed or report.unchanged or report.skipped):
        folders = ", ".join(printable(str(folder)) for folder in run.folders)
        passed = ", ".join(f"{count:,} {kind}" for kind, count in report.left_alone.items())
        st.warning(
            plain(f"There is no picture, recording or film in {folders}" + (f"; passed over: {passed}." * bool(passed)))
        )
    else:
        st.success(plain(f"Done. {counts}."))


def show_change(run: IngestRun) -> None:
    """Show how a change of models ended."""
    report = run.migration
    assert report is not None
    counts = f"{counted(report.encoded, 'file', 'files')} encoded in {report.seconds:.1f} s"
    if report.lost:
        counts += f", {counted(report.lost, 'file', 'files')} could not be encoded"
    if report.switched:
        st.success(plain(f"Done. The library uses the models {run.models}: {counts}."))
    else:
        st.warning(plain(f"Not done: {counts}. The earlier models serve on; the same change goes on from here."))


def show_held_back(runs: IngestRuns, folders: tuple[Path, ...], held_back: dict[str, int]) -> None:
    """Ask before a run removes many files. Whoever may add folders may confirm it."""
    n_files = sum(held_back.values())
    places = ", ".join(printable(folder) for folder in held_back)
    st.warning(
        plain(
            f"{counted(n_files, 'file is', 'files are')} gone from {places}, and nothing was removed from the library. "
            "Look whether a disk or a folder is missing."
        )
    )
    if may_ingest() and st.button(f"Remove {counted(n_files, 'file', 'files')}", key="prune"):
        start(lambda: runs.start(folders, prune=True))


def show_start(runs: IngestRuns, status: LibraryStatus) -> None:
    """Show the widgets that start a run."""
    if not may_ingest():
        st.info("Folders can be added here once the server asks for a password; `arrowlens ingest` adds them now.")
        return
    with st.form("add", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input("Add a folder of this server's disk", placeholder="/home/me/Pictures", key="folder")
        is_asked = st.form_submit_button("Add folder", type="primary")
    if is_asked:
        start(lambda: runs.start([folder_of(text)]))
    if not status.folders:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if st.button("Look for changes", help="Reads what is new or has changed in all folders."):
            start(lambda: runs.start(status.folders))
        with st.popover("Read texts", help="Makes what is written in pictures and said in recordings findable."):
            show_texts(runs, status)
        show_watch(runs)


def show_texts(runs: IngestRuns, status: LibraryStatus) -> None:
    """Show what starts a run that reads text in pictures, or writes down speech."""
    st.caption(plain(f"Text was looked for in {counted(status.read, 'picture or film', 'pictures and films')} so far."))
    if st.button("Read text in pictures"):
        start(lambda: runs.start(status.folders, read_text=True))
    st.caption(plain(f"{counted(status.heard, 'recording or film was', 'recordings and films were')} listened to."))
    names = list(SPEECH_MODELS)
    model = st.selectbox("Speech model", names, index=names.index(DEFAULT_SPEECH_MODEL), key="speech_model")
    if st.button("Write down speech", help="Downloads the speech model first where it is not on this machine."):
        start(lambda: runs.start(status.folders, transcribe=True, speech_model=model))


def show_watch(runs: IngestRuns) -> None:
    """Show the switch by which folders are watched."""

    def switch() -> None:
        try:
            (runs.watch if st.session_state.watch else runs.stop_watching)()
        except ArrowlensError as error:
            st.session_state.watch_error = str(error)

    st.session_state.watch = runs.is_watching
    st.toggle(
        "Watch folders",
        key="watch",
        on_change=switch,
        help="Reads what is new or has changed by itself, for as long as this server runs.",
    )
    if error := st.session_state.pop("watch_error", None):
        st.error(plain(error))


def start(begin: Callable[[], None]) -> None:
    """Begin a run; show why it cannot start."""
    try:
        begin()
    except ArrowlensError as error:
        st.error(plain(str(error)))
    else:
        st.rerun()


def show_facts(library: Library, runs: IngestRuns, overview: Overview) -> None:
    """Show counts, formats, folders, models and indexes, and what can be done about them."""
    status = overview.status
    st.html(
        numbers(
            [
                ("pictures", f"{status.images:,}"),
                ("recordings", f"{status.audio:,}"),
                ("films", f"{status.films:,}"),
                ("cannot be read", f"{status.skipped:,}"),
                ("on disk", byte_size(status.n_bytes)),
            ]
        )
    )
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Folders", anchor=False)
        st.html(folder_rows(overview.folders))
        if overview.folders and may_ingest():
            with st.popover("Forget a folder"):
                show_forget(library, overview.folders)
        st.html(rows((name, f"{count:,}") for name, count in overview.formats.items()))
    with right:
        st.subheader("Models", anchor=False)
        st.html(rows(model_rows(status), ("role", "model", "digest", "dimensions", "vectors", "index")))
        st.html(rows([("text finds", status.text_finds), ("runs on", overview.runs_on), ("library", status.uri)]))
        if may_ingest():
            with st.popover("Change models"):
                show_models(runs, status)
            show_doctor(library)


def show_forget(library: Library, folders: list[FolderStatus]) -> None:
    """Show what makes the library forget a folder, with the number of its files."""
    known = {str(each.path): each for each in folders}  # by path: a choice stays when the number of files changes
    path = st.selectbox(
        "Folder",
        known,
        index=None,
        placeholder="Choose a folder",
        format_func=lambda each: printable(f"{each} ({known[each].n_files:,})"),
        key="forget_folder",
    )
    st.caption("The files stay on disk. The next run over their folder, or *Watch folders*, finds them again.")
    if path is None:
        return
    folder = known[path]
    # The button is that of one folder and number: a click on an earlier one does nothing.
    if st.button(f"Forget {counted(folder.n_files, 'file', 'files')}", key=f"forget {path} {folder.n_files}"):
        try:
            n_files = library.remove([folder.path])
        except LibraryBusyError:
            st.error("Nothing was forgotten: a run is going on; try again when it is over.")
        except ArrowlensError as error:
            st.error(plain(f"Nothing was forgotten: {error}"))
        else:
            st.toast(plain(f"{counted(n_files, 'file', 'files')} forgotten"))
            st.rerun()


def show_models(runs: IngestRuns, status: LibraryStatus) -> None:
    """Show what changes the library to other models."""
    n_files = status.images + status.audio + status.films
    for role, record in status.next_models.items():
        st.caption(plain(f"A change to {record.source} ({role}) was begun; the same change goes on from there."))
    models = choose_models("Models", "models")
    st.caption(
        plain(
            f"{counted(n_files, 'file is', 'files are')} encoded again. Searches go on meanwhile, "
            "with the earlier models, and the change can be cancelled."
        )
    )
    if st.button(f"Change to {models}", key="change_models"):
        start(lambda: runs.change_models(models))


def show_doctor(library: Library) -> None:
    """Show what examines the library, and what was found by it."""
    if st.button("Examine the library", help="Compares searches, vectors and files; changes nothing."):
        with st.spinner("Examining the library…", show_time=True), errors_shown():
            st.session_state.findings = library.doctor()
    findings = st.session_state.get("findings")
    if findings is not None:
        problems = sum(finding.level == "problem" for finding in findings)
        st.html(
            f'<span class="al-quiet">{counted(len(findings), "thing was", "things were")} looked at, '
            f"{counted(problems, 'problem', 'problems')} found.</span>"
        )
        st.html(findings_rows(findings))


def model_rows(status: LibraryStatus) -> list[tuple[str, ...]]:
    """Return a row for each model: role, source, digest, dimensions, vectors, how they are searched."""
    lines: list[tuple[str, ...]] = []
    for role, record in status.models.items():
        state = status.indexes.get(role)
        vectors = f"{state.n_rows:,}" if state is not None else "0"
        index = "exact scan" if state is None or state.kind is None else state.kind
        if state is not None and state.kind is not None and state.n_unindexed:
            index += f", {state.n_unindexed:,} not in it yet"
        lines.append((role, record.source, record.digest[:12], str(record.dimension), vectors, index))
    return lines


def show_skipped(runs: IngestRuns, overview: Overview) -> None:
    """Show the files that could not be read, with reasons."""
    files = overview.skipped
    st.subheader(f"Cannot be read: {counted(len(files), 'file', 'files')}", anchor=False)
    if not files:
        st.html('<span class="al-quiet">Every file that was found could be read.</span>')
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        wanted = st.text_input("Filter by path or reason", key="skipped_filter").strip().casefold()
        is_retried = may_ingest() and st.button("Try these files again", help="Reads all files again that failed.")
    if is_retried:
        start(lambda: runs.start(folders_of(files, overview.status), retry=True))
    lines = [
        (printable(str(file.path)), file.reason + (" (still found with its earlier content)" * file.still_found))
        for file in files
    ]
    kept = [line for line in lines if wanted in f"{line[0]} {line[1]}".casefold()]
    st.html(rows(kept[:MOST_ROWS], ("file", "reason")))
    if len(kept) > MOST_ROWS:
        st.html(f'<span class="al-quiet">{len(kept) - MOST_ROWS:,} more; narrow the filter to see them.</span>')


def folders_of(files: list[SkippedFile], status: LibraryStatus) -> tuple[Path, ...]:
    """Return the ingested folders that files are in."""
    return tuple(folder for folder in status.folders if any(file.path.is_relative_to(folder) for file in files))


library = library_or_stop()
with errors_shown():
    overview = overview_of(library, library.uri, library.revision)
st.html(heading("Library", printable(library.uri)))
runs = ingest_runs_of(library)
is_going = runs.latest is not None and not runs.latest.is_over
st.fragment(show_run, run_every=1.0 if is_going else 3.0)(runs)
show_start(runs, overview.status)
show_facts(library, runs, overview)
show_skipped(runs, overview)
