"""What a library knows of a file: the columns of ``media``, and its texts."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from arrowlens.modalities import TextSource
from arrowlens.store.identifiers import embedding_id_of
from arrowlens.store.schema import key_field
from arrowlens.store.vectors import VectorRow

CAPTION_ROLE = "text"
WRITTEN: tuple[TextSource, ...] = ("title", "caption", "description")  # columns of ``media``
_UTC, _LOCAL, _TEXTS = pa.timestamp("us", tz="UTC"), pa.timestamp("us"), pa.map_(pa.string(), pa.string())
_ARROW, _SHOWN = "arrow", "shown"  # in a field's metadata: the column's Arrow type; whether a hit is made of it


def _column(arrow_type: pa.DataType, *, shown: bool = True) -> Any:  # noqa: ANN401 - stands for a default of any type
    return dataclasses.field(default=None, metadata={_ARROW: arrow_type, _SHOWN: shown})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MediaRecord:
    """A file at a place, readable or not: one row of ``media``, whose Arrow schema is derived from it.

    The order is that of the columns on disk, so a new column stands at the end; ``MEDIA_LAYOUT`` is raised with it,
    and the next writer gives it to a library of an earlier layout, null in every row.
    """

    # ``media_id_of`` the root and the path
    media_id: str = dataclasses.field(metadata={_ARROW: pa.string(), _SHOWN: True})
    root_id: str | None = _column(pa.string())  # ``root_id_of`` the folder that was ingested
    path: str | None = _column(pa.string())  # relative to the root, for people; bytes that are not UTF-8 as \xNN
    path_bytes: bytes | None = _column(pa.binary())  # the same as the file system has it
    content_hash: str | None = _column(pa.string())
    size: int | None = _column(pa.int64())  # bytes
    modified_ns: int | None = _column(pa.int64(), shown=False)  # as the file system says
    modified: dt.datetime | None = _column(_UTC)  # noqa: RUF009 - the same to the microsecond
    modality: str | None = _column(pa.string())  # "image", "audio" or "video"
    format: str | None = _column(pa.string())  # "jpeg", "wav", ...
    width: int | None = _column(pa.int32())  # pixels
    height: int | None = _column(pa.int32())  # pixels
    duration: float | None = _column(pa.float64())  # seconds
    sample_rate: int | None = _column(pa.int32())  # Hz; null for a film without sound
    channels: int | None = _column(pa.int32())
    captured_at: dt.datetime | None = _column(_LOCAL)  # noqa: RUF009 - by the clock of the device
    metadata: Mapping[str, str] | None = _column(_TEXTS)
    trivial: bool | None = _column(pa.bool_(), shown=False)  # of one colour, or silent
    state: str | None = _column(pa.string())  # "indexed" or "skipped"
    reason: str | None = _column(pa.string())  # why it could not be read, also if it stays indexed as it was before
    layout: int | None = _column(pa.int32(), shown=False)  # MEDIA_LAYOUT of the writer: earlier rows lack later columns
    caption: str | None = _column(pa.string())  # the text of a file beside it
    caption_stamp: str | None = _column(pa.string(), shown=False)  # that file's size and time
    taken: dt.datetime | None = _column(_LOCAL)  # noqa: RUF009 - captured_at, or else modified in local time
    camera: str | None = _column(pa.string())
    latitude: float | None = _column(pa.float64())  # degrees north
    longitude: float | None = _column(pa.float64())  # degrees east
    title: str | None = _column(pa.string())
    artist: str | None = _column(pa.string())
    album: str | None = _column(pa.string())
    description: str | None = _column(pa.string())  # what its own tags say
    words: str | None = _column(pa.string(), shown=False)  # what the full-text index holds of all its texts
    # Of the file that was read, free of links, unless path is that.
    real_path: bytes | None = _column(pa.binary(), shown=False)
    file_id: str | None = _column(pa.string(), shown=False)  # its device and inode; null before layout 3


def media_schema() -> pa.Schema:
    """Return the Arrow schema of ``media``: the columns of ``MediaRecord``."""
    key, *columns = dataclasses.fields(MediaRecord)
    return pa.schema([key_field(key.name), *(pa.field(column.name, column.metadata[_ARROW]) for column in columns)])


def shown_columns() -> list[str]:
    """Return the columns of ``media`` that a hit is made of: without the bookkeeping, which takes time to read."""
    return [column.name for column in dataclasses.fields(MediaRecord) if column.metadata[_SHOWN]]


@dataclasses.dataclass(frozen=True, slots=True)
class MediaText:
    """Words about a medium.

    Attributes:
        source: where they come from, of ``modalities.SOURCES``.
        text: not empty; lines of a picture are separated by line breaks.
        start, end: seconds, of what was heard; None for other texts.
        language: as ISO 639-1 names it, "en"; None where it is not known.
        confidence: of the program that read or heard it, in [0, 1]; None for what people wrote.
    """

    source: TextSource
    text: str
    start: float | None = None
    end: float | None = None
    language: str | None = None
    confidence: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """What a program read or heard in a content.

    Attributes:
        content_hash: names the content.
        texts: in their order; none where there is no text.
        reason: why it could not be read; None where it was.
    """

    content_hash: str
    texts: Sequence[MediaText] = ()
    reason: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class FileText:
    """A text of a file at a place, which gets a vector of the text model.

    Attributes:
        media_id, content_hash, modality: the file's. text: the text.
    """

    media_id: str
    content_hash: str
    modality: str
    text: MediaText

    @property
    def number(self) -> int:
        """A number made of the text, in place of a window's in the id of its vector: another text, another id.

        A film that was a recording has another one as well, since the vector's row says what it is of.
        """
        words, start = self.text.text, self.text.start
        key = words if start is None else f"{start:.3f} {words}"
        key = f"{key}\0video" if self.modality == "video" else key
        return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:6])

    @property
    def embedding_id(self) -> str:
        """The id of its vector."""
        return embedding_id_of(self.media_id, self.content_hash, self.number)

    def row(self, vector: np.ndarray) -> VectorRow:
        """Return its vector (d,) as the store takes it."""
        place = (self.media_id, self.content_hash, self.modality)
        return VectorRow(*place, vector, self.number, self.text.start, self.text.end)


def written_texts(row: Mapping[str, Any]) -> list[MediaText]:
    """Return what people wrote about the file of a row of ``media``: its title, caption and description, if any."""
    texts = {source: " ".join((row[source] or "").split()) for source in WRITTEN}
    return [MediaText(source, text) for source, text in texts.items() if text]
