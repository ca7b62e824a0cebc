"""Containers as trees of parts: each format is parsed into parts and written back with valid checksums.

    root = FORMATS["png"].parse(data)
    root.parts[0].body = ...
    data = FORMATS["png"].write(root)

A part that is written states its true size, unless ``claims`` holds another one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from tests.support.media_factory import ogg_checksum

SELF = -1  # as a claimed offset: the place of the part itself


@dataclass
class Part:
    """A chunk, segment, box, page, block, frame or element.

    Attributes:
        name: its type, as the format writes it.
        body: its contents; of a part with parts, what lies before them.
        parts: the parts within it.
        head: what lies between its size and its body, of formats that have such fields.
        claims: fields of its frame that are written as they are here: size, count, value, next.
    """

    name: bytes
    body: bytes = b""
    parts: list[Part] = field(default_factory=list)
    head: bytes = b""
    claims: dict[str, int] = field(default_factory=dict)

    def walk(self) -> Iterator[Part]:
        """Every part within it, at any depth."""
        for part in self.parts:
            yield part
            yield from part.walk()


class Format(NamedTuple):
    """How a container is taken apart and put together."""

    parse: Callable[[bytes], Part]
    write: Callable[[Part], bytes]
    order: Literal["big", "little"]
    claims: tuple[str, ...] = ("size",)


def _stated(part: Part, key: str, value: int, n_bytes: int) -> int:
    return part.claims.get(key, value) % (1 << 8 * n_bytes)


# PNG: chunks.


def parse_png(data: bytes) -> Part:
    """Chunks of length, name, body and CRC-32."""
    root, at = Part(b"", data[:8]), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4])
        root.parts.append(Part(data[at + 4 : at + 8], data[at + 8 : end]))
        at = end + 4
    return root


def write_png(root: Part) -> bytes:
    """With the right checksum behind each chunk, whatever length it states."""
    written = [root.body]
    for part in root.parts:
        body = part.body + b"".join(inner.name + inner.body for inner in part.parts)
        written.append(struct.pack(">I", _stated(part, "size", len(body), 4)) + part.name + body)
        written.append(struct.pack(">I", zlib.crc32(part.name + body)))
    return b"".join(written)


# JPEG and JPEG 2000 codestreams: segments, then the pixels.

_STANDALONE = {0xD8, 0xD9, 0x4F, 0x93, *range(0xD0, 0xD8)}


def parse_segments(data: bytes) -> Part:
    """Segments of marker, length and body; the last part without a marker is what follows them."""
    root, at = Part(b"", data[:2]), 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in _STANDALONE:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        root.parts.append(Part(data[at : at + 2], data[at + 4 : end]))
        at = end
        if root.parts[-1].name == b"\xff\xda":
            break
    root.parts.append(Part(b"", data[at:]))
    return root


def write_segments(root: Part) -> bytes:
    """Segments have no checksums."""
    written = [root.body]
    for part in root.parts:
        body = part.body + b"".join(inner.name + inner.body for inner in part.parts)
        size = struct.pack(">H", _stated(part, "size", len(body) + 2, 2)) if part.name else b""
        written.append(part.name + size + body)
    return b"".join(written)


# TIFF: directories of entries; ``head`` of an entry is its type, ``body`` its values.

_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_BLOCKS = {273: 279, 324: 325}  # tag of offsets -> tag of lengths: strips and tiles
_DIRECTORIES = (0x8769, 0x8825, 0xA005, 330)
_ENTRY_BYTES = 12


def parse_tiff(data: bytes) -> Part:
    """A little-endian or big-endian TIFF; ``head`` of the root is its order, as struct writes it."""
    order = b"<" if data[:2] == b"II" else b">"
    root = Part(b"", data[:4], head=order)
    (start,) = _unpack(order, "I", data, 4)
    while start and len(root.parts) < 10:
        directory, start = _parse_directory(data, order, start)
        root.parts.append(directory)
    return root


def _unpack(order: bytes, form: str, data: bytes, at: int) -> tuple[int, ...]:
    return struct.unpack_from(order.decode() + form, data, at)


def _parse_directory(data: bytes, order: bytes, start: int) -> tuple[Part, int]:
    directory = Part(b"IFD")
    (n_entries,) = _unpack(order, "H", data, start)
    values = {}
    for at in range(start + 2, start + 2 + _ENTRY_BYTES * n_entries, _ENTRY_BYTES):
        tag, kind, count = _unpack(order, "HHI", data, at)
        size = _TYPE_SIZES.get(kind, 1) * count
        place = at + 8 if size <= 4 else _unpack(order, "I", data, at + 8)[0]
        part = Part(data[at : at + 2], data[place : place + size], head=data[at + 2 : at + 4])
        values[tag] = _unpack(order, f"{count}{'H' if kind == 3 else 'I'}", part.body, 0) if kind in (3, 4) else ()
        if tag in _DIRECTORIES and kind == 4:
            part.parts = [_parse_directory(data, order, values[tag][0])[0]]
        directory.parts.append(part)
    for offsets, lengths in _BLOCKS.items():
        blocks = zip(values.get(offsets, ()), values.get(lengths, ()), strict=False)
        for part in directory.parts:
            if part.name == struct.pack(order.decode() + "H", offsets):
                part.parts = [Part(b"block", data[at : at + length]) for at, length in blocks]
    return directory, _unpack(order, "I", data, start + 2 + _ENTRY_BYTES * n_entries)[0]


def write_tiff(root: Part) -> bytes:
    """Directories, values and blocks one after another, with offsets to where they come to lie."""
    order = root.head.decode()
    written = bytearray(root.body + struct.pack(order + "I", 8))
    for number, directory in enumerate(root.parts):
        link = _write_directory(written, directory, order)
        if number + 1 < len(root.parts) and "next" not in directory.claims:
            written[link : link + 4] = struct.pack(order + "I", len(written))
    return bytes(written)


def _write_directory(written: bytearray, directory: Part, order: str) -> int:
    """Append a directory and all that it points at; the place of its offset to the next one."""
    start = len(written)
    entries = [part for part in directory.parts if len(part.name) == 2]
    written += struct.pack(order + "H", _stated(directory, "size", len(entries), 2))
    written += bytes(_ENTRY_BYTES * len(entries) + 4)
    for number, part in enumerate(entries):
        at = start + 2 + _ENTRY_BYTES * number
        value, size = _write_values(written, part, order)
        kind = int.from_bytes(part.head[:2], "little" if order == "<" else "big")
        count = _stated(part, "count", size // _TYPE_SIZES.get(kind, 1), 4)
        value = value.ljust(4, b"\0")
        if "value" in part.claims:
            claimed = at if part.claims["value"] == SELF else part.claims["value"] % (1 << 32)
            value = struct.pack(order + "I", claimed)
        written[at : at + _ENTRY_BYTES] = (
            part.name + part.head[:2].ljust(2, b"\0") + struct.pack(order + "I", count) + value
        )
    link = start + 2 + _ENTRY_BYTES * len(entries)
    following = directory.claims.get("next", 0)
    written[link : link + 4] = struct.pack(order + "I", start if following == SELF else following % (1 << 32))
    return link


def _write_values(written: bytearray, part: Part, order: str) -> tuple[bytes, int]:
    """What stands in an entry, and the bytes of its values: themselves, or an offset to them."""
    body = part.body
    if part.parts and part.parts[0].name == b"block":
        offsets = []
        for block in part.parts:
            offsets.append(len(written))
            written += block.body
        form = "H" if part.head[:1] + part.head[1:2] in (b"\3\0", b"\0\3") else "I"
        body = b"".join(struct.pack(order + form, at % (1 << (16 if form == "H" else 32))) for at in offsets)
    elif part.parts and part.parts[0].name == b"IFD":
        place = len(written)
        _write_directory(written, part.parts[0], order)
        body = struct.pack(order + "I", place)
    if len(body) <= 4:
        return body, len(body)
    place = len(written)
    written += body
    return struct.pack(order + "I", place), len(body)


# RIFF and IFF: WAV, AVI, WebP; AIFF.

_LISTS = (b"RIFF", b"RF64", b"FORM", b"LIST")


def _parse_chunks(data: bytes, order: Literal["big", "little"]) -> list[Part]:
    parts, at = [], 0
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], order)
        size = len(data) - at - 8 if name == b"RF64" or size > len(data) - at - 8 else size
        body = data[at + 8 : at + 8 + size]
        if name in _LISTS:
            parts.append(Part(name, body[:4], _parse_chunks(body[4:], order)))
        else:
            parts.append(Part(name, body))
        at += 8 + size + size % 2
    return parts


def _write_chunk(part: Part, order: Literal["big", "little"]) -> bytes:
    body = part.body + b"".join(_write_chunk(inner, order) for inner in part.parts)
    size = _stated(part, "size", 0xFFFFFFFF if part.name == b"RF64" else len(body), 4)
    return part.name[:4].ljust(4) + size.to_bytes(4, order) + body + bytes(len(body) % 2)


def _form(order: Literal["big", "little"]) -> Format:
    def parse(data: bytes) -> Part:
        return Part(b"", parts=_parse_chunks(data, order))

    def write(root: Part) -> bytes:
        return b"".join(_write_chunk(part, order) for part in root.parts)

    return Format(parse, write, order)


# ISO base media: MP4, M4A, MOV, HEIC, AVIF, JPEG 2000.

_BOXES = {
    *(b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta", b"mvex", b"moof", b"traf", b"mfra"),
    *(b"iprp", b"ipco", b"jp2h", b"ilst"),
}
_FULL_BOXES = {b"meta": 4, b"dref": 8, b"stsd": 8, b"iinf": 6}  # bytes before the boxes within


def _parse_boxes(data: bytes) -> list[Part]:
    parts, at = [], 0
    while at + 8 <= len(data):
        size, name = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        end = len(data) if size == 0 else at + max(size, 8)
        body = data[at + 8 : end]
        n_before = 0 if name in _BOXES else _FULL_BOXES.get(name)
        if n_before is None:
            parts.append(Part(name, body))
        else:
            parts.append(Part(name, body[:n_before], _parse_boxes(body[n_before:])))
        at = end
    return parts


def parse_boxes(data: bytes) -> Part:
    """``head`` of the root is where the media data lay."""
    return Part(b"", parts=_parse_boxes(data), head=struct.pack(">I", max(0, data.find(b"mdat"))))


def _write_box(part: Part) -> bytes:
    body = part.body + b"".join(_write_box(inner) for inner in part.parts)
    size = part.claims.get("size", len(body) + 8)
    if size >> 32:
        return struct.pack(">I4sQ", 1, part.name, size % (1 << 64)) + body
    return struct.pack(">I", size) + part.name[:4].ljust(4, b"\0") + body


def write_boxes(root: Part) -> bytes:
    """Offsets into the media data follow it to where it comes to lie."""
    data = b"".join(_write_box(part) for part in root.parts)
    shift = data.find(b"mdat") - int.from_bytes(root.head)
    moved = b"mdat" in data and shift != 0 and int.from_bytes(root.head) > 0
    return b"".join(_write_box(_moved(part, shift)) for part in root.parts) if moved else data


def _moved(part: Part, shift: int) -> Part:
    body = part.body
    if part.name == b"stco":
        body = body[:8] + b"".join(
            struct.pack(">I", (int.from_bytes(body[at : at + 4]) + shift) % (1 << 32))
            for at in range(8, len(body) - 3, 4)
        )
    elif part.name == b"iloc" and body[:1] == b"\0" and body[4:6] == b"\x44\0":
        entry = struct.Struct(">HHHII")  # one extent each, as our encoders write them
        items = [entry.unpack_from(body, at) for at in range(8, len(body) - entry.size + 1, entry.size)]
        body = (
            body[:8]
            + b"".join(entry.pack(*item[:3], (item[3] + shift) % (1 << 32), item[4]) for item in items)
            + body[8 + entry.size * len(items) :]
        )
    return Part(part.name, body, [_moved(inner, shift) for inner in part.parts], part.head, part.claims)


# Ogg: pages; ``head`` is version, flags, position, serial number and page number, then the lacing.

_PAGE_HEAD = 18


def parse_ogg(data: bytes) -> Part:
    """Pages with their packets' lengths."""
    root, at = Part(b""), 0
    while data[at : at + 4] == b"OggS":
        lacing = data[at + 27 : at + 27 + data[at + 26]]
        start = at + 27 + len(lacing)
        root.parts.append(Part(b"OggS", data[start : start + sum(lacing)], head=data[at + 4 : at + 22] + lacing))
        at = start + sum(lacing)
    return root


