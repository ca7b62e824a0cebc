"""Valid files taken apart, changed in their structure and put together again: ``structured(number)``.

The checksums are right, so that what is wrong reaches the decoder. The same number always gives the same bytes.
"""

from __future__ import annotations

import copy
import io
import struct
from collections.abc import Callable
from functools import cache

import av
import numpy as np
from PIL import Image

from tests.fuzz.mutations import seeds
from tests.fuzz.parts import FORMATS, SELF, Part, parse_tiff, write_tiff
from tests.support.film_factory import film_bytes
from tests.support.media_factory import encode_image, encode_sound, exif, pixels, sound_bytes
from tests.support.signals import samples

_MAX_BYTES = 2 << 20
_EXTREMES = [0, 1, 2, 255, 256, 65_535, 65_536, 2**24 - 1, 2**28, 2**30, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
_SIZES = [
    1,
    2,
    3,
    7,
    16,
    255,
    1000,
    1400,
    4096,
    30_000,
    60_000,
    70_000,
]  # of pictures and tiles, within limits and beyond

_NAMES = {
    "png": "png",
    "segments": "jpeg codestream",
    "tiff": "tiff",
    "riff": "webp wav avi",
    "iff": "aiff",
    "boxes": "heic avif jpeg2000 m4a mp4 mov",
    "ogg": "ogg opus",
    "flac": "flac",
    "id3": "id3",
    "ebml": "mkv webm",
}
_FORMAT_OF = {name: container for container, names in _NAMES.items() for name in names.split()}

# Part -> (offset, bytes) of its fields that sizes and tables are made of; of others, any multiple of two.
_FIELDS: dict[bytes, list[tuple[int, int]]] = {
    b"IHDR": [(0, 4), (4, 4), (8, 1), (9, 1), (12, 1)],
    b"acTL": [(0, 4), (4, 4)],
    b"fcTL": [(0, 4), (4, 4), (8, 4), (12, 4), (16, 4)],
    **{bytes([0xFF, marker]): [(0, 1), (1, 2), (3, 2), (5, 1), (7, 1), (10, 1)] for marker in (0xC0, 0xC1, 0xC2)},
    b"\xff\xda": [(0, 1), (1, 1), (2, 1)],
    b"\xff\xc4": [(place, 1) for place in range(17)],
    b"\xff\xdd": [(0, 2)],
    b"\xff\x51": [(2, 4), (6, 4), (10, 4), (14, 4), (18, 4), (22, 4), (26, 4), (30, 4), (34, 2), (36, 1)],
    b"\xff\x52": [(0, 1), (1, 1), (2, 2), (4, 1), (5, 1), (6, 1), (7, 1)],
    b"fmt ": [(0, 2), (2, 2), (4, 4), (8, 4), (12, 2), (14, 2), (16, 2)],
    b"fact": [(0, 4)],
    b"COMM": [(0, 2), (2, 4), (6, 2), (8, 2)],
    b"VP8X": [(0, 1), (4, 3), (7, 3)],
    b"VP8 ": [(6, 2), (8, 2)],
    b"VP8L": [(1, 4)],
    b"strh": [(20, 4), (24, 4), (28, 4), (32, 4), (36, 4), (44, 4)],
    b"strf": [(0, 2), (2, 2), (4, 4), (8, 4), (12, 2), (14, 2)],
    b"stsz": [(4, 4), (8, 4), (12, 4)],
    b"stts": [(4, 4), (8, 4), (12, 4)],
    b"stsc": [(4, 4), (8, 4), (12, 4), (16, 4)],
    b"stco": [(4, 4), (8, 4)],
    b"elst": [(4, 4), (8, 4), (12, 4)],
    b"trun": [(0, 4), (4, 4), (8, 4), (12, 4)],
    b"tfhd": [(0, 4), (4, 4), (8, 4), (12, 4), (16, 4)],
    b"tfdt": [(4, 4), (8, 4)],
    b"trex": [(8, 4), (12, 4), (16, 4)],
    b"mdhd": [(12, 4), (16, 4)],
    b"mvhd": [(12, 4), (16, 4)],
    b"ispe": [(4, 4), (8, 4)],
    b"ihdr": [(0, 4), (4, 4), (8, 2), (10, 1)],
    b"iinf": [(4, 2)],
    b"iloc": [(4, 1), (5, 1), (6, 2), (8, 2), (12, 2), (14, 4), (18, 4)],
    b"OggS": [(8, 4), (9, 1), (10, 2), (11, 1), (12, 4), (16, 2), (18, 1), (28, 1)],
    b"\0": [(0, 2), (2, 2), (4, 3), (7, 3), (10, 3), (13, 1), (14, 4)],
    b"\4": [(0, 4), (4, 4)],
    b"\6": [(0, 4), (4, 4), (8, 4)],
}
# Part -> (offset, bytes) of width and height, and of the width and height of its tiles.
_SHAPES: dict[bytes, tuple[list[tuple[int, int]], list[tuple[int, int]]]] = {
    b"IHDR": ([(0, 4), (4, 4)], []),
    b"ihdr": ([(4, 4), (0, 4)], []),
    b"ispe": ([(4, 4), (8, 4)], []),
    b"VP8X": ([(4, 3), (7, 3)], []),
    b"\xff\x51": ([(2, 4), (6, 4)], [(18, 4), (22, 4)]),
    **{bytes([0xFF, marker]): ([(3, 2), (1, 2)], []) for marker in (0xC0, 0xC1, 0xC2)},
}
_TIFF_SHAPE = ([256, 257], [322, 323])  # tags; a strip's rows are a tile's height
_TIFF_ROWS = 278
# Part -> (offset, bytes) of how many rows, samples or frames it claims.
_COUNTS: dict[bytes, tuple[int, int]] = {
    **dict.fromkeys((b"trun", b"stts", b"stsc", b"stco", b"ctts", b"elst"), (4, 4)),
    b"stsz": (8, 4),
    b"acTL": (0, 4),
    b"iinf": (4, 2),
    b"iloc": (6, 2),
    b"fact": (0, 4),
    b"COMM": (2, 4),
    b"strh": (32, 4),
}


@cache
def samples_of_structure() -> dict[str, bytes]:
    """Name -> contents: every container, with the parts that ordinary encoders leave out."""
    image = Image.fromarray(pixels(1, 64, 48))
    tags = exif(6, "2019:07:14 18:30:05", make="Kamera", description="Hafen")
    wanted = {name: data for name, data in seeds().items() if name.split()[0] in _FORMAT_OF}
    wanted["codestream"] = wanted.pop("jpeg2000 stream")
    wanted |= {
        "png frames": encode_image(
            image, "png", save_all=True, append_images=[Image.fromarray(pixels(2, 64, 48))], exif=tags
        ),
        "jpeg exif": encode_image(image, "jpeg", exif=tags, icc_profile=bytes(3000)),
        "tiff tiles": tiff_of_tiles(image),
        "wav long": encode_sound(samples(1, 0.3), 16_000, "rf64"),
        "wav adpcm": sound_bytes("wav", 1, 0.3, subtype="MS_ADPCM"),
        "mp4 fragments": fragmented("mp4"),
        "m4a fragments": fragmented("m4a"),
        "flac blocks": flac_with_blocks(),
        "id3 3": mp3_with_tag(3),
        "id3 4": mp3_with_tag(4),
        "ogg tags": sound_bytes("ogg", 1, 0.3, tags={"title": "Ruf", "comment": "x" * 500}),
        "mkv tags": film_bytes("mkv", 1, 0.3, tags={"title": "Ruf"}),
    }
    return wanted


def format_of(name: str) -> str:
    """The container of a sample, a key of ``FORMATS``."""
    return _FORMAT_OF[name.split()[0]]


@cache
def _trees() -> dict[str, Part]:
    return {name: FORMATS[format_of(name)].parse(data) for name, data in samples_of_structure().items()}


def structured(number: int) -> tuple[str, bytes]:
    """The name of the sample that was changed, and what became of it."""
    rng = np.random.default_rng([2026, number])
    names = list(_trees())
    name = names[number % len(names)]
    root = copy.deepcopy(_trees()[name])
    for _ in range(rng.integers(1, 5)):
        _CHANGES[rng.integers(len(_CHANGES))](root, name, rng)
    return name, FORMATS[format_of(name)].write(root)[:_MAX_BYTES]


def _any_part(root: Part, rng: np.random.Generator) -> Part:
    """Headers as often as all the pixels and pages behind them."""
    parts = list(root.walk())
    return parts[rng.integers(min(len(parts), 12) if rng.integers(2) else len(parts))] if parts else root


def _parent_and_place(root: Part, rng: np.random.Generator) -> tuple[Part, int] | None:
    parents = [part for part in (root, *root.walk()) if part.parts]
    if not parents:
        return None
    parent = parents[rng.integers(len(parents))]
    return parent, int(rng.integers(len(parent.parts)))


def _claim(root: Part, name: str, rng: np.random.Generator) -> None:
    """State another size, count or place than the true one."""
    part = root if format_of(name) == "id3" and rng.integers(4) == 0 else _any_part(root, rng)
    keys = FORMATS[format_of(name)].claims
    key = keys[rng.integers(len(keys))]
    choices = [*_EXTREMES, len(part.body), len(part.body) + 1, max(0, len(part.body) - 1)]
    part.claims[key] = SELF if key in ("value", "next") and rng.integers(2) else choices[rng.integers(len(choices))]


def _set_field(root: Part, name: str, rng: np.random.Generator) -> None:
    """Another value of a field, of a part that has known fields where there is one."""
    known = [part for part in root.walk() if part.name in _FIELDS]
    tables = [part for part in known if len(part.body) > 3]
    part = tables[rng.integers(len(tables))] if tables and rng.integers(4) else _any_part(root, rng)
    fields = _FIELDS.get(part.name) or [(at, size) for at in range(0, min(len(part.body), 64), 2) for size in (1, 2, 4)]
    fields = [(at, size) for at, size in fields if at + size <= len(part.body)]
    if not fields:
        return
    at, size = fields[rng.integers(len(fields))]
    choices = _EXTREMES if rng.integers(2) else _SIZES
    value = choices[rng.integers(len(choices))] % (1 << 8 * size)
    order = "big" if root.head == b">" else FORMATS[format_of(name)].order
    part.body = part.body[:at] + value.to_bytes(size, order) + part.body[at + size :]


def _set_shape(root: Part, name: str, rng: np.random.Generator) -> None:
    """Another size of the picture, and of its tiles, which together say what a decoder allocates."""
    width = int(rng.choice([1, 16, 255, 1000, 1400, 30_000]))
    height = int(rng.choice([width, 1, 255, 1000]))
    tile = int(rng.choice([1, 2, 16, 1024, 60_000]))
    if format_of(name) == "tiff":
        _set_tiff_shape(root, width, height, tile)
    for part in root.walk():
        if part.name in _SHAPES:
            sides, tiles = _SHAPES[part.name]
            for fields, values in ((sides, (width, height)), (tiles, (tile, tile))):
                for (at, size), value in zip(fields, values, strict=False):
                    if at + size <= len(part.body):
                        part.body = (
                            part.body[:at]
                            + value.to_bytes(size, FORMATS[format_of(name)].order)
                            + part.body[at + size :]
                        )
    if not any(part.name in _SHAPES for part in root.walk()):
        _set_field(root, name, rng)


def _set_tiff_shape(root: Part, width: int, height: int, tile: int) -> None:
    order = "little" if root.head == b"<" else "big"
    values = dict(zip(_TIFF_SHAPE[0], (width, height), strict=True)) | dict.fromkeys(
        (*_TIFF_SHAPE[1], _TIFF_ROWS), tile
    )
    for part in root.walk():
        tag = int.from_bytes(part.name, order) if len(part.name) == 2 else 0
        if tag in values:
            part.head, part.body = (4).to_bytes(2, order), values[tag].to_bytes(4, order)


def _claim_many(root: Part, name: str, rng: np.random.Generator) -> None:
    """Tables each of which claims as many rows as the file could hold; together, far more."""
    total = sum(len(part.body) for part in root.walk()) + len(root.body)
    tables = [part for part in root.walk() if part.name in _COUNTS]
    if not tables:
        _set_field(root, name, rng)
        return
    part = tables[rng.integers(len(tables))]
    at, size = _COUNTS[part.name]
    value = min(total // int(rng.choice([1, 2, 10])), (1 << 8 * size) - 1)
    part.body = part.body[:at] + value.to_bytes(size, FORMATS[format_of(name)].order) + part.body[at + size :]
    if rng.integers(2):
        part.body = part.body[: at + size]
    for parent in (root, *root.walk()):
        if part in parent.parts:
            parent.parts += [copy.deepcopy(part) for _ in range(int(rng.choice([0, 20, 500])))]
            break


def _duplicate(root: Part, name: str, rng: np.random.Generator) -> None:
    if place := _parent_and_place(root, rng):
        parent, at = place
        part = parent.parts[at]
        room = _MAX_BYTES // (len(part.body) + sum(len(inner.body) for inner in part.walk()) + 16)
        n_times = min(int(rng.choice([1, 2, 20, 2000])), room, 20 if part.parts else 2000)
        parent.parts[at:at] = [copy.deepcopy(part) for _ in range(n_times)]


def _drop(root: Part, name: str, rng: np.random.Generator) -> None:
    if place := _parent_and_place(root, rng):
        del place[0].parts[place[1]]


def _move(root: Part, name: str, rng: np.random.Generator) -> None:
    if place := _parent_and_place(root, rng):
        parent, at = place
        part = parent.parts.pop(at)
        other = _parent_and_place(root, rng) or (parent, 0)
        other[0].parts.insert(other[1], part)


def _nest(root: Part, name: str, rng: np.random.Generator) -> None:
    """Put a part into others of its own name, many deep."""
    if place := _parent_and_place(root, rng):
        parent, at = place
        part = parent.parts[at]
        for _ in range(int(rng.choice([1, 3, 100]))):
            part = Part(part.name, part.body if part.parts else b"", [part], part.head)
        parent.parts[at] = part


def _splice(root: Part, name: str, rng: np.random.Generator) -> None:
    """A part of another file in the same container."""
    others = [other for other in _trees() if format_of(other) == format_of(name)]
    donors = list(_trees()[others[rng.integers(len(others))]].walk())
    if donors and (place := _parent_and_place(root, rng)):
        parent, at = place
        parent.parts[at : at + int(rng.integers(2))] = [copy.deepcopy(donors[rng.integers(len(donors))])]


def _grow(root: Part, name: str, rng: np.random.Generator) -> None:
    """Repeat the end of a body: the rows of a table, pixels, text."""
    part = _any_part(root, rng)
    unit = part.body[-int(rng.choice([1, 4, 8, 12, 16])) :]
    part.body += unit * int(rng.choice([1, 100, 10_000, 60_000]))


def _cut(root: Part, name: str, rng: np.random.Generator) -> None:
    part = _any_part(root, rng)
    part.body = part.body[: int(rng.integers(len(part.body) + 1))]


def _flip(root: Part, name: str, rng: np.random.Generator) -> None:
    """Bits of what a checksum covers."""
    part = _any_part(root, rng)
    body = bytearray(part.body or b"\0")
    for _ in range(rng.integers(1, 9)):
        body[rng.integers(len(body))] ^= 1 << int(rng.integers(8))
    part.body = bytes(body)


def _change_inner(root: Part, name: str, rng: np.random.Generator) -> None:
    """The TIFF directories that EXIF is, within pictures of other formats."""
    for part in root.walk():
        at = next((at for at in (0, 4, 6, 10) if part.body[at : at + 4] in (b"II*\0", b"MM\0*")), None)
        if at is not None and len(part.body) < 100_000:
            try:
                inner = parse_tiff(part.body[at:])
            except struct.error:
                continue
            for _ in range(rng.integers(1, 4)):
                (_claim, _set_field, _duplicate, _grow)[rng.integers(4)](inner, "tiff", rng)
            part.body = part.body[:at] + write_tiff(inner)[:60_000]
            return
    _set_field(root, name, rng)


_CHANGES: list[Callable[[Part, str, np.random.Generator], None]] = [
    *(
        _claim,
        _claim,
        _set_field,
        _set_field,
        _set_shape,
        _claim_many,
        _duplicate,
        _drop,
        _move,
        _nest,
        _splice,
        _grow,
        _cut,
        _flip,
    ),
    _change_inner,
]


def tiff_of_tiles(image: Image.Image, side: int = 16) -> bytes:
    """An uncompressed RGB picture in tiles; its sides are multiples of theirs."""
    values = np.asarray(image.convert("RGB"))
    rows, columns = values.shape[0] // side, values.shape[1] // side
    tiles = [
        values[side * row : side * (row + 1), side * column : side * (column + 1)].tobytes()
        for row in range(rows)
        for column in range(columns)
    ]
    directory = Part(b"IFD")
    shorts = {256: values.shape[1], 257: values.shape[0], 259: 1, 262: 2, 277: 3, 284: 1, 322: side, 323: side}
    entries = {tag: (3, struct.pack("<H", value)) for tag, value in shorts.items()} | {
        258: (3, struct.pack("<3H", 8, 8, 8))
    }
    entries[324] = (4, b"")
    entries[325] = (4, b"".join(struct.pack("<I", len(tile)) for tile in tiles))
    for tag, (kind, body) in sorted(entries.items()):
        parts = [Part(b"block", tile) for tile in tiles] if tag == 324 else []
        directory.parts.append(Part(struct.pack("<H", tag), body, parts, struct.pack("<H", kind)))
    return write_tiff(Part(b"", b"II*\0", [directory], b"<"))


def fragmented(kind: str) -> bytes:
    """An MP4 or M4A in fragments, as streams are recorded."""
    whole = io.BytesIO(film_bytes(kind, 1, 0.6))
    buffer = io.BytesIO()
    options = {"fflags": "+bitexact", "movflags": "empty_moov+default_base_moof+frag_every_frame"}
    with av.open(whole) as source, av.open(buffer, "w", format="mp4", container_options=options) as output:
        stream = source.streams.audio[0]
        copied = output.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copied
                output.mux(packet)
    return buffer.getvalue()


def flac_with_blocks() -> bytes:
    """A FLAC with a picture, a table of seek points, a foreign block and a padding."""
    root = FORMATS["flac"].parse(sound_bytes("flac", 1, 0.3))
    picture = encode_image(Image.fromarray(pixels(1, 16, 16)), "png")
    kind = struct.pack(">II", 3, 9) + b"image/png" + struct.pack(">I", 0)
    blocks = [
        Part(b"\6", kind + struct.pack(">IIIII", 16, 16, 24, 0, len(picture)) + picture),
        Part(b"\3", struct.pack(">QQH", 0, 0, 4096) * 3),
        Part(b"\2", b"TEST" + bytes(20)),
        Part(b"\1", bytes(100)),
    ]
    root.parts[1:1] = blocks
    return FORMATS["flac"].write(root)


def mp3_with_tag(version: int) -> bytes:
    """An MP3 behind an ID3 tag of version 2.3 or 2.4 with texts, a comment, a picture and an object."""
    picture = encode_image(Image.fromarray(pixels(1, 16, 16)), "png")
    frames = {
        b"TIT2": b"\0Ruf",
        b"TPE1": b"\1" + "Möwe".encode("utf-16"),
        b"COMM": b"\0eng\0am Hafen",
        b"TXXX": b"\0name\0value",
        b"APIC": b"\0image/png\0\3\0" + picture,
        b"GEOB": b"\0a/b\0c\0d\0" + bytes(100),
    }
    root = Part(b"ID3", head=bytes([version, 0, 0]))
    root.parts = [Part(name, body, head=b"\0\0") for name, body in frames.items()]
    root.parts.append(Part(b"", sound_bytes("mp3", 1, 0.3)))
    return FORMATS["id3"].write(root)
