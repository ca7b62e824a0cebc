"""What a search on the command line has to wait for: the models and the database, and nothing that it does not use."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from arrowlens.cli import main
from arrowlens.store import MediaRecord
from tests.support.cold_library import made_library

# Whatever reads media, converts checkpoints or shows pages; pandas, pydantic and tqdm come with lancedb.
NOT_WANTED = {
    "av",
    "huggingface_hub",
    "imagehash",
    "librosa",
    "matplotlib",
    "pillow_heif",
    "rich",
    "safetensors",
    "scipy",
    "shtab",
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


@pytest.mark.parametrize("asked", [["status"], ["skipped"], ["search", "bicycle", "--mode", "keyword"]], ids="-".join)
def test_a_command_that_runs_no_model_imports_no_torch(library, asked):
    command = [sys.executable, "-c", PROGRAM, *asked, "--library", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    modules = set(done.stderr.splitlines()[-1].split())
    assert "lancedb" in modules
    assert sorted({*NOT_WANTED, "torch", "lance_namespace_urllib3_client.api"} & modules) == []


def test_paths_and_lists_are_for_other_programs(library, capfdbinary):
    assert main(["search", "--where", "path like '07/%'", "-k", "3", "-0", "--library", str(library)]) == 0
    captured = capfdbinary.readouterr()
    paths = captured.out.split(b"\0")
    assert len(paths) == 2
    assert paths[0].startswith(b"/pictures/07/")
    assert main(["search", "bicycle", "--all", "--paths", "--mode", "vector", "--library", str(library)]) == 0
    lines = capfdbinary.readouterr().out.splitlines()
    assert (len(lines), len(set(lines))) == (20, 20)
    assert all(line.startswith(b"/pictures/") for line in lines)
    assert main(["search", "--where", "path like '07/%'", "--json", "--library", str(library)]) == 0
    (hit,) = json.loads(capfdbinary.readouterr().out)["hits"]
    assert {field.name for field in dataclasses.fields(MediaRecord)} <= hit.keys()
    assert (hit["path"], hit["path_bytes"], hit["state"]) == (
        os.fsdecode(paths[0]),
        "07/image 000007.jpg",
        "indexed",
    )


def test_a_run_that_has_nothing_to_encode_imports_no_torch(library, tmp_path):
    command = [sys.executable, "-c", PROGRAM, "ingest", str(tmp_path), "--library", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "torch" not in done.stderr.splitlines()[-1].split()


def test_what_was_left_out_of_an_import_is_there_when_it_is_asked_for():
    program = """
from arrowlens.store.importing import import_lancedb
import sys
lancedb = import_lancedb()
import lance_namespace_urllib3_client as client
assert not hasattr(client, "__wrapped__")
assert "lance_namespace_urllib3_client.api" not in sys.modules
print(client.Configuration.__name__, client.api.__name__, hasattr(client, "nothing"), lancedb.connect.__name__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Configuration", "lance_namespace_urllib3_client.api", "False", "connect"]
