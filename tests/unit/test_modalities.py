"""The table of modalities is complete, and what is derived from it unambiguous."""

from __future__ import annotations

from typing import get_args

from arrowlens.modalities import FORMAT_MODALITY, MEDIA_SUFFIXES, MODALITIES, ROLE_OF, TEXT_ROLE, Modality
from arrowlens.store.schema import ROLES


def test_each_modality_has_an_entry_and_a_role_of_the_store():
    assert set(MODALITIES) == set(get_args(Modality)) == set(ROLE_OF)
    assert {TEXT_ROLE, *ROLE_OF.values()} <= set(ROLES)


def test_formats_and_suffixes_belong_to_one_modality():
    suffixes = [one for info in MODALITIES.values() for several in info.suffixes.values() for one in several]
    assert len(suffixes) == len(set(suffixes)) == len(MEDIA_SUFFIXES)
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes)
    assert len(FORMAT_MODALITY) == sum(len(info.suffixes) for info in MODALITIES.values())
