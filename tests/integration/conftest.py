"""What tests of ingest share: an empty library, a folder of files, and small models."""

from __future__ import annotations

import pytest

from arrowlens.store import MultimodalStorage
from tests.support.folders import write_folder
from tests.support.small_models import SmallProvider


@pytest.fixture
def storage(tmp_path):
    return MultimodalStorage(tmp_path / "library")


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "in")


@pytest.fixture
def provider():
    return SmallProvider()
