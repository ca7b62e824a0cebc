"""The table of modalities is complete, and what is derived from it unambiguous."""

from __future__ import annotations

import hashlib
import json
from typing import get_args

from arrowlens.modalities import (
    FIRST_RECIPE,
    FORMAT_MODALITY,
    MEDIA_ROLES,
    MEDIA_SUFFIXES,
    MODALITIES,
    ROLE_OF,
    ROLES_OF,
    TEXT_ROLE,
    Input,
    Modality,
    Recipe,
    Windows,
    is_source_code,
    roles_of,
)
from arrowlens.store.identifiers import ROLES


def test_each_modality_has_an_entry_and_a_role_of_the_store():
    assert set(MODALITIES) == set(get_args(Modality)) == set(ROLES_OF)
    assert set(ROLE_OF) == set(get_args(Input)) == {one for info in MODALITIES.values() for one in info.inputs}
    assert {TEXT_ROLE, *MEDIA_ROLES} <= set(ROLES)


def test_a_film_has_vectors_of_what_is_seen_and_of_what_is_heard():
    assert roles_of("video", has_sound=True) == ("vision", "audio")
    assert roles_of("video", has_sound=False) == ("vision",)
    assert roles_of("audio", has_sound=False) == ("audio",), "a recording that could not be read is one all the same"
    assert roles_of(None, has_sound=True) == ()


def test_formats_and_suffixes_belong_to_one_modality():
    suffixes = [one for info in MODALITIES.values() for several in info.suffixes.values() for one in several]
    assert len(suffixes) == len(set(suffixes)) == len(MEDIA_SUFFIXES)
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes)
    shared = {name for name in MODALITIES["audio"].suffixes if name in MODALITIES["video"].suffixes}
    assert shared == {"mkv"}, "Matroska holds both; until it is opened it counts as a film"
    assert FORMAT_MODALITY["mkv"] == "video"
    assert len(FORMAT_MODALITY) == sum(len(info.suffixes) for info in MODALITIES.values()) - len(shared)


def test_small_files_of_a_name_that_typescript_has_are_no_films():
    assert is_source_code("a/component.ts", 20_000)
    assert is_source_code(b"a/module.MTS", 20_000)
    assert not is_source_code("a/news.ts", 3_000_000)
    assert not is_source_code("a/clip.m2ts", 20_000)


def test_recipes_of_earlier_versions_keep_the_names_of_their_tables() -> None:
    assert FIRST_RECIPE.digest("a" * 64) == "a" * 64
    values = {
        "model": "a" * 64,
        "windows": {"length_s": 10.0, "hop_s": 5.0},
        "sample_rate": 16_000,
        "layer": 3,
        "skip_silence": True,
    }
    expected = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    assert Recipe(layer=3, skip_silence=True).digest("a" * 64) == expected
    others = (Recipe(sample_rate=48_000), Recipe(Windows(10.0, 5.0, is_maximum=True), 48_000))
    assert len({recipe.digest("a" * 64) for recipe in (*others, FIRST_RECIPE)}) == 3
