"""Whatever a file makes its decoder allocate, the run stays within its memory and names the file."""

from __future__ import annotations

import ctypes
import io
import os
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arrowlens import Library
from arrowlens.errors import MediaError
from arrowlens.ingest.prepare import Prepared
from arrowlens.ingest.walk import ScannedFile
from arrowlens.media import Decoded, Limits, decode
from arrowlens.media.decoded import large_bytes
from arrowlens.store import Root
from arrowlens.workers.isolated import Isolated
from arrowlens.workers.pool import Workers
from arrowlens.workers.process import ORDINARY_BYTES
from arrowlens.workers.resources import Spent, private_memory, proportional_memory
from tests.soak.commands import command, counts, start
from tests.soak.processes import PeakMemory, Run
from tests.support.film_factory import film_bytes
from tests.support.folders import write_picture, write_sound

pytestmark = pytest.mark.timeout(600)
MEGABYTE = 1_000_000


def tiny_tiles(side: int, n_bytes: int) -> bytes:
    """A JPEG 2000 codestream that promises a tile for each pixel."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (10, 20, 30)).save(buffer, "JPEG2000", no_jp2=True)
    data = bytearray(buffer.getvalue())
    struct.pack_into(">II", data, data.index(b"\xff\x51") + 22, 1, 1)
    return bytes(data[:n_bytes]).ljust(n_bytes, b"\0")


def fragments(n_fragments: int, n_samples: int) -> bytes:
    """An M4A of fragments, each of which claims samples that take no bytes."""
    run = struct.pack(">I4sII", 16, b"trun", 0, n_samples)
    track = struct.pack(">I4s", 8 + 16 + len(run), b"traf") + struct.pack(">I4sII", 16, b"tfhd", 0x020000, 1) + run
    fragment = struct.pack(">I4s", 8 + 16 + len(track), b"moof") + struct.pack(">I4sII", 16, b"mfhd", 0, 1) + track
    return film_bytes("m4a") + n_fragments * fragment


@pytest.mark.parametrize("side", [60, 255])
def test_a_picture_of_more_tiles_than_bytes_is_refused(side: int) -> None:
    decoded = decode("x.j2k", data=tiny_tiles(side, 275))
    assert decoded.reason is not None
    assert "tiles, which 275 bytes cannot hold" in decoded.reason


def test_the_samples_of_all_fragments_are_summed() -> None:
    data = fragments(1000, 2000)
    assert 2000 < len(data) < 1000 * 2000, "each of them by itself is possible"
    decoded = decode("x.m4a", data=data)
    assert decoded.reason is not None
    assert f"parts, which {len(data):,} bytes cannot hold" in decoded.reason


class HungryStep:
    """Takes memory as its file's name says, as a decoder of an unknown kind of file would."""

    def __call__(self, found: ScannedFile) -> Prepared:
        return self._eat(found, found.relative)

    def alone(self, found: ScannedFile) -> Prepared:
        return self._eat(found, found.relative)

    def content(self, found: ScannedFile) -> str | None:
        return "0" * 32

    def lost(self, found: ScannedFile, reason: str, content: str | None) -> Prepared:
        return Prepared(found, Decoded("image", reason, content))

    def _eat(self, found: ScannedFile, name: bytes) -> Prepared:
        held = []
        if name == b"slowly":
            for _ in range(400):
                held.append(np.ones(10 * MEGABYTE, np.uint8))
                time.sleep(0.002)
        elif name == b"at once":
            held.append(np.ones(6000 * MEGABYTE, np.uint8))
        elif name == b"natively":
            library = ctypes.CDLL(None)
            library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
            for _ in range(100):
                ctypes.memset(library.malloc(40 * MEGABYTE), 1, 40 * MEGABYTE)
        elif name == b"large":
            held.append(np.ones(400 * MEGABYTE, np.uint8))
        return Prepared(found, Decoded("image", None, "0" * 32))


