"""Acoustic fingerprints, and what decides over two recordings."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from arrowlens.media.acoustic_fingerprint import EXCERPT, N_CELLS, RATE, Waveform, acoustic_fingerprint
from arrowlens.search.waveform_matching import LEAST_CORRELATION, LEAST_SPECTRUM, Recordings, compare, spectra_of

SAMPLE_RATE = 16_000


def noise(seed, seconds):
    """Noise whose strength changes, float32 at 16 kHz."""
    rng = np.random.default_rng(seed)
    n = round(seconds * SAMPLE_RATE)
    strength = np.interp(
        np.arange(n), np.linspace(0, n, max(2, round(8 * seconds))), rng.uniform(0.3, 1, max(2, round(8 * seconds)))
    )
    return (0.1 * strength * rng.standard_normal(n)).astype(np.float32)


def tone(frequency, seconds):
    return (0.3 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)).astype(
        np.float32
    )


def silence(seconds):
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def waveform(samples):
    unpacked = Waveform.unpack(acoustic_fingerprint(samples).waveform)
    assert unpacked is not None
    return unpacked


def likeness(first, second):
    """Of two recordings; the same whichever comes first."""
    one, other = compare(waveform(first), waveform(second)), compare(waveform(second), waveform(first))
    assert one[0] == other[0]
    assert one[1] == pytest.approx(other[1], abs=0.02)
    return one[0]


def shifted(samples, fraction):
    """Later by a part of a sample, as a codec's filters do it."""
    at_once = soxr.resample(samples, SAMPLE_RATE, 4 * SAMPLE_RATE)
    return soxr.resample(at_once[round(4 * fraction) :], 4 * SAMPLE_RATE, SAMPLE_RATE).astype(np.float32)


# -- fingerprints -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.001, 0.02, 0.5001, 3, 9.99, 10, 10.01, 25])
def test_a_fingerprint_has_at_most_41_kilobytes_and_unpacks_to_what_was_packed(seconds):
    fingerprint = acoustic_fingerprint(noise(1, seconds))
    assert len(fingerprint.spectrum) == N_CELLS
    assert len(fingerprint.waveform) <= 5 + EXCERPT + 512
    unpacked = Waveform.unpack(fingerprint.waveform)
    assert unpacked is not None
    assert unpacked.n_samples == pytest.approx(seconds * RATE, abs=1)
    assert unpacked.is_whole == (seconds <= 10)
    assert len(unpacked.samples) == min(unpacked.n_samples, 2 * EXCERPT)
    assert np.abs(unpacked.samples).max(initial=0) <= 7
    assert unpacked.pack() == fingerprint.waveform
    assert acoustic_fingerprint(noise(1, seconds)) == fingerprint


def test_a_fingerprint_leaves_out_silence_loudness_and_a_constant_offset():
    plain = acoustic_fingerprint(noise(2, 2))
    assert acoustic_fingerprint(np.concatenate([silence(0.5), noise(2, 2), silence(3)])) == plain
    quieter = Waveform.unpack(acoustic_fingerprint(noise(2, 2) * 0.01 + 0.2).waveform)
    assert np.mean(quieter.samples == waveform(noise(2, 2)).samples) > 0.95


@pytest.mark.parametrize("data", [b"", b"\1", b"\2\0\0\0\0", b"\1\4\0\0\0\x88", b"\1\4\0\0\0\x88\x88\x88"])
def test_what_is_no_waveform_of_this_format_is_none(data):
    assert Waveform.unpack(data) is None
    assert compare(Waveform.unpack(data), waveform(noise(1, 1))) == (None, 0.0)


# -- two recordings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.3, 0.8, 4, 14, 70])
def test_the_same_take_is_a_copy_however_loud_late_and_silent_around(seconds):
    take = noise(3, seconds)
    assert likeness(take, take * 0.5) == "copy"
    assert likeness(take, np.clip(take * 2, -0.3, 0.3)) == "copy"
    assert likeness(take, np.concatenate([silence(0.5), take])) == "copy"
    assert likeness(take, shifted(take, 0.5)) == "copy"
    assert likeness(take, take + 0.01 * noise(4, seconds)) == "copy"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("shorter", "longer", "expected"),
    [
        (0.3, 10.05, None),
        (0.3, 30, None),
        (9.95, 10.05, "near"),  # a fiftieth of the last five seconds is cut off
        (10, 10.05, "copy"),
        (10, 10.5, "near"),  # nothing is known of what lies between its first and its last five seconds
        (10, 30, None),
    ],
)
def test_a_recording_of_up_to_ten_seconds_beside_a_longer_one(shorter, longer, expected):
    take = noise(20, longer)
    assert likeness(take, take[: round(shorter * SAMPLE_RATE)]) == expected
    assert likeness(take, noise(21, shorter)) is None
    assert likeness(take, tone(440, shorter)) is None


@pytest.mark.parametrize("seconds", [0.3, 0.8, 4, 14])
def test_other_takes_are_nothing(seconds):
    assert likeness(noise(5, seconds), noise(6, seconds)) is None
    assert likeness(noise(5, seconds), noise(5, seconds)[::-1].copy()) is None


