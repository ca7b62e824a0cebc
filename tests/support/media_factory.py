"""Real media for tests, good and hostile. The same call always writes the same bytes.

make_good_folder(folder)      -> {path: "image" | "audio" | "video"}: every format, odd modes, odd names; all readable
make_hostile_folder(folder)   -> {path: a part of the expected reason}: nothing in it is readable
image_bytes(format, ...), sound_bytes(format, ...): one file's bytes
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import soundfile
from PIL import Image

from tests.support.film_factory import FILM_FORMATS, film_bytes
from tests.support.signals import pixels, samples

IMAGE_FORMATS = ["jpeg", "png", "webp", "gif", "bmp", "tiff", "jpeg2000", "pnm", "heic", "avif"]
SOUND_FORMATS = ["wav", "aiff", "flac", "mp3", "ogg", "opus"]  # that libsndfile reads; FILM_FORMATS are ffmpeg's
ORIENTATION, DESCRIPTION, MAKE, MODEL, EXIF_IFD, TAKEN = 274, 270, 271, 272, 0x8769, 36867
_SUFFIXES = {"jpeg2000": "jp2", "pnm": "ppm"}
_BLOCK_FRAMES = 4096  # libsndfile overflows its stack on long Vorbis blocks


def image_bytes(file_format: str, seed: int = 0, width: int = 96, height: int = 64, **options: object) -> bytes:
    """A picture's file; options go to Pillow's ``save``."""
    return encode_image(Image.fromarray(pixels(seed, width, height)), file_format, **options)


def encode_image(image: Image.Image, file_format: str, **options: object) -> bytes:
    """Any Pillow image as a file's bytes."""
    buffer = io.BytesIO()
    if file_format == "heic":
        pillow_heif.from_pillow(image).save(buffer, **{"quality": 90, "enc_params": {"preset": "ultrafast"}, **options})
    else:
        if file_format == "avif":
            options = {"speed": 10, "max_threads": 1, **options}
        image.save(buffer, {"pnm": "ppm"}.get(file_format, file_format), **options)
    return buffer.getvalue()


def exif(orientation: int | None = None, taken: str | None = None, **texts: str) -> bytes:
    """An EXIF block with an orientation, a DateTimeOriginal, and make, model or description."""
    tags = Image.Exif()
    if orientation is not None:
        tags[ORIENTATION] = orientation
    for name, text in texts.items():
        tags[{"make": MAKE, "model": MODEL, "description": DESCRIPTION}[name]] = text.encode()
    if taken is not None:
        tags.get_ifd(EXIF_IFD)[TAKEN] = taken
    return tags.tobytes()  # as an object, Pillow would leave the inner directory out of a TIFF


def sound_bytes(
    file_format: str,
    seed: int = 0,
    seconds: float = 1.0,
    rate: int = 16_000,
    channels: int = 1,
    subtype: str | None = None,
    tags: dict[str, str] | None = None,
) -> bytes:
    """A recording's file."""
    sound = samples(seed, seconds, rate, channels)
    if subtype in ("FLOAT", "DOUBLE", "PCM_32"):
        sound = sound.astype(np.float64)
    return encode_sound(sound, rate, file_format, subtype, tags)


def encode_sound(
    sound: np.ndarray, rate: int, file_format: str, subtype: str | None = None, tags: dict[str, str] | None = None
) -> bytes:
    """(n, channels) samples as a file's bytes."""
    container, default = {"opus": ("OGG", "OPUS")}.get(file_format, (file_format.upper(), None))
    channels = 1 if sound.ndim == 1 else sound.shape[1]
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, channels, format=container, subtype=subtype or default) as file:
        for name, text in (tags or {}).items():
            setattr(file, name, text)
        for start in range(0, len(sound), _BLOCK_FRAMES):
            file.write(sound[start : start + _BLOCK_FRAMES])
    data = buffer.getvalue()
    if container == "OGG":
        return _with_serial(data, 1)
    return _without_time(data) if subtype in ("FLOAT", "DOUBLE") else data


