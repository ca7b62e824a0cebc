"""The page Search: the address holds the question; the page shows nothing that does not follow from it."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import streamlit as st

from arrowlens.errors import ArrowlensError, InputError, LibraryBusyError, MediaError
from arrowlens.library import MEDIA_SUFFIXES, Library
from arrowlens.modalities import MODALITIES
from arrowlens.search import Example, printable
from arrowlens.search.query import MAX_TEXT
from arrowlens.store import Facets
from arrowlens.ui.filters import facets, show_filters
from arrowlens.ui.gallery import JSON, batch_of, show_gallery, show_keys
from arrowlens.ui.html import counted, empty_state, heading, plain, results_line
from arrowlens.ui.media import thumbnail_url
from arrowlens.ui.search_service import Answer, Examples, SharedExample, answer, is_asked
from arrowlens.ui.search_state import DEFAULT_WEIGHTS, MAX_WEIGHT, Grouping, Order, Part, Question, Role
from arrowlens.ui.session import errors_shown, library_or_stop, may_ingest
from arrowlens.ui.uploads import drop_upload

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

SIGNS: dict[Role, str] = {"more": "+", "less": "−", "like": "like", "unlike": "not like"}
ORDERS: dict[Order, str] = {"relevance": "Best first", "date": "Newest first"}
GROUPINGS: dict[Grouping, str] = {"none": "No groups", "folder": "By folder", "day": "By day"}
_ALL = "all"  # a widget takes no None among its options
SUFFIXES = [suffix.lstrip(".") for suffix in MEDIA_SUFFIXES]


def asked_now() -> Question:
    """Return the question in the address."""
    return Question.from_params({name: st.query_params.get_all(name) for name in st.query_params})


def ask(question: Question) -> None:
    """Put a question into the address, as one step of the browser's history."""
    st.query_params.from_dict(question.to_params())


def change(**fields: Any) -> None:  # noqa: ANN401 - of ``Question``
    """Ask the same question with other values of some fields."""
    ask(dataclasses.replace(asked_now(), **fields))


def refine(role: Role, media_id: str) -> None:
    """Add a file to the question as an example."""
    part = Part.read(role, media_id)
    if part is not None:
        ask(asked_now().with_part(part))


def act(library: Library, action: JSON) -> None:
    """Do what was chosen in the gallery; what is none of its actions is ignored."""
    match action:
        case {"type": ("like" | "unlike") as role, "id": str(media_id)}:
            refine(role, media_id)
        case {"type": "everything"}:
            change(everything=True)
        case {"type": "again"}:
            pass  # the page runs again, and finds the library as it is
        case {"type": "forget", "ids": list(ids)} if may_ingest():
            forget(library, [media_id for media_id in ids if isinstance(media_id, str)])


def forget(library: Library, media_ids: Sequence[str]) -> None:
    """Take files out of the library, and say how many they were, or why not."""
    try:
        hits = library.hits(media_ids)
        n_files = library.remove([hit.path for hit in hits]) if hits else 0
        text = "Nothing was forgotten: the library no longer holds these files"
        if n_files:
            text = f"{counted(n_files, 'file', 'files')} forgotten; the next ingest of their folder finds them again"
        st.session_state.forgotten = {"turn": token_hex(8), "ids": list(media_ids)}
    except LibraryBusyError:
        text = "Nothing was forgotten: a run is going on; try again when it is over"
    except ArrowlensError as error:
        text = f"Nothing was forgotten: {error}"
    st.toast(plain(text))


def add_text(role: Role, key: str) -> None:
    """Add what was typed to the question."""
    text = st.session_state[key].strip()
    st.session_state[key] = ""
    if text:
        ask(asked_now().with_part(Part.of(role, text)))


