"""One small valid file of every format, and what may happen to it: ``mutated(number)`` is always the same bytes."""

from __future__ import annotations

import struct
import zlib
from functools import cache

import numpy as np
from PIL import Image

from tests.support.film_factory import FILM_FORMATS, film_bytes
from tests.support.media_factory import (
    IMAGE_FORMATS,
    SOUND_FORMATS,
    encode_image,
    exif,
    image_bytes,
    pixels,
    sound_bytes,
)
from tests.support.raw_factory import dng_bytes

_HEAD = 160  # bytes, which decide most of what a decoder allocates: half of all mutations lie there
_EXTREMES = [
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**63 - 1,
    2**64 - 1,
]


@cache
def seeds() -> dict[str, bytes]:
    """Name -> contents: the formats, and within them the forms that are decoded by other code."""
    image = Image.fromarray(pixels(1, 64, 48))
    alpha = image.copy()
    alpha.putalpha(Image.fromarray(pixels(2, 64, 48)[..., 0]))
    frames = {"save_all": True, "append_images": [Image.fromarray(pixels(3, 64, 48))]}
    deep = Image.fromarray(pixels(4, 64, 48)[..., 0].astype(np.uint16) << 8)
    tags = exif(6, "2019:07:14 18:30:05", make="Kamera", description="Hafen")
    found = {name: image_bytes(name, 1, 64, 48) for name in IMAGE_FORMATS}
    found |= {name: sound_bytes(name, 1, 0.3) for name in SOUND_FORMATS}
    found |= {name: film_bytes(name, 1, 0.3) for name in FILM_FORMATS}
    found |= {f"tiff {kind}": encode_image(image, "tiff", compression=kind) for kind in _TIFF_KINDS}
    found |= {f"wav {kind}": sound_bytes("wav", 1, 0.3, subtype=kind) for kind in ("FLOAT", "IMA_ADPCM", "ULAW")}
    found |= {
        "jpeg progressive": encode_image(image, "jpeg", progressive=True, exif=tags),
        "jpeg cmyk": encode_image(image.convert("CMYK"), "jpeg"),
        "png palette": encode_image(image.quantize(16), "png", exif=tags),
        "png deep": encode_image(deep, "png"),
        "png alpha": encode_image(alpha, "png"),
        "webp lossless": encode_image(alpha, "webp", lossless=True, exif=tags),
        "webp frames": encode_image(image, "webp", **frames),
        "gif frames": encode_image(image, "gif", **frames),
        "heic alpha": encode_image(alpha, "heic", exif=tags),
        "avif alpha": encode_image(alpha, "avif", exif=tags),
        "avif frames": encode_image(image, "avif", **frames),
        "jpeg2000 stream": encode_image(image, "jpeg2000", no_jp2=True, irreversible=True),
        "bmp palette": encode_image(image.quantize(16), "bmp"),
        "pnm deep": encode_image(deep, "pnm"),
        "pnm text": b"P2\n8 6\n255\n" + b" ".join(b"%d" % value for value in range(48)),
        "tiff exif": encode_image(image, "tiff", exif=tags),
        "raw": dng_bytes(pixels(1, 64, 48)),
        "raw preview": dng_bytes(pixels(1, 64, 48), preview=pixels(1, 64, 48), orientation=6),
        "mov alac": film_bytes("mp4", 1, 0.3, codec="alac", container="mov"),
        "mkv flac": film_bytes("mkv", 1, 0.3, codec="flac"),
        "mkv opus": film_bytes("mkv", 1, 0.3, codec="libopus"),
        "mp4 mp3": film_bytes("mp4", 1, 0.3, codec="libmp3lame"),
        "m4a tags": film_bytes("m4a", 1, 0.3, tags={"title": "Ruf", "location": "+52.5+013.4/"}),
    }
    return found


_TIFF_KINDS = ("tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits", "jpeg", "zstd")


def mutated(number: int) -> tuple[str, bytes]:
    """The name of the file that was mutated, and what became of it."""
    rng = np.random.default_rng([2024, number])
    names = list(seeds())
    name = names[number % len(names)]
    data = bytearray(seeds()[name])
    for _ in range(rng.integers(1, 4)):
        mutation = _MUTATIONS[rng.integers(len(_MUTATIONS))]
        data = mutation(data, rng) or bytearray(b"\0")
    if name.startswith("png") and rng.integers(2):  # else its checksums keep most mutations from its decoder
        data = _with_checksums(data)
    return name, bytes(data)


def _place(data: bytearray, rng: np.random.Generator) -> int:
    return int(rng.integers(min(_HEAD, len(data)) if rng.integers(2) else len(data)))


def _flip(data: bytearray, rng: np.random.Generator) -> bytearray:
    for _ in range(rng.integers(1, 12)):
        data[_place(data, rng)] ^= 1 << int(rng.integers(8))
    return data


def _cut_off(data: bytearray, rng: np.random.Generator) -> bytearray:
    return data[: _place(data, rng)]


def _cut_out(data: bytearray, rng: np.random.Generator) -> bytearray:
    start = _place(data, rng)
    del data[start : start + int(rng.integers(1, 200))]
    return data


def _repeat(data: bytearray, rng: np.random.Generator) -> bytearray:
    start = _place(data, rng)
    part = data[start : start + int(rng.integers(1, 400))]
    data[start:start] = part * int(rng.integers(1, 20))
    return data


def _splice(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A part of another file, mostly of the same kind of name."""
    others = list(seeds().values())
    other = others[rng.integers(len(others))]
    start, length = int(rng.integers(len(other))), int(rng.integers(1, 300))
    place = _place(data, rng)
    data[place : place + (length if rng.integers(2) else 0)] = other[start : start + length]
    return data


def _overwrite(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Fields of 1, 2, 4 or 8 bytes by extreme values, in either order of bytes."""
    for _ in range(rng.integers(1, 4)):
        size = int(rng.choice([1, 2, 4, 8]))
        place = min(_place(data, rng), max(0, len(data) - size))
        value = [*_EXTREMES, len(data), len(data) - place][rng.integers(len(_EXTREMES) + 2)]
        data[place : place + size] = (value % (1 << 8 * size)).to_bytes(size, "little" if rng.integers(2) else "big")
    return data


def _exchange(data: bytearray, rng: np.random.Generator) -> bytearray:
    start, other, length = _place(data, rng), _place(data, rng), int(rng.integers(1, 100))
    part = data[start : start + length]
    data[start : start + length] = data[other : other + length]
    data[other : other + length] = part
    return data


def _fill(data: bytearray, rng: np.random.Generator) -> bytearray:
    start, length = _place(data, rng), int(rng.integers(1, 300))
    end = min(start + length, len(data))
    data[start:end] = rng.bytes(end - start) if rng.integers(2) else bytes([int(rng.integers(256))]) * (end - start)
    return data


_MUTATIONS = [_flip, _overwrite, _overwrite, _cut_off, _cut_out, _repeat, _splice, _exchange, _fill]


def _with_checksums(data: bytearray) -> bytearray:
    """A PNG whose chunks have the right checksums, as far as they can be told apart."""
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4])
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return data