def wav_bytes(data: bytes, promised: int | None = None, rate: int = 16_000, bits: int = 16, channels: int = 1) -> bytes:
    """A WAV file around PCM bytes, whose header may promise another length in bytes."""
    promised = len(data) if promised is None else promised
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * frame, frame, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", promised) + data
    return b"RIFF" + struct.pack("<I", min(len(body) - len(data) + promised, 2**32 - 1)) + body


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def gif_header(width: int, height: int) -> bytes:
    """A valid small GIF whose screen claims another size."""
    data = image_bytes("gif")
    return data[:6] + struct.pack("<HH", width, height) + data[10:]


def bmp_header(width: int, height: int) -> bytes:
    """A BMP that claims a size and holds a kilobyte."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1000, 0, 0, 54) + info + b"\0" * 1000


def webp_header(width: int, height: int) -> bytes:
    """An extended WebP that claims a canvas of a size and holds a small picture."""
    inner = image_bytes("webp", lossless=True)[12:]
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + canvas + inner
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg_header(width: int, height: int) -> bytes:
    """A valid small JPEG whose frame header claims another size."""
    data = image_bytes("jpeg")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def tiff_bytes(width: int, height: int, **tags: int) -> bytes:
    """An uncompressed RGB TIFF that claims a size; ``tile`` adds tiles of that side."""
    entries = {256: width, 257: height, 258: 8, 259: 1, 262: 2, 277: 3}
    if "tile" in tags:
        entries |= {322: tags["tile"], 323: tags["tile"], 324: 200, 325: 1000}
    else:
        entries |= {273: 200, 278: height, 279: 1000}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    data = b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + struct.pack("<I", 0)
    return data.ljust(200, b"\0") + b"\x55" * 1000


def good_files() -> dict[bytes, bytes]:
    """Readable files, name -> contents; names are bytes, since one of them is no UTF-8."""
    rgb = Image.fromarray(pixels(20))
    alpha = rgb.copy()
    alpha.putalpha(Image.fromarray(pixels(21)[..., 0]))
    deep = Image.fromarray(pixels(22)[..., 0].astype(np.uint16) << 8)
    frames = [Image.fromarray(pixels(seed)) for seed in (23, 24, 25)]
    turned = exif(6, "2019:07:14 18:30:05", make="Kamera", model="K-1", description="Möwe über dem Hafen")
    files = {f"plain.{_SUFFIXES.get(name, name)}": image_bytes(name, seed) for seed, name in enumerate(IMAGE_FORMATS)}
    files |= {f"tone.{name}": sound_bytes(name, seed, 1.5) for seed, name in enumerate(SOUND_FORMATS, 40)}
    files |= {f"film.{name}": film_bytes(name, seed, 1.5) for seed, name in enumerate(FILM_FORMATS, 60)}
    files["silent.mp4"] = film_bytes("mp4", n_sounds=0)
    files |= {
        "turned.jpg": image_bytes("jpeg", 26, exif=turned),
        "grey.jpg": encode_image(rgb.convert("L"), "jpeg"),
        "print.jpg": encode_image(rgb.convert("CMYK"), "jpeg"),
        "progressive.jpeg": image_bytes("jpeg", 27, progressive=True),
        "palette.png": encode_image(rgb.quantize(32), "png"),
        "see-through.png": encode_image(alpha, "png"),
        "deep.png": encode_image(deep, "png"),
        "moving.gif": encode_image(frames[0], "gif", save_all=True, append_images=frames[1:]),
        "moving.webp": encode_image(frames[1], "webp", save_all=True, append_images=frames[2:]),
        "really-a-png.jpg": image_bytes("png", 28),
        "dot.png": image_bytes("png", 29, 1, 1),
        "phone.heic": encode_image(alpha, "heic", exif=turned),
        "deep.pgm": encode_image(deep, "pnm"),
        "CAPITALS.JPG": image_bytes("jpeg", 30),
        "quo\"te's & $(x) `y`.jpg": image_bytes("jpeg", 31),
        "two\nlines.png": image_bytes("png", 32),
        "smile 😀 ümläut 日本.jpg": image_bytes("jpeg", 33),
        "stereo.wav": sound_bytes("wav", 50, 2.5, 44_100, 2),
        "long.flac": sound_bytes("flac", 51, 23.0, 8_000),
        "float.wav": sound_bytes("wav", 52, 1.0, 48_000, 2, "FLOAT"),
        "silence.wav": wav_bytes(bytes(32_000)),
        "really-a-flac.mp3": sound_bytes("flac", 53),
        "ton 🎵.ogg": sound_bytes("ogg", 54, 1.0, 22_050),
    }
    return {name.encode(): data for name, data in files.items()} | {b"caf\xe9.png": image_bytes("png", 34)}


def hostile_files() -> dict[str, tuple[bytes, str]]:
    """Unreadable files, name -> (contents, a part of the reason)."""
    nan, infinite = samples(60).astype(np.float64), samples(61).astype(np.float64)
    nan[5_000], infinite[8_000] = np.nan, -np.inf
    files: dict[str, tuple[bytes, str]] = {
        "empty.jpg": (b"", "empty (0 bytes)"),
        "empty.wav": (b"", "empty (0 bytes)"),
        "text.jpg": (b"Dear diary,\nnothing today.\n", "the content is text"),
        "text.mp3": (b"<html><body>Not found</body></html>", "the content is text"),
        "document.png": (b"%PDF-1.7 ...", "a PDF document"),
        "zeros.tif": (bytes(5000), "the content is zeros"),
        "noise.gif": (np.random.default_rng(1).bytes(3000), "the content is unknown"),
        "bomb.png": (png_header(50_000, 50_000), "50000 x 50000 pixels is over the limit"),
        "bomb.gif": (gif_header(60_000, 60_000), "60000 x 60000 pixels is over the limit"),
        "bomb.bmp": (bmp_header(40_000, 40_000), "40000 x 40000 pixels is over the limit"),
        "bomb.webp": (webp_header(100_000, 40_000), "100000 x 40000 pixels is over the limit"),
        "bomb.jpg": (jpeg_header(65_000, 65_000), "65000 x 65000 pixels is over the limit"),
        "bomb.tif": (tiff_bytes(100_000, 100_000), "100000 x 100000 pixels is over the limit"),
        "tile-bomb.tif": (tiff_bytes(16, 16, tile=60_000), "60000 x 60000 pixels is over the limit"),
        "nan.wav": (encode_sound(nan, 16_000, "wav", "DOUBLE"), "not finite (NaN, first at 0.31 s)"),
        "infinite.wav": (encode_sound(infinite, 16_000, "wav", "FLOAT"), "not finite (infinity, first at 0.50 s)"),
        "loud.wav": (encode_sound(np.full(99, 1e30), 16_000, "wav", "FLOAT"), "samples reach 1e+30"),
        "no-samples.wav": (wav_bytes(b""), "empty (0 samples)"),
        "twelve-hours.wav": (wav_bytes(bytes(1000), 12 * 3600 * 32_000), "12 hours"),
        "slow.wav": (wav_bytes(bytes(1000), rate=10), "sample rate of 10 Hz"),
    }
    unknown = film_bytes("mkv").replace(b"V_MPEG4", b"V_MPEG9")
    files["unknown.mkv"] = (unknown, "its pictures are in a form that is not read")
    files["index-lost.mov"] = (_without_box(film_bytes("mp4", 1), b"moov"), "table of contents (moov) is missing")
    for name in IMAGE_FORMATS:
        data = image_bytes(name, 70)
        files[f"truncated.{_SUFFIXES.get(name, name)}"] = (data[: len(data) // 2], "truncated")
    for name in ("m4a", "mp4", "mkv", "webm", "avi"):
        data = film_bytes(name, 71)
        files[f"truncated.{name}"] = (data[: len(data) // 2], "truncated")
    for name in ("wav", "aiff", "flac", "mp3"):
        data = sound_bytes(name, 71, 3.0)
        files[f"truncated.{name}"] = (data[: len(data) // 2], "truncated")
    for name in (*IMAGE_FORMATS, *SOUND_FORMATS, "m4a", "mp4", "aac"):
        make = image_bytes if name in IMAGE_FORMATS else sound_bytes if name in SOUND_FORMATS else film_bytes
        files[f"stump.{_SUFFIXES.get(name, name)}"] = (make(name)[:14], "truncated")
    return files


def make_good_folder(folder: Path) -> dict[Path, str]:
    """Write every readable file; each path with its modality. ``deep/er`` holds a few of them."""
    written: dict[Path, str] = {}
    (folder / "deep" / "er").mkdir(parents=True, exist_ok=True)
    for number, (name, data) in enumerate(good_files().items()):
        path = folder / ("deep/er" if number % 7 == 3 else "") / os.fsdecode(name)
        path.write_bytes(data)
        is_sound = path.suffix[1:] in (*SOUND_FORMATS, "aac", "m4a")
        written[path] = "audio" if is_sound else "video" if path.suffix[1:] in FILM_FORMATS else "image"
    return written


def make_hostile_folder(folder: Path, special: bool = True) -> dict[Path, str]:
    """Write every unreadable file; each path with a part of the reason it must be refused with.

    ``special`` adds what is no regular file: a named pipe, a folder called like a picture, links to nothing and to
    themselves, and ``loop``, a link from the folder to the folder, which is not in the result.
    """
    folder.mkdir(parents=True, exist_ok=True)
    expected: dict[Path, str] = {}
    for name, (data, reason) in hostile_files().items():
        (folder / name).write_bytes(data)
        expected[folder / name] = reason
    if special:
        os.mkfifo(folder / "pipe.jpg")
        (folder / "folder.png").mkdir()
        (folder / "gone.jpg").symlink_to(folder / "never-was.jpg")
        (folder / "self.wav").symlink_to(folder / "self.wav")
        (folder / "loop").symlink_to(folder, target_is_directory=True)
        expected |= {
            folder / "pipe.jpg": "a named pipe",
            folder / "folder.png": "a folder",
            folder / "gone.jpg": "a link to nothing",
            folder / "self.wav": "a link that leads back to itself",
        }
    return expected


def _without_box(data: bytes, kind: bytes) -> bytes:
    """An MP4 without one of its outermost boxes."""
    at = data.index(kind) - 4
    return data[:at] + data[at + int.from_bytes(data[at : at + 4]) :]


def _without_time(data: bytes) -> bytes:
    """Zero the time stamp that libsndfile puts into the PEAK chunk of float files."""
    at = data.find(b"PEAK")
    return data if at < 0 else data[: at + 12] + bytes(4) + data[at + 16 :]


def _with_serial(data: bytes, serial: int) -> bytes:
    """Give the pages of an OGG stream a fixed serial number; libsndfile draws one by the clock."""
    pages = bytearray(data)
    at = 0
    while at < len(pages):
        n_segments = pages[at + 26]
        end = at + 27 + n_segments + sum(pages[at + 27 : at + 27 + n_segments])
        pages[at + 14 : at + 18] = struct.pack("<I", serial)
        pages[at + 22 : at + 26] = bytes(4)
        pages[at + 22 : at + 26] = struct.pack("<I", ogg_checksum(pages[at:end]))
        at = end
    return bytes(pages)


def ogg_checksum(page: bytes | bytearray) -> int:
    crc = 0
    for byte in page:
        crc = (crc << 8 & 0xFFFFFFFF) ^ _OGG_TABLE[crc >> 24 ^ byte]
    return crc


def _ogg_table_entry(index: int) -> int:
    crc = index << 24
    for _ in range(8):
        crc = crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)
    return crc & 0xFFFFFFFF


_OGG_TABLE = [_ogg_table_entry(index) for index in range(256)]