def show_question(library: Library, question: Question, counts: Facets) -> Example | None:
    """Show the widgets of the question, without its filters; return the uploaded example."""
    if st.session_state.pop("is_answered", False):
        st.session_state.example_open = False
    st.session_state.words = question.text
    st.text_input(
        "Search by words",
        placeholder="What are you looking for? For example: a red bicycle",
        max_chars=MAX_TEXT,
        key="words",
        on_change=lambda: change(text=st.session_state.words.strip(), everything=False),
        label_visibility="collapsed",
    )
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        show_modalities(question, counts)
        with st.popover("Refine", help="Ask for more or less of something"):
            for role, label, hint in (("more", "Also", "a dog"), ("less", "But without", "people")):
                key = f"add-{role}"
                st.text_input(
                    label, placeholder=hint, max_chars=MAX_TEXT, key=key, on_change=add_text, args=(role, key)
                )
            show_weights(question)
        with st.popover(
            "By example", help="Find what looks or sounds like a file of yours", key="example_open", on_change="rerun"
        ):
            show_uploads()
            try:
                return uploaded(library)
            except ArrowlensError as error:  # said beside what was chosen; the rest of the question is asked
                st.error(plain(str(error)))
                return None


def show_modalities(question: Question, counts: Facets) -> None:
    """Show the choice of all files, or of one kind, with their numbers."""
    names = {_ALL: f"All {counts.n_files:,}"}
    for modality, info in MODALITIES.items():
        names[modality] = f"{info.plural.capitalize()} {counts.modalities.get(modality, 0):,}"
    shown = question.modality or _ALL

    def choose() -> None:
        choice = st.session_state.modality or shown  # clicking the selected one unselects it
        change(modality=None if choice == _ALL else choice)

    st.session_state.modality = shown
    st.segmented_control(
        "Show",
        list(names),
        format_func=names.__getitem__,
        key="modality",
        on_change=choose,
        label_visibility="collapsed",
    )


def show_uploads() -> None:
    """Show the ways to upload an example; they start anew each time that one was used or removed."""
    turn = st.session_state.setdefault("upload_turn", 0)
    st.file_uploader("A picture, a recording or a film", type=SUFFIXES, key=f"file-{turn}")
    st.audio_input("Or record a sound", key=f"microphone-{turn}")
    st.caption("It is compared and forgotten: nothing is stored.")


def forget_upload() -> None:
    """Remove the uploaded example."""
    st.session_state.pop("example", None)
    turn = st.session_state.upload_turn
    for widget in (f"file-{turn}", f"microphone-{turn}"):
        file = st.session_state.get(widget)
        if file is not None:
            drop_upload(file.file_id)
    st.session_state.upload_turn += 1


def uploaded(library: Library) -> Example | None:
    """Return the uploaded example, encoded once; one that the library holds becomes a part of the address.

    Raises:
        ArrowlensError: it cannot be decoded.
    """
    turn = st.session_state.upload_turn
    file = st.session_state.get(f"file-{turn}") or st.session_state.get(f"microphone-{turn}")
    if file is None:
        st.session_state.pop("example", None)  # it may have been removed where it was chosen
        return None
    known: tuple[str, SharedExample] | None = st.session_state.get("example")
    if known is not None and known[0] == file.file_id:
        return known[1].example
    take_upload(library, file)
    return None


def take_upload(library: Library, file: UploadedFile) -> None:
    """Make a new upload a part of the question, close the popover and run the page again; one refused is so for good.

    Raises:
        MediaError: it cannot be decoded.
    """
    refused: tuple[str, str] = st.session_state.get("refused", ("", ""))
    if refused[0] == file.file_id:
        raise MediaError(refused[1])
    try:
        with st.spinner("Looking at your example…"):
            example = library.example(file.getvalue(), file.name)
    except MediaError as error:
        st.session_state.refused = (file.file_id, str(error))
        raise
    held = library.find_by_hash(example.content_hash) if example.content_hash else []
    if held:
        forget_upload()
        refine("like", held[0].media_id)
    else:
        st.session_state.example = (file.file_id, SharedExample(example))
    st.session_state.is_answered = True
    st.rerun()


