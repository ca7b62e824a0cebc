"""SigLIP 2 and OpenCLIP at full size with random weights, one after the other; each takes minutes and up to 16 GB."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.integration.test_parity_from_files import picture_files
from tests.support.parity import NAMES, agree, converted_pair

pytestmark = pytest.mark.soak


@pytest.mark.parametrize("name", NAMES)
def test_a_full_size_model_agrees_with_the_reference(name: str, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    paths = picture_files(tmp_path / "pictures")
    print(f"{name}: {agree(converted_pair(name, tmp_path), paths)}")
    shutil.rmtree(tmp_path / "checkpoint")
    shutil.rmtree(tmp_path / "model")
