"""Media made to harm cost their reader little time and little memory, and tell the user what is wrong with them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from arrowlens.media import decode
from tests.support import hostile_media
from tests.support.media_factory import image_bytes

MOST_SECONDS = 3.0  # of a processor, for one file
MOST_MEGABYTES = 250  # of memory, for all of them one after another

# In a process of its own, so that its peak of memory is that of decoding alone; what native decoders write to stderr
# is theirs.
_PROGRAM = """
import json, sys, time
from pathlib import Path
from arrowlens.media import decode

def most_megabytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))

decode(sys.argv[2])
before = most_megabytes()
results = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    started = time.process_time()
    decoded = decode(path)
    results[path.name] = decoded.reason, time.process_time() - started, decoded.trivial
print(json.dumps({"results": results, "megabytes": most_megabytes() - before}))
"""


def run(folder: Path, files: dict[str, bytes]) -> tuple[dict[str, tuple[str | None, float, bool]], float]:
    """Decode files in a process of its own: reason, seconds and whether trivial for each, and its growth in MB."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    small = folder.parent / "small.png"
    small.write_bytes(hostile_media.png((64, 64)))
    program = [sys.executable, "-c", _PROGRAM, str(folder), str(small)]
    output = subprocess.run(program, capture_output=True, text=True, check=True, timeout=200).stdout
    found = json.loads(output)
    return found["results"], found["megabytes"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


def test_bombs_are_refused_at_little_cost_and_for_what_they_are(folder: Path) -> None:
    bombs = hostile_media.bombs()
    results, megabytes = run(folder, {name: data for name, (data, _) in bombs.items()})
    assert set(results) == set(bombs)
    for name, (reason, seconds, _) in results.items():
        assert reason is not None, name
        assert bombs[name][1] in reason, name
        assert reason.isprintable(), name
        assert len(reason) < 250, name
        assert seconds < MOST_SECONDS, name
    assert megabytes < MOST_MEGABYTES


def test_what_only_looks_like_a_bomb_is_read_at_little_cost(folder: Path) -> None:
    results, megabytes = run(folder, hostile_media.oddities())
    for name, (reason, seconds, _) in results.items():
        assert reason is None, name
        assert seconds < MOST_SECONDS, name
    trivial = {name for name, (_, _, is_trivial) in results.items() if is_trivial}
    assert {"one.png", "line.png", "silence.wav", "one-sample.wav", "a-million-frames.gif"} <= trivial
    assert megabytes < MOST_MEGABYTES


def test_of_a_million_frames_one_is_decoded() -> None:
    decoded = decode("x", data=hostile_media.gif_of_frames(1_000_000))
    assert decoded.pixels is not None
    assert decoded.pixels.shape == (1, 1, 3)


def test_too_many_texts_cost_only_themselves() -> None:
    data = hostile_media.png_with_texts(70, 1_000_000)
    assert len(data) < 100_000
    decoded = decode("x", data=data)
    assert (decoded.reason, decoded.width) == (None, 64)


def test_passes_over_a_jpeg_are_counted_where_there_can_be_several() -> None:
    """What only looks like the start of one, in the pixels of a JPEG in one pass, is none."""
    scans = hostile_media.jpeg_of_scans(5_000)
    assert "passes over the picture" in str(decode("x", data=scans).reason)
    assert decode("x", data=hostile_media.jpeg_of_scans(10)).reason is None
    baseline = image_bytes("jpeg")
    assert decode("x", data=baseline + b"\xff\xda" * 5_000).reason is None
