"""Media made to harm: each small or quickly made, and meant to cost its reader hours, gigabytes or its life.

bombs()   -> {name: (contents, a part of the reason)}: refused
oddities() -> {name: contents}: valid, however strange; readable
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np

from tests.support.film_factory import film_bytes
from tests.support.media_factory import image_bytes, sound_bytes, wav_bytes

_MANY = 1_000_000


def bombs() -> dict[str, tuple[bytes, str]]:
    """Files that must be refused, with a part of the reason."""
    return picture_bombs() | sound_bombs()


def picture_bombs() -> dict[str, tuple[bytes, str]]:
    """Pictures that must be refused."""
    heic, avif, jp2 = image_bytes("heic"), image_bytes("avif"), image_bytes("jpeg2000")
    return {
        "canvas.png": (png((50_000, 50_000)), "50000 x 50000 pixels is over the limit"),
        "canvas.heic": (_patched(heic, b"ispe", 8, struct.pack(">II", 60_000, 60_000)), "is over the limit"),
        "canvas.avif": (_patched(avif, b"ispe", 8, struct.pack(">II", 30_000, 30_000)), "is over the limit"),
        "canvas.jp2": (_patched(jp2, b"ihdr", 4, struct.pack(">II", 50_000, 50_000)), "is over the limit"),
        "tiles.jp2": (jp2_of_tiles(jp2, 1, 1), "tiles, which"),
        "stream.j2k": (j2k_of_size(50_000, 50_000), "is over the limit"),
        "lying.heic": (_patched(heic, b"ispe", 8, struct.pack(">II", 9_000, 9_000)), "damaged or truncated"),
        "canvas.ppm": (b"P6\n80000 80000\n255\n" + bytes(100), "is over the limit"),
        "values.pgm": (b"P5\n10000 10000\n65535\n" + bytes(100), "truncated"),
        "digits.ppm": (b"P3\n100 100\n255\n" + b"9" * 100_000, "damaged"),
        "comment.pgm": (b"P5\n#" + b"c" * 1_000_000, "the content is text"),
        "inflating.tif": (deflated_tiff(30_000, 30_000), "30000 x 30000 pixels is over the limit"),
        "overflowing.tif": (deflated_tiff(64, 64, stream=zlib.compress(bytes(100))), "damaged or truncated"),
        "strips.tif": (tiff_of_strips(2**28), "damaged"),
        "loop.tif": (b"II*\0" + struct.pack("<IHHHII", 8, 1, 256, 4, 1, 5) + struct.pack("<I", 8), "damaged"),
        "samples.tif": (
            tiff({256: 64, 257: 64, 258: 8, 259: 1, 262: 2, 277: 65_535, 273: 8, 278: 64, 279: 99}),
            "damaged",
        ),
        "exif.jpg": (jpeg_of_exif(1000), "its metadata claims more than the file holds"),
        "scans.jpg": (jpeg_of_scans(5_000), "passes over the picture"),
        "frame.gif": (gif_of_frame(60_000, 60_000), "is over the limit"),
        "stray.webp": (_riff(b"WEBP", b"VP8X" + struct.pack("<I", 2**31) + bytes(10)), "damaged or truncated"),
        "headless.avif": (avif[:40] + bytes(len(avif) - 40), "damaged or truncated"),
        "boxes.jp2": (jp2[:12] + struct.pack(">I4sQ", 1, b"jp2h", 2**63) + jp2[12:], "truncated"),
        "header.bmp": (b"BM" + struct.pack("<IHHI", 99, 0, 0, 54) + b"\xff" * 85, "truncated"),
        "runs.bmp": (bmp_of_runs(), "is over the limit"),
    }


def jp2_of_tiles(jp2: bytes, width: int, height: int) -> bytes:
    """A JPEG 2000 that states tiles of one size, and has one."""
    return _patched(jp2, b"\xff\x4f\xff\x51", 24, struct.pack(">II", width, height))


def run_of(n_samples: int) -> bytes:
    """A table of a fragment that states a number of samples, and nothing of each."""
    return _box(b"trun", struct.pack(">II", 0, n_samples))


def fragment(n_samples: int) -> bytes:
    """A fragment of a film with one such table."""
    return _box(b"moof", _box(b"traf", run_of(n_samples)))


def sound_bombs() -> dict[str, tuple[bytes, str]]:
    """Recordings and films that must be refused."""
    m4a, mkv, flac = film_bytes("m4a"), film_bytes("mkv"), sound_bytes("flac")
    return {
        "hours.wav": (wav_bytes(bytes(1000), 12 * 3600 * 32_000), "the header promises 12 hours"),
        "no-channels.wav": (wav_header(channels=0), "damaged or truncated"),
        "channels.wav": (wav_header(channels=65_535), "damaged or truncated"),
        "no-rate.wav": (wav_header(rate=0), "damaged or truncated"),
        "rate.wav": (wav_header(rate=100_000_000), "100,000,000 Hz is not between"),
        "no-bits.wav": (wav_header(bits=0), "damaged or truncated"),
        "chunks.wav": (b"RIFF\xff\xff\xff\xffWAVE" + b"JUNK\0\0\0\0" * 100_000, "damaged or truncated"),
        "tag-only.mp3": (b"ID3\4\0\0\0\0\x07\x76" + bytes(1014), "damaged or truncated"),
        "long-tag.mp3": (b"ID3\4\0\0\x7f\x7f\x7f\x7f" + bytes(1000), "damaged or truncated"),
        "hours.flac": (_flac_of_samples(flac, 12 * 3600 * 16_000), "12 hours is over the limit"),
        "pages.ogg": (b"OggS\0\2" + bytes(20) + b"\xff" * 50_000, "damaged or truncated"),
        "channels.opus": (_patched(sound_bytes("opus"), b"OpusHead", 9, b"\xff"), "damaged or truncated"),
        "hours.mkv": (_patched(mkv, b"\x44\x89\x88", 3, struct.pack(">d", 12 * 3.6e6)), "12 hours is over the limit"),
        "parts.m4a": (_patched(m4a, b"stsz", 8, struct.pack(">II", 1, 2**31)), "claims 2,147,483,648 parts"),
        "fragment.mp4": (m4a + _box(b"moof", _box(b"traf", _box(b"trun", struct.pack(">II", 0, 2**30)))), "claims"),
        "fragments.m4a": (m4a + fragment(len(m4a) // 2) * 100, "parts, which"),
        "runs.m4a": (m4a + _box(b"moof", _box(b"traf", run_of(len(m4a) // 2) * 100)), "parts, which"),
        "unlisted.m4a": (_patched(m4a, b"stsz", 8, struct.pack(">II", 0, 2**14)), "its table does not list"),
        "endless.mp4": (struct.pack(">I4sQ", 1, b"ftyp", 2**63 - 1) + m4a[16:], "truncated"),
        "tiny-box.mp4": (m4a[:28] + struct.pack(">I4s", 2, b"moov") + m4a[28:], "impossible length"),
        "nested.mp4": (m4a[:28] + nested(b"trak", 50_000), "no sound"),
        "segment.mkv": (_patched(mkv, b"\x18\x53\x80\x67", 4, b"\x01\x7f\xff\xff\xff\xff\xff\xff"), "truncated"),
        "elements.mkv": (mkv[:64] + b"\xff" * 100_000, "damaged or truncated"),
        "frames.aac": (b"\xff\xf1\x50\x80\x01\x1f\xfc\0" * 20_000, "damaged"),
        "list.avi": (_riff(b"AVI ", b"LIST" + struct.pack("<I", 2**31 - 1) + b"hdrl" + bytes(200)), "damaged"),
        "form.aiff": (b"FORM\0\0\x0f\0AIFFCOMM" + b"\xff" * 4000, "damaged or truncated"),
    }


def oddities() -> dict[str, bytes]:
    """Files that look like bombs and are none."""
    return {
        "a-million-frames.gif": gif_of_frames(_MANY),
        "a-thousand-comments.gif": gif_of_comments(1000),
        "one.png": image_bytes("png", width=1, height=1),
        "line.png": image_bytes("png", width=30_000, height=1),
        "flat.png": png((4_000, 4_000)),
        "silence.wav": wav_bytes(bytes(32_000)),
        "one-sample.wav": wav_bytes(bytes(2)),
        "profile.png": png((64, 64), (b"iCCP", b"bomb\0\0" + zlib.compress(bytes(50_000_000)))),
        "texts.png": png_with_texts(70, 1_000_000),
        "text.png": png((64, 64), (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(900_000)))),
        "profile.jpg": image_bytes("jpeg", icc_profile=np.random.default_rng(1).bytes(1_000_000)),
        "inflated-strip.tif": deflated_tiff(64, 64, stream=zlib.compress(bytes(50_000_000))),
        "tail.jpg": image_bytes("jpeg") + bytes(5_000_000),
        "tail.mp4": film_bytes("mp4") + b"\xff\xff\xff\xffABCD" * 1000,
    }


def png(size: tuple[int, int], *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of one colour: true in its header, and in its pixels as far as 100 million of them go."""
    width, height = size
    n_rows = height if width * height <= 10**8 else 1
    packer = zlib.compressobj(1)
    pixels = b"".join(packer.compress(bytes(1 + width)) for _ in range(n_rows)) + packer.flush()
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        *chunks,
        (b"IDAT", pixels),
        (b"IEND", b""),
    ]
    body = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def png_with_texts(n_texts: int, size: int) -> bytes:
    """A small picture with that many texts, each of which inflates to ``size`` bytes."""
    text = zlib.compress(b"A" * size)
    return png((64, 64), *((b"zTXt", b"Key%d\0\0" % number + text) for number in range(n_texts)))