def write_ogg(root: Part) -> bytes:
    """A page whose body has another length than its packets becomes one packet."""
    written = []
    for part in root.parts:
        body = (part.body + b"".join(inner.body for inner in part.parts))[: 255 * 255 - 1]
        lacing = part.head[_PAGE_HEAD:]
        if sum(lacing) != len(body):
            lacing = b"\xff" * (len(body) // 255) + bytes([len(body) % 255])
        count = bytes([_stated(part, "size", len(lacing), 1)])
        page = part.name + part.head[:_PAGE_HEAD] + bytes(4) + count + lacing + body
        written.append(page[:22] + struct.pack("<I", ogg_checksum(page)) + page[26:])
    return b"".join(written)


# FLAC: blocks of metadata, then frames, whose body is written with both of its checksums.

_FRAME = b"\xff\xf8"


def parse_flac(data: bytes) -> Part:
    """``name`` of a block is its type."""
    root, at, is_last = Part(b"", data[:4]), 4, False
    while not is_last:
        size = int.from_bytes(data[at + 1 : at + 4])
        root.parts.append(Part(bytes([data[at] & 0x7F]), data[at + 4 : at + 4 + size]))
        is_last, at = bool(data[at] & 0x80), at + 4 + size
    starts = [place for place in range(at, len(data) - 16) if _frame_header(data, place)]
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        size = _frame_header(data, start)
        root.parts.append(Part(_FRAME, data[start + size : end - 2], head=data[start : start + size - 1]))
    return root


def _frame_header(data: bytes, at: int) -> int:
    """Bytes of a frame's header with its checksum; 0 where none begins."""
    if data[at : at + 2] not in (_FRAME, b"\xff\xf9"):
        return 0
    n_number = max(1, 8 - (data[at + 4] ^ 0xFF).bit_length())
    extra = {6: 1, 7: 2}.get(data[at + 2] >> 4, 0) + {12: 1, 13: 2, 14: 2}.get(data[at + 2] & 15, 0)
    size = 4 + n_number + extra + 1
    return size if _crc(data[at : at + size - 1], 8) == data[at + size - 1] else 0


def write_flac(root: Part) -> bytes:
    """The last block before the frames is marked as the last."""
    written = bytearray(root.body)
    blocks = [number for number, part in enumerate(root.parts) if part.name != _FRAME]
    for number, part in enumerate(root.parts):
        body = part.body + b"".join(inner.body for inner in part.parts)
        if part.name == _FRAME:
            frame = part.head + bytes([_crc(part.head, 8)]) + body
            written += frame + struct.pack(">H", _crc(frame, 16))
        else:
            last = 0x80 if number == blocks[-1] else 0
            written += (
                bytes([part.name[0] & 0x7F | last]) + struct.pack(">I", _stated(part, "size", len(body), 3))[1:] + body
            )
    return bytes(written)


def _crc(data: bytes, n_bits: int) -> int:
    table, crc, mask = _CRC_TABLES[n_bits], 0, (1 << n_bits) - 1
    for byte in data:
        crc = (crc << 8 & mask) ^ table[crc >> n_bits - 8 ^ byte]
    return crc


def _crc_table(n_bits: int, polynomial: int) -> list[int]:
    table = []
    for index in range(256):
        crc = index << n_bits - 8
        for _ in range(8):
            crc = crc << 1 ^ (polynomial if crc >> n_bits - 1 else 0)
            crc &= (1 << n_bits) - 1
        table.append(crc)
    return table


_CRC_TABLES = {8: _crc_table(8, 0x07), 16: _crc_table(16, 0x8005)}


# ID3: a tag of frames before an MP3; ``head`` of a frame is its flags.


def parse_id3(data: bytes) -> Part:
    """``head`` of the root is version and flags; the last part, without a name, is the sound."""
    root = Part(b"ID3", head=data[3:6])
    end, at = 10 + _from_syncsafe(data[6:10]), 10
    while at + 10 <= end and data[at]:
        size = _from_syncsafe(data[at + 4 : at + 8]) if data[3] == 4 else int.from_bytes(data[at + 4 : at + 8])
        root.parts.append(Part(data[at : at + 4], data[at + 10 : at + 10 + size], head=data[at + 8 : at + 10]))
        at += 10 + size
    root.parts.append(Part(b"", data[end:]))
    return root


def write_id3(root: Part) -> bytes:
    """Sizes as the version writes them: of seven bits a byte in frames of version 4, and in every header."""
    tag, sound = b"", b""
    for part in root.parts:
        body = part.body + b"".join(inner.body for inner in part.parts)
        size = _stated(part, "size", len(body), 4)
        packed = _syncsafe(size) if root.head[:1] == b"\4" else struct.pack(">I", size)
        if part.name:
            tag += part.name + packed + part.head.ljust(2, b"\0") + body
        else:
            sound += body
    return b"ID3" + root.head + _syncsafe(_stated(root, "size", len(tag), 4)) + tag + sound


def _from_syncsafe(data: bytes) -> int:
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(reversed(data)))


