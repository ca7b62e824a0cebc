"""The directories of a TIFF, which DNG, NEF, ARW, CR2 and other raw photographs are built as."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _SUB_DIRECTORIES = 256, 257, 259, 262, 277, 330  # tags
_PLACES_AND_SIZES = ((273, 279), (324, 325))  # tags of strips, and of tiles
_BEHIND_FILTERS, _LINEAR = 32803, 34892  # of _PHOTOMETRIC: what a sensor saw, and one value for each of its colours
_PREVIEWS = (2, 6)  # of _PHOTOMETRIC: RGB and YCbCr
_PLAIN = 1  # of _COMPRESSION
_MOST_ENTRIES = 4096  # of a directory that are looked at; the longest real ones have some 200
_MOST_DIRECTORIES = 16  # that follow each other, and of those within one
_MOST_PARTS = 1 << 16  # strips or tiles of a directory
_ELSEWHERE = (0, 0xFFFFFFFF)  # places that some cameras write where they keep the true one under a tag of their own
_FORMS = {3: "H", 4: "I", 13: "I"}  # of types: 16 bits, 32 bits, a place


class _Values(NamedTuple):
    """Numbers under a tag: how many, their form for ``struct``, and the first one, or where they lie."""

    n: int
    form: str
    inline: bytes


class Directory:
    """One of a TIFF's pictures.

    Attributes:
        linear_samples: values of a pixel, of a raw photograph that has them all for each pixel; else None.
        is_sensor: it says of itself that a sensor saw it.
        is_preview: it is a finished picture.
        is_plain: not compressed.
        n_pixels: width times height; 0 where that is not said.
    """

    def __init__(self, file: BinaryIO, order: str, start: int) -> None:
        self._file, self._order = file, order
        self._tags, self.next = _read(file, order, start)
        photometric = self._first(_PHOTOMETRIC)
        self.is_sensor = photometric in (_BEHIND_FILTERS, _LINEAR)
        self.is_preview = photometric in _PREVIEWS
        self.linear_samples = (self._first(_SAMPLES) or 1) if photometric == _LINEAR else None
        self.is_plain = self._first(_COMPRESSION) in (None, _PLAIN)
        self.n_pixels = (self._first(_WIDTH) or 0) * (self._first(_HEIGHT) or 0)

    def parts(self) -> Iterator[tuple[int, int]]:
        """Where each strip or tile lies, and its bytes, as the directory states them."""
        for places, sizes in _PLACES_AND_SIZES:
            yield from (
                part for part in zip(self.values(places), self.values(sizes), strict=False) if part[0] not in _ELSEWHERE
            )

    def inner(self) -> list[int]:
        """Where the directories within this one begin."""
        return self.values(_SUB_DIRECTORIES)[:_MOST_DIRECTORIES]

    def values(self, tag: int) -> list[int]:
        """The whole numbers under a tag, as far as they are there; none where it is missing."""
        found = self._tags.get(tag)
        if found is None or found.n > _MOST_PARTS:
            return []
        size = struct.calcsize(found.form)
        data = found.inline
        if found.n * size > len(data):
            self._file.seek(struct.unpack(self._order + "I", data)[0])
            data = self._file.read(found.n * size)
        n = min(found.n, len(data) // size)
        return list(struct.unpack_from(f"{self._order}{n}{found.form}", data))

    def _first(self, tag: int) -> int | None:
        return next(iter(self.values(tag)), None)


def directories(file: BinaryIO) -> Iterator[Directory]:
    """Yield the directories of a TIFF, and after each those within it; none of another file, nor of a BigTIFF."""
    file.seek(0)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(file.read(4))
    start = file.read(4)
    if order is None or len(start) < 4:
        return
    place = struct.unpack(order + "I", start)[0]
    for _ in range(_MOST_DIRECTORIES):
        if not place:
            return
        directory = Directory(file, order, place)
        yield directory
        yield from (Directory(file, order, inner) for inner in directory.inner())
        place = directory.next


def is_raw_tiff(file: BinaryIO) -> bool:
    """Return whether a TIFF holds a raw photograph, as DNG, NEF and ARW files do: what a sensor saw, not a picture."""
    return any(directory.is_sensor for directory in directories(file))


def largest_of_sensor(file: BinaryIO) -> Directory | None:
    """Return the directory of what the sensor saw, the largest of several; None where none says so."""
    sensors = [directory for directory in directories(file) if directory.is_sensor]
    return max(sensors, key=lambda directory: directory.n_pixels, default=None)


def stated_end(file: BinaryIO) -> int:
    """Return how many bytes a TIFF must have for all pixels that are no previews."""
    parts = (part for directory in directories(file) if not directory.is_preview for part in directory.parts())
    return max((place + size for place, size in parts), default=0)


def _read(file: BinaryIO, order: str, start: int) -> tuple[dict[int, _Values], int]:
    """Return the numbers under each tag, as far as they are there, and where the next directory begins; 0 for none."""
    file.seek(start)
    head = file.read(2)
    if len(head) < 2:
        return {}, 0
    entry = struct.Struct(order + "HHI4s")
    (n_entries,) = struct.unpack(order + "H", head)
    data = file.read(min(n_entries, _MOST_ENTRIES) * entry.size)
    file.seek(start + len(head) + n_entries * entry.size)
    following = file.read(4)
    tags = {}
    for tag, kind, n_values, value in entry.iter_unpack(data[: len(data) // entry.size * entry.size]):
        if kind in _FORMS:
            tags[tag] = _Values(n_values, _FORMS[kind], value)
    return tags, struct.unpack(order + "I", following)[0] if len(following) == 4 else 0
