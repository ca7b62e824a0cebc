"""What a file is, told from its content; and the formats that need more than Pillow: PNM, HEIC, AVIF, JPEG 2000."""

from __future__ import annotations

import io
import struct

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from arrowlens.media import Decoded, Limits, decode, modality_of
from arrowlens.media.formats import sniff
from arrowlens.modalities import FORMAT_MODALITY
from tests.support.film_factory import FILM_FORMATS, Scene, film_bytes, scene_film
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


def good(data: bytes, **options: object) -> Decoded:
    decoded = decode("upload", data=data, **options)
    assert decoded.reason is None
    assert decoded.pixels is not None
    return decoded


def test_every_format_that_is_read_is_made_by_the_tests() -> None:
    contents = [image_bytes(name) for name in IMAGE_FORMATS] + [sound_bytes(name) for name in SOUND_FORMATS]
    contents += [film_bytes(name) for name in FILM_FORMATS]
    contents.append(scene_film([Scene(pixels(0), 1.0)], container="mpegts", codec="mpeg2video"))
    formats = {sniff(data[:4096]) for data in contents} | {decode("a.dng", data=dng_bytes(pixels(0, 64, 48))).format}
    assert formats == set(FORMAT_MODALITY)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heic"),
        (b"\0\0\0\x18ftypheix\0\0\0\0mif1heix", "heic"),
        (b"\0\0\0\x18ftyphevc\0\0\0\0msf1hevc", "heic"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0heicmiaf", "heic"),
        (b"\0\0\0\x18ftypmsf1\0\0\0\0hevcmsf1", "heic"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0avifmiaf", "avif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0miafMA1A", "heic"),  # libheif says what is wrong with it
        (b"\0\0\0\x14ftypavif\0\0\0\0mif1", "avif"),
        (b"\0\0\0\x14ftypavis\0\0\0\0msf1", "avif"),
        (b"\0\0\0\x14ftypM4A \0\0\0\0isom", "m4a"),
        (b"\0\0\0\x14ftypM4B \0\0\0\0isom", "m4a"),
        (b"\0\0\0\x14ftypmp42\0\0\0\0isom", "mp4"),
        (b"\0\0\0\x14ftypisom\0\0\0\0avc1", "mp4"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "mp4"),
        (b"\0\0\0\x14ftyp3gp5\0\0\0\0isom", "mp4"),
        (b"\0\0\x10\0moov\0\0\0\x6cmvhd", "mp4"),
        (b"\0\0\0\x08wide\0\0\x10\0mdat", "mp4"),
        (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", "raw"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", "webm"),
        (b"\x1aE\xdf\xa3\xa3B\x86\x81\x01B\x82\x88matroska", "mkv"),
        (b"\x1aE\xdf\xa3\xa3B\x86\x81\x01B\x82\x88unheard!", None),
        (b"\xff\xf1\x50\x80\x02\x1f\xfc\xde", "aac"),
        (b"\xff\xf9\x50\x80\x02\x1f\xfc\xde", "aac"),
        (b"\xff\xf1\x7c\x80\x02\x1f\xfc\xde", None),  # no such sample rate
        (b"\xff\xfb\x90\x64\0\0\0\0", "mp3"),
        (b"ID3\4\0\0\0\0\0\0\xff\xf1\x50\x80\x02\x1f\xfc", "aac"),
        (b"ID3\4\0\0\0\0\0\0\xff\xfb\x90\x64", "mp3"),
        (b"ID3\4\0\0\0\0\0\0fLaC", "flac"),
        (b"P6\n# by hand\n9 9\n255\n", "pnm"),
        (b"P1 2 2 0 1 1 0", "pnm"),
        (b"Pf\n2 2\n-1.0\n", "pnm"),
        (b"P1 is the first plan", None),
        (b"P.S. 12 more", None),
        (b"P8\n9 9\n255\n", None),
        (b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 ", "jpeg2000"),
        (b"\xff\x4f\xff\x51\0\x2f", "jpeg2000"),
        (b"FORM\0\0\0\x20AIFFCOMM", "aiff"),
        (b"FORM\0\0\0\x20ILBMBMHD", None),
        (b"RIFF\0\0\0\0AVI LIST", "avi"),
        (b"RIFF\0\0\0\0RMIDdata", None),
    ],
)
def test_heads(head: bytes, expected: str | None) -> None:
    assert sniff(head) == expected


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\xff\x0a" + bytes(20), "a JPEG XL picture"),
        (b"8BPS\0\1" + bytes(20), "a Photoshop document"),
        (b"\x30\x26\xb2\x75\x8e\x66", "a Windows Media file (WMA or WMV)"),
        (b"FORM\0\0\0\x20ILBMBMHD", "an IFF file that is not AIFF"),
    ],
)
def test_what_is_not_read_is_named(head: bytes, words: str) -> None:
    assert (
        decode("x", data=head).reason == f"not a picture, recording or film in a known format: the content is {words}"
    )


