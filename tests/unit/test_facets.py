"""Counts of a library's files, and lists of them without a question."""

from __future__ import annotations

import datetime as dt

import pytest

from arrowlens import Library
from arrowlens.encoders import MultimodalEmbeddingProvider
from arrowlens.errors import InputError
from arrowlens.search import Condition
from arrowlens.store import MediaText, MultimodalStorage, Reading, media_id_of

FILES = [
    ("2024/may/a.jpg", "image", "jpeg", 50_000, None, dt.datetime(2024, 5, 1, 12)),
    ("2024/may/b.jpg", "image", "jpeg", 2_000_000, None, dt.datetime(2024, 5, 2)),
    ("2024/c.png", "image", "png", 102_400, None, dt.datetime(2023, 1, 1)),
    ("top.png", "image", "png", 10, None, None),
    ("20240.wav", "audio", "wav", 300_000, 9.99, dt.datetime(2025, 1, 1)),
    ("2024/long.wav", "audio", "wav", 600_000_000, 3600.0, dt.datetime(2022, 1, 1)),
]


@pytest.fixture
def contents(tmp_path):
    with MultimodalStorage(tmp_path / "a.lens") as storage:
        root = storage.add_root("/media")
        rows = [
            {"path": path, "modality": kind, "format": name, "size": size, "duration": seconds, "taken": taken}
            for path, kind, name, size, seconds, taken in FILES
        ]
        rows.append({"path": "broken.jpg", "modality": "image", "format": "jpeg", "size": 1, "reason": "no"})
        for row in rows:
            raw = row["path"].encode()
            row |= {"media_id": media_id_of(root.root_id, raw), "root_id": root.root_id, "path_bytes": raw}
            row |= {"content_hash": raw.hex()[:32], "state": "skipped" if "reason" in row else "indexed"}
        rows[0] |= {"camera": "Canon", "latitude": 48.5, "longitude": 9.0}
        rows[2] |= {"camera": "Canon"}
        rows[4] |= {"artist": "Bach", "album": "Arias"}
        rows.append({**rows[0], "media_id": media_id_of(root.root_id, b"copy.jpg"), "path": "copy.jpg"})
        rows[-1]["path_bytes"] = b"copy.jpg"
        storage.upsert_media(rows)
        heard = rows[5]["content_hash"]
        texts = [MediaText("speech", "guten Tag", 0.0, 1.0, "de"), MediaText("speech", "ja", 1.0, 2.0, "de")]
        storage.replace_texts("speech", "test", [Reading(heard, texts)])
        yield Library(storage, MultimodalEmbeddingProvider())


def test_files_are_counted_by_everything_they_can_be_filtered_by(contents):
    facets = contents.facets()
    assert facets.n_files == 7
    assert facets.modalities == {"image": 5, "audio": 2}
    assert list(facets.formats.items()) == [("jpeg", 3), ("png", 2), ("wav", 2)]
    assert facets.folders == {"2024": 4, "2024/may": 2}
    assert facets.sizes == (3, 2, 1, 0, 1)
    assert facets.durations == (1, 0, 0, 0, 1)
    assert (facets.earliest, facets.latest) == (dt.date(2022, 1, 1), dt.date(2025, 1, 1))
    assert (facets.cameras, facets.n_placed) == ({"Canon": 3}, 2)
    assert (facets.artists, facets.albums) == ({"Bach": 1}, {"Arias": 1})
    assert (facets.sources, facets.languages) == ({"speech": 1}, {"de": 1})


def test_only_files_that_satisfy_conditions_are_counted(contents):
    facets = contents.facets(["modality = image", "size >= 100KB"])
    assert facets.modalities == {"image": 2}
    assert facets.folders == {"2024": 2, "2024/may": 1}


CHOSEN = {
    "modality": ["modality = image"],
    "format": ["format in (jpeg, wav)"],
    "folder": ["path >= '2024/'", "path < '20240'"],
    "size": ["size >= 60000"],
    "taken": ["taken >= 2024"],
    "camera": ["camera = Canon"],
    "place": ["latitude >= -90"],
    "language": ["language != de"],
}
COUNTED = {
    "modality": ("modalities",),
    "format": ("formats",),
    "folder": ("folders", "roots"),
    "size": ("sizes",),
    "duration": ("durations",),
    "taken": ("earliest", "latest"),
    "camera": ("cameras",),
    "artist": ("artists",),
    "place": ("n_placed",),
    "source": ("sources",),
    "language": ("languages",),
}


