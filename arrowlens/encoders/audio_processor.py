"""Preprocessing for Whisper's encoder: log-mel spectrograms, and resampling.

Source: openai/whisper ``audio.py`` and transformers' WhisperFeatureExtractor, matched within 1e-5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional

from arrowlens.encoders.validation import MAX_SECONDS, validate_audio_input
from arrowlens.errors import AudioValidationError
from arrowlens.modalities import SAMPLE_RATE

N_FFT = 400  # samples, 25 ms
HOP_LENGTH = 160  # samples, 10 ms a frame
FRAMES_PER_SECOND = SAMPLE_RATE // HOP_LENGTH
FLOOR = 1e-10  # power, before the logarithm
DYNAMIC_RANGE = 8.0  # log10 units kept below a recording's maximum


@dataclass(frozen=True)
class AudioConfig:
    """Dimensions of a Whisper encoder; the defaults are whisper-base's.

    ``projection_dim`` is the width of the projector after the stack, None where there is none.
    """

    n_mels: int = 80
    n_fft: int = N_FFT
    hop_length: int = HOP_LENGTH
    sample_rate: int = SAMPLE_RATE
    hidden_size: int = 512
    num_layers: int = 6
    num_heads: int = 8
    intermediate_size: int = 2048
    layer_norm_eps: float = 1e-5
    max_audio_length: int = MAX_SECONDS  # seconds
    activation: str = "gelu"
    max_positions: int = 1500
    projection_dim: int | None = None


class MelSpectrogramProcessor:
    """Computes mel spectrograms of recordings.

    Args:
        config: the dimensions; None takes whisper-base's.
        mel_filters: (n_mels, n_fft / 2 + 1) float32, from a model directory. None computes them with librosa (Slaney's
            scale and norm), whose import takes seconds.
        device: torch device that computes them.
    """

    def __init__(
        self,
        config: AudioConfig | None = None,
        mel_filters: np.ndarray | torch.Tensor | None = None,
        device: str = "cpu",
    ) -> None:
        self.config = config or AudioConfig()
        if mel_filters is None:
            import librosa  # deferred: it takes seconds to import, and models bring their own filters

            mel_filters = librosa.filters.mel(
                sr=self.config.sample_rate, n_fft=self.config.n_fft, n_mels=self.config.n_mels
            )
        self.mel_filters = torch.as_tensor(mel_filters, dtype=torch.float32).to(device)
        self._window = torch.hann_window(self.config.n_fft).to(device)

    def compute_mel_power(self, waveform: np.ndarray) -> np.ndarray:
        """Compute the power in each mel band, before the logarithm.

        Args:
            waveform: (n_samples,) or (n, n_samples) float32 at 16 kHz, more than ``n_fft / 2`` samples.

        Returns:
            (n_mels, n_frames) or (n, n_mels, n_frames) float32 with n_frames = 1 + n_samples // hop_length, as librosa.

        Raises:
            AudioValidationError: wrong dtype or shape, NaN, too short to reflect at its ends.
        """
        validate_audio_input(waveform, self.config.sample_rate)
        return self._power(self._there(waveform)).cpu().numpy()

    def compute_mel_spectrogram(self, waveform: np.ndarray) -> np.ndarray:
        """Compute Whisper's input: log10 of the power, its top 80 dB, scaled; the last frame is dropped.

        Args:
            waveform: (n_samples,) or (n, n_samples) float32 at 16 kHz.

        Returns:
            (n_mels, n_frames) or (n, n_mels, n_frames) float32 with n_frames = n_samples // hop_length.

        Raises:
            AudioValidationError: as ``compute_mel_power``.
        """
        validate_audio_input(waveform, self.config.sample_rate)
        return self.log_mel(self._there(waveform)).cpu().numpy()

    def log_mel(self, waveforms: torch.Tensor) -> torch.Tensor:
        """As ``compute_mel_spectrogram``, for tensors on this processor's device, without checks."""
        log = self._power(waveforms)[..., :-1].clamp(min=FLOOR).log10()
        log = torch.maximum(log, log.amax(dim=(-2, -1), keepdim=True) - DYNAMIC_RANGE)
        return (log + 4.0) / 4.0

    def _there(self, waveform: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(waveform).to(self._window.device)

    def _power(self, waveforms: torch.Tensor) -> torch.Tensor:
        if waveforms.shape[-1] <= self.config.n_fft // 2:
            raise AudioValidationError(
                f"audio of {waveforms.shape[-1]} samples is too short for a spectrum; "
                f"at least {self.config.n_fft // 2 + 1} are needed: pad it with zeros"
            )
        spectrum = torch.stft(
            waveforms, self.config.n_fft, self.config.hop_length, window=self._window, return_complex=True
        )
        return self.mel_filters @ spectrum.abs().square()


class AudioProcessor:
    """Preprocessing of audio: resampling, and spectrograms from Arrow arrays.

    Args:
        mel_processor: that of a model; None takes whisper-base's dimensions and librosa's filters.
    """

    def __init__(self, mel_processor: MelSpectrogramProcessor | None = None) -> None:
        self.mel_processor = mel_processor or MelSpectrogramProcessor()

    @staticmethod
    def resample(waveform: np.ndarray, sample_rate: int, target_rate: int = SAMPLE_RATE) -> np.ndarray:
        """Resample (n_samples,) float32 with soxr at high quality, as librosa does by default.

        Raises:
            AudioValidationError: not one-dimensional float32, or a rate that is not positive.
        """
        import soxr  # deferred: only callers with other rates need it

        if waveform.ndim != 1 or waveform.dtype != np.float32 or min(sample_rate, target_rate) <= 0:
            raise AudioValidationError(
                f"need (n_samples,) float32 and positive rates, got {waveform.shape} "
                f"{waveform.dtype} at {sample_rate} Hz"
            )
        if sample_rate == target_rate:
            return waveform
        return np.asarray(soxr.resample(waveform, sample_rate, target_rate, quality="HQ"), dtype=np.float32)

    def preprocess_arrow(self, audio: pa.Array, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
        """Compute spectrograms of recordings in an Arrow array, each padded with silence to 30 s.

        Args:
            audio: a binary array of float32 samples, or what ``AudioBatch.to_arrow`` gives.
            sample_rate: of the recordings, in Hz; must be 16,000.

        Returns:
            (n, n_mels, 3000) float32.

        Raises:
            AudioValidationError: wrong rate, an element that is null or no float32 samples, over 30 s, NaN.
        """
        waveforms = []
        if pa.types.is_struct(audio.type):
            rates = set(audio.field("sample_rate").to_pylist())
            sample_rate = rates.pop() if len(rates) == 1 else sample_rate
            audio = audio.field("data")
        for row, value in enumerate(audio):
            buffer = value.as_buffer()
            if buffer is None or buffer.size % 4:
                raise AudioValidationError(f"audio in row {row} is null or not whole float32 samples")
            waveform = np.frombuffer(buffer, np.float32)
            validate_audio_input(waveform, sample_rate)
            waveforms.append(pad_to_30_seconds(torch.from_numpy(waveform.copy())))
        if not waveforms:
            return np.empty((0, self.mel_processor.config.n_mels, MAX_SECONDS * FRAMES_PER_SECOND), np.float32)
        return self.mel_processor.log_mel(torch.stack(waveforms)).numpy()


def pad_to_30_seconds(waveform: torch.Tensor) -> torch.Tensor:
    """Add silence at the end: (n_samples,) -> (480000,)."""
    return functional.pad(waveform, (0, MAX_SECONDS * SAMPLE_RATE - waveform.shape[-1]))
