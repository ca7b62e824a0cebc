"""CLAP: recordings and texts in one vector space.

Source: Wu et al. 2023 (LAION), Chen et al. 2022 (HTSAT); values match transformers' ClapModel without fusion. Where the
reference draws ten seconds of a longer recording at random, a caller cuts it into windows instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from arrowlens.encoders.audio import CONTEXTS, Projector, as_waveforms
from arrowlens.encoders.runtime import Encoder, choose_runtime, load_module, to_device, to_vectors
from arrowlens.encoders.swin import Swin
from arrowlens.encoders.text import BertTower, TextConfig
from arrowlens.encoders.tokenizer import TOKENIZER_NAME, TextTokenizer
from arrowlens.encoders.transformer import LayerNorm, LazyParameters
from arrowlens.encoders.weights import ModelPath, open_weights
from arrowlens.errors import AudioValidationError, TextValidationError

FLOOR = 1e-10  # power, before the logarithm
_CHUNK = 8  # recordings encoded together: the first stage holds megabytes of each


@dataclass(frozen=True)
class ClapAudioConfig:
    """Dimensions of CLAP's audio tower; the defaults are clap-htsat-unfused's.

    Width and heads are those of the first stage and double with each. ``padding`` says how a recording that is shorter
    than ``max_audio_length`` is filled up: ``repeatpad`` repeats it whole and adds silence, ``repeat`` repeats it until
    it is long enough, ``pad`` adds silence.
    """

    n_mels: int = 64
    n_fft: int = 1024  # samples, 21 ms
    hop_length: int = 480  # samples, 10 ms a frame
    sample_rate: int = 48_000
    max_audio_length: int = 10  # seconds
    padding: str = "repeatpad"
    image_size: int = 256  # of the picture that a spectrogram is folded into
    patch_size: int = 4
    window_size: int = 8  # patches
    hidden_size: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: int = 4
    mlp_ratio: int = 4
    layer_norm_eps: float = 1e-5
    activation: str = "gelu"

    @property
    def n_samples(self) -> int:
        """What the tower takes: no more, no less."""
        return self.sample_rate * self.max_audio_length

    @property
    def width(self) -> int:
        """Of the last stage, and of what is pooled."""
        return self.hidden_size << (len(self.depths) - 1)


@dataclass(frozen=True)
class ClapTextConfig(TextConfig):
    """Dimensions of CLAP's text tower, a RoBERTa; the defaults are clap-htsat-unfused's."""

    vocab_size: int = 50265
    max_positions: int = 514
    type_vocab_size: int = 1
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    layer_norm_eps: float = 1e-12
    activation: str = "gelu"
    max_length: int = 512  # tokens
    pad_token_id: int = 1


class ClapAudioTower(LazyParameters):
    """HTSAT: a spectrogram, folded into a picture, through a Swin Transformer."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, config: ClapAudioConfig) -> None:
        width, side = config.hidden_size, config.patch_size
        super().__init__(weight=(width, 1, side, side), bias=(width,))
        self.config = config
        self.patch_norm = LayerNorm(width, 1e-5)  # this and the last one whatever the layers' is
        self.swin = Swin(
            width,
            tuple(config.depths),
            config.num_heads,
            grid=config.image_size // side,
            window=config.window_size,
            mlp_ratio=config.mlp_ratio,
            layer_norm_eps=config.layer_norm_eps,
            activation=config.activation,
        )
        self.final_norm = LayerNorm(config.width, 1e-5)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """Shapes: (batch, frames, n_mels) -> (batch, width) float32, the mean over the last stage's patches."""
        picture = folded(mel, self.config.image_size).to(self.weight.dtype)
        patches = functional.conv2d(picture, self.weight, self.bias, stride=self.config.patch_size)
        hidden = self.patch_norm(patches.flatten(2).transpose(1, 2))  # (batch, grid², hidden_size)
        pooled: torch.Tensor = self.final_norm(self.swin(hidden)).float().mean(dim=1)
        return pooled


