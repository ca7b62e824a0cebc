"""Pictures in numbers and in sizes that no encoder could write one by one in reasonable time."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.media_factory import pixels

_DQT, _COM = 0xDB, 0xFE
_BAND = 64  # rows that repeat, each a little different


def jpeg_templates() -> list[bytes]:
    """JPEGs of 0.05 to 0.8 megapixels, each as different from the others as ``pixels`` makes it."""
    sizes = [(320, 180), (480, 360), (640, 640), (1024, 768)]
    return [jpeg(pixels(seed, *sizes[seed % len(sizes)])) for seed in range(32)]


def jpeg(image: np.ndarray, **options: object) -> bytes:
    """A JPEG of (H, W, 3) uint8."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def mutated(template: bytes, dice: np.random.Generator, comment: bytes) -> bytes:
    """The same JPEG with other quantisation tables, so that brightness, contrast and texture differ, and a comment."""
    data = bytearray(template)
    for at in segments(template, _DQT):
        length = struct.unpack(">H", data[at + 2 : at + 4])[0]
        table = slice(at + 5, at + 2 + min(length, 67))
        factors = dice.uniform(0.3, 3.0) * dice.uniform(0.5, 1.5, table.stop - table.start)
        values = np.frombuffer(bytes(data[table]), np.uint8) * factors
        data[table] = np.clip(values, 1, 255).astype(np.uint8).tobytes()
    return commented(bytes(data), comment)


def commented(template: bytes, comment: bytes) -> bytes:
    """The same picture as another file: a JPEG's comment, or a PNG's ``tEXt`` chunk, right after its header."""
    if template.startswith(b"\xff\xd8"):
        return template[:2] + b"\xff" + bytes([_COM]) + struct.pack(">H", 2 + len(comment)) + comment + template[2:]
    assert template.startswith(b"\x89PNG")
    return template[:33] + chunk(b"tEXt", b"Comment\0" + comment) + template[33:]


def segments(data: bytes, marker: int) -> Iterator[int]:
    """Where the segments of a marker begin in a JPEG, up to its first scan."""
    at = 2
    while data[at + 1] != 0xDA:
        if data[at + 1] == marker:
            yield at
        at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def large_png(width: int, height: int, seed: int = 0) -> bytes:
    """An RGB PNG of any size, written row by row: a few dozen rows over and over."""
    row = np.tile(pixels(seed, 256, _BAND), (1, width // 256 + 1, 1))[:, :width]
    rows = [b"\0" + line.tobytes() for line in row]
    packer = zlib.compressobj(1)
    parts = [packer.compress(rows[number % _BAND]) for number in range(height)]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", b"".join([*parts, packer.flush()]))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def large_image(width: int, height: int, seed: int = 0) -> Image.Image:
    """A Pillow image of any size, for the formats that Pillow writes."""
    return Image.fromarray(pixels(seed, width // 8, height // 8)).resize((width, height), Image.Resampling.NEAREST)


def write_many(folder: Path, n_pictures: int, a_folder: int = 1000) -> None:
    """That many JPEGs, each of other content and with another vector; the same call writes the same bytes."""
    templates, dice = jpeg_templates(), np.random.default_rng(0)
    for number in range(n_pictures):
        parent = folder / f"{number // a_folder:03d}"
        if number % a_folder == 0:
            parent.mkdir(parents=True)
        data = mutated(templates[number % len(templates)], dice, str(number).encode())
        (parent / f"{number:06d}.jpg").write_bytes(data)


def write_large(folder: Path, every_format: bool) -> int:
    """Pictures of 12 to 100 megapixels; returns how many. Each content several times under other bytes."""
    folder.mkdir(parents=True)
    hundred, sixty = large_png(10_000, 10_000), large_png(10_000, 6_000)
    contents = {f"hundred {n}.png": commented(hundred, bytes([65 + n])) for n in range(2)}
    contents |= {f"sixty {n}.png": commented(sixty, bytes([65 + n])) for n in range(2)}
    progressive = jpeg(np.asarray(large_image(9_600, 6_400)), progressive=True, quality=80)
    contents |= {f"progressive {n}.jpg": commented(progressive, bytes([65 + n])) for n in range(2)}
    if every_format:
        twelve = jpeg(np.asarray(large_image(4_000, 3_000, 1)), quality=90)
        contents |= {f"twelve {n}.jpg": commented(twelve, str(n).encode()) for n in range(60)}
        image = large_image(10_000, 10_000, 2)
        for suffix, name, options in [
            ("tif", "TIFF", {"compression": "tiff_lzw"}),
            ("tiff", "TIFF", {}),
            ("bmp", "BMP", {}),
            ("gif", "GIF", {}),
            ("webp", "WEBP", {"quality": 50, "method": 0}),
            ("jpg", "JPEG", {"progressive": True, "subsampling": 0}),
            ("jp2", "JPEG2000", {}),
            ("ppm", "PPM", {}),
            ("avif", "AVIF", {"speed": 10}),
        ]:
            image.save(folder / f"hundred.{suffix}", name, **options)
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return len(list(folder.iterdir()))
