"""Films: shots begin at cuts whatever the container and the codec, pictures are upright, what is no film is none."""

from __future__ import annotations

import dataclasses
import io

import av
import numpy as np
import pytest
from PIL import Image

from arrowlens.media import Limits, decode
from arrowlens.media.films import STRIP_HEIGHT
from arrowlens.media.hdr import to_sdr
from tests.support.film_factory import Scene, film_bytes, scene_film
from tests.support.signals import pixels, samples

LENGTHS = (2.0, 3.4, 1.4, 12.0)
CUTS = (0.0, 2.0, 5.4, 6.8)
SCENES = [Scene(pixels(seed), seconds) for seed, seconds in enumerate(LENGTHS)]
QUICK = {"preset": "ultrafast"}


def noisy(scenes):
    noise = samples(7, 1.0, 48_000)[:, 0]
    return [dataclasses.replace(scene, sound=noise) for scene in scenes]


def film(data: bytes, **options):
    decoded = decode("x", data=data, **options)
    assert (decoded.reason, decoded.modality) == (None, "video")
    assert len(decoded.frames) == len(decoded.shots)
    return decoded


def starts(decoded):
    return [shot.start_s for shot in decoded.shots]


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("mp4", {"options": QUICK}),
        ("mp4", {"options": {"preset": "ultrafast", "g": "250", "sc_threshold": "0"}}),  # key frames every 10 s
        ("mp4", {"options": QUICK, "every": (1, 3, 2)}),  # a variable frame rate
        ("mp4", {"options": QUICK, "has_sound": False}),
        ("mp4", {"options": QUICK, "container": "mov", "rotation": 90}),
        ("mp4", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "container": "mov"}),  # each frame is a key frame
        ("mp4", {"codec": "mpeg4", "container": "3gp"}),
        ("mkv", {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": {"x265-params": "log-level=none"}}),
        ("webm", {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}}),
        ("avi", {"codec": "mpeg4"}),
        ("mpegts", {"codec": "mpeg2video"}),
    ],
)
def test_shots_begin_at_cuts(file_format: str, options: dict) -> None:
    containers = {"mkv": "matroska"}
    settings = {"container": containers.get(file_format, file_format), "size": (160, 120), **options}
    decoded = film(scene_film(noisy(SCENES), **settings), min_side=32)
    assert decoded.format == file_format
    assert decoded.duration == pytest.approx(sum(LENGTHS), abs=0.3)
    for cut in CUTS:
        assert min(abs(start - cut) for start in starts(decoded)) < 1.0, starts(decoded)
    assert len(decoded.shots) <= len(LENGTHS) + 3, "one scene is longer than a shot may be"
    assert all(shot.end_s - shot.start_s <= 10.0 + 1e-6 for shot in decoded.shots)
    assert all(shot.start_s <= shot.at_s <= shot.end_s for shot in decoded.shots[: len(CUTS) - 1])
    assert (decoded.samples is None) == (options.get("has_sound") is False)
    upright = (120, 160) if options.get("rotation") else (160, 120)
    assert (decoded.frames[0].shape[1] > decoded.frames[0].shape[0]) == (upright[0] > upright[1])
    assert (decoded.width, decoded.height) == upright


def test_each_picture_is_of_its_shot() -> None:
    colours = [np.full((64, 96, 3), colour, np.uint8) for colour in ([200, 30, 30], [30, 200, 30], [30, 30, 200])]
    for number, colour in enumerate(colours):
        colour[10:20, 10 * number : 10 * number + 20] = 255  # a film is not of one colour alone
    decoded = film(scene_film([Scene(colour, 2.0) for colour in colours], options=QUICK, has_sound=False))
    assert [int(frame[-8:].mean(axis=(0, 1)).argmax()) for frame in decoded.frames] == [0, 1, 2]
    with Image.open(io.BytesIO(decoded.thumbnail)) as thumbnail, Image.open(io.BytesIO(decoded.strip)) as strip:
        assert max(thumbnail.size) == 320
        assert strip.height == STRIP_HEIGHT
        lower = np.asarray(strip)[-20:]
        assert [int(part.mean(axis=(0, 1)).argmax()) for part in np.array_split(lower, 3, axis=1)] == [0, 1, 2]


def test_a_picture_is_turned_as_the_film_says() -> None:
    picture = np.zeros((96, 128, 3), np.uint8)
    picture[:, :64, 0] = 220  # red on the left
    for rotation, side in ((0, np.s_[:, :8]), (90, np.s_[-8:]), (180, np.s_[:, -8:]), (-90, np.s_[:8])):
        data = scene_film([Scene(picture, 1.0)], options=QUICK, has_sound=False, size=(128, 96), rotation=rotation)
        (frame,) = film(data).frames
        assert frame[side][..., 0].mean() > 150, rotation


def test_no_more_shots_than_allowed_evenly_thinned() -> None:
    data = scene_film([Scene(pixels(seed), 2.0) for seed in range(12)], options=QUICK, has_sound=False, size=(96, 64))
    every = starts(film(data))
    few = starts(film(data, limits=Limits(max_shots=4)))
    assert len(every) == 12
    assert len(few) == 4
    assert (few[0], few[-1]) == (every[0], every[-1])
    assert set(few) <= set(every)