def folded(mel: torch.Tensor, size: int) -> torch.Tensor:
    """Fold a spectrogram into a square picture: its quarters of time (for 64 bands in 256 rows) below each other.

    Args:
        mel: (batch, frames, n_mels) float32, with at most ``size``² / n_mels frames, to which time is stretched.
        size: rows and columns of the picture; a multiple of n_mels.

    Returns:
        (batch, 1, size, size) float32.
    """
    batch, _, n_mels = mel.shape
    parts = size // n_mels
    stretched = functional.interpolate(mel[:, None], (size * parts, n_mels), mode="bicubic", align_corners=True)
    return stretched.view(batch, parts, size, n_mels).transpose(2, 3).reshape(batch, 1, size, size)


class ClapTextTower(BertTower):
    """RoBERTa: token ids to the pooled state of the first token."""

    def __init__(self, config: ClapTextConfig) -> None:
        super().__init__(config)
        self.pad_token_id = config.pad_token_id
        self.pooler = Projector(config.hidden_size, config.hidden_size)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Shapes: (batch, tokens) int64 and bool -> (batch, hidden_size) float32."""
        # Positions count from the padding's id on and leave out padding, also one that a text spells out.
        is_token = ids != self.pad_token_id
        positions = is_token.cumsum(dim=1) * is_token + self.pad_token_id
        hidden = self.token_embedding(ids) + self.position_embedding[positions] + self.token_type_embedding[0]
        first = torch.zeros(len(ids), dtype=torch.int64, device=ids.device)
        state = self.transformer(self.embedding_layernorm(hidden), None if bool(mask.all()) else mask, read=first)
        pooled: torch.Tensor = self.pooler(state.float()).tanh()
        return pooled


class Projection(nn.Module):
    """Two linear layers with a ReLU between them, into the shared space."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear1 = Projector(in_features, out_features)
        self.linear2 = Projector(out_features, out_features)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Shapes: (batch, in_features) float32 -> (batch, out_features) float32."""
        projected: torch.Tensor = self.linear2(self.linear1(pooled).relu())
        return projected


class ClapMelProcessor:
    """Log-mel spectrograms as ClapFeatureExtractor makes them for models without fusion, in float64 as it does.

    Float32 is not enough: beside a loud tone its rounding errors are louder than the floor.

    Args:
        config: the dimensions.
        mel_filters: (n_mels, n_fft / 2 + 1).
        device: torch device that computes them; one without float64 leaves it to the CPU.
    """

    def __init__(self, config: ClapAudioConfig, mel_filters: torch.Tensor, device: torch.device) -> None:
        self.config = config
        self.device = device if device.type in ("cpu", "cuda") else torch.device("cpu")
        self._filters = mel_filters.to(self.device, torch.float64)
        self._window = torch.hann_window(config.n_fft, dtype=torch.float64, device=self.device)

    def log_mel(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Shapes: (n, n_samples) float32 -> (n, 1 + n_samples // hop_length, n_mels) float32, in decibels."""
        samples = to_device(waveforms, self.device).double()
        spectrum = torch.stft(
            samples, self.config.n_fft, self.config.hop_length, window=self._window, return_complex=True
        )
        power = self._filters @ spectrum.abs().square()  # (n, n_mels, frames)
        return (10.0 * power.clamp(min=FLOOR).log10()).transpose(1, 2).float()

    def filled(self, waveform: torch.Tensor) -> torch.Tensor:
        """Fill a recording up to what the tower takes: (n_samples,) -> (config.n_samples,)."""
        missing = self.config.n_samples - len(waveform)
        if missing and self.config.padding == "repeat":
            return waveform.repeat(self.config.n_samples // len(waveform) + 1)[: self.config.n_samples]
        if missing and self.config.padding == "repeatpad":
            waveform = waveform.repeat(self.config.n_samples // len(waveform))
        return functional.pad(waveform, (0, self.config.n_samples - len(waveform)))


class ClapEncoder(Encoder):
    """Both towers of CLAP with their projections into the shared space (512-d).

    Args:
        model_path: a CLAP model directory.
        device: torch device; None takes CUDA when there, else the CPU.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``. The spectrogram and the projections stay in
            float32.

    Raises:
        ModelLoadError: the directory is missing, damaged or no CLAP model, or the device is not there.
    """

    def __init__(self, model_path: ModelPath, device: str | None = None, precision: str = "auto") -> None:
        loader = open_weights(model_path, "clap")
        super().__init__(loader, choose_runtime(device, precision))
        self.config = loader.config(ClapAudioConfig, "audio")
        self.text_config = loader.config(ClapTextConfig, "text")
        self.audio_tower = load_module(ClapAudioTower(self.config), loader, self.runtime, "audio.")
        self.text_tower = load_module(ClapTextTower(self.text_config), loader, self.runtime, "text.")
        self.audio_projection = load_module(
            Projection(self.config.width, self.dimension), loader, self.runtime, "audio_projection."
        )
        self.text_projection = load_module(
            Projection(self.text_config.hidden_size, self.dimension), loader, self.runtime, "text_projection."
        )
        n_mels = self.config.n_mels
        filters = loader.tensor("mel_filters", (n_mels, self.config.n_fft // 2 + 1))
        self.mel_processor = ClapMelProcessor(self.config, filters, self.runtime.device)
        self._mel_scale, self._mel_shift = (
            loader.tensor(f"mel_norm.{name}", (n_mels,)).to(self.runtime.device, torch.float32)
            for name in ("weight", "bias")
        )
        self._loader = loader

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """The tokenizer, read on first use: parsing a vocabulary takes longer than mapping all weights."""
        config = self.text_config
        data = self._loader.read_file(TOKENIZER_NAME)
        return TextTokenizer(data, config.max_length, config.pad_token_id, config.vocab_size)

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
            audio: (n_samples,), (n, n_samples), or a list of arrays of different lengths; float32 mono at the model's
                rate, 48 kHz, and at most as long as it takes, 10 s each.
            normalize: scale vectors to length one.
            context: as of ``AudioEncoder.encode``; both are the same, since the model takes recordings of one length
                and says how shorter ones are filled up.
            layer: None, since vectors are projected from the last layer.
            sample_rate: of ``audio``, in Hz, where it is known; another than the model's is refused.

        Returns:
            (n, dimension) float32.

        Raises:
            AudioValidationError: wrong shape, dtype or rate, too long, NaN, an unknown context, a layer, or a vector
                without direction.
        """
        if context not in CONTEXTS:
            raise AudioValidationError(f"context {context!r} is unknown; use one of {', '.join(CONTEXTS)}")
        if layer is not None:
            raise AudioValidationError(f"layer {layer!r} is not there; CLAP's vectors come from the last one: use None")
        rate, most = self.config.sample_rate, self.config.max_audio_length
        given = rate if sample_rate is None else sample_rate
        waveforms = as_waveforms(audio, given, model_rate=rate, max_seconds=most)
        with torch.inference_mode():
            filled = [self.mel_processor.filled(waveform) for waveform in waveforms]
            chunks = (torch.stack(filled[start : start + _CHUNK]) for start in range(0, len(filled), _CHUNK))
            projected = torch.cat([self._run(chunk) for chunk in chunks])
        return to_vectors(projected, normalize=normalize, error=AudioValidationError)

    def encode_text(self, texts: list[str], normalize: bool = True) -> np.ndarray:
        """Encode texts; each is cut at ``text_config.max_length`` tokens.

        Args:
            texts: one or more texts.
            normalize: scale vectors to length one.

        Returns:
            (n, dimension) float32.

        Raises:
            TextValidationError: no texts, or an element that is not a text.
        """
        tokens, device = self.tokenizer(texts), self.runtime.device
        with torch.inference_mode():
            pooled = tokens.in_chunks(lambda ids, mask: self.text_tower(ids.to(device), mask.to(device)))
            projected = self.text_projection(pooled)
        return to_vectors(projected, normalize=normalize, error=TextValidationError)

    def _run(self, waveforms: torch.Tensor) -> torch.Tensor:
        mel = self.mel_processor.log_mel(waveforms).to(self.runtime.device)
        projected: torch.Tensor = self.audio_projection(self.audio_tower(mel * self._mel_scale + self._mel_shift))
        return projected
