"""BERT and MiniLM text encoders, averaged over the real tokens.

Source: Devlin et al. 2018; pooling as sentence-transformers' all-MiniLM-L6-v2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from arrowlens.encoders.runtime import Encoder, choose_runtime, load_module, to_vectors
from arrowlens.encoders.tokenizer import TOKENIZER_NAME, TextTokenizer
from arrowlens.encoders.transformer import Embedding, InferenceCore, LayerNorm, LazyParameters
from arrowlens.encoders.weights import ModelPath, open_weights
from arrowlens.errors import TextValidationError


@dataclass(frozen=True)
class TextConfig:
    """Dimensions of a BERT or RoBERTa; the defaults are all-MiniLM-L6-v2's. ``max_length`` is where texts are cut."""

    vocab_size: int = 30522
    max_positions: int = 512
    type_vocab_size: int = 2
    hidden_size: int = 384
    num_layers: int = 6
    num_heads: int = 12
    intermediate_size: int = 1536
    layer_norm_eps: float = 1e-12
    activation: str = "gelu"
    max_length: int = 256  # tokens
    pad_token_id: int = 0


class BertTower(LazyParameters):
    """Embeddings and layers of BERT and RoBERTa, whose subclasses say which states make the text's."""

    position_embedding: torch.Tensor
    token_type_embedding: torch.Tensor

    def __init__(self, config: TextConfig) -> None:
        width, eps = config.hidden_size, config.layer_norm_eps
        super().__init__(
            position_embedding=(config.max_positions, width), token_type_embedding=(config.type_vocab_size, width)
        )
        self.token_embedding = Embedding(config.vocab_size, width)
        self.embedding_layernorm = LayerNorm(width, eps)
        self.transformer = InferenceCore(
            width,
            config.num_layers,
            config.num_heads,
            config.intermediate_size,
            eps,
            activation=config.activation,
            norm="post",
        )


class TextTower(BertTower):
    """The BERT encoder: token ids to the mean over the real tokens."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Shapes: (batch, tokens) int64 and bool -> (batch, hidden_size)."""
        positions = self.position_embedding[: ids.shape[1]]
        hidden = self.embedding_layernorm(self.token_embedding(ids) + positions + self.token_type_embedding[0])
        hidden = self.transformer(hidden, None if bool(mask.all()) else mask).float()
        weights = mask[..., None].to(hidden.dtype)
        pooled: torch.Tensor = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
        return pooled


class TextEncoder(Encoder):
    """Texts to vectors (384-d for MiniLM).

    Args:
        model_path: a BERT model directory.
        device: torch device; None takes CUDA when there, else the CPU.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``.

    Raises:
        ModelLoadError: the directory is missing, damaged or no BERT model, or the device is not there.
    """

    def __init__(self, model_path: ModelPath, device: str | None = None, precision: str = "auto") -> None:
        loader = open_weights(model_path, "bert")
        super().__init__(loader, choose_runtime(device, precision))
        self.config = loader.config(TextConfig)
        self.tower = load_module(TextTower(self.config), loader, self.runtime)
        self._loader = loader

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """The tokenizer, read on first use: parsing a vocabulary takes longer than mapping all weights."""
        data = self._loader.read_file(TOKENIZER_NAME)
        return TextTokenizer(data, self.config.max_length, self.config.pad_token_id, self.config.vocab_size)

    def encode(self, texts: str | list[str], normalize: bool = True) -> np.ndarray:
        """Encode texts; each is cut at ``config.max_length`` tokens.

        Args:
            texts: one text or several.
            normalize: scale vectors to length one.

        Returns:
            (n, hidden_size) float32, n = 1 for one text.

        Raises:
            TextValidationError: no texts, or an element that is not a text.
        """
        tokens = self.tokenizer([texts] if isinstance(texts, str) else texts)
        with torch.inference_mode():
            pooled = tokens.in_chunks(self._run)
        return to_vectors(pooled, normalize=normalize, error=TextValidationError)

    def _run(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.tower(ids.to(self.runtime.device), mask.to(self.runtime.device))
        return pooled
