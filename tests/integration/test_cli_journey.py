"""The installed command over a folder of good, broken and odd files: real files, real models, a real store."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import arrowlens
from arrowlens import Hit
from arrowlens.cli import main
from arrowlens.store import MediaRecord

COMMAND = Path(sys.executable).with_name("arrowlens")
SAMPLES = Path(arrowlens.__file__).parent / "demo" / "samples"
MODELS = "demo"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("ARROWLENS_")}


def run(
    *arguments: str | bytes | Path, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        cwd=cwd,
        env=ENVIRONMENT | environment,
        timeout=240,
    )


def succeed(*arguments: str | bytes | Path, cwd: Path | None = None, **environment: str) -> dict:
    """Run a command with --json: exit 0, and exactly one JSON object on stdout."""
    done = run(*arguments, "--json", cwd=cwd, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


def failure(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The line of a command that must fail: exit 1, nothing on stdout, one line on stderr. In-process: faster."""
    assert main([str(argument) for argument in arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("arrowlens: ")
    return captured.err


ODD_NAMES = {
    "quotes": b'it\'s "quoted"; DROP TABLE media;--.jpg',
    "newline": b"two\nlines \x1b[31m.jpg",
    "emoji": "chien 🐶 犬.jpg".encode(),
    "latin": b"caf\xe9.jpg",
}


def write_good(folder: Path) -> list[bytes]:
    """Media that can be read; returns their absolute paths."""
    pictures = sorted((SAMPLES / "pictures").rglob("*.jpg"))
    sounds = sorted((SAMPLES / "sounds").rglob("*.*"))[:3]
    names = [os.fsencode(folder) + b"/" + name for name in ODD_NAMES.values()]
    for name, picture in zip(names, pictures, strict=False):
        shutil.copyfile(picture, name)
    deep = folder / "deep" / "er"
    deep.mkdir(parents=True)
    kept = [shutil.copy(sound, deep) for sound in sounds]
    kept.append(shutil.copy(pictures[10], deep / "copy one.jpg"))
    kept.append(shutil.copy(pictures[10], deep / "copy two.jpg"))
    with Image.open(pictures[11]) as image:
        image.save(folder / "really a png.jpg", "PNG")
    kept.append(folder / "really a png.jpg")
    return [*names, *(os.fsencode(path) for path in kept)]


def write_broken(folder: Path) -> dict[str, str]:
    """Media that cannot be read -> a word of the reason."""
    picture = sorted((SAMPLES / "pictures").rglob("*.jpg"))[12].read_bytes()
    (folder / "empty.jpg").touch()
    (folder / "truncated.jpg").write_bytes(picture[: len(picture) // 2])
    (folder / "text.png").write_text("I am not a picture")
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (folder / "huge.png").write_bytes(png + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))
    samples = np.zeros(16_000, np.float32)
    samples[100] = np.nan
    soundfile.write(folder / "nan.wav", samples, 16_000, subtype="FLOAT")
    (folder / "noise.mp3").write_bytes(bytes(range(256)) * 40)
    return {
        "empty.jpg": "empty",
        "truncated.jpg": "truncated",
        "text.png": "text",
        "huge.png": "50000",
        "nan.wav": "NaN",
        "noise.mp3": "not a picture, recording or film",
    }


@pytest.fixture(scope="module")
def journey(tmp_path_factory):
    """A hostile folder, ingested once."""
    base = tmp_path_factory.mktemp("journey")
    folder = base / "media"
    folder.mkdir()
    good, broken = write_good(folder), write_broken(folder)
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "notes.txt").write_text("not media")
    report = succeed("ingest", folder, "--library", base / "a.lens", "--models", MODELS)
    return base, good, broken, report


def test_a_hostile_folder_is_ingested_and_a_second_run_indexes_nothing(journey):
    base, good, broken, report = journey
    counts = {name: report[name] for name in ("indexed", "unchanged", "skipped", "removed", "interrupted")}
    expected = {"indexed": len(good), "unchanged": 0, "skipped": len(broken), "removed": 0, "interrupted": False}
    assert counts == expected
    again = succeed("ingest", base / "media", "--library", base / "a.lens")
    counts = {name: again[name] for name in counts}
    assert counts == expected | {"indexed": 0, "unchanged": len(good)}


def test_the_broken_ones_are_named_with_their_reasons(journey):
    base, _, broken, _ = journey
    files = succeed("skipped", "--library", base / "a.lens")["files"]
    reasons = {Path(file["path"]).name: file["reason"] for file in files}
    assert set(reasons) == set(broken)
    for name, word in broken.items():
        assert word in reasons[name], reasons[name]
    assert all(set(file) == {"path", "reason"} for file in files)


def test_the_good_ones_are_found_whatever_they_are_called(journey):
    base, good, _, _ = journey
    found = succeed("search", "a red bicycle", "--library", base / "a.lens", "-k", "100")
    assert set(found) >= {"hits", "matches", "took_ms"}
    keys = {field.name for kind in (Hit, MediaRecord) for field in dataclasses.fields(kind)}
    assert all(set(hit) == keys for hit in found["hits"])
    assert all(hit["size"] > 0 and hit["format"] and hit["modified"] for hit in found["hits"])
    paths = {os.fsencode(hit["path"]) for hit in found["hits"]}
    copies = {path for path in good if b"copy " in path}
    assert len(paths & copies) == 1  # equal content once
    assert paths | copies == set(good)
    for kind in ("image", "audio"):
        scores = [hit["score"] for hit in found["hits"] if hit["modality"] == kind]
        assert scores == sorted(scores, reverse=True)
    relevances = [hit["relevance"] for hit in found["hits"]]
    assert relevances == sorted(relevances, reverse=True)
    matches = [hit["matches"] for hit in found["hits"]]
    assert matches == [relevance >= 0.5 for relevance in relevances]
    assert (found["n_matches"], found["has_match"]) == (sum(matches), any(matches))
    assert {hit["modality"] for hit in found["hits"]} == {"image", "audio"}
    assert all((hit["start"] is None) == (hit["modality"] == "image") for hit in found["hits"])


def test_people_see_one_line_a_file(journey):
    base, good, _, _ = journey
    everything = ["-k", "100", "--all"]
    done = run("search", "a", "dog", "--library", base / "a.lens", *everything, cwd=base, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["score", "relevance", "kind", "time", "path"]
    assert len(lines) == len(good)  # a header, and two copies on one line
    assert "\x1b" not in done.stdout
    assert any("media/two\\nlines \\x1b[31m.jpg" in line for line in lines)
    assert any("media/caf\\xe9.jpg" in line for line in lines)


@pytest.mark.parametrize(("name", "modality"), [(ODD_NAMES["latin"], "image"), (b"deep/er", "audio")])
def test_similar_finds_the_file_itself_first_and_its_own_kind(journey, name, modality):
    base, _, _, _ = journey
    path = os.fsencode(base / "media") + b"/" + name
    if modality == "audio":
        path = os.fsencode(next(p for p in sorted((base / "media" / "deep" / "er").iterdir()) if p.suffix != ".jpg"))
    hits = succeed("similar", path, "--library", base / "a.lens", "-k", "3")["hits"]
    assert os.fsencode(hits[0]["path"]) == path
    assert hits[0]["score"] == pytest.approx(1.0, abs=1e-3)
    assert {hit["modality"] for hit in hits} == {modality}


def test_status_counts_what_is_there(journey):
    base, good, broken, _ = journey
    status = succeed("status", "--library", base / "a.lens")
    assert (status["images"] + status["audio"], status["skipped"]) == (len(good), len(broken))
    assert status["audio"] == 3
    assert {len(model["digest"]) for model in status["models"].values()} == {64}
    assert status["n_bytes"] > 10_000
    assert status["indexes"]["vision"]["kind"] is None  # so few are scanned
    assert "pictures" in run("status", "--library", base / "a.lens").stdout


def test_what_cannot_be_done_is_one_line(journey, tmp_path, capsys):
    base, _, _, _ = journey
    library = ["--library", base / "a.lens"]
    assert "no library at" in failure(capsys, "search", "x", "--library", tmp_path / "typo.lens")
    assert f"{tmp_path / 'typo'} is missing; nothing was changed" in failure(
        capsys, "ingest", tmp_path / "typo", "--library", tmp_path / "new.lens", "--models", MODELS
    )
    assert list(tmp_path.iterdir()) == []
    assert "truncated" in failure(capsys, "similar", base / "media" / "truncated.jpg", *library)
    assert "there is no such file" in failure(capsys, "similar", tmp_path / "missing.jpg", *library)
    assert "knows nothing at" in failure(capsys, "remove", tmp_path / "missing.jpg", *library)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"cannot listen on 127.0.0.1:{port}" in failure(capsys, "ui", *library, "--port", port)
    assert "nonsense" in failure(
        capsys, "ingest", base / "media", "--library", tmp_path / "b.lens", "--models", "nonsense"
    )
    assert list(tmp_path.iterdir()) == []


def test_remove_forgets_and_optimize_keeps_working(journey, tmp_path):
    base, good, _, _ = journey
    library = tmp_path / "copy.lens"
    shutil.copytree(base / "a.lens", library)
    assert succeed("remove", base / "media" / "deep", "--library", library)["removed"] == 5
    sizes = succeed("optimize", "--library", library)
    assert set(sizes) == {"bytes_before", "bytes_after", "seconds"}
    status = succeed("status", "--library", library)
    assert status["images"] + status["audio"] == len(good) - 5
    assert (base / "media" / "deep" / "er" / "copy one.jpg").exists()


def test_a_reader_that_has_seen_enough_is_no_error(journey):
    base, _, _, _ = journey
    line = f"'{COMMAND}' search dog --library '{base / 'a.lens'}' | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


def test_version_and_models():
    assert run("--version").stdout == f"arrowlens {arrowlens.__version__}\n"
    available = succeed("models")
    models, runtime = available["models"], available["runtime"]
    assert runtime["precision"] in ("float32", "bfloat16", "float16")
    assert runtime["device"]
    assert runtime["reason"]
    assert {(model["set_name"], model["role"]) for model in models} >= {("base", "vision"), ("base", "audio")}
    assert {model["state"] for model in models} <= {"bundled", "cached", "downloadable"}