def tiff(entries: dict[int, int], tail: bytes = bytes(100)) -> bytes:
    """A TIFF of one directory, each value of which fits its entry."""
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + tail


def deflated_tiff(width: int, height: int, stream: bytes | None = None) -> bytes:
    """A grey TIFF with one deflated strip; without a stream it is small, and inflates to as much as 10 MB."""
    stream = zlib.compress(bytes(min(width * height, 10_000_000))) if stream is None else stream
    entries = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1, 278: height, 279: len(stream)}
    start = 8 + 2 + 12 * (len(entries) + 1) + 4
    return tiff(entries | {273: start}, stream)


def tiff_of_strips(n_strips: int) -> bytes:
    """A small TIFF that claims that many strips."""
    entries = [(256, 1, 64), (257, 1, 64), (258, 1, 8), (259, 1, 8), (262, 1, 1), (277, 1, 1), (278, 1, 1)]
    entries += [(273, n_strips, 8), (279, n_strips, 8)]
    directory = b"".join(struct.pack("<HHII", tag, 4, count, value) for tag, count, value in sorted(entries))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(2000)


def gif_of_frames(n_frames: int) -> bytes:
    """An animation of that many frames of 1 x 1."""
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2D\1\0"
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame * n_frames + b";"


def gif_of_comments(n_comments: int) -> bytes:
    """A small picture behind that many comments."""
    data = image_bytes("gif")
    start = 13 + 3 * 2 ** ((data[10] & 7) + 1)  # behind the palette
    return data[:start] + (b"!\xfe\xff" + b"c" * 255 + b"\0") * n_comments + data[start:]


