"""The Whisper encoder, pooled over time.

Source: Radford et al. 2022, openai/whisper ``model.py``; values match transformers' WhisperEncoder, and with a
projector WhisperForAudioClassification before its classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch.nn import functional

from arrowlens.deprecation import warn_renamed
from arrowlens.encoders.audio_processor import (
    AudioConfig,
    MelSpectrogramProcessor,
    pad_to_30_seconds,
)
from arrowlens.encoders.runtime import Encoder, choose_runtime, load_module, to_device, to_vectors
from arrowlens.encoders.transformer import InferenceCore, LayerNorm, LazyParameters
from arrowlens.encoders.validation import MAX_SECONDS, validate_audio_input
from arrowlens.encoders.weights import ModelPath, open_weights
from arrowlens.errors import AudioValidationError
from arrowlens.modalities import SAMPLE_RATE

CONTEXTS = ("padded", "own")
MIN_SAMPLES = 400  # 25 ms, one window of the spectrum: shorter clips are padded to it with silence


class Convolution(LazyParameters):
    """A convolution over time, three frames wide."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(weight=(out_channels, in_channels, 3), bias=(out_channels,))
        self.stride = stride

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Shapes: (batch, in_channels, frames) -> (batch, out_channels, frames / stride, rounded up)."""
        return functional.conv1d(frames, self.weight, self.bias, stride=self.stride, padding=1)


class Projector(LazyParameters):
    """A linear layer in float32. It runs once a recording, so that the precision costs nothing."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(weight=(out_features, in_features), bias=(out_features,))

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Shapes: (batch, in_features) float32 -> (batch, out_features) float32."""
        return functional.linear(pooled, self.weight.float(), self.bias.float())


class AudioTower(LazyParameters):
    """The Whisper encoder: log-mel frames to their mean over time, projected where the model has a projector."""

    position_embedding: torch.Tensor

    def __init__(self, config: AudioConfig) -> None:
        width = config.hidden_size
        super().__init__(position_embedding=(config.max_positions, width))
        self.conv1 = Convolution(config.n_mels, width, stride=1)
        self.conv2 = Convolution(width, width, stride=2)
        self.transformer = InferenceCore(
            width,
            config.num_layers,
            config.num_heads,
            config.intermediate_size,
            config.layer_norm_eps,
            activation=config.activation,
        )
        self.layer_norm = LayerNorm(width, config.layer_norm_eps)
        self.projector = None if config.projection_dim is None else Projector(width, config.projection_dim)

    def forward(self, mel: torch.Tensor, layer: int | None = None) -> torch.Tensor:
        """Encode spectrograms.

        Args:
            mel: (batch, n_mels, frames).
            layer: reads the output of that many layers, as it is; None runs all layers, the final norm and the
                projector.

        Returns:
            (batch, hidden_size), or (batch, projection_dim) where there is a projector and ``layer`` is None.
        """
        frames = functional.gelu(self.conv1(mel))  # whatever the activation of the stack
        hidden = functional.gelu(self.conv2(frames)).transpose(1, 2)  # (batch, positions, hidden), half the rate
        hidden = hidden + self.position_embedding[: hidden.shape[1]]
        states = self.transformer(hidden, n_layers=layer)
        if layer is not None:
            middle: torch.Tensor = states.float().mean(dim=1)
            return middle
        pooled: torch.Tensor = self.layer_norm(states).float().mean(dim=1)
        # A linear map commutes with the mean: one product a recording instead of one a position.
        return pooled if self.projector is None else self.projector(pooled)


class AudioEncoder(Encoder):
    """Recordings to vectors (512-d for whisper-base): the encoder's output, averaged over time.

    Args:
        model_path: a Whisper model directory.
        device: torch device; None takes CUDA when there, else the CPU.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``.

    Raises:
        ModelLoadError: the directory is missing, damaged or no Whisper model, or the device is not there.
    """

    def __init__(self, model_path: ModelPath, device: str | None = None, precision: str = "auto") -> None:
        loader = open_weights(model_path, "whisper")
        super().__init__(loader, choose_runtime(device, precision))
        self.config = loader.config(AudioConfig)
        filters = loader.tensor("mel_filters", (self.config.n_mels, self.config.n_fft // 2 + 1))
        self.mel_processor = MelSpectrogramProcessor(self.config, filters.clone(), self.device)
        self.tower = load_module(AudioTower(self.config), loader, self.runtime)

    def encode(
        self,
        audio: np.ndarray | Sequence[np.ndarray],
        normalize: bool = True,
        context: str = "padded",
        layer: int | None = None,
        sample_rate: int | None = None,
    ) -> np.ndarray:
        """Encode recordings.

        Args:
            audio: (n_samples,), (n, n_samples), or a list of arrays of different lengths; float32 mono at 16 kHz, at
                most 30 s each.
            normalize: scale vectors to length one.
            context: ``padded`` adds silence up to 30 s and pools every frame, as the reference does; ``own`` encodes
                and pools the recording's own frames only (10 ms each). That is faster, and the vector of a short
                recording is not mostly one of silence.
            layer: 1 to the number of layers: the output of that many layers, without the final norm and the projector;
                the layers after it are not computed. None reads the last layer after the final norm, projected where
                the model has a projector. Libraries read the layer that the model directory names
                (``ModelInfo.pooling_layer``).
            sample_rate: of ``audio``, in Hz, where it is known; another than 16,000 is refused.

        Returns:
            (n, dimension) float32; with ``layer`` (n, hidden size).

        Raises:
            AudioValidationError: wrong shape, dtype or rate, over 30 s, NaN, a vector without direction, or an unknown
                context or layer.
        """
        if context == "clip":
            warn_renamed('context="clip"', 'context="own"')
            context = "own"
        if context not in CONTEXTS:
            raise AudioValidationError(f"context {context!r} is unknown; use one of {', '.join(CONTEXTS)}")
        if layer is not None and (type(layer) is not int or layer not in range(1, self.config.num_layers + 1)):
            raise AudioValidationError(
                f"layer {layer!r} is not there; use 1 to {self.config.num_layers}, or None for the last one's norm"
            )
        waveforms = as_waveforms(audio, SAMPLE_RATE if sample_rate is None else sample_rate)
        with torch.inference_mode():
            pooled = self._padded(waveforms, layer) if context == "padded" else self._clips(waveforms, layer)
        return to_vectors(pooled, normalize=normalize, error=AudioValidationError)

    def _padded(self, waveforms: list[torch.Tensor], layer: int | None) -> torch.Tensor:
        return self._run([pad_to_30_seconds(waveform) for waveform in waveforms], layer)

    def _clips(self, waveforms: list[torch.Tensor], layer: int | None) -> torch.Tensor:
        """Encode recordings of one length together: padding costs as much time as a recording does."""
        padded = [functional.pad(w, (0, max(0, MIN_SAMPLES - w.shape[0]))) for w in waveforms]
        rows_of: dict[int, list[int]] = {}
        for row, waveform in enumerate(padded):
            rows_of.setdefault(len(waveform), []).append(row)
        pooled = torch.cat([self._run([padded[row] for row in rows], layer) for rows in rows_of.values()])
        order = torch.tensor([row for rows in rows_of.values() for row in rows])
        return pooled[order.argsort()]

    def _run(self, waveforms: list[torch.Tensor], layer: int | None) -> torch.Tensor:
        mel = self.mel_processor.log_mel(to_device(torch.stack(waveforms), self.runtime.device))
        pooled: torch.Tensor = self.tower(mel.to(self.runtime.dtype), layer)
        return pooled


def as_waveforms(
    audio: np.ndarray | Sequence[np.ndarray],
    sample_rate: int,
    *,
    model_rate: int = SAMPLE_RATE,
    max_seconds: int = MAX_SECONDS,
) -> list[torch.Tensor]:
    """Check recordings, and copy each to a tensor.

    Args:
        audio: as ``AudioEncoder.encode`` takes it.
        sample_rate, model_rate, max_seconds: as of ``validate_audio_input``.

    Raises:
        AudioValidationError: as ``validate_audio_input``; an empty list, or one with something else than (n_samples,).
    """
    check = partial(validate_audio_input, sample_rate=sample_rate, model_rate=model_rate, max_seconds=max_seconds)
    if isinstance(audio, np.ndarray):
        check(audio)
        rows = [audio] if audio.ndim == 1 else list(audio)
    else:
        rows = list(audio)
        if not rows:
            raise AudioValidationError("no audio given (an empty list)")
        for row in rows:
            check(row)
            if row.ndim != 1:
                raise AudioValidationError(f"a list must hold (n_samples,) arrays, got one of shape {row.shape}")
    return [torch.from_numpy(np.array(row)) for row in rows]  # copies: torch takes no read-only memory
