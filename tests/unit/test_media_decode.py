"""The decode step: any path at all gives contents or a reason, in threads and processes, within bounds."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from arrowlens.errors import MediaError
from arrowlens.media import MEDIA_SUFFIXES, Decoded, Limits, decode, modality_of
from arrowlens.media.files import hash_stream, open_regular, read_all, require_unchanged
from tests.support.media_factory import (
    good_files,
    hostile_files,
    image_bytes,
    make_good_folder,
    make_hostile_folder,
    sound_bytes,
)

# As in a user's process: Pillow remarks on damaged metadata by warnings, which tests would turn into errors.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def assert_same(one: Decoded, other: Decoded) -> None:
    for name in Decoded.__dataclass_fields__:
        if name in ("pixels", "samples"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        elif name == "frames":
            assert all(map(np.array_equal, one.frames, other.frames))
        else:
            assert getattr(one, name) == getattr(other, name)


def test_every_good_file_is_read(tmp_path: Path) -> None:
    for path, modality in make_good_folder(tmp_path).items():
        decoded = decode(path)
        assert (decoded.reason, decoded.modality) == (None, modality), path
        silent = modality == "image" or path.name == "silent.mp4"
        assert (decoded.pixels is None, decoded.samples is None) == (modality != "image", silent)
        assert bool(decoded.frames) == (modality == "video")
        data = Path(path).read_bytes()
        assert decoded.content_hash == hashlib.sha256(data).hexdigest()[:32]
        assert decoded.size == len(data)
        assert_same(decode(os.fsencode(path)), decoded)
        assert_same(decode(str(path)), decoded)
        assert_same(decode(path, data=data), decoded)
        assert_same(decode("upload", data=data), decoded)


def test_every_hostile_file_is_refused_with_its_reason(tmp_path: Path) -> None:
    for path, expected in make_hostile_folder(tmp_path).items():
        started = time.monotonic()
        decoded = decode(path)
        assert time.monotonic() - started < 5, path
        assert expected in str(decoded.reason), path
        assert "\n" not in str(decoded.reason)
        assert "Error" not in str(decoded.reason)
        assert decoded.modality == modality_of(path)
        assert (decoded.pixels, decoded.samples, decoded.thumbnail) == (None, None, None)


def test_the_generator_is_deterministic() -> None:
    first = good_files() | {name.encode(): data for name, (data, _) in hostile_files().items()}
    time.sleep(1.1)  # some writers stamp the second
    assert first == good_files() | {name.encode(): data for name, (data, _) in hostile_files().items()}


def test_a_hash_of_a_refused_file_that_was_read(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"text")
    assert decode(tmp_path / "x.jpg").content_hash == hashlib.sha256(b"text").hexdigest()[:32]
    assert decode(tmp_path / "y.jpg").content_hash is None
    (tmp_path / "empty.jpg").write_bytes(b"")
    assert decode(tmp_path / "empty.jpg").content_hash == hashlib.sha256(b"").hexdigest()[:32]


def test_limits_of_bytes_hold_before_reading(tmp_path: Path) -> None:
    path = tmp_path / "large.wav"
    with path.open("wb") as file:
        file.truncate(3 * 1024**3)  # sparse
    decoded = decode(path)
    assert decoded.reason == "3,221,225,472 bytes is over the limit of 2,147,483,648 bytes"
    assert decoded.content_hash is None
    data = image_bytes("png")
    assert decode("x", Limits(max_image_bytes=len(data)), data=data).reason is None
    assert "is over the limit" in str(decode("x", Limits(max_image_bytes=len(data) - 1), data=data).reason)
    assert "is over the limit" in str(decode("x", Limits(max_file_bytes=len(data) - 1), data=data).reason)


def test_bombs_allocate_nothing(tmp_path: Path) -> None:
    """Under a limit of memory that a fraction of any of them would break, each is refused for its size."""
    program = """
import resource, sys
from arrowlens.media import decode
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 200 * 2**20,) * 2)
for path in sys.argv[1:]:
    print(decode(path).reason)
"""
    make_hostile_folder(tmp_path, special=False)
    paths = [*sorted(tmp_path.glob("*bomb*")), tmp_path / "twelve-hours.wav"]
    assert len(paths) == 8
    run = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert len(lines) == len(paths)
    assert all("is over the limit" in line for line in lines[:-1])
    assert "12 hours" in lines[-1]


def test_permission_denied(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("closed")
    (folder / "x.jpg").write_bytes(image_bytes("jpeg"))
    program = """