def show_parts(question: Question, examples: Examples) -> None:
    """Show the parts of the question as chips; a click removes one."""
    if not question.parts and examples.upload is None:
        return
    with st.container(horizontal=True, gap="xsmall", key="parts"):
        for number, part in enumerate(question.parts):
            remove = asked_now().without_part(part)
            name = plain(part_name(part, examples))
            hit = examples.held.get(part.value)
            if hit is not None and hit.modality != "audio":
                name = f"![]({thumbnail_url(hit)}) {name}"
            st.button(f"{SIGNS[part.role]} {name} ✕", key=f"part-{number}", on_click=ask, args=(remove,))
        if examples.upload is not None:
            st.button(f"like {plain(examples.upload.name)} ✕", key="part-upload", on_click=forget_upload)
    if examples.upload is not None:
        st.caption("Your own example is not part of the address: a link to this page, or a reload, leaves it out.")


def part_name(part: Part, examples: Examples) -> str:
    """Return the text of a chip: the text or file name, and the weight where it is not the default."""
    hit = examples.held.get(part.value)
    example = "a file that is gone" if hit is None else hit.path.name
    weight = "" if part.weight == DEFAULT_WEIGHTS[part.role] else f" × {part.weight:g}"
    return (example if part.is_example else part.value) + weight


def show_weights(question: Question) -> None:
    """Show a slider for the weight of each part."""
    for number, part in enumerate(question.parts):
        key = f"weight-{number}-{part.role}-{part.value}"
        st.session_state[key] = part.weight
        name = "an example" if part.is_example else plain(part.value)
        st.slider(
            f"Weight: {SIGNS[part.role]} {name}",
            0.1,
            MAX_WEIGHT,
            step=0.1,
            key=key,
            on_change=lambda key=key, part=part: ask(asked_now().with_weight(part, round(st.session_state[key], 1))),
            help=f"default: {DEFAULT_WEIGHTS[part.role]:g}",
        )


def cached_answer(library: Library, question: Question, examples: Examples) -> tuple[Answer, str]:
    """Return the answer, computed once however often the page reruns, and the library's revision before it.

    Raises:
        ArrowlensError: as ``Library.search``.
    """
    revision = library.revision
    key = (question, examples.upload and examples.upload.content_hash, revision)
    known: tuple[object, Answer] | None = st.session_state.get("answer")
    if known is not None and known[0] == key:
        return known[1], revision
    with st.container(key="busy"), st.spinner("Searching…", show_time=True):
        new = answer(library, question, examples)
    st.session_state.answer = (key, new)
    return new, revision


def show_answer(library: Library, question: Question, page: Answer, revision: str, asked: bool, n_files: int) -> None:
    """Show a line about the results, and the results."""
    results = page.results
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        is_itself = bool(results) and results[0].matches is True  # what is asked with
        nothing_matches = asked and results.has_match is False and not is_itself
        st.html(results_line(summary(page, asked), nothing_matches=nothing_matches), width="content")
        show_arrangement(question, asked)
    for notice in page.notices:
        st.caption(plain(notice))
    upload = st.session_state.get("example")
    token, forgotten = upload[1].token if upload else "", st.session_state.get("forgotten")
    favourites = library.favourite_contents
    batch = batch_of(page, question, revision, favourites, token, None if asked else n_files)
    show_gallery(batch, lambda action: act(library, action), may_change=may_ingest(), forgotten=forgotten)


def summary(page: Answer, asked: bool) -> str:
    """Return the line above the results: how many match, and how long the search took."""
    if not asked:
        return "The newest files"
    text = page.results.summary
    return f"{text[0].upper()}{text[1:]} in {page.results.took_ms:.0f} ms"


def show_arrangement(question: Question, asked: bool) -> None:
    """Show the choices of order and groups."""
    with st.container(horizontal=True, width="content", gap="small"):
        if asked:
            show_choice("Order", "sort", question.sort, ORDERS)
        show_choice("Groups", "group", question.group, GROUPINGS)


