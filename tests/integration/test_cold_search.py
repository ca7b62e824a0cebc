"""What a search on the command line has to wait for: the models and the database, and nothing that it does not use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.cold_library import made_library

# Whatever reads media, converts checkpoints or shows pages; pandas, pydantic and tqdm come with lancedb.
NOT_WANTED = {
    "av",
    "huggingface_hub",
    "imagehash",
    "librosa",
    "matplotlib",
    "pillow_heif",
    "safetensors",
    "scipy",
    "sklearn",
    "soundfile",
    "soxr",
    "streamlit",
    "sympy",
    "torch._dynamo",
    "torch._inductor",
    "transformers",
    "arrowlens.ingest.pipeline",
    "arrowlens.workers.process",
    "arrowlens.media.decoder",
}
PROGRAM = """
import sys
from arrowlens.cli import main
status = main(sys.argv[1:])
print(*sorted(sys.modules), file=sys.stderr)
raise SystemExit(status)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return made_library(tmp_path_factory.mktemp("cold") / "library", 60)


def test_a_search_imports_nothing_that_it_does_not_use(library):
    command = [sys.executable, "-c", PROGRAM, "search", "a red bicycle", "--library", str(library), "-k", "5", "--all"]
    subprocess.run(command, capture_output=True, check=True)  # the first one may have to prepare something
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 6
    modules = set(done.stderr.splitlines()[-1].split())
    assert {"torch", "lancedb", "arrowlens.search.searcher"} <= modules
    assert sorted(NOT_WANTED & modules) == []
