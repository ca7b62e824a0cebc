"""The page Map: files as points in a plane, near what is like them; a click or a box shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

import pandas as pd
import streamlit as st

from arrowlens.library import Library
from arrowlens.modalities import MODALITIES, Modality
from arrowlens.search import EmbeddingMap, Point, printable
from arrowlens.ui.components import tiles
from arrowlens.ui.html import counted, empty_state, heading
from arrowlens.ui.search_state import Part, Question
from arrowlens.ui.session import errors_shown, library_or_stop

MOST_TILES = 60
MOST_EXAMPLES = 8  # of a question made of what is selected
LITTLE = 0.3  # of how files differ: with less of it in the plane, much lies near what it is not like
MOST_FOLDERS = 9  # with a colour of their own; the colour scheme has ten
CHOICES: dict[str, Modality | None] = {
    **{info.plural.capitalize(): name for name, info in MODALITIES.items()},
    "Both": None,
}
COLOURS = ("Group", "Folder", "Date")


@st.cache_resource(max_entries=6, show_spinner="Drawing the map…")
def map_of(_library: Library, path: str, version: str, modality: Modality | None) -> EmbeddingMap:
    """Return the map, computed once for each revision of a library."""
    return _library.map(modality)


@st.cache_resource(max_entries=6, show_spinner=False)
def table_of(_embedding_map: EmbeddingMap, path: str, version: str, modality: Modality | None) -> pd.DataFrame:
    """Return the points as the chart takes them."""
    folders = _embedding_map.group_folders
    names = [
        f"{ascii_uppercase[group]}: {printable(folder)}"
        if folder and len(set(folders)) > 1
        else f"Group {ascii_uppercase[group]}"
        for group, folder in enumerate(folders)
    ]
    return pd.DataFrame(
        {
            "at": range(len(_embedding_map.points)),
            "x": [point.x for point in _embedding_map.points],
            "y": [point.y for point in _embedding_map.points],
            "Name": [printable(point.name) for point in _embedding_map.points],
            "Group": [names[point.group] for point in _embedding_map.points],
            "Folder": folder_names(_embedding_map.points),
            "Date": pd.to_datetime([point.taken for point in _embedding_map.points]),
        }
    )


def folder_names(points: Sequence[Point]) -> list[str]:
    """Return the folder of each point; folders with few files are one."""
    own = {folder for folder, _ in Counter(point.folder for point in points).most_common(MOST_FOLDERS)}
    return [
        (printable(point.folder) or "(no folder)") if point.folder in own else "(other folders)" for point in points
    ]


def chart_of(n_points: int, colour: str) -> dict[str, Any]:
    """Return the chart as Vega-Lite: points to click (with Shift, several) or to draw a box around."""
    shade: dict[str, Any] = {"field": colour, "type": "nominal", "scale": {"scheme": "tableau10"}}
    if colour == "Date":
        shade = {"field": colour, "type": "temporal", "scale": {"scheme": "viridis"}}
    plane = {"type": "quantitative", "axis": None, "scale": {"zero": False, "padding": 12}}
    return {
        "height": 560,
        "mark": {"type": "circle", "size": max(12.0, min(90.0, 40_000 / n_points))},
        "params": [
            {"name": "click", "select": {"type": "point", "fields": ["at"], "toggle": "event.shiftKey"}},
            {"name": "box", "select": {"type": "interval"}},
        ],
        "encoding": {
            "x": {"field": "x", **plane},
            "y": {"field": "y", **plane},
            "color": {**shade, "legend": {"orient": "bottom", "columns": 4, "title": None}},
            "opacity": {
                "condition": {"test": {"and": [{"param": "click"}, {"param": "box"}]}, "value": 0.85},
                "value": 0.12,
            },
            "tooltip": [{"field": "Name", "type": "nominal"}, {"field": colour, "type": shade["type"]}],
        },
    }


def selected(points: Sequence[Point], selection: Mapping[str, Any]) -> list[Point]:
    """Return the points that were clicked, else those in the box."""
    clicked = [each["at"] for each in selection.get("click") or [] if isinstance(each.get("at"), int)]
    if clicked:
        return [points[at] for at in clicked if 0 <= at < len(points)]
    box = selection.get("box") or {}
    if not {"x", "y"} <= box.keys():
        return []
    (left, right), (low, high) = sorted(box["x"]), sorted(box["y"])
    return [point for point in points if left <= point.x <= right and low <= point.y <= high]


def show_selected(library: Library, points: Sequence[Point]) -> None:
    """Show thumbnails and players of what is selected."""
    if not points:
        st.html(empty_state("Nothing selected", "Click a point, or drag a box over several."))
        return
    more = f", the first {MOST_TILES} of them here" if len(points) > MOST_TILES else ""
    st.html(f'<span class="al-quiet">{counted(len(points), "file", "files")} selected{more}</span>')
    if st.button("Search for more like these", help=f"Asks with {MOST_EXAMPLES} of them at most, evenly spaced."):
        step = -(-len(points) // MOST_EXAMPLES)
        question = Question(parts=tuple(Part.of("like", point.media_id) for point in points[::step]))
        st.switch_page("views/search.py", query_params=question.to_params())
    with st.container(height=520, border=False, key="selected"):
        st.html(tiles(library.hits([point.media_id for point in points[:MOST_TILES]])))


def show(library: Library, choice: str) -> None:
    """Show the map of one of ``CHOICES``, and the files that are selected on it."""
    key = (library.uri, library.revision, CHOICES[choice])
    embedding_map = map_of(library, *key)
    if not embedding_map.points:
        st.html(empty_state("Nothing to draw yet", "Add a folder on the page Library."))
        return
    colour = st.segmented_control("Colour by", COLOURS, default="Group", key="colour") or "Group"
    sample = (
        f", a fair sample of {embedding_map.n_files:,}" if embedding_map.n_files > len(embedding_map.points) else ""
    )
    caution = ", which is little: neighbours may be unlike each other" if embedding_map.explained < LITTLE else ""
    st.html(
        f'<span class="al-quiet">{counted(len(embedding_map.points), "file", "files")}{sample}. Near points are alike; '
        f"this view shows {embedding_map.explained:.0%} of how they differ{caution}.</span>"
    )
    left, right = st.columns([3, 2], gap="medium")
    with left:
        event = st.vega_lite_chart(
            table_of(embedding_map, *key),
            chart_of(len(embedding_map.points), colour),
            width="stretch",
            on_select="rerun",
            key=f"map-{choice}",
            alt=f"{counted(len(embedding_map.points), 'file', 'files')} as points; near ones are alike",
        )
    with right:
        show_selected(library, selected(embedding_map.points, event["selection"]))


library = library_or_stop()
st.html(heading("Map", "near points are alike"))
choices = [name for name, modality in CHOICES.items() if modality is not None or library.has_one_space]
chosen = st.segmented_control("Show", choices, default=choices[0], key="map_modality") or choices[0]
with errors_shown():
    show(library, chosen)
