"""CLIP's vision tower: a Vision Transformer pooled at its class token.

Source: Radford et al. 2021 (CLIP), Dosovitskiy et al. 2020 (ViT); values match transformers' CLIPVisionModel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from arrowlens.encoders.image_processor import PREPROCESSOR_NAME, ImageProcessor, Images
from arrowlens.encoders.model_directory import CURE
from arrowlens.encoders.runtime import Encoder, choose_runtime, load_module, to_device, to_vectors
from arrowlens.encoders.transformer import InferenceCore, LayerNorm, LazyParameters
from arrowlens.encoders.validation import validate_image_input
from arrowlens.encoders.weights import ModelPath, open_weights
from arrowlens.errors import ImageValidationError, ModelLoadError


@dataclass(frozen=True)
class VisionConfig:
    """Dimensions of a vision tower; the defaults are ViT-B/16's."""

    image_size: int = 224
    patch_size: int = 16
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    layer_norm_eps: float = 1e-5
    activation: str = "quick_gelu"

    @property
    def num_patches(self) -> int:
        """The number of patches of a picture: the grid's side squared; pixels that fill no patch are cut off."""
        return (self.image_size // self.patch_size) ** 2


class Kernel(LazyParameters):
    """The weights of a convolution."""

    weight: torch.Tensor


class PatchEmbedding(nn.Module):
    """Cut pictures into patches and project each: a convolution whose stride is its kernel.

    Args:
        config: the vision tower's.
        bias: whether the convolution has a bias; SigLIP's has one, CLIP's none.
    """

    def __init__(self, config: VisionConfig, *, bias: bool = False) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        shapes: dict[str, tuple[int, ...]] = {"weight": (config.hidden_size, 3, config.patch_size, config.patch_size)}
        self.projection = Kernel(**shapes | ({"bias": (config.hidden_size,)} if bias else {}))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Shapes: (batch, 3, image_size, image_size) -> (batch, num_patches, hidden_size), row by row."""
        bias = getattr(self.projection, "bias", None)
        patches = functional.conv2d(images, self.projection.weight, bias, stride=self.patch_size)
        return patches.flatten(2).transpose(1, 2)  # from (batch, hidden, grid, grid)


class VisionTower(LazyParameters):
    """The vision tower: normalised pictures to the pooled class token."""

    class_embedding: torch.Tensor
    position_embedding: torch.Tensor

    def __init__(self, config: VisionConfig) -> None:
        width, eps = config.hidden_size, config.layer_norm_eps
        super().__init__(class_embedding=(width,), position_embedding=(config.num_patches + 1, width))
        self.patch_embedding = PatchEmbedding(config)
        self.pre_layernorm = LayerNorm(width, eps)
        self.transformer = InferenceCore(
            width, config.num_layers, config.num_heads, config.intermediate_size, eps, activation=config.activation
        )
        self.post_layernorm = LayerNorm(width, eps)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Shapes: (batch, 3, image_size, image_size) -> (batch, hidden_size)."""
        patches = self.patch_embedding(images)
        classes = self.class_embedding.expand(len(images), 1, -1)
        tokens = torch.cat([classes, patches], dim=1) + self.position_embedding  # (batch, num_patches + 1, hidden)
        first = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        pooled: torch.Tensor = self.post_layernorm(self.transformer(self.pre_layernorm(tokens), read=first))
        return pooled


class VisionEncoder(Encoder):
    """Pictures to the vision tower's pooled vectors (768-d for the B models), before CLIP's projection.

    A subclass runs another family's tower.

    Args:
        model_path: a CLIP model directory.
        device: torch device; None takes CUDA when there, else the CPU.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``.

    Raises:
        ModelLoadError: the directory is missing, damaged or no CLIP model, or the device is not there.
    """

    family: ClassVar[str] = "clip"

    def __init__(self, model_path: ModelPath, device: str | None = None, precision: str = "auto") -> None:
        loader = open_weights(model_path, self.family)
        super().__init__(loader, choose_runtime(device, precision))
        self.config = loader.config(VisionConfig, "vision")
        self.image_processor = ImageProcessor.from_json(loader.read_file(PREPROCESSOR_NAME))
        if self.image_processor.image_size != self.config.image_size:
            raise ModelLoadError(
                f"{loader.directory / PREPROCESSOR_NAME}: image_size is {self.image_processor.image_size}, the model "
                f"takes {self.config.image_size}; {CURE}"
            )
        self.tower = load_module(self._new_tower(), loader, self.runtime, "vision.")

    @property
    def dimension(self) -> int:
        """Length of the vectors: the tower's hidden size."""
        return self.config.hidden_size

    @property
    def patch_embedding(self) -> PatchEmbedding:
        """The first step: (batch, 3, S, S) -> (batch, num_patches, hidden_size)."""
        return cast(PatchEmbedding, self.tower.patch_embedding)

    def encode(self, images: Images, normalize: bool = True) -> np.ndarray:
        """Encode pictures.

        Args:
            images: (n, S, S, 3) or (S, S, 3) with S = ``config.image_size``, uint8 RGB (normalised here) or float32
                already normalised; or one or more PIL images or paths, which the image processor prepares.
            normalize: scale vectors to length one.

        Returns:
            (n, hidden_size) float32.

        Raises:
            ImageValidationError: wrong shape or dtype, NaN, a file that cannot be decoded, or a picture that encodes to
                a vector without direction.
        """
        return to_vectors(self.pooled(images), normalize=normalize, error=ImageValidationError)

    def pooled(self, images: Images) -> torch.Tensor:
        """As ``encode``, without normalising: (n, hidden_size) on the model's device."""
        pixels = self.image_processor.batch(images)
        validate_image_input(pixels, self.config.image_size)
        batch = pixels[None] if pixels.ndim == 3 else pixels
        with torch.inference_mode():
            return self._run(batch)

    def _new_tower(self) -> nn.Module:
        """The tower without weights."""
        return VisionTower(self.config)

    def _run(self, batch: np.ndarray) -> torch.Tensor:
        pixels = to_device(
            torch.tensor(batch), self.runtime.device
        )  # copied as bytes: a quarter of their size in float32
        if pixels.dtype == torch.uint8:
            pixels = self._normalized(pixels)
        pooled: torch.Tensor = self.tower(pixels.to(self.runtime.dtype).permute(0, 3, 1, 2))
        return pooled

    def _normalized(self, pixels: torch.Tensor) -> torch.Tensor:
        """Compute on the model's device exactly what ``ImageProcessor.normalize`` gives."""
        width = pixels.shape[2]
        # Whole rows: operations on three values at a time take six times as long.
        mean = pixels.new_tensor(self.image_processor.mean, dtype=torch.float32).repeat(width)
        deviation = pixels.new_tensor(self.image_processor.std, dtype=torch.float32).repeat(width)
        rows = pixels.flatten(2).to(torch.float32).mul_(1 / 255).sub_(mean).div_(deviation)
        return rows.view(pixels.shape)