def show_choice(label: str, field: str, value: str, options: Mapping[Any, str]) -> None:
    """Show the choice of one field of the question; ``options`` has a label for each of its values."""
    st.session_state[field] = value
    st.selectbox(
        label,
        options,
        format_func=options.__getitem__,
        key=field,
        on_change=lambda: change(**{field: st.session_state[field]}),
        label_visibility="collapsed",
        width=170,
    )


def recordings_of(question: Question, examples: Examples) -> dict[str, Part | None]:
    """Return the recordings that files are to be like, by name; None for the uploaded one."""
    held = {part: examples.held.get(part.value) for part in question.parts if part.role == "like"}
    recordings: dict[str, Part | None] = {
        hit.path.name: part for part, hit in held.items() if hit is not None and hit.modality == "audio"
    }
    if examples.upload is not None and examples.upload.modality == "audio":
        recordings[examples.upload.name] = None
    return recordings


def show_alone(question: Question, recordings: Mapping[str, Part | None], reason: str) -> None:
    """Show why recordings and the rest of a question cannot be asked together, and what asks for one of them alone."""
    st.warning(plain(reason))
    with st.container(horizontal=True, gap="small"):
        for number, (name, part) in enumerate(recordings.items()):
            alone = dataclasses.replace(question, text="", parts=() if part is None else (part,), everything=False)
            st.button(f"By {plain(name)} alone", key=f"alone-{number}", on_click=ask, args=(alone,))


def show_nothing(library: Library, question: Question, counts: Facets) -> None:
    """Show why there are no results, and what to do."""
    if not library.facets().n_files:
        show_empty(library)
    elif question.is_filtered:
        st.html(empty_state("No file passes these filters", "Remove some, or choose all files."))
    elif question.modality == "audio" and counts.modalities.get("audio") and not library.text_reaches_audio:
        st.html(
            empty_state(
                "Words do not reach recordings here",
                "This library's models cannot compare them. Search with a recording: By example.",
            )
        )
    else:
        st.html(empty_state("No results", "Try other words, or choose all files."))


def show_empty(library: Library) -> None:
    """Show how to fill an empty library."""
    command = f"arrowlens ingest FOLDER --library {shlex.quote(printable(library.uri))}"
    if not may_ingest():
        st.html(empty_state("This library is empty", f"Fill it with: {command}"))
        return
    st.html(empty_state("This library is empty", f"Add a folder here, or run: {command}"))
    with st.container(horizontal=True, horizontal_alignment="center", key="way-on"):
        st.page_link("views/library.py", label="Add a folder of pictures or recordings")


def main() -> None:
    """Show the page."""
    library = library_or_stop()
    question = asked_now()
    everything = facets(library, library.uri, library.revision, {})
    chosen = {by: [str(condition) for condition in each] for by, each in question.chosen().items() if each}
    counts = facets(library, library.uri, library.revision, chosen) if chosen else everything
    amounts = (counted(everything.modalities.get(name, 0), info.noun, info.plural) for name, info in MODALITIES.items())
    st.html(heading("Arrowlens", " · ".join(amounts)))
    show_filters(library, question, counts, change)
    upload = show_question(library, question, counts)
    held = {hit.media_id: hit for hit in library.hits([part.value for part in question.parts if part.is_example])}
    examples = Examples(held, upload)
    show_parts(question, examples)
    try:
        page, revision = cached_answer(library, question, examples)
    except InputError as error:
        recordings = recordings_of(question, examples)
        if library.has_one_space or not recordings:
            raise
        show_alone(question, recordings, str(error))
        return
    if page.results or page.is_folded:
        n_files = counts.modalities.get(question.modality, 0) if question.modality else counts.n_files
        show_answer(library, question, page, revision, is_asked(question, examples), n_files)
    else:
        show_nothing(library, question, counts)
    show_keys()


with errors_shown():
    main()