def test_names_of_the_new_formats() -> None:
    pictures = "a.jp2 a.j2k a.ppm a.pgm a.pbm a.pnm a.HEIC a.heif a.hif a.avif"
    sounds = "a.m4a a.aac a.mka a.aiff"
    films = "a.mp4 a.MOV a.mkv a.webm a.avi a.3gp a.m2ts a.ts"
    assert {modality_of(name) for name in pictures.split()} == {"image"}
    assert {modality_of(name) for name in sounds.split()} == {"audio"}
    assert {modality_of(name) for name in films.split()} == {"video"}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"P1\n3 2\n101\n0 1 0\n", [[0, 255, 0], [255, 0, 255]]),
        (b"P2 # a comment\n3 2\n255\n1 2 3\n4 5 6\n", [[1, 2, 3], [4, 5, 6]]),
        (b"P4\n8 2\n\xaa\x55", [[0, 255] * 4, [255, 0] * 4]),
        (b"P5 2 1 255 \x07\x08", [[7, 8]]),
        (b"P5 2 1 15 \x0f\x03", [[255, 51]]),
        (b"P5 2 1 15 \x0f\xff", [[255, 255]]),  # beyond the highest value
        (b"P5 2 1 65535 \xff\xff\x80\x00", [[255, 128]]),
        (b"P3 1 1 255 9 9 9", [[9]]),
    ],
)
def test_pnm_of_every_kind(data: bytes, expected: list[list[int]]) -> None:
    assert good(data).pixels[..., 0].tolist() == expected
    reason = decode("x", data=data.rstrip()[:-2]).reason
    assert reason == "truncated: the PNM data ends before the picture is complete"


@pytest.mark.parametrize("highest", [1, 100, 255, 256, 1023, 65534, 65535])
def test_pnm_of_any_number_of_values(highest: int) -> None:
    values = np.random.default_rng(1).integers(0, highest + 1, (300, 50, 3))
    body = values.astype(">u2" if highest > 255 else np.uint8).tobytes()
    decoded = good(b"P6\n50 300\n%d\n" % highest + body)
    np.testing.assert_allclose(decoded.pixels, values / highest * 255, atol=0.5)


def test_pnm_of_impossible_sizes() -> None:
    for data in (b"P6\n99999 99999\n255\n", b"P5\n99999 99999\n65535\n", b"P2\n99999 99999\n255\n1"):
        assert "99999 x 99999 pixels is over the limit" in decode("x", data=data).reason
    assert decode("x", data=b"P6\n0 7\n255\n").reason is not None
    assert decode("x", data=b"P6\n7 7\n70000\n").reason is not None


def test_a_pfm_is_stretched() -> None:
    data = b"Pf\n2 2\n-1.0\n" + np.array([[0, 1], [2, 3]], "<f4").tobytes()
    assert good(data).pixels[..., 0].tolist() == [[170, 255], [0, 85]]  # from the bottom up


def test_jpeg_2000_with_and_without_a_box() -> None:
    for options in ({}, {"no_jp2": True}):
        data = image_bytes("jpeg2000", 3, **options)
        np.testing.assert_array_equal(good(data).pixels, pixels(3))  # lossless
    deep = (pixels(3)[..., 0].astype(np.uint16) << 8) + 77
    np.testing.assert_array_equal(
        good(encode_image(Image.fromarray(deep), "jpeg2000")).pixels[..., 0], pixels(3)[..., 0]
    )


@pytest.mark.parametrize("file_format", ["heic", "avif"])
def test_transparency_over_white(file_format: str) -> None:
    image = Image.fromarray(pixels(4))
    alpha = np.zeros((64, 96), np.uint8)
    alpha[:, 48:] = 255
    image.putalpha(Image.fromarray(alpha))
    decoded = good(encode_image(image, file_format))
    assert (decoded.pixels[:, :40] >= 250).all()
    assert np.abs(decoded.pixels[:, 56:].astype(int) - pixels(4)[:, 56:]).mean() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_turned_once(orientation: int) -> None:
    """libheif turns it, so that its EXIF must not turn it again."""
    stored = Image.fromarray(pixels(5, 128, 64))
    data = encode_image(stored, "heic", exif=exif(orientation, make="Kamera"))
    expected = np.asarray(pillow_heif.open_heif(data).to_pillow())
    decoded = good(data)
    np.testing.assert_array_equal(decoded.pixels, expected)
    assert (decoded.height, decoded.width) == expected.shape[:2] == ((128, 64) if orientation >= 5 else (64, 128))
    assert decoded.camera == "Kamera"


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_avif_is_turned_once(orientation: int, turns: int) -> None:
    upright = pixels(6, 128, 64)
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright, -turns)))
    decoded = good(encode_image(stored, "avif", exif=exif(orientation), quality=95))
    assert decoded.pixels.shape == upright.shape
    assert np.abs(decoded.pixels.astype(int) - upright).mean() < 8