def _syncsafe(value: int) -> bytes:
    return bytes(value >> shift & 0x7F for shift in (21, 14, 7, 0))


# EBML: Matroska and WebM.

_MASTERS = {
    *(0x1A45DFA3, 0x18538067, 0x114D9B74, 0x4DBB, 0x1549A966, 0x1654AE6B, 0xAE, 0xE0, 0xE1, 0x1F43B675, 0xA0),
    *(0x1C53BB6B, 0xBB, 0xB7, 0x1254C367, 0x7373, 0x63C0, 0x67C8, 0x6D80, 0x6240, 0x5034, 0x1941A469, 0x61A7),
}
_CRC_32 = b"\xbf"


def _parse_elements(data: bytes) -> list[Part]:
    parts, at = [], 0
    while at < len(data) and data[at]:
        n_name = 9 - data[at].bit_length()
        name = data[at : at + n_name]
        if at + n_name >= len(data) or not data[at + n_name]:
            break
        n_size = 9 - data[at + n_name].bit_length()
        start = at + n_name + n_size
        size = int.from_bytes(data[at + n_name : start]) & (1 << 7 * n_size) - 1
        end = len(data) if size == (1 << 7 * n_size) - 1 else start + size
        body = data[start:end]
        is_master = int.from_bytes(name) in _MASTERS
        inner = _parse_elements(body) if is_master else []
        parts.append(Part(name, b"" if is_master else body, inner, head=bytes([n_size])))
        at = end
    return parts


