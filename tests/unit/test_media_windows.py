"""Windows over recordings."""

from __future__ import annotations

import pytest

from arrowlens.errors import InputError
from arrowlens.media import Window, windows


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
