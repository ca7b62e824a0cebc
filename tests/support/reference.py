"""The transformers library as the reference, and how closely vectors must agree with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import transformers
from PIL import Image

RELATIVE_ERROR = 1e-3  # float32, of any element, against the spread of the reference's vectors
COSINE = 0.99999  # float32
HALF_COSINE = 0.999  # bfloat16, float16
MIN_DISTINCT = 5
DISTINCT = 0.9  # inputs whose reference vectors are closer than this prove little


def assert_agree(ours: np.ndarray, reference: np.ndarray) -> None:
    """Float32 vectors agree: element-wise once the mean over the inputs is gone, and in direction."""
    assert ours.shape == reference.shape
    error = centred_error(ours, reference)
    assert error < RELATIVE_ERROR, f"relative error {error:.2e}"
    assert cosines(ours, reference).min() > COSINE, f"cosine {cosines(ours, reference).min():.6f}"


def centred_error(ours: np.ndarray, reference: np.ndarray) -> float:
    """The largest difference of any element, in units of the reference's spread around its mean over the inputs."""
    mean = reference.mean(axis=0)
    return float(np.abs((ours - mean) - (reference - mean)).max() / (reference - mean).std())


def distinct_rows(vectors: np.ndarray) -> list[int]:
    """Rows of inputs that can tell a right model from a wrong one: no two of their vectors point the same way."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    chosen: list[int] = []
    for row, vector in enumerate(unit):
        if not chosen or (unit[chosen] @ vector).max() < DISTINCT:
            chosen.append(row)
    assert len(chosen) >= MIN_DISTINCT, f"only {len(chosen)} of {len(vectors)} reference vectors differ"
    return chosen


def cosines(ours: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Row by row."""
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(reference, axis=1)
    return (ours * reference).sum(axis=1) / lengths


