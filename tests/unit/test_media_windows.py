"""Windows over recordings."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from arrowlens.errors import InputError
from arrowlens.media.windowing import Window, windows, without_silent_ends


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.5, [(0, 0.5)]),
        (10, [(0, 10)]),
        (10.999, [(0, 10.999)]),  # less than 1 s of new material joins the window before
        (11, [(0, 10), (5, 11)]),
        (15, [(0, 10), (5, 15)]),
        (15.9, [(0, 10), (5, 15.9)]),
        (16, [(0, 10), (5, 15), (10, 16)]),
        (30, [(0, 10), (5, 15), (10, 20), (15, 25), (20, 30)]),
    ],
)
def test_known_lengths(seconds: float, expected: list[tuple[float, float]]) -> None:
    assert windows(round(seconds * 16_000)) == [Window(*pair) for pair in expected]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (9.9, [(0, 9.9)]),
        (10, [(0, 10)]),
        (10.5, [(0, 10), (0.5, 10.5)]),
        (11, [(0, 10), (5, 11)]),
        (15.9, [(0, 10), (5.9, 15.9)]),
        (20.5, [(0, 10), (5, 15), (10.5, 20.5)]),
        (30, [(0, 10), (5, 15), (10, 20), (15, 25), (20, 30)]),
    ],
)
def test_known_lengths_of_windows_that_may_not_be_longer(seconds: float, expected: list[tuple[float, float]]) -> None:
    assert windows(round(seconds * 48_000), 48_000, is_maximum=True) == [Window(*pair) for pair in expected]


@pytest.mark.parametrize("hop_s", [0.1, 5, 7.9, 8, 8.1, 9, 10])
def test_windows_that_may_not_be_longer_leave_nothing_out(hop_s: float) -> None:
    for n_samples in range(1, 4_000, 3):
        cut = windows(n_samples, 100, 10, hop_s, is_maximum=True)
        assert cut[0].start_s == 0
        assert cut[-1].end_s == n_samples / 100
        for one, following in itertools.pairwise(cut):
            assert one.start_s < following.start_s <= one.end_s
        assert max(each.end_s - each.start_s for each in cut) <= 10 + 1e-9


def test_a_regular_last_window_stays_where_a_gap_would_open() -> None:
    cut = windows(21_955, 1_000, 10, 10, is_maximum=True)
    assert cut == [Window(0, 10), Window(10, 20), Window(11.955, 21.955)]


def test_nothing_has_no_windows() -> None:
    assert windows(0) == []


def test_slices_are_samples() -> None:
    assert windows(16_000 * 16)[2].slice() == slice(160_000, 256_000)
    assert windows(8_000 * 16, rate=8_000)[2].slice(8_000) == slice(80_000, 128_000)


@pytest.mark.parametrize(
    "arguments", [{"n_samples": -1}, {"rate": 0}, {"hop_s": 0}, {"hop_s": -1}, {"hop_s": 11}, {"window_s": 0}]
)
def test_impossible_arguments_are_told(arguments: dict[str, float]) -> None:
    with pytest.raises(InputError, match="the hop must be positive and at most the window"):
        windows(**({"n_samples": 1000} | arguments))


@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 0), (0, 1), (31_871, 32_005)])
def test_silence_is_left_out_at_both_ends_and_nowhere_else(before: int, after: int) -> None:
    sound = np.array([-0.5, 0.0, 0.0, 0.3, 1e-6, 0.01], np.float32)
    assert without_silent_ends(np.pad(sound, (before, after))) == slice(before, before + 6)
    noise = np.random.default_rng(0).uniform(-4e-4, 4e-4, before + 6 + after).astype(np.float32)  # 62 dB below the peak
    noise[before : before + 6] = sound
    assert without_silent_ends(noise) == slice(before, before + 6)


def test_of_silence_everything_stays() -> None:
    assert without_silent_ends(np.zeros(8_000, np.float32)) == slice(0, 8_000)
    assert without_silent_ends(np.zeros(0, np.float32)) == slice(0, 0)
