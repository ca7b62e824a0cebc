"""SigLIP and SigLIP 2 with a fixed resolution: pictures and texts in one vector space.

Source: Zhai et al. 2023, Tschannen et al. 2025; values match transformers' SiglipModel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from arrowlens.encoders.image_text import ImageTextEngine
from arrowlens.encoders.model_directory import CURE
from arrowlens.encoders.runtime import load_module
from arrowlens.encoders.tokenizer import TextTokenizer
from arrowlens.encoders.transformer import (
    Embedding,
    FeedForward,
    InferenceCore,
    LayerNorm,
    LazyParameters,
    Linear,
    attend,
)
from arrowlens.encoders.vision import PatchEmbedding, VisionConfig, VisionEncoder
from arrowlens.encoders.weights import ModelPath, WeightLoader, open_weights
from arrowlens.errors import ModelLoadError


@dataclass(frozen=True)
class SiglipTextConfig:
    """Dimensions of SigLIP's text tower; the defaults are those of the B models.

    Every text has ``context_length`` tokens: padding goes to its ``padding_side`` and is attended to.
    """

    vocab_size: int = 32000
    context_length: int = 64
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    layer_norm_eps: float = 1e-6
    activation: str = "gelu_pytorch_tanh"
    pad_token_id: int = 1
    padding_side: str = "right"


class SiglipTextTower(LazyParameters):
    """SigLIP's text tower: token ids to the state at the last position, which may be padding."""

    position_embedding: torch.Tensor

    def __init__(self, config: SiglipTextConfig) -> None:
        width, eps = config.hidden_size, config.layer_norm_eps
        super().__init__(position_embedding=(config.context_length, width))
        self.token_embedding = Embedding(config.vocab_size, width)
        self.transformer = InferenceCore(
            width, config.num_layers, config.num_heads, config.intermediate_size, eps, activation=config.activation
        )
        self.final_layernorm = LayerNorm(width, eps)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Shapes: (batch, context_length) int64 -> (batch, hidden_size)."""
        hidden = self.token_embedding(ids) + self.position_embedding
        last = torch.full((len(ids),), ids.shape[1] - 1, device=ids.device)
        pooled: torch.Tensor = self.final_layernorm(self.transformer(hidden, read=last))
        return pooled


class AttentionPooling(LazyParameters):
    """A learnt probe attends to all tokens of an item; a feed-forward part follows."""

    probe: torch.Tensor

    def __init__(self, config: VisionConfig) -> None:
        width = config.hidden_size
        super().__init__(probe=(width,))
        self.num_heads = config.num_heads
        self.query = Linear(width, width)
        self.key_value = Linear(width, 2 * width)
        self.out = Linear(width, width)
        self.norm = LayerNorm(width, config.layer_norm_eps)
        self.mlp = FeedForward(width, config.intermediate_size, config.activation)
        self.widest = max(2 * width, config.intermediate_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Shapes: (batch, tokens, hidden) -> (batch, hidden)."""
        batch, tokens, width = hidden.shape
        scratch = hidden.new_empty(batch * tokens * self.widest)
        packed = self.key_value.into(scratch, hidden.flatten(0, 1))
        key, value = packed.view(batch, tokens, 2, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        query = self.query.into(hidden.new_empty(width), self.probe[None]).view(1, self.num_heads, 1, -1)
        mixed = attend(query.expand(batch, -1, -1, -1), key, value, None, causal=False)  # (batch, hidden)
        pooled = self.out.into(hidden.new_empty(batch * width), mixed)
        return self.mlp.add_to(pooled, self.norm(pooled), scratch)


class SiglipVisionTower(LazyParameters):
    """SigLIP's vision tower: normalised pictures to pooled vectors. There is no class token."""

    position_embedding: torch.Tensor

    def __init__(self, config: VisionConfig) -> None:
        width, eps = config.hidden_size, config.layer_norm_eps
        super().__init__(position_embedding=(config.num_patches, width))
        self.patch_embedding = PatchEmbedding(config, bias=True)
        self.transformer = InferenceCore(
            width, config.num_layers, config.num_heads, config.intermediate_size, eps, activation=config.activation
        )
        self.post_layernorm = LayerNorm(width, eps)
        self.pooling = AttentionPooling(config)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Shapes: (batch, 3, image_size, image_size) -> (batch, hidden_size)."""
        patches = self.patch_embedding(images) + self.position_embedding  # (batch, num_patches, hidden)
        pooled: torch.Tensor = self.pooling(self.post_layernorm(self.transformer(patches)))
        return pooled


class SiglipVisionEncoder(VisionEncoder):
    """Pictures to the vectors of SigLIP's vision tower, which lie in the space shared with texts.

    Args, errors: as ``VisionEncoder``, with a SigLIP model directory.
    """

    family = "siglip"

    def _new_tower(self) -> nn.Module:
        return SiglipVisionTower(self.config)


class SiglipEngine(ImageTextEngine):
    """Both towers of SigLIP (768-d for the B models).

    ``compute_similarity`` gives logits whose sigmoid is the probability that a text and a picture belong together.

    Args:
        model_path: a SigLIP model directory.
        device: torch device; None takes CUDA when there, else the CPU.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``. The text's projection stays in float32.

    Raises:
        ModelLoadError: the directory is missing, damaged or no SigLIP model, or the device is not there.
    """

    def __init__(self, model_path: ModelPath, device: str | None = None, precision: str = "auto") -> None:
        loader = open_weights(model_path, "siglip")
        super().__init__(loader, SiglipVisionEncoder(loader, device, precision))
        self.text_config = loader.config(SiglipTextConfig, "text")
        self.text_tower = load_module(SiglipTextTower(self.text_config), loader, self.runtime, "text.")
        shape = (self.dimension, self.text_config.hidden_size)
        self.text_projection = loader.tensor("text_projection.weight", shape).to(self.runtime.device)
        self.text_projection_bias = loader.tensor("text_projection.bias", shape[:1]).to(self.runtime.device)
        self.logit_scale = math.exp(_number(loader, "logit_scale"))
        self.logit_bias = _number(loader, "logit_bias")
        if self.vision_encoder.dimension != self.dimension:
            raise ModelLoadError(
                f"{loader.path}: pictures have {self.vision_encoder.dimension} dimensions, texts {self.dimension}; "
                f"{CURE}"
            )

    def _new_tokenizer(self, data: bytes) -> TextTokenizer:
        config = self.text_config
        return TextTokenizer(
            data,
            config.context_length,
            config.pad_token_id,
            config.vocab_size,
            fixed_length=True,
            padding_side=config.padding_side,
        )

    def _project_text(self, pooled: torch.Tensor) -> torch.Tensor:
        return functional.linear(pooled, self.text_projection.float(), self.text_projection_bias.float())

    def _project_image(self, pooled: torch.Tensor) -> torch.Tensor:
        return pooled


def _number(loader: WeightLoader, name: str) -> float:
    """A number of the header's dimensions."""
    value = loader.info.dimensions.get(name)
    # A hundred is far beyond any model's, and its exponential is still finite.
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 100:
        raise ModelLoadError(f"{loader.path}: {name} is {value!r:.80}; {CURE}")
    return float(value)