@pytest.mark.parametrize("name", ["slowly", "at once", "natively"])
def test_a_worker_that_takes_too_much_is_ended_and_its_file_named(name: str) -> None:
    found = ScannedFile(b"/x", Root.at("/"), name.encode(), "image", 1, 1)
    workers = Workers(HungryStep(), 60.0, Spent(), large_bytes(Limits()))
    largest, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(0.002):
            largest[0] = max([largest[0], *map(private_memory, workers.pids)])

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        with workers.open() as decoder:
            reason = decoder(found).decoded.reason
            after = decoder(ScannedFile(b"/x", Root.at("/"), b"ordinary", "image", 1, 1))
    finally:
        over.set()
        watcher.join()
    assert reason is not None
    assert reason.startswith("needs more memory than allowed"), reason
    assert after.decoded.reason is None
    assert largest[0] < large_bytes(Limits()) + 300 * MEGABYTE


def test_a_file_that_needs_more_than_its_share_gets_it_alone() -> None:
    found = ScannedFile(b"/x", Root.at("/"), b"large", "image", 1, 1)
    assert 400 * MEGABYTE > ORDINARY_BYTES
    with Workers(HungryStep(), 60.0, Spent(), large_bytes(Limits())).open() as decoder:
        assert decoder(found).decoded.reason is None


def eat(n_bytes: int) -> int:
    return int(np.ones(n_bytes, np.uint8)[-1])


def test_decoding_for_a_request_has_the_same_limits() -> None:
    guard = Isolated(Limits().max_decode_s, large_bytes(Limits()))
    try:
        assert guard(eat, 400 * MEGABYTE) == 1
        with pytest.raises(MediaError, match="needs more memory than allowed"):
            guard(eat, 2000 * MEGABYTE)
        assert guard(eat, 10) == 1
    finally:
        guard.close()


def test_two_workers_stay_within_their_memory_over_large_and_hostile_files(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    ramp = np.arange(10_000, dtype=np.uint16)
    large = ((ramp[:, None] // 40 + ramp[None] // 50) % 256).astype(np.uint8)
    for number in range(2):
        Image.fromarray(large).convert("RGB").save(folder / f"large-{number}.png", compress_level=1)
        Image.fromarray(large[:3000, number : 4000 + number]).save(folder / f"ordinary-{number}.jpg")
        (folder / f"fragments-{number}.m4a").write_bytes(fragments(20_000, 900_000 + number))
        (folder / f"tiles-{number}.j2k").write_bytes(tiny_tiles(255 - number, 275))
        write_sound(folder / f"long-{number}.wav", number, 700.0)
    write_picture(folder / "small.png", 1)
    with start(folder, tmp_path / "a.lens", "--workers", "2") as running:
        memory = PeakMemory(running)
        report = running.report()
    assert counts(report) == (7, 0, 4, 0)
    assert memory.n_samples > 10
    assert memory.peak < 1500 * MEGABYTE
    assert 0.6 * memory.peak < report["peak_memory"] < 1.2 * memory.peak, "the report says the truth"


def test_an_example_is_decoded_in_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_picture(tmp_path / "in" / "a.png", 1)
    with Library.open(tmp_path / "a.lens", models="demo") as library:
        library.ingest(tmp_path / "in")
        before = proportional_memory(os.getpid())
        (tmp_path / "tiles.j2k").write_bytes(tiny_tiles(255, 275))
        with pytest.raises(MediaError, match="tiles"):
            library.similar(tmp_path / "tiles.j2k")
        assert proportional_memory(os.getpid()) < before + 100 * MEGABYTE


def test_doctor_sees_a_file_replaced_by_one_of_the_same_size_and_time(tmp_path: Path, capsys) -> None:
    (tmp_path / "in").mkdir()
    path = write_picture(tmp_path / "in" / "a.png", 1)
    command(capsys, "ingest", tmp_path / "in", "--library", tmp_path / "a.lens", "--models", "demo")
    status = path.stat()
    path.write_bytes(tiny_tiles(255, 275).ljust(status.st_size, b"\0"))
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    with Run("doctor", "--library", tmp_path / "a.lens", "--json") as running:
        memory = PeakMemory(running)
        report = running.report()
    what = {finding["what"]: finding["value"] for finding in report["findings"]}
    assert what["files that changed or are gone from disk since they were stored"] == 1
    assert memory.peak < 1000 * MEGABYTE
