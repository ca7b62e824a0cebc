"""Checks of the encoders' inputs. Each error says what was given and what to do."""

from __future__ import annotations

import numpy as np

from arrowlens.errors import AudioValidationError, ImageValidationError
from arrowlens.modalities import SAMPLE_RATE

MAX_SECONDS = 30


def validate_image_input(images: np.ndarray, image_size: int = 224) -> None:
    """Check pixels.

    Args:
        images: (image_size, image_size, 3) or (n, image_size, image_size, 3); uint8, or float32 already normalised.

    Raises:
        ImageValidationError: wrong number of dimensions, size, channels or dtype; none at all; NaN or infinity.
    """
    if not isinstance(images, np.ndarray) or images.ndim not in (3, 4):
        shape = getattr(images, "shape", type(images).__name__)
        raise ImageValidationError(f"images must be (H, W, 3) or (n, H, W, 3), got {shape}")
    height, width, channels = images.shape[-3:]
    if channels != 3:
        raise ImageValidationError(
            f"images must have 3 channels (RGB), got {channels}; convert with PIL's convert('RGB')"
        )
    if (height, width) != (image_size, image_size):
        raise ImageValidationError(
            f"images must be {image_size}x{image_size}, got {height}x{width}; resize with ImageProcessor"
        )
    if images.dtype not in (np.uint8, np.float32):
        raise ImageValidationError(f"images must be uint8 or float32, got {images.dtype}; use ImageProcessor")
    if images.size == 0:
        raise ImageValidationError("no image given (0 in the batch)")
    if images.dtype == np.float32 and not np.isfinite(images).all():
        raise ImageValidationError("images hold NaN or infinite values")


def validate_audio_input(
    audio: np.ndarray,
    sample_rate: int = SAMPLE_RATE,
    *,
    model_rate: int = SAMPLE_RATE,
    max_seconds: int = MAX_SECONDS,
) -> None:
    """Check samples.

    Args:
        audio: (n_samples,) or (n, n_samples) float32, at most ``max_seconds`` each.
        sample_rate: of ``audio``, in Hz; must be ``model_rate``.
        model_rate: what the model takes, in Hz.
        max_seconds: what the model takes at once.

    Raises:
        AudioValidationError: wrong number of dimensions, dtype, rate or length; none at all; NaN or infinity.
    """
    if not isinstance(audio, np.ndarray) or audio.ndim not in (1, 2):
        shape = getattr(audio, "shape", type(audio).__name__)
        raise AudioValidationError(f"audio must be (n_samples,) or (n, n_samples), got {shape}")
    if sample_rate != model_rate:
        raise AudioValidationError(
            f"audio must be at {model_rate} Hz, got {sample_rate} Hz; "
            f"use AudioProcessor.resample(audio, {sample_rate}, {model_rate})"
        )
    if audio.dtype != np.float32:
        raise AudioValidationError(f"audio must be float32, got {audio.dtype}; scale to [-1, 1] and convert")
    if audio.size == 0:
        raise AudioValidationError("no audio given (0 samples)")
    n_samples = audio.shape[-1]
    if n_samples > max_seconds * model_rate:
        raise AudioValidationError(
            f"audio is too long: {_above(n_samples / model_rate, max_seconds)} s, at most {max_seconds} s; cut it"
        )
    if not np.isfinite(audio).all():
        raise AudioValidationError("audio holds NaN or infinite samples")


def _above(value: float, limit: float) -> str:
    """Return a number above a limit with as many decimals as it takes to read as above it, at least one."""
    decimals = 1
    while float(f"{value:.{decimals}f}") <= limit:
        decimals += 1
    return f"{value:.{decimals}f}"
