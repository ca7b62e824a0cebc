"""Whether a container is there as a whole, told from its outermost structure before a native reader sees it.

ISO base media files (MP4, MOV, M4A, HEIC, AVIF, JP2) are boxes, Matroska and WebM are EBML elements; both state the
length of every part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from arrowlens.errors import MediaError

_MAX_BOXES = 100_000
_MOST_SAMPLES = 10_000_000  # with sizes of their own: a reader takes 24 bytes for each, and days of sound have fewer
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
    kinds = set()
    n_samples = 0
    for kind, body, end in _boxes(file, size):
        kinds.add(kind)
        if kind in _BOXES_OF_BOXES:
            n_samples += _check_tables(file, body, end, size)
            _check_number(n_samples, min(size, _MOST_SAMPLES))
    if needed is not None and needed not in kinds:
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


def _check_tables(file: BinaryIO, start: int, end: int, size: int) -> int:
    """The number of samples that the fragments in a box claim; a reader allocates for each."""
    inner, total = [(start, end)], 0
    for _ in range(_MAX_BOXES):
        if not inner:
            break
        start, end = inner.pop()
        kind, body, stop = _box(file, start, end)
        if not kind or stop <= start:
            continue
        inner.append((stop, end))
        if kind in _BOXES_OF_BOXES:
            inner.append((body, min(stop, end)))
        elif kind in (b"stsz", b"trun"):
            total += _fragment_samples(file, kind, body, min(stop, end), size)
            _check_number(total, size)
    return total


def _fragment_samples(file: BinaryIO, kind: bytes, body: int, end: int, size: int) -> int:
    """The samples that a run of a fragment claims; 0 for a table of sizes, which is checked by itself.

    Raises:
        MediaError: the table states more sizes than it holds, than a recording has, or more bytes than the file.
    """
    file.seek(body + 4)
    first, second = (int.from_bytes(file.read(4)) for _ in range(2))
    if kind == b"trun":
        return first
    if first:
        _check_number(first * second, size)
        return 0
    if 4 * second > end - body - 12:
        raise MediaError(f"damaged: it claims {second:,} parts, which its table does not list")
    if second > _MOST_SAMPLES:
        raise MediaError(f"damaged: it claims {second:,} parts; no more than {_MOST_SAMPLES:,} are read")
    return 0


def _check_number(n_samples: int, size: int) -> None:
    if n_samples > size:
        raise MediaError(f"damaged: it claims {n_samples:,} parts, which {size:,} bytes cannot hold")


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
