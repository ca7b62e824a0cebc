"""Whether a container is there as a whole, told from its outermost structure before a native reader sees it.

ISO base media files (MP4, MOV, M4A, HEIC, AVIF, JP2) are boxes, Matroska and WebM are EBML elements; both state the
length of every part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from arrowlens.errors import MediaError

_MAX_BOXES = 100_000
_MAX_SAMPLES = 4_000_000  # of fragments: two hours of AAC are 340,000, of film pictures at 60 a second 430,000
# Behind these some phones append parts of their own, which look like boxes of any length.
_OUTER_BOXES = {
    *(b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"meta", b"free", b"skip", b"wide", b"uuid", b"sidx", b"mfra"),
    *(b"pdin", b"pnot", b"jP  ", b"jp2h", b"jp2c"),
}
_BOXES_OF_BOXES = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"}
_SEGMENT = 0x18538067
_EBML_HEADER = 0x1A45DFA3


def check_boxes(file: BinaryIO, size: int, needed: bytes | None = None) -> None:
    """Refuse an ISO base media file of which a part is missing, or whose tables claim more than it could hold.

    Args:
        file: seekable.
        size: its bytes.
        needed: a box that it must have.

    Raises:
        MediaError: truncated or damaged; one line for a user.
    """
    found = set()
    n_samples = 0
    for kind, body, end in _boxes(file, size):
        found.add(kind)
        if kind in _BOXES_OF_BOXES:
            n_samples += _n_claimed(file, body, end, size)
        # A reader allocates some 24 bytes for each, over all fragments and tracks together.
        if n_samples > min(size, _MAX_SAMPLES):
            raise MediaError(f"damaged: it claims {n_samples:,} parts, which {size:,} bytes cannot hold")
    if needed is not None and needed not in found:
        raise MediaError(f"truncated or damaged: the table of contents ({needed.decode()}) is missing")


def check_elements(file: BinaryIO, size: int) -> None:
    """Refuse a Matroska or WebM file of which a part is missing; one of unknown length, a stream's, passes.

    Raises:
        MediaError: truncated or damaged; one line for a user.
    """
    position = 0
    for expected in (_EBML_HEADER, _SEGMENT):
        file.seek(position)
        head = file.read(12)
        kind, n_kind = _element_number(head, keep_marker=True)
        length, n_length = _element_number(head[n_kind:], keep_marker=False)
        if kind != expected or n_length == 0:
            raise MediaError("damaged or truncated: the Matroska header cannot be read")
        position += n_kind + n_length
        if length == (1 << 7 * n_length) - 1:
            return  # unknown
        position += length
        if position > size:
            raise _truncated(size, position)


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """The outermost boxes: kind, where the contents begin and where they end.

    Raises:
        MediaError: one that does not end within the file.
    """
    start = 0
    for _ in range(_MAX_BOXES):
        kind, body, end = _box(file, start, size)
        if kind not in _OUTER_BOXES:
            return
        if end < body:
            raise MediaError(f"damaged: a part ({kind.decode().strip()}) states an impossible length")
        if end > size:
            raise _truncated(size, end)
        yield kind, body, end
        start = end


def _box(file: BinaryIO, start: int, end: int) -> tuple[bytes, int, int]:
    """Kind, beginning of the contents and end of one box; b"" where there is none."""
    file.seek(start)
    head = file.read(16)
    if len(head) < 8 or start + 8 > end:
        return b"", start, start
    length, kind, body = int.from_bytes(head[:4]), head[4:8], start + 8
    if length == 1:
        length, body = int.from_bytes(head[8:16]), start + 16
    return kind, body, start + length if length else end


def _n_claimed(file: BinaryIO, start: int, end: int, size: int) -> int:
    """The number of samples that the fragments in a box claim.

    A table of samples of one size states only their number, for which a reader may allocate.

    Raises:
        MediaError: a table claims more bytes of samples than the file has.
    """
    inner, total = [(start, end)], 0
    for _ in range(_MAX_BOXES):
        if not inner:
            return total
        start, end = inner.pop()
        kind, body, stop = _box(file, start, end)
        if not kind or stop <= start:
            continue
        inner.append((stop, end))
        if kind in _BOXES_OF_BOXES:
            inner.append((body, min(stop, end)))
        elif kind in (b"stsz", b"trun"):
            file.seek(body + 4)
            first, second = (int.from_bytes(file.read(4)) for _ in range(2))
            n_samples, least = (first, 1) if kind == b"trun" else (second, first)
            if n_samples * least > size:
                raise MediaError(f"damaged: it claims {n_samples:,} parts, which {size:,} bytes cannot hold")
            total += n_samples if kind == b"trun" else 0  # of the other, a reader allocates for what is there
    return total


def _element_number(head: bytes, keep_marker: bool) -> tuple[int, int]:
    """An EBML number and its length in bytes; 0 of them where there is none."""
    if not head or head[0] == 0:
        return 0, 0
    n_bytes = 9 - head[0].bit_length()
    if len(head) < n_bytes:
        return 0, 0
    value = int.from_bytes(head[:n_bytes])
    return (value if keep_marker else value & (1 << 7 * n_bytes) - 1), n_bytes


def _truncated(there: int, promised: int) -> MediaError:
    return MediaError(f"truncated: {there:,} of {promised:,} bytes are there")
