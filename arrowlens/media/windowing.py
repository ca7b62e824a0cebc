"""How a recording is cut into the windows that are encoded."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from arrowlens.errors import InputError
from arrowlens.modalities import AUDIO_WINDOWS, SAMPLE_RATE

NEW_SHARE = 0.2  # of the hop: less new material than this joins the window before it


SILENCE_DB = 60.0  # below a recording's peak, as librosa.effects.trim has it by default


class Window(NamedTuple):
    """A part of a recording, in seconds from its start."""

    start_s: float
    end_s: float

    def slice(self, rate: int = SAMPLE_RATE) -> slice:
        """The window's samples: ``samples[window.slice()]``."""
        return slice(round(self.start_s * rate), round(self.end_s * rate))


def without_silent_ends(samples: np.ndarray) -> slice:
    """Return the part of a recording from the first to the last sample that is not silent.

    What lies between them stays, however quiet; of a recording that is silent throughout, all of it. To the sample,
    since a short sound has another vector when it begins some milliseconds later.

    Args:
        samples: (n,) float32.
    """
    if not len(samples):
        return slice(0, 0)
    most = max(samples.max(), -samples.min()) * 10 ** (-SILENCE_DB / 20)
    is_heard = samples > most
    is_heard |= samples < -most  # not abs(): a recording of hours is large
    return slice(int(is_heard.argmax()), len(samples) - int(is_heard[::-1].argmax()))


def windows(
    n_samples: int,
    rate: int = SAMPLE_RATE,
    window_s: float = AUDIO_WINDOWS.length_s,
    hop_s: float = AUDIO_WINDOWS.hop_s,
    *,
    is_maximum: bool = False,
) -> list[Window]:
    """Cut a recording into windows; the same length always gives the same windows.

    Window k starts at k hops and lasts ``window_s``. A next one begins only if it brings at least a fifth of a hop of
    new material (1 s of 5), and the last one ends where the recording ends: it may be shorter than ``window_s`` (never
    shorter than the overlap and the fifth), or up to a fifth of a hop longer, so that the tail is covered without a
    window that repeats its neighbour but for a few milliseconds. A recording no longer than that is a single window.

    For models that take no more than ``window_s``, a last window that would be longer begins later instead, by as much;
    a recording of a single window that would be longer is two windows. Where that would leave audio between the last
    two windows, the regular last one stays, and one that ends where the recording ends is added.

    Args:
        n_samples: length of the recording; 0 gives no windows.
        rate: samples per second.
        window_s: length of a window in seconds.
        hop_s: distance of the windows' starts in seconds, at most ``window_s``.
        is_maximum: whether no window may be longer than ``window_s``.

    Raises:
        InputError: a negative length, a rate or a hop that is not positive, or a hop longer than the window.
    """
    window, hop = round(window_s * rate), round(hop_s * rate)
    if n_samples < 0 or rate <= 0 or not 0 < hop <= window:
        raise InputError(
            f"no windows of {window_s} s every {hop_s} s over {n_samples} samples at {rate} Hz; "
            "the hop must be positive and at most the window"
        )
    if n_samples == 0:
        return []
    least_new = max(1, round(hop * NEW_SHARE))
    beyond = n_samples - window - least_new  # new material past the first window, beyond the least
    last = beyond // hop + 1 if beyond >= 0 else 0
    starts = list(range(0, last * hop + 1, hop))
    if is_maximum and n_samples - starts[-1] > window:
        last_start = n_samples - window
        # Without its regular start the last window would begin after the end of the one before it.
        leaves_gap = len(starts) == 1 or last_start > starts[-2] + window
        starts = [*(starts if leaves_gap else starts[:-1]), last_start]
    ends = [start + window for start in starts]
    ends[-1] = n_samples
    return [Window(start / rate, end / rate) for start, end in zip(starts, ends, strict=True)]
