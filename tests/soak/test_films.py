"""Long films: bounded memory, and many times real time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
import pytest

from tests.support.film_scenes import DRAWINGS, Story

pytestmark = pytest.mark.soak

CLIP_S = 20
DECODE = """
import json, sys, time
from pathlib import Path
from arrowlens.media import decode

started, cpu = time.perf_counter(), time.process_time()
decoded = decode(sys.argv[1], min_side=224)
# getrusage would hand on the maximum of the process that started this one, which has encoded the film.
status = Path("/proc/self/status").read_text().splitlines()
facts = {
    "reason": decoded.reason,
    "duration": decoded.duration,
    "n_shots": len(decoded.shots),
    "n_samples": 0 if decoded.samples is None else len(decoded.samples),
    "seconds": time.perf_counter() - started,
    "cpu_seconds": time.process_time() - cpu,
    "megabytes": next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024,
}
print(json.dumps(facts))
"""


def clip(size: tuple[int, int], rate: int) -> bytes:
    """Four scenes of five seconds with sound."""
    names = list(DRAWINGS)[:: len(DRAWINGS) // 4][:4]
    story = Story(tuple(names), (0.0, 5.0, 10.0, 15.0), (5.0,) * 4)
    return story.film(size=size, rate=rate, options={"preset": "ultrafast", "crf": "32"})


def repeat(data: bytes, path: Path, n_times: int) -> None:
    """Write a film of the same packets again and again."""
    source = path.with_suffix(".clip.mp4")
    source.write_bytes(data)
    with av.open(str(path), "w", format="matroska") as output, av.open(str(source)) as first:
        streams = {stream.type: output.add_stream_from_template(stream) for stream in first.streams}
        last = dict.fromkeys(streams, -1)
        for turn in range(n_times):
            with av.open(str(source)) as container:
                for packet in container.demux():
                    kind, shift = packet.stream.type, round(turn * CLIP_S / packet.time_base)
                    if packet.dts is not None and packet.dts + shift > last[kind]:  # the sound is a little longer
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        last[kind] = packet.dts
                        packet.stream = streams[kind]
                        output.mux(packet)


def decoded(path: Path) -> dict:
    run = subprocess.run([sys.executable, "-c", DECODE, str(path)], capture_output=True, text=True, check=True)
    facts = json.loads(run.stdout)
    print({name: round(value, 1) if isinstance(value, float) else value for name, value in facts.items()})
    assert facts["reason"] is None
    return facts


def test_memory_of_two_hours_in_4k(tmp_path):
    path, n_times = tmp_path / "long.mkv", 358
    repeat(clip((3840, 2160), 12), path, n_times)
    facts = decoded(path)
    assert facts["duration"] == pytest.approx(n_times * CLIP_S, abs=10)
    assert facts["n_shots"] == 200
    assert facts["n_samples"] > 0.99 * n_times * CLIP_S * 16_000
    assert facts["megabytes"] < 700


def test_seconds_of_a_film_in_full_hd(tmp_path):
    """At least twenty times real time; the seconds of the processor decide, for the machine may be shared by others."""
    path = tmp_path / "hd.mkv"
    repeat(clip((1920, 1080), 25), path, 30)
    facts = decoded(path)
    assert facts["duration"] / facts["cpu_seconds"] >= 20
