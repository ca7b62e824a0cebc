"""CLIP: pictures and texts in one vector space.

Source: Radford et al. 2021; values match transformers' CLIPModel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from arrowlens.encoders.image_text import ImageTextEngine
from arrowlens.encoders.runtime import load_module
from arrowlens.encoders.tokenizer import TextTokenizer
from arrowlens.encoders.transformer import Embedding, InferenceCore, LayerNorm, LazyParameters
from arrowlens.encoders.vision import VisionEncoder
from arrowlens.encoders.weights import ModelPath, open_weights


@dataclass(frozen=True)
class ClipTextConfig:
    """Dimensions of CLIP's text tower; the defaults are those of the B models.

    ``pooling`` names the token whose state is the text's: ``argmax`` the first one with the highest id (OpenAI's
    checkpoints, where that is the end of the text), ``eos`` the first end-of-text token.
    """

    vocab_size: int = 49408
    context_length: int = 77
    hidden_size: int = 512
    num_layers: int = 12
    num_heads: int = 8
    intermediate_size: int = 2048
    layer_norm_eps: float = 1e-5
    activation: str = "quick_gelu"
    bos_token_id: int = 49406
    eos_token_id: int = 49407
    pad_token_id: int = 49407
    pooling: str = "argmax"


class ClipTextTower(LazyParameters):
    """CLIP's text tower: token ids to the state of the end-of-text token."""

    position_embedding: torch.Tensor

    def __init__(self, config: ClipTextConfig) -> None:
        width, eps = config.hidden_size, config.layer_norm_eps
        super().__init__(position_embedding=(config.context_length, width))
        self.config = config
        self.token_embedding = Embedding(config.vocab_size, width)
        self.transformer = InferenceCore(
            width,
            config.num_layers,
            config.num_heads,
            config.intermediate_size,
            eps,
            activation=config.activation,
            causal=True,
        )
        self.final_layernorm = LayerNorm(width, eps)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Shapes: (batch, tokens) int64 -> (batch, hidden_size). Padding comes last, where causality hides it."""
        hidden = self.token_embedding(ids) + self.position_embedding[: ids.shape[1]]
        scores = ids if self.config.pooling == "argmax" else (ids == self.config.eos_token_id).int()
        pooled: torch.Tensor = self.final_layernorm(self.transformer(hidden, read=scores.argmax(-1)))
        return pooled


class CLIPEngine(ImageTextEngine):
    """Both towers of CLIP with their projections into the shared space (512-d for the B models).

    Args:
        model_path: a CLIP model directory.
        device: torch device; None takes CUDA when there, else the CPU.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``. Projections and the logit scale stay in float32.

    Raises:
        ModelLoadError: the directory is missing, damaged or no CLIP model, or the device is not there.
    """

    def __init__(self, model_path: ModelPath, device: str | None = None, precision: str = "auto") -> None:
        loader = open_weights(model_path, "clip")
        super().__init__(loader, VisionEncoder(loader, device, precision))
        self.text_config = loader.config(ClipTextConfig, "text")
        self.text_tower = load_module(ClipTextTower(self.text_config), loader, self.runtime, "text.")
        width, vision_width, text_width = self.dimension, self.vision_encoder.dimension, self.text_config.hidden_size
        self.vision_projection = loader.tensor("vision_projection.weight", (width, vision_width)).to(
            self.runtime.device
        )
        self.text_projection = loader.tensor("text_projection.weight", (width, text_width)).to(self.runtime.device)
        self.logit_scale = float(loader.tensor("logit_scale", ()).float().exp())

    def _new_tokenizer(self, data: bytes) -> TextTokenizer:
        config = self.text_config
        return TextTokenizer(data, config.context_length, config.pad_token_id, config.vocab_size)

    def _project_text(self, pooled: torch.Tensor) -> torch.Tensor:
        return functional.linear(pooled, self.text_projection.float())

    def _project_image(self, pooled: torch.Tensor) -> torch.Tensor:
        return functional.linear(pooled, self.vision_projection.float())