def test_of_larger_pictures_fewer_are_taken() -> None:
    """Those of films that are much wider than others would not have room in a worker's memory."""
    scenes = [Scene(pixels(seed), 1.0) for seed in range(9)]
    data = scene_film(scenes, size=(5120, 720), rate=4, options=QUICK, has_sound=False)
    decoded = film(data, min_side=720, limits=dataclasses.replace(Limits(), max_shots=8))
    assert [frame.shape for frame in decoded.frames] == [(720, 5120, 3)] * 2, "as many pixels as 8 of 1280 x 720"
    assert starts(decoded) == [0.0, 8.0]
    small = film(data, min_side=180, limits=dataclasses.replace(Limits(), max_shots=8))
    assert len(small.frames) == 8


def test_a_film_with_one_key_frame_is_seen_to_its_end() -> None:
    """What changes too slowly to be a cut has another picture every ten seconds all the same."""
    picture = np.zeros((96, 128, 3), np.uint8)
    picture[:, :24] = (250, 200, 40)  # wanders to the right
    settings = {"preset": "ultrafast", "g": "2000", "keyint_min": "2000", "sc_threshold": "0"}
    data = scene_film([Scene(picture, 28.0)], options=settings, has_sound=False, size=(128, 96))
    decoded = film(data)
    assert len(decoded.shots) == 3
    brightest = [int(frame.mean(axis=(0, 2)).argmax()) for frame in decoded.frames]
    assert brightest == sorted(set(brightest)), "each part has a picture of its own"


def test_black_between_scenes_is_left_out_but_a_black_film_is_a_film() -> None:
    black = np.zeros((64, 96, 3), np.uint8)
    scenes = [Scene(black, 2.0), Scene(pixels(1), 2.0)]
    decoded = film(scene_film(scenes, options=QUICK, has_sound=False))
    assert [round(shot.start_s) for shot in decoded.shots] == [2]
    assert not decoded.trivial
    dark = film(scene_film(scenes[:1], options=QUICK))
    assert (len(dark.shots), dark.trivial, dark.sample_rate) == (1, True, 48_000)


def test_a_container_without_moving_pictures_is_a_recording() -> None:
    buffer = io.BytesIO()
    with av.open(io.BytesIO(film_bytes("m4a", 3))) as source, av.open(buffer, "w", format="mp4") as output:
        sound = output.add_stream_from_template(source.streams.audio[0])
        cover = output.add_stream("png", rate=1, width=64, height=64)
        cover.pix_fmt, cover.disposition = "rgb24", av.stream.Disposition.attached_pic
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = sound
                output.mux(packet)
        picture = av.VideoFrame.from_ndarray(pixels(1, 64, 64), format="rgb24")
        for packet in (*cover.encode(picture), *cover.encode(None)):
            output.mux(packet)
    decoded = decode("x.mp4", data=buffer.getvalue())
    assert (decoded.reason, decoded.modality, decoded.format, decoded.shots) == (None, "audio", "mp4", ())
    assert decoded.samples is not None


def test_limits_of_a_film() -> None:
    data = scene_film(SCENES[:2], options=QUICK)
    large = decode("x", Limits(max_pixels=3 * 320 * 240 - 1), data=data)
    assert (large.reason, large.too_large) == ("frames of 76,800 pixels are over the limit of 76,799 for films", True)
    long = decode("x", Limits(max_seconds=3.0), data=data)
    assert (long.reason, long.too_large) == ("5.4 s is over the limit of 3 s", True)
    assert film(data, limits=Limits(max_seconds=3.0), sound=False).samples is None
    small = decode("x.mp4", Limits(max_film_bytes=1000), data=data)
    assert small.reason.endswith("is over the limit of 1,000 bytes")


def test_the_sound_alone_and_the_pictures_alone() -> None:
    """For reading texts in films, and what is said in them."""
    data = scene_film(noisy(SCENES[:2]), options=QUICK)
    heard = decode("x", data=data, frames=False)
    assert (heard.reason, heard.modality, heard.shots, heard.thumbnail) == (None, "video", (), None)
    np.testing.assert_array_equal(heard.samples, film(data).samples)
    seen = film(data, sound=False, min_side=200)
    assert seen.samples is None
    assert {min(frame.shape[:2]) for frame in seen.frames} == {200}


def test_pictures_of_an_unknown_form_are_told() -> None:
    data = scene_film(SCENES[:1], container="matroska", options=QUICK).replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/AVC")
    assert decode("x", data=data).reason.startswith("its pictures are in a form that is not read")


def test_a_damaged_film_is_told_and_a_scratch_is_no_loss() -> None:
    data = scene_film(SCENES, container="avi", codec="mjpeg", pix_fmt="yuvj420p", size=(160, 120))
    whole = film(data)
    damaged = bytearray(data)
    place = data.index(b"00dc", len(data) // 2) + 8
    damaged[place : place + 400] = bytes([0xFF] * 400)
    assert len(film(bytes(damaged)).shots) >= len(whole.shots) - 1
    truncated = decode("x", data=data[: len(data) // 2]).reason
    assert truncated.startswith("truncated")


def test_interlaced_pictures_have_no_combs() -> None:
    data = scene_film(
        [Scene(pixels(3), 1.0)],
        codec="mpeg2video",
        container="mpegts",
        options={"flags": "+ildct+ilme", "top": "1"},
        has_sound=False,
    )
    (frame,) = film(data).frames
    assert frame.shape == (240, 320, 3)


@pytest.mark.parametrize("transfer", [16, 18])
def test_bright_pictures_are_shown_as_on_an_ordinary_screen(transfer: int) -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    shown = to_sdr(grey, transfer)[0, :, 0].astype(int)
    assert (np.diff(shown) >= 0).all()
    assert (shown[0], shown[-1]) == (0, 255)
    white = 148 if transfer == 16 else 191  # 203 of 10,000 nits; 75 % of the signal
    assert 215 <= shown[white] <= 250
