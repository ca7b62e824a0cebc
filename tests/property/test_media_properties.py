"""Decoding under any damage, and windows over any length."""

from __future__ import annotations

import pickle
from itertools import pairwise

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arrowlens.media import Decoded, Limits, decode, windows
from tests.support.film_factory import FILM_FORMATS, film_bytes
from tests.support.media_factory import IMAGE_FORMATS, SOUND_FORMATS, image_bytes, sound_bytes

LIMITS = Limits(max_pixels=2_000_000, max_seconds=60)
EXAMPLES = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
WHOLE = {name: image_bytes(name, 1) for name in IMAGE_FORMATS} | {name: sound_bytes(name, 1) for name in SOUND_FORMATS}
WHOLE |= {name: film_bytes(name, 1) for name in FILM_FORMATS}
ENDLESS = ("ogg", "opus", "aac")  # do not state how long they are
# Heads decide most of what a decoder allocates, so half of all damage lies there.
PLACES = st.one_of(st.integers(0, 120), st.integers(0, 1 << 20))
CHANGES = st.lists(st.tuples(PLACES, st.integers(0, 255)), min_size=1, max_size=12)


def assert_contents_or_reason(decoded: Decoded) -> None:
    is_readable = decoded.pixels is not None or decoded.samples is not None or bool(decoded.frames)
    assert (decoded.reason is None) == is_readable
    if decoded.frames:
        assert decoded.modality == "video"
        assert len(decoded.frames) == len(decoded.shots) <= LIMITS.max_shots
        assert all(frame.dtype == np.uint8 and frame.shape[2] == 3 for frame in decoded.frames)
        assert all(0 <= shot.start_s <= shot.end_s for shot in decoded.shots)
        assert decoded.thumbnail is not None
    elif decoded.pixels is not None:
        assert decoded.modality == "image"
        assert decoded.pixels.dtype == np.uint8
        assert decoded.pixels.shape == (decoded.height, decoded.width, 3)
        assert decoded.pixels.size <= LIMITS.max_pixels * 3
        assert decoded.thumbnail is not None
    elif decoded.samples is not None:
        assert decoded.modality == "audio"
        assert decoded.samples.dtype == np.float32
        assert 0 < len(decoded.samples) <= LIMITS.max_seconds * 16_000
        assert np.isfinite(decoded.samples).all()
    else:
        assert decoded.reason
        assert decoded.reason.isprintable()
    copy = pickle.loads(pickle.dumps(decoded))
    assert (copy.reason, copy.content_hash, copy.format) == (decoded.reason, decoded.content_hash, decoded.format)


@EXAMPLES
@given(st.sampled_from(sorted(WHOLE)), CHANGES)
def test_changed_bytes_give_contents_or_a_reason(file_format: str, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(WHOLE[file_format])
    for place, value in changes:
        damaged[place % len(damaged)] = value
    assert_contents_or_reason(decode("x", LIMITS, data=bytes(damaged)))


@EXAMPLES
@given(st.sampled_from(sorted(WHOLE)), st.floats(0, 1, exclude_max=True))
def test_truncated_files_give_contents_or_a_reason(file_format: str, share: float) -> None:
    data = WHOLE[file_format]
    decoded = decode("x", LIMITS, data=data[: int(share * len(data))])
    assert_contents_or_reason(decoded)
    if share < 0.9 and file_format not in ENDLESS:
        assert decoded.reason is not None


@EXAMPLES
@given(st.sampled_from(sorted(WHOLE)), st.integers(0, 1 << 20), st.integers(0, 400), st.binary(max_size=400))
def test_parts_cut_out_and_put_in_give_contents_or_a_reason(
    file_format: str, place: int, n_out: int, put_in: bytes
) -> None:
    data = WHOLE[file_format]
    place %= len(data)
    assert_contents_or_reason(decode("x", LIMITS, data=data[:place] + put_in + data[place + n_out :]))


@EXAMPLES
@given(st.sampled_from(sorted(WHOLE)), st.binary(max_size=2000))
def test_any_bytes_behind_a_known_head_give_contents_or_a_reason(file_format: str, tail: bytes) -> None:
    assert_contents_or_reason(decode("x", LIMITS, data=WHOLE[file_format][:12] + tail))


@EXAMPLES
@given(st.binary(max_size=300), st.text(max_size=20))
def test_any_bytes_under_any_name_give_contents_or_a_reason(data: bytes, name: str) -> None:
    assert_contents_or_reason(decode(name, LIMITS, data=data))


@EXAMPLES
@given(st.binary(min_size=1, max_size=60))
def test_any_path_gives_a_reason(name: bytes) -> None:
    decoded = decode(b"/no such folder/" + name)
    assert decoded.reason is not None
    assert decoded.reason.isprintable()


@EXAMPLES
@given(
    st.integers(1, 3_000_000),
    st.sampled_from([8_000, 16_000, 44_100]),
    st.sampled_from([(10.0, 5.0), (10.0, 10.0), (3.0, 1.0), (30.0, 7.5), (0.5, 0.1)]),
)
def test_windows_cover_every_sample_at_multiples_of_the_hop(
    n_samples: int, rate: int, shape: tuple[float, float]
) -> None:
    window_s, hop_s = shape
    found = windows(n_samples, rate, window_s, hop_s)
    assert found == windows(n_samples, rate, window_s, hop_s)
    hop, window = round(hop_s * rate), round(window_s * rate)
    slices = [part.slice(rate) for part in found]
    assert [part.start for part in slices] == [number * hop for number in range(len(slices))]
    assert slices[-1].stop == n_samples
    assert all(part.stop - part.start == window for part in slices[:-1])
    for before, after in pairwise(slices):
        assert after.start <= before.stop  # no gap
        assert after.stop - before.stop >= hop // 5  # and no repetition
    assert slices[-1].stop - slices[-1].start < window + hop / 5 + 1


@EXAMPLES
@given(st.integers(1, 3_000_000), st.integers(1, 3_000_000))
def test_a_longer_recording_has_the_same_first_windows(n_samples: int, more: int) -> None:
    short, long = windows(n_samples), windows(n_samples + more)
    assert [part.start_s for part in short] == [part.start_s for part in long[: len(short)]]
    assert short[:-1] == long[: len(short) - 1]