def test_ten_bits() -> None:
    values = pixels(7).astype("<u2") << 8
    buffer = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", (96, 64), values.tobytes()).save(buffer, quality=95)
    assert pillow_heif.open_heif(buffer.getvalue()).info["bit_depth"] == 10
    assert np.abs(good(buffer.getvalue()).pixels.astype(int) - pixels(7)).mean() < 4
    buffer = io.BytesIO()
    pillow_heif.from_bytes("L;16", (96, 64), values[..., 0].tobytes()).save(buffer, quality=95)
    assert np.abs(good(buffer.getvalue()).pixels[..., 1].astype(int) - pixels(7)[..., 1]).mean() < 60  # grey of red
    assert np.abs(good(buffer.getvalue()).pixels[..., 0].astype(int) - pixels(7)[..., 0]).mean() < 2


@pytest.mark.parametrize("file_format", ["heic", "avif"])
def test_the_first_of_several_pictures(file_format: str) -> None:
    frames = [Image.fromarray(pixels(seed)) for seed in (8, 9, 10)]
    if file_format == "heic":
        file = pillow_heif.HeifFile()
        for frame in frames:
            file.add_from_pillow(frame)
        buffer = io.BytesIO()
        file.save(buffer, quality=90)
        data = buffer.getvalue()
    else:
        data = encode_image(frames[0], "avif", save_all=True, append_images=frames[1:])
        assert data[8:12] == b"avis"
    assert np.abs(good(data).pixels.astype(int) - pixels(8)).mean() < 8


def test_colours_stated_by_numbers() -> None:
    image = Image.new("RGB", (64, 64), (200, 150, 100))
    plain = good(encode_image(image, "heic", chroma=444))
    np.testing.assert_allclose(plain.pixels[0, 0], (200, 150, 100), atol=2)
    assert "colour_profile" not in plain.metadata
    wide = good(encode_image(image, "heic", chroma=444, color_primaries=12, transfer_characteristics=13))
    # By the standard's own arithmetic: linear light, Display P3 to sRGB, and back.
    linear = ((np.array([200, 150, 100]) / 255 + 0.055) / 1.055) ** 2.4
    to_srgb = [[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]]
    expected = (1.055 * (to_srgb @ linear) ** (1 / 2.4) - 0.055) * 255
    np.testing.assert_allclose(wide.pixels[0, 0], expected, atol=2)
    assert wide.metadata["colour_profile"] == "Display P3"
    data = encode_image(image, "avif")
    at = data.index(b"colrnclx") + 8
    wide = good(data[:at] + struct.pack(">HH", 12, 13) + data[at + 4 :])
    np.testing.assert_allclose(wide.pixels[0, 0], expected, atol=3)


def test_high_dynamic_range_has_a_white_and_a_black() -> None:
    """203 nits of PQ, and three quarters of HLG, are the white of paper (ITU-R BT.2408)."""
    for transfer, white in ((16, 0.58), (18, 0.75)):
        grey = np.linspace(0, 255, 64).astype(np.uint8)
        image = Image.fromarray(np.repeat(np.tile(grey, (64, 1))[..., None], 3, axis=2))
        data = encode_image(
            image, "heic", chroma=444, quality=100, color_primaries=9, transfer_characteristics=transfer
        )
        row = good(data).pixels[30].astype(int)
        assert np.abs(row - row[:, :1]).max() <= 3  # grey stays grey
        assert (np.diff(row[:, 0]) >= -2).all()
        assert row[0, 0] < 5
        assert row[round(white * 63) + 2, 0] >= 250
        assert row[round(white * 63) - 6, 0] < 240


def test_a_picture_of_another_size_than_its_header_states() -> None:
    data = image_bytes("heic", 11)
    at = data.index(b"ispe") + 8
    reason = decode("x", data=data[:at] + struct.pack(">II", 5000, 5000) + data[at + 8 :]).reason
    assert reason.startswith("damaged or truncated: the HEIC data cannot be decoded")
    bomb = data[:at] + struct.pack(">II", 60_000, 60_000) + data[at + 8 :]
    assert decode("x", data=bomb).reason == "60000 x 60000 pixels is over the limit of 120 megapixels"


def test_trivial_is_one_colour_or_too_small_to_show_anything() -> None:
    assert good(image_bytes("png", 12, 7, 100)).trivial
    assert not good(image_bytes("png", 12, 8, 100)).trivial
    assert decode("x", Limits(), data=image_bytes("png", 12, 1, 1)).trivial
