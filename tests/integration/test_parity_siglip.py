"""SigLIP 2 and OpenCLIP at their true widths, from a file's bytes to its vector, as transformers would do it.

Two layers and 2,048 tokens; ``make soak`` has all of them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.integration.test_parity_from_files import picture_files
from tests.support.parity import NAMES, agree, converted_pair


@pytest.mark.parametrize("name", NAMES)
def test_pictures_and_texts_agree_with_the_reference(name: str, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    paths = picture_files(tmp_path / "pictures")
    agree(converted_pair(name, tmp_path, n_layers=2, n_tokens=2048), paths)
    shutil.rmtree(tmp_path / "checkpoint")  # several hundred megabytes, which pytest would keep
    shutil.rmtree(tmp_path / "model")