import os, sys
from arrowlens.media import decode
os.chmod(sys.argv[1], 0)
if os.geteuid() == 0:
    os.chdir(os.path.dirname(sys.argv[1]))  # the folders above are closed to others
    os.chmod(".", 0o755)
    os.setresuid(65534, 65534, 65534)
print(decode("x.jpg").reason)
"""
    path = folder / "x.jpg"
    run = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True, cwd=folder)
    assert run.stdout.strip() == "permission denied: the file cannot be opened"


def test_paths_that_cannot_be() -> None:
    assert str(decode("a\0b.jpg").reason).startswith("not a possible path")
    assert decode("x" * 5000 + ".jpg").reason == "the name is too long for this file system"
    assert decode("/dev/zero").reason == "not a regular file: it is a device"
    assert decode(__file__ + "/x.jpg").reason == "cannot be read: Not a directory"


def test_a_pipe_swapped_in_for_a_file_does_not_hang(tmp_path: Path) -> None:
    """Between looking and opening, another program replaces the file, over and over."""
    path, file, pipe = tmp_path / "x.png", tmp_path / "file", tmp_path / "pipe"
    file.write_bytes(image_bytes("png"))
    os.mkfifo(pipe)
    path.symlink_to(file)
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            for target in (pipe, file):
                (tmp_path / "next").symlink_to(target)
                (tmp_path / "next").replace(path)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        reasons: set[str | None] = set()
        deadline = time.monotonic() + 60
        while len(reasons) < 2 and time.monotonic() < deadline:
            reasons |= {decode(path).reason for _ in range(50)}
    finally:
        done.set()
        swapper.join()
    assert reasons <= {None, "not a regular file: it is a named pipe"}
    assert len(reasons) == 2


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(b"12345678")
    with open_regular(path) as file:
        before = os.fstat(file.fileno())
        require_unchanged(file, before)
        with path.open("ab") as writer:
            writer.write(b"9")
        for read in (lambda: read_all(file, 8), lambda: hash_stream(file, 8), lambda: require_unchanged(file, before)):
            with pytest.raises(MediaError, match="the file changed while it was read"):
                read()


def test_content_decides_and_the_name_only_guesses() -> None:
    assert decode("x.jpg", data=sound_bytes("wav")).modality == "audio"
    assert decode("x.wav", data=b"text").modality == "audio"
    assert decode("x.txt", data=b"text").modality is None
    assert decode("tmp123", data=b"text", name="photo.JPEG").modality == "image"


def test_modality_of_names() -> None:
    assert modality_of("a.JPG") == modality_of(b"caf\xe9.jpg") == modality_of(Path("b/a.tiff")) == "image"
    assert modality_of("a.Opus") == "audio"
    assert modality_of("a.txt") is modality_of("jpg") is modality_of(".jpg") is None
    assert set(MEDIA_SUFFIXES.values()) == {"image", "audio", "video"}


def test_decoding_imports_no_heavy_library(tmp_path: Path) -> None:
    paths = list(make_good_folder(tmp_path))
    program = """
import os, sys
from arrowlens.media import decode
for path in sys.argv[1:]:
    assert decode(path).reason is None
print(sorted({"librosa", "numba", "scipy", "torch", "lancedb", "streamlit", "pyarrow"} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("[]\n", "")


def test_threads_and_processes_give_the_same_and_leave_no_trace(tmp_path: Path) -> None:
    paths = [*make_good_folder(tmp_path / "good"), *make_hostile_folder(tmp_path / "hostile")]
    alone = [decode(path) for path in paths]
    state = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        rounds = list(pool.map(decode, paths * 5))
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)) == state
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        rounds += pool.map(decode, paths, chunksize=8)
    for number, decoded in enumerate(rounds):
        assert_same(decoded, alone[number % len(paths)])


def test_pickles_whole() -> None:
    for name, data in good_files().items():
        decoded = decode(name, data=data)
        assert_same(pickle.loads(pickle.dumps(decoded)), decoded)
    assert pickle.loads(pickle.dumps(Limits(max_pixels=5))) == Limits(max_pixels=5)