@pytest.mark.parametrize("seconds", [0.5, 0.9, 4, 9])
def test_a_take_that_is_cut_by_a_fifth_is_near_and_its_half_is_not(seconds):
    take = noise(7, seconds)
    n = len(take)
    assert likeness(take, take[: round(0.8 * n)]) == "near"
    assert likeness(take, take[round(0.2 * n) :]) == "near"
    assert likeness(take, take[round(0.1 * n) : round(0.9 * n)]) == "near"
    assert likeness(take, take[: n // 2]) is None
    assert likeness(take[: round(0.8 * n)], take[round(0.2 * n) :]) == "near"


def test_of_a_long_take_both_ends_must_agree_in_the_same_shift():
    jingle, closing = noise(8, 6), noise(9, 6)
    episode = np.concatenate([jingle, noise(10, 10), closing])
    assert likeness(episode, np.concatenate([jingle, noise(11, 10.5), closing])) is None  # another one of the series
    assert likeness(episode, np.concatenate([jingle, noise(11, 10), noise(12, 6)])) is None
    assert likeness(episode, episode[SAMPLE_RATE:]) == "near"
    assert likeness(episode, episode[: -SAMPLE_RATE // 2]) == "near"


def test_a_steady_tone_is_a_copy_of_itself_and_of_no_other():
    for seconds in (2, 14):
        assert likeness(tone(440, seconds), np.concatenate([silence(0.5), tone(440, seconds)])) == "copy"
        assert likeness(tone(440, seconds), tone(445, seconds)) is None


def test_clicks_are_not_compared():
    click = np.concatenate([silence(0.5), noise(13, 0.02), silence(0.5)])
    assert likeness(click, click * 0.5) is None


# -- many recordings --------------------------------------------------------------------------------------------


def recordings_of(takes):
    """Recordings, and the positions of each reading of waveforms."""
    prints = [acoustic_fingerprint(take) for take in takes]
    read = []

    def waveforms(positions):
        read.append(list(positions))
        return [Waveform.unpack(prints[position].waveform) for position in positions]

    return Recordings(spectra_of([each.spectrum for each in prints]), waveforms), read


def test_only_pairs_of_like_spectra_are_read_and_each_once():
    takes = [noise(seed, 2) for seed in range(20, 60)]
    takes += [takes[0] * 0.5, takes[1][: round(1.7 * SAMPLE_RATE)]]
    recordings, read = recordings_of(takes)
    every = np.arange(len(takes))
    left, right = recordings.copies(every, every)
    assert set(zip(left.tolist(), right.tolist(), strict=True)) == {(0, 40), (40, 0)}
    assert sum(map(len, read)) < 20
    n_reads = len(read)
    left, right = recordings.near(np.array([1, 0]), np.array([41, 40, 5]))
    assert set(zip(left.tolist(), right.tolist(), strict=True)) == {(1, 41), (0, 40)}
    assert len(read) == n_reads
    similarities = recordings.similarities(np.array([0, 40]))
    assert similarities[0] == 1.0
    assert LEAST_CORRELATION < similarities[1] <= 1.0


def test_the_answer_does_not_depend_on_how_the_pairs_are_asked_for():
    takes = [noise(seed, 1) for seed in range(6)] * 2
    whole, _ = recordings_of(takes)
    single, _ = recordings_of(takes)
    every = np.arange(len(takes))
    at_once = set(zip(*(part.tolist() for part in whole.near(every, every)), strict=True))
    one_by_one = {(a, b) for a in range(12) for b in range(12) if len(single.near(np.array([a]), np.array([b]))[0])}
    assert at_once == one_by_one == {(a, b) for a in range(12) for b in range(12) if a % 6 == b % 6 and a != b}


def test_a_recording_of_nothing_resembles_nothing():
    recordings, read = recordings_of([silence(1), silence(1), noise(1, 1)])
    every = np.arange(3)
    assert len(recordings.near(every, every)[0]) == 0
    assert read == []
    assert LEAST_SPECTRUM > 0
    assert spectra_of([b"short"]).tolist() == [[0] * N_CELLS]


def test_long_recordings_with_the_same_ends_are_no_copies():
    """Two episodes with one opening and one ending: all that is kept of them sample by sample."""
    opening, ending = noise(1, 8), noise(2, 8)
    first, second = (np.concatenate([opening, noise(seed, 40), ending]) for seed in (3, 4))
    assert likeness(first, second) == "near"
    louder = (0.5 * first + 0.001 * noise(5, 56)).astype(np.float32)
    assert likeness(first, louder) == "copy"
    hum = tone(220, 40)
    assert likeness(hum, (0.4 * hum).astype(np.float32)) == "copy", "a steady sound has no course"


def test_of_many_noises_only_the_closest_are_compared(monkeypatch):
    monkeypatch.setattr("arrowlens.search.waveform_matching._MOST_ALIKE", 4)
    spectra = np.full((40, N_CELLS), 9, np.int8)
    spectra[:, :40] += np.eye(40, dtype=np.int8) * 30
    spectra[39] = spectra[0]
    asked = []
    recordings = Recordings(spectra, lambda positions: asked.append(positions) or [None] * len(positions))
    everything = np.arange(40)
    recordings.copies(everything, everything)
    assert len(recordings._compared) <= 40 * 4
    assert (0, 39) in recordings._compared