def gif_of_frame(width: int, height: int) -> bytes:
    """A screen of 64 x 64 with a frame of another size."""
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\2\2D\1\0"
    return b"GIF89a" + struct.pack("<HHBBB", 64, 64, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame + b";"


def jpeg_of_scans(n_scans: int) -> bytes:
    """A progressive JPEG, the last pass of which is repeated."""
    data = image_bytes("jpeg", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * n_scans + data[-2:]


def jpeg_of_exif(n_segments: int) -> bytes:
    """A JPEG with that many whole segments of EXIF."""
    data = image_bytes("jpeg")
    return data[:2] + (b"\xff\xe1\xff\xffExif\0\0" + bytes(65_527)) * n_segments + data[2:]


def j2k_of_size(width: int, height: int) -> bytes:
    """A JPEG 2000 codestream that claims a size."""
    data = image_bytes("jpeg2000", no_jp2=True)
    return data[:8] + struct.pack(">II", width, height) + data[16:]


def bmp_of_runs() -> bytes:
    """A BMP whose runs of colour, of two bytes each, claim 2.5 gigapixels."""
    info = struct.pack("<IiiHHIIiiII", 40, 50_000, 50_000, 1, 8, 1, 0, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 2078, 0, 0, 1078) + info + bytes(1024) + b"\xff\1" * 500


def wav_header(channels: int = 1, rate: int = 16_000, bits: int = 16) -> bytes:
    """A WAV with a kilobyte of sound and any header."""
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * frame & 0xFFFFFFFF, frame & 0xFFFF, bits)
    return _riff(b"WAVE", b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", 1024) + bytes(1024))


def nested(kind: bytes, depth: int) -> bytes:
    """Boxes within boxes, all within a moov."""
    total = 8 * (depth + 1)
    sizes = range(total, 0, -8)
    return b"".join(struct.pack(">I4s", size, b"moov" if size == total else kind) for size in sizes)


def _riff(kind: bytes, body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(body) + 4) + kind + body


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _patched(data: bytes, after: bytes, offset: int, value: bytes) -> bytes:
    """Other bytes at an offset from where ``after`` first begins."""
    at = data.index(after) + offset
    return data[:at] + value + data[at + len(value) :]


def _flac_of_samples(data: bytes, n_samples: int) -> bytes:
    """A FLAC whose header promises a number of samples: 36 bits, of which four share a byte."""
    stream = io.BytesIO(data)
    stream.seek(21)
    (shared,) = stream.read(1)
    stream.seek(21)
    stream.write(bytes([shared & 0xF0 | n_samples >> 32]) + struct.pack(">I", n_samples & 0xFFFFFFFF))
    return stream.getvalue()
