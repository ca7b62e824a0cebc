"""The table of modalities is complete, and what is derived from it unambiguous."""

from __future__ import annotations

import hashlib
import json
from typing import get_args

from arrowlens.modalities import (
    FIRST_RECIPE,
    FORMAT_MODALITY,
    MEDIA_SUFFIXES,
    MODALITIES,
    ROLE_OF,
    TEXT_ROLE,
    Modality,
    Recipe,
    Windows,
)
from arrowlens.store.schema import ROLES


def test_each_modality_has_an_entry_and_a_role_of_the_store():
    assert set(MODALITIES) == set(get_args(Modality)) == set(ROLE_OF)
    assert {TEXT_ROLE, *ROLE_OF.values()} <= set(ROLES)


def test_formats_and_suffixes_belong_to_one_modality():
    suffixes = [one for info in MODALITIES.values() for several in info.suffixes.values() for one in several]
    assert len(suffixes) == len(set(suffixes)) == len(MEDIA_SUFFIXES)
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes)
    assert len(FORMAT_MODALITY) == sum(len(info.suffixes) for info in MODALITIES.values())


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
