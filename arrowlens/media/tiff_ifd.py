"""Whether the directory of a TIFF, which EXIF is too, could hold what it claims, before a reader copies it all.

Each of 65,535 entries may point at the same bytes, so that a small file asks its reader for gigabytes.
"""

from __future__ import annotations

import struct

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INNER = (0x8769, 0x8825, 0xA005)  # of the camera, of the place, of interoperability
_MOST_SHARED = 1 << 25  # bytes: what damaged directories claim twice is less


def is_plausible(data: bytes) -> bool:
    """Whether the values of its first directory, and of those within it, take not much more room than there is."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return True  # no directory, so nothing is read from it
    try:
        long_form = struct.unpack_from(order + "H", data, 2)[0] == 43  # BigTIFF
        (start,) = struct.unpack_from(order + ("Q" if long_form else "I"), data, 8 if long_form else 4)
        claimed, inner = _read_directory(data, order, long_form, start)
        for place in inner:
            claimed += _read_directory(data, order, long_form, place)[0]
    except struct.error:
        return True  # cut off: a reader finds so too
    return claimed <= len(data) + _MOST_SHARED


def _read_directory(data: bytes, order: str, long_form: bool, start: int) -> tuple[int, list[int]]:
    """Bytes that one directory's values claim and are there, and the places of the directories within it."""
    count_form, entry_form = ("Q", "HHQQ") if long_form else ("H", "HHII")
    (n_entries,) = struct.unpack_from(order + count_form, data, start)
    start += struct.calcsize(count_form)
    step = struct.calcsize("=" + entry_form)
    claimed, inner = 0, []
    for number in range(min(n_entries, (len(data) - start) // step)):
        tag, kind, count, value = struct.unpack_from(order + entry_form, data, start + number * step)
        size = count * _SIZES.get(kind, 0)
        if size > (8 if long_form else 4):
            claimed += min(size, max(0, len(data) - value))
        if tag in _INNER:
            inner.append(value)
    return claimed, inner