@pytest.mark.parametrize("left_out", [None, *CHOSEN])
def test_each_filter_counts_what_the_others_leave(contents, left_out):
    chosen = {by: each for by, each in CHOSEN.items() if by != left_out}
    found = contents.facets("size < 1G", chosen)
    for by, names in COUNTED.items():
        others = contents.facets(["size < 1G", *(each for name in chosen if name != by for each in chosen[name])])
        assert [getattr(found, name) for name in names] == [getattr(others, name) for name in names]


def test_what_another_choice_would_leave_is_counted(contents):
    facets = contents.facets(chosen={"format": "format = png", "modality": []})
    assert facets.formats == {"jpeg": 3, "png": 2, "wav": 2}
    assert facets.modalities == {"image": 2}


def test_the_old_words_for_modality_still_count(contents):
    with pytest.warns(DeprecationWarning, match="kind"):
        facets = contents.facets(chosen={"kind": "kind = image"})
    assert facets.modalities == {"image": 5, "audio": 2}
    assert facets.n_files == 7
    assert sum(facets.sizes) == 5
    with pytest.warns(DeprecationWarning, match="Facets.kinds is deprecated; use modalities"):
        assert facets.kinds == facets.modalities


def test_nothing_is_chosen_by_what_cannot_be(contents):
    with pytest.raises(InputError, match="'width' is not a filter; use one of modality"):
        contents.facets(chosen={"width": "width > 1"})


def test_an_empty_library_counts_nothing(tmp_path):
    with MultimodalStorage(tmp_path / "a.lens") as storage:
        facets = Library(storage, MultimodalEmbeddingProvider()).facets()
        assert (facets.n_files, facets.sizes, facets.earliest) == (0, (0,) * 5, None)
        assert len(Library(storage, MultimodalEmbeddingProvider()).newest()) == 0


def names(results):
    return [hit.path.name for hit in results]


def test_the_newest_come_first_and_equal_content_once(contents):
    assert [name.replace("copy", "a") for name in names(contents.newest())] == [
        "20240.wav",
        "b.jpg",
        "a.jpg",
        "c.png",
        "long.wav",
        "top.png",
    ]
    assert names(contents.newest(k=2, offset=3, modality="image")) == ["top.png"]
    below = [Condition("path", ">=", "2024/"), Condition("path", "<", "20240")]
    assert names(contents.newest(where=below)) == ["b.jpg", "a.jpg", "c.png", "long.wav"]


def test_files_are_found_by_the_folder_that_was_ingested(contents):
    assert len(contents.newest(where="root = /media")) == 6
    assert len(contents.newest(where="root = /other")) == 0


def test_a_content_lies_in_all_its_places(contents):
    hit = next(hit for hit in contents.newest() if hit.format == "jpeg" and hit.size == 50_000)
    assert [path.as_posix() for path in contents.paths(hit)] == ["/media/2024/may/a.jpg", "/media/copy.jpg"]
    assert [found.path.name for found in contents.find_by_hash(hit.content_hash)] == ["a.jpg", "copy.jpg"]
    assert contents.hits(["0" * 32, hit.media_id])[0].path == hit.path
    assert len(contents.hits(["0" * 32])) == 0


def test_renamed_methods_keep_their_old_names_for_a_release(contents):
    hit = contents.newest(1)[0]
    for old, new in (("places", hit), ("holding", hit.content_hash)):
        with pytest.warns(DeprecationWarning, match=f"Library.{old} is deprecated"):
            old_result = getattr(contents, old)(new)
        assert old_result == getattr(contents, {"places": "paths", "holding": "find_by_hash"}[old])(new)
    with pytest.warns(DeprecationWarning, match="use revision"):
        assert contents.version == contents.revision


def test_files_are_found_by_the_language_of_their_texts(contents):
    assert names(contents.newest(where="language = DE")) == ["long.wav"]
    assert len(contents.newest(where="language != de")) == 5
    assert len(contents.newest(where="language in (en, fr)")) == 0
    with pytest.raises(InputError, match="language takes a language as ISO 639"):
        contents.newest(where="language = german")