def pictures(size: int) -> np.ndarray:
    """(8, size, size, 3) uint8: black, white, noise, stripes, gradients and blocks of colour."""
    rng = np.random.default_rng(size)
    ramp = np.linspace(0, 255, size, dtype=np.uint8)
    blank = np.zeros((8, size, size, 3), np.uint8)
    blank[1] = 255
    blank[2] = rng.integers(0, 256, (size, size, 3))
    blank[3, :, : size // 2] = (255, 220, 0)
    blank[4] = ramp[:, None, None]
    blank[5, ..., 0], blank[5, ..., 1] = 255 - ramp[None], 255
    blank[6, : size // 2], blank[6, size // 2 :] = (0, 120, 30), (255, 0, 255)
    side = -(-size // 4)
    board = np.kron(rng.integers(0, 2, (4, 4, 1)), np.ones((side, side, 1)))[:size, :size]
    blank[7] = 255 - board * (0, 200, 255)
    return blank


def sounds() -> list[np.ndarray]:
    """Recordings of different lengths at 16 kHz: noise, tones, a sweep, clicks, a decaying chord and silence."""
    rng = np.random.default_rng(0)
    time = np.arange(16_000 * 3) / 16_000
    chord = sum(np.sin(2 * np.pi * f * time) for f in (220, 277, 330)) * np.exp(-2 * time)
    clicks = np.zeros(20_000)
    clicks[::2000] = 1
    waves = [
        0.3 * rng.normal(size=32_000),
        np.sin(2 * np.pi * 440 * time),
        0.2 * np.sin(2 * np.pi * 3000 * time[:16_160]),
        np.sin(2 * np.pi * (100 + 1500 * time) * time),
        clicks,
        0.3 * chord,
        np.zeros(8_000),
    ]
    return [wave.astype(np.float32) for wave in waves]


def sounds_at_48_khz() -> list[np.ndarray]:
    """Recordings of 0.3 to 10 s at 48 kHz: noises whose power falls, rises, peaks or comes in bursts, and a tone."""
    rng = np.random.default_rng(1)
    time = np.arange(48_000 * 10) / 48_000
    noise = rng.normal(size=len(time))
    spectrum, frequencies = np.fft.rfft(noise), np.fft.rfftfreq(len(noise), 1 / 48_000)
    shapes = (
        1 / (1 + (frequencies / 300) ** 2),
        (frequencies / 8000) ** 3,
        np.exp(-(((frequencies - 2000) / 700) ** 2)) + 1e-4,
        1e-3 + (np.sin(frequencies / 500) > 0),
    )
    falling, rising, peaked, comb = (np.fft.irfft(spectrum * shape) for shape in shapes)
    waves = [
        0.3 * noise[: 48_000 * 4],
        falling,
        rising[: 48_000 * 7],
        peaked[: 48_000 * 3],
        comb[: 48_000 * 5],
        noise * (np.sin(2 * np.pi * 0.4 * time) > 0.5),
        0.5 * np.sin(2 * np.pi * 440 * time[:14_400]),
    ]
    return [wave.astype(np.float32) for wave in waves]


class ClipReference:
    """transformers' CLIPModel with its own preprocessing."""

    def __init__(self, model: transformers.CLIPModel) -> None:
        self.model = model.float().eval()
        size = model.config.vision_config.image_size
        self.processor = transformers.CLIPImageProcessorPil(
            size={"shortest_edge": size}, crop_size={"height": size, "width": size}
        )

    def pixels(self, images: Sequence[Image.Image] | np.ndarray) -> torch.Tensor:
        """(n, 3, size, size)."""
        pil = [image if isinstance(image, Image.Image) else Image.fromarray(image) for image in images]
        return self.processor(pil, return_tensors="pt")["pixel_values"]

    @torch.inference_mode()
    def pooled(self, images: Sequence[Image.Image] | np.ndarray) -> np.ndarray:
        """The vision tower's pooled output: (n, hidden)."""
        return self.model.vision_model(self.pixels(images)).pooler_output.numpy()

    @torch.inference_mode()
    def images(self, images: Sequence[Image.Image] | np.ndarray) -> np.ndarray:
        """Projected: (n, dimension)."""
        return self.model.get_image_features(pixel_values=self.pixels(images)).pooler_output.numpy()

    @torch.inference_mode()
    def texts(self, ids: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
        """Projected: (n, dimension)."""
        return self.model.get_text_features(input_ids=ids, attention_mask=mask.long()).pooler_output.numpy()


class WhisperReference:
    """transformers' Whisper encoder with its own feature extractor."""

    def __init__(self, model: transformers.PreTrainedModel) -> None:
        self.model = model.float().eval()
        self.encoder = model.get_encoder()
        self.projector = getattr(model, "projector", None)
        self.extractor = transformers.WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)

    @torch.inference_mode()
    def padded(self, waves: Sequence[np.ndarray], layer: int | None = None) -> np.ndarray:
        """Padded to 30 s, averaged over every position: (n, dimension). With ``layer`` its hidden states are."""
        mel = self.extractor(list(waves), sampling_rate=16_000, return_tensors="pt")["input_features"]
        if layer is not None:
            return self.encoder(mel, output_hidden_states=True).hidden_states[layer].mean(dim=1).numpy()
        return self._pool(self.encoder(mel).last_hidden_state)

    @torch.inference_mode()
    def clip(self, wave: np.ndarray, layer: int | None = None) -> np.ndarray:
        """The recording's own frames only, by the reference's own layers, its position table cut: (1, dimension).

        With ``layer`` the mean over the output of that many layers."""
        features = self.extractor(wave, sampling_rate=16_000, return_tensors="pt", padding="do_not_pad")
        hidden = torch.nn.functional.gelu(self.encoder.conv1(features["input_features"]))
        hidden = torch.nn.functional.gelu(self.encoder.conv2(hidden)).transpose(1, 2)
        hidden = hidden + self.encoder.embed_positions.weight[: hidden.shape[1]]
        for module in self.encoder.layers[:layer]:
            output = module(hidden, None)
            hidden = output[0] if isinstance(output, tuple) else output
        if layer is not None:
            return hidden.mean(dim=1).numpy()
        return self._pool(self.encoder.layer_norm(hidden))

    def _pool(self, hidden: torch.Tensor) -> np.ndarray:
        projected = hidden if self.projector is None else self.projector(hidden)
        return projected.mean(dim=1).numpy()


class ClapReference:
    """transformers' ClapModel with its own feature extractor; at most 10 s of a recording, of which it draws more."""

    def __init__(self, model: transformers.ClapModel) -> None:
        self.model = model.float().eval()
        self.extractor = transformers.ClapFeatureExtractor(
            truncation="rand_trunc", padding="repeatpad", frequency_min=50, frequency_max=14_000
        )

    def log_mel(self, waves: Sequence[np.ndarray]) -> np.ndarray:
        """(n, frames, mel bands), in decibels."""
        features = self.extractor(list(waves), sampling_rate=48_000, return_tensors="np")["input_features"]
        return np.stack(features)[:, 0]

    @torch.inference_mode()
    def sounds(self, waves: Sequence[np.ndarray]) -> np.ndarray:
        """Projected and of length one: (n, dimension)."""
        features = torch.from_numpy(self.log_mel(waves)).float()[:, None]
        return self.model.get_audio_features(input_features=features).pooler_output.numpy()

    @torch.inference_mode()
    def texts(self, ids: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
        """Projected and of length one: (n, dimension)."""
        return self.model.get_text_features(input_ids=ids, attention_mask=mask.long()).pooler_output.numpy()
