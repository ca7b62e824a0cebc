"""What a recording looks like: its loudness and its frequencies over time, in memory that does not grow with length."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from typing import BinaryIO

import numpy as np
import soxr

from arrowlens.errors import MEMORY_REASON, MediaError
from arrowlens.media.decoded import AnyPath, Limits, is_out_of_memory
from arrowlens.media.files import NativeFileAdapter, open_regular
from arrowlens.media.formats import SNIFF_BYTES, describe_content, sniff
from arrowlens.media.recordings import RATES
from arrowlens.media.sounds import open_sound
from arrowlens.modalities import FORMAT_MODALITY, SAMPLE_RATE

FRAME = 1024  # samples, 64 ms
_BINS_A_BAND = 4
N_BANDS = FRAME // 2 // _BINS_A_BAND  # of 62.5 Hz each, up to 8 kHz
RANGE_DB = 80.0
_FRAMES_A_COLUMN = 4  # of a long recording only so many are looked at
_DEFAULT_LIMITS = Limits()


def waveform(path: AnyPath, seconds: float, n_columns: int = 600, limits: Limits = _DEFAULT_LIMITS) -> np.ndarray:
    """The largest amplitude in each part of a recording, (n_columns,) float32; full scale is 1.

    Args:
        path: the file. seconds: its length; what is beyond counts for the last part.
        n_columns: how many equal parts. limits: as for ``decode``.

    Raises:
        MediaError: it cannot be decoded; one line for a user.
    """
    n_samples = _n_samples(seconds)
    peaks = np.zeros(n_columns, np.float32)
    for start, block in _blocks(path, limits):
        columns = np.minimum((start + np.arange(len(block), dtype=np.int64)) * n_columns // n_samples, n_columns - 1)
        firsts = np.flatnonzero(np.diff(columns, prepend=-1))
        there = columns[firsts]
        peaks[there] = np.maximum(peaks[there], np.maximum.reduceat(np.abs(block), firsts))
    return peaks


def spectrogram(path: AnyPath, seconds: float, n_columns: int = 600, limits: Limits = _DEFAULT_LIMITS) -> np.ndarray:
    """The power in ``N_BANDS`` equal bands from 0 to 8 kHz, (N_BANDS, n_columns) float32 in dB, 0 is the loudest.

    Nothing is below ``-RANGE_DB``. Frames of 64 ms under a Hann window; of a long recording four in each column.

    Args:
        path, seconds, n_columns, limits: as for ``waveform``.

    Raises:
        MediaError: as ``waveform``.
    """
    hop = max(FRAME // 4, _n_samples(seconds) // (n_columns * _FRAMES_A_COLUMN))
    frames = list(_frames(path, hop, limits))
    power = np.stack(frames) if frames else np.zeros((1, N_BANDS))
    # Each column is the mean over its frames; a short recording has fewer frames than columns.
    edges = np.linspace(0, len(power), n_columns + 1)
    firsts = np.minimum(edges[:-1].astype(int), len(power) - 1)
    lasts = np.maximum(np.ceil(edges[1:]).astype(int), firsts + 1)
    columns = np.stack([power[first:last].mean(axis=0) for first, last in zip(firsts, lasts, strict=True)], axis=1)
    loudest = columns.max()
    if loudest <= 0:
        return np.full((N_BANDS, n_columns), -RANGE_DB, np.float32)
    decibels = 10 * np.log10(np.maximum(columns / loudest, 10 ** (-RANGE_DB / 10)))
    values: np.ndarray = decibels.astype(np.float32)
    return values


def _n_samples(seconds: float) -> int:
    return max(1, round(seconds * SAMPLE_RATE))


def _frames(path: AnyPath, hop: int, limits: Limits) -> Iterator[np.ndarray]:
    """Power by band, (N_BANDS,) float64, of the frames that begin at whole hops; the last one ends with zeros."""
    window = np.hanning(FRAME)
    held, held_from, at = np.zeros(0, np.float32), 0, 0
    for start, block in _blocks(path, limits):
        held, held_from = (np.concatenate([held, block]), held_from) if len(held) else (block, start)
        while at + FRAME <= held_from + len(held):
            yield _power(held[at - held_from : at - held_from + FRAME], window)
            at += hop
        keep = min(max(at - held_from, 0), len(held))
        held, held_from = held[keep:].copy(), held_from + keep
    if len(held) and at < held_from + len(held):
        rest = held[at - held_from :]
        yield _power(np.pad(rest, (0, FRAME - len(rest))), window)


def _power(samples: np.ndarray, window: np.ndarray) -> np.ndarray:
    bins = np.abs(np.fft.rfft(samples * window)[: N_BANDS * _BINS_A_BAND]) ** 2
    bands: np.ndarray = bins.reshape(N_BANDS, _BINS_A_BAND).mean(axis=1)
    return bands


def _blocks(path: AnyPath, limits: Limits) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of mono samples at 16 kHz, each with the number of samples before it.

    Raises:
        MediaError: not a recording, over a limit, or damaged; one line for a user.
    """
    start = 0
    try:
        with open_regular(path) as file:
            for block in _resampled(file, _format_of(file, limits), limits):
                yield start, block
                start += len(block)
    except MediaError:
        raise
    except Exception as error:  # decoders of damaged files raise anything
        if is_out_of_memory(error):
            raise MediaError(MEMORY_REASON) from error
        raise MediaError(f"damaged: it cannot be decoded ({error or type(error).__name__})") from error


def _format_of(file: BinaryIO, limits: Limits) -> str:
    size = os.fstat(file.fileno()).st_size
    if size > limits.max_file_bytes:
        raise MediaError(f"{size:,} bytes is over the limit of {limits.max_file_bytes:,} bytes")
    head = file.read(SNIFF_BYTES)
    media_format = sniff(head)
    if media_format is None or FORMAT_MODALITY[media_format] != "audio":
        raise MediaError(f"not a recording: the content is {media_format or describe_content(head)}")
    file.seek(0)
    return media_format


def _resampled(file: BinaryIO, file_format: str, limits: Limits) -> Iterator[np.ndarray]:
    deadline = time.monotonic() + limits.max_decode_s
    n_frames = 0
    with closing(open_sound(NativeFileAdapter(file), file_format)) as sound:
        if not RATES[0] <= sound.rate <= RATES[1]:
            raise MediaError(f"a sample rate of {sound.rate:,} Hz is not between {RATES[0]:,} and {RATES[1]:,} Hz")
        resampler = soxr.ResampleStream(sound.rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        for block in sound.blocks():
            n_frames += len(block)
            if n_frames > limits.max_seconds * sound.rate or time.monotonic() > deadline:
                raise MediaError(f"too long: more than {limits.max_seconds:g} s, or than can be decoded in time")
            mono = np.nan_to_num(block.mean(axis=1, dtype=np.float32), posinf=0.0, neginf=0.0)
            if len(samples := resampler.resample_chunk(mono)):
                yield samples
        if len(samples := resampler.resample_chunk(np.zeros(0, np.float32), last=True)):
            yield samples
