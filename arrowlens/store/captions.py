"""What files are said to show: titles, descriptions and captions, as the texts that get vectors of the text model."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from arrowlens.store.schema import embedding_id_of
from arrowlens.store.vectors import VectorRow

CAPTION_ROLE = "text"
CAPTION_COLUMNS = ("title", "caption", "description")  # of media


@dataclasses.dataclass(frozen=True, slots=True)
class Caption:
    """The text of a file at a place.

    Attributes:
        media_id, content_hash, modality: the file's. text: not empty.
    """

    media_id: str
    content_hash: str
    modality: str
    text: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Caption | None:
        """That of a row of ``media``, None where nobody said anything."""
        parts = [" ".join((row[column] or "").split()) for column in CAPTION_COLUMNS]
        text = ". ".join(dict.fromkeys(part.rstrip(".") for part in parts if part))
        return cls(row["media_id"], row["content_hash"], row["modality"], text) if text else None

    @property
    def number(self) -> int:
        """Stands in for the text in its vector's id: with another text the file wants another vector."""
        return int.from_bytes(hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).digest()[:6])

    @property
    def embedding_id(self) -> str:
        """The id of its vector."""
        return embedding_id_of(self.media_id, self.content_hash, self.number)

    def row(self, vector: np.ndarray) -> VectorRow:
        """Its vector (d,) on the way to the store."""
        return VectorRow(self.media_id, self.content_hash, self.modality, vector, self.number)
