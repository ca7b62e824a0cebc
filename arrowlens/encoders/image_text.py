"""What the models of pictures and texts in one vector space have in common."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from arrowlens.encoders.image_processor import ImageProcessor, Images
from arrowlens.encoders.runtime import Encoder, to_vectors
from arrowlens.encoders.tokenizer import TOKENIZER_NAME, TextTokenizer
from arrowlens.encoders.vision import VisionEncoder
from arrowlens.encoders.weights import WeightLoader
from arrowlens.errors import ImageValidationError, InputError, TextValidationError


class ImageTextEngine(Encoder):
    """Both towers of a model that was trained on pictures and their texts: CLIP, SigLIP.

    A subclass loads the text tower and the projections.

    Args:
        loader: the model's weights.
        vision_encoder: its vision tower; the text tower runs on the same device, in the same precision.

    Attributes:
        vision_encoder: as given.
        text_tower: token ids, (n, tokens) int64, to pooled states, (n, width).
        logit_scale: what cosines are multiplied with, and
        logit_bias: what is added then, in ``compute_similarity``.
    """

    text_tower: torch.nn.Module
    logit_scale: float
    logit_bias: float = 0.0

    def __init__(self, loader: WeightLoader, vision_encoder: VisionEncoder) -> None:
        super().__init__(loader, vision_encoder.runtime)
        self.vision_encoder = vision_encoder
        self._loader = loader

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """The tokenizer, read on first use: parsing a vocabulary takes longer than mapping all weights."""
        return self._new_tokenizer(self._loader.read_file(TOKENIZER_NAME))

    @property
    def image_processor(self) -> ImageProcessor:
        """The preprocessing for ``encode_image``."""
        return self.vision_encoder.image_processor

    def encode_text(self, texts: list[str], normalize: bool = True) -> np.ndarray:
        """Encode texts; each is cut at the tower's context length (77 tokens for OpenAI's models, 64 for SigLIP).

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
            projected = self._project_text(pooled.float())
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
            projected = self._project_image(self.vision_encoder.pooled(images).float())
        return to_vectors(projected, normalize=normalize, error=ImageValidationError)

    encode = encode_image
    """The name that ``BatchEncoder`` calls; the same as ``encode_image``."""

    def compute_similarity(self, text_embeddings: npt.ArrayLike, image_embeddings: npt.ArrayLike) -> np.ndarray:
        """Compute the model's logits: cosines times the learnt scale, plus the learnt bias where there is one.

        Args:
            text_embeddings: (n_texts, dimension), normalised; or nested lists.
            image_embeddings: (n_images, dimension), normalised; or nested lists.

        Returns:
            (n_texts, n_images) float32.

        Raises:
            InputError: no numbers, or the shapes do not fit together.
        """
        texts, images = _matrix(text_embeddings), _matrix(image_embeddings)
        if texts.ndim != 2 or images.ndim != 2 or texts.shape[1] != images.shape[1]:
            raise InputError(f"want (n_texts, d) and (n_images, d), got {texts.shape} and {images.shape}")
        scaled = texts @ images.T * np.float32(self.logit_scale)
        return cast(np.ndarray, scaled + np.float32(self.logit_bias))

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

    @abstractmethod
    def _new_tokenizer(self, data: bytes) -> TextTokenizer:
        """The tokenizer that a ``tokenizer.json`` describes, with the text tower's lengths."""

    @abstractmethod
    def _project_text(self, pooled: torch.Tensor) -> torch.Tensor:
        """Shapes: (n, width of the text tower) -> (n, dimension), float32."""

    @abstractmethod
    def _project_image(self, pooled: torch.Tensor) -> torch.Tensor:
        """Shapes: (n, width of the vision tower) -> (n, dimension), float32."""


def _matrix(embeddings: npt.ArrayLike) -> np.ndarray:
    try:
        return np.asarray(embeddings, dtype=np.float32)
    except (ValueError, TypeError) as error:
        cause = " ".join(str(error).split())
        raise InputError(
            f"embeddings are rows of numbers of one length ({cause}); take what encode_text gives"
        ) from error
