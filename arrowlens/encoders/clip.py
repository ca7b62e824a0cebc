"""CLIP: pictures and texts in one vector space.

Source: Radford et al. 2021; values match transformers' CLIPModel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import torch
from torch.nn import functional

from arrowlens.encoders.image_processor import ImageProcessor, Images
from arrowlens.encoders.runtime import Encoder, load_module, to_vectors
from arrowlens.encoders.tokenizer import TOKENIZER_NAME, TextTokenizer
from arrowlens.encoders.transformer import Embedding, InferenceCore, LayerNorm, LazyParameters
from arrowlens.encoders.vision import VisionEncoder
from arrowlens.encoders.weights import ModelPath, open_weights
from arrowlens.errors import ImageValidationError, InputError, TextValidationError


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


class CLIPEngine(Encoder):
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
        self.vision_encoder = VisionEncoder(loader, device, precision)
        super().__init__(loader, self.vision_encoder.runtime)
        self.text_config = loader.config(ClipTextConfig, "text")
        self.text_tower = load_module(ClipTextTower(self.text_config), loader, self.runtime, "text.")
        width, vision_width, text_width = self.dimension, self.vision_encoder.dimension, self.text_config.hidden_size
        self.vision_projection = loader.tensor("vision_projection.weight", (width, vision_width)).to(
            self.runtime.device
        )
        self.text_projection = loader.tensor("text_projection.weight", (width, text_width)).to(self.runtime.device)
        self.logit_scale = float(loader.tensor("logit_scale", ()).float().exp())
        self._loader = loader

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """The tokenizer, read on first use: parsing a vocabulary takes longer than mapping all weights."""
        config = self.text_config
        data = self._loader.read_file(TOKENIZER_NAME)
        return TextTokenizer(data, config.context_length, config.pad_token_id, config.vocab_size)

    @property
    def image_processor(self) -> ImageProcessor:
        """The preprocessing for ``encode_image``."""
        return self.vision_encoder.image_processor

    def encode_text(self, texts: list[str], normalize: bool = True) -> np.ndarray:
        """Encode texts; each is cut at the tower's context length (77 tokens for OpenAI's models).

        Args:
            texts: one or more texts.
            normalize: scale vectors to length one.

        Returns:
            (n, dimension) float32.

        Raises:
            TextValidationError: no texts, or an element that is not a text.
        """
        tokens = self.tokenizer(texts)
        with torch.inference_mode():
            pooled = tokens.in_chunks(lambda ids, _: self.text_tower(ids.to(self.runtime.device)))
            projected = functional.linear(pooled.float(), self.text_projection.float())
        return to_vectors(projected, normalize=normalize, error=TextValidationError)

    def encode_image(self, images: Images, normalize: bool = True) -> np.ndarray:
        """Encode pictures.

        Args:
            images: (n, S, S, 3) or (S, S, 3), uint8 RGB (normalised here) or float32 already normalised; or one or more
                PIL images or paths, which the image processor prepares.
            normalize: scale vectors to length one.

        Returns:
            (n, dimension) float32.

        Raises:
            ImageValidationError: wrong shape or dtype, NaN, a file that cannot be decoded, or a picture that encodes to
                a vector without direction.
        """
        with torch.inference_mode():
            projected = functional.linear(self.vision_encoder.pooled(images).float(), self.vision_projection.float())
        return to_vectors(projected, normalize=normalize, error=ImageValidationError)

    encode = encode_image
    """The name that ``BatchEncoder`` calls; the same as ``encode_image``."""

    def compute_similarity(self, text_embeddings: np.ndarray, image_embeddings: np.ndarray) -> np.ndarray:
        """Compute CLIP's logits: cosines times the learnt logit scale.

        Args:
            text_embeddings: (n_texts, dimension), normalised.
            image_embeddings: (n_images, dimension), normalised.

        Returns:
            (n_texts, n_images) float32.

        Raises:
            InputError: the shapes do not fit together.
        """
        if (
            text_embeddings.ndim != 2
            or image_embeddings.ndim != 2
            or text_embeddings.shape[1] != image_embeddings.shape[1]
        ):
            raise InputError(
                f"want (n_texts, d) and (n_images, d), got {text_embeddings.shape} and {image_embeddings.shape}"
            )
        return cast(np.ndarray, text_embeddings @ image_embeddings.T * np.float32(self.logit_scale))

    def find_best_matches(self, texts: list[str], images: Images, top_k: int = 5) -> list[list[int]]:
        """Find the rows of each text's best pictures, best first; equal scores in the order of rows.

        Args:
            texts: one or more texts.
            images: as for ``encode_image``.
            top_k: how many rows, at most the number of pictures.

        Raises:
            InputError: unusable texts or pictures, or ``top_k`` below one.
        """
        if top_k < 1:
            raise InputError(f"top_k must be at least 1, got {top_k}")
        scores = self.compute_similarity(self.encode_text(texts), self.encode_image(images))
        ranks: list[list[int]] = np.argsort(-scores, axis=1, kind="stable")[:, :top_k].tolist()
        return ranks