def _write_element(part: Part) -> bytes:
    inner = [_write_element(inner) for inner in part.parts]
    if part.parts and part.parts[0].name == _CRC_32 and "size" not in part.parts[0].claims:
        rest = b"".join(inner[1:])
        inner[0] = _CRC_32 + b"\x84" + struct.pack("<I", zlib.crc32(rest))
    body = part.body + b"".join(inner)
    size = part.claims.get("size", len(body)) % (1 << 56)
    n_size = max(part.head[0] if part.head else 1, -(-(size + 1).bit_length() // 7))
    return part.name + (1 << 7 * n_size | size).to_bytes(n_size) + body


def parse_ebml(data: bytes) -> Part:
    """Elements within elements."""
    return Part(b"", parts=_parse_elements(data))


def write_ebml(root: Part) -> bytes:
    """Sizes take as many bytes as before, or as they need; a checksum at the start of an element is made anew."""
    return b"".join(_write_element(part) for part in root.parts)


FORMATS: dict[str, Format] = {
    "png": Format(parse_png, write_png, "big"),
    "segments": Format(parse_segments, write_segments, "big"),
    "tiff": Format(parse_tiff, write_tiff, "little", ("size", "count", "value", "next")),
    "riff": _form("little"),
    "iff": _form("big"),
    "boxes": Format(parse_boxes, write_boxes, "big"),
    "ogg": Format(parse_ogg, write_ogg, "little"),
    "flac": Format(parse_flac, write_flac, "big"),
    "id3": Format(parse_id3, write_id3, "big"),
    "ebml": Format(parse_ebml, write_ebml, "big"),
}
