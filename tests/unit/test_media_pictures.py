"""Pictures: every format and mode to upright RGB, within limits."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from datetime import datetime
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms, ImageOps

from arrowlens.media import Limits, decode
from arrowlens.media.colours import to_rgb
from arrowlens.media.files import hash_bytes
from arrowlens.media.pictures import _open_tiff
from tests.support.media_factory import IMAGE_FORMATS, encode_image, exif, image_bytes, pixels

UNDO = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


def good(data: bytes, **options: object):
    decoded = decode("upload", data=data, **options)
    assert decoded.reason is None
    assert decoded.modality == "image"
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.flags.writeable
    return decoded


@pytest.mark.parametrize("file_format", IMAGE_FORMATS)
def test_every_format_is_told_from_its_content(file_format: str) -> None:
    data = image_bytes(file_format, 1, 97, 65)
    decoded = good(data)
    assert decoded.format == file_format
    assert (decoded.width, decoded.height, decoded.pixels.shape) == (97, 65, (65, 97, 3))
    reference = pillow_heif.open_heif(data).to_pillow() if file_format == "heic" else Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(decoded.pixels, np.asarray(reference.convert("RGB")))
    assert np.abs(decoded.pixels.astype(int) - pixels(1, 97, 65)).mean() < 8
    assert not decoded.trivial


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "1", "YCbCr"])
@pytest.mark.parametrize("file_format", ["jpeg", "png", "tiff"])
def test_modes_become_rgb_as_pillow_makes_them(mode: str, file_format: str) -> None:
    image = Image.fromarray(pixels(2)).convert(mode)
    if (mode, file_format) in {("P", "jpeg"), ("1", "jpeg"), ("CMYK", "png"), ("YCbCr", "png")}:
        return  # there is no such file
    data = encode_image(image, file_format)
    np.testing.assert_array_equal(good(data).pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("file_format", "options"), [("png", {}), ("tiff", {}), ("webp", {"lossless": True})])
def test_every_orientation_gives_the_same_upright_pixels(
    orientation: int, file_format: str, options: dict[str, object]
) -> None:
    upright = pixels(3, 96, 64)
    stored = Image.fromarray(np.ascontiguousarray(UNDO[orientation](upright)))
    data = encode_image(stored, file_format, exif=exif(orientation), **options)
    reference = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(np.asarray(reference), upright)  # the test's own table
    decoded = good(data)
    np.testing.assert_array_equal(decoded.pixels, upright)
    assert (decoded.width, decoded.height) == (96, 64)
    assert Image.open(io.BytesIO(decoded.thumbnail)).size == (96, 64)


def test_a_turned_jpeg_reports_its_upright_size_even_when_reduced() -> None:
    data = image_bytes("jpeg", 4, 1600, 800, exif=exif(6))
    full, reduced = good(data), good(data, min_side=100)
    assert (full.width, full.height, full.pixels.shape) == (800, 1600, (1600, 800, 3))
    assert (reduced.width, reduced.height, reduced.pixels.shape) == (800, 1600, (400, 200, 3))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_laid_over_white(mode: str) -> None:
    alpha = np.zeros((64, 96), np.uint8)
    alpha[:, 48:] = 255
    image = Image.fromarray(pixels(5)).convert("L" if mode == "LA" else "RGB")
    opaque = np.asarray(image.convert("RGB"))
    image.putalpha(Image.fromarray(alpha))
    if mode == "PA":
        image = image.quantize(64)  # a palette with an alpha for each entry
    decoded = good(encode_image(image, "png"))
    assert (decoded.pixels[:, :48] == 255).all()
    error = np.abs(decoded.pixels[:, 48:].astype(int) - opaque[:, 48:])
    assert error.max() == 0 or (mode == "PA" and error.mean() < 8)


def test_half_transparent_is_half_white() -> None:
    image = Image.new("RGBA", (8, 8), (0, 100, 200, 128))
    np.testing.assert_allclose(good(encode_image(image, "png")).pixels[0, 0], [127, 177, 227], atol=1)


def test_a_transparent_colour_is_white() -> None:
    image = Image.new("RGB", (8, 8), (10, 20, 30))
    image.putpixel((0, 0), (90, 80, 70))
    decoded = good(encode_image(image, "png", transparency=(10, 20, 30)))
    assert decoded.pixels[0, 0].tolist() == [90, 80, 70]
    assert (decoded.pixels[1:] == 255).all()


def test_sixteen_bits_keep_their_upper_eight() -> None:
    values = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96) * 10
    for file_format in ("png", "tiff"):
        decoded = good(encode_image(Image.fromarray(values), file_format))
        np.testing.assert_array_equal(decoded.pixels[..., 1], values >> 8)
    colour = np.random.default_rng(1).integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    np.testing.assert_array_equal(good(_png_16_bits(colour)).pixels, colour >> 8)


def test_floating_point_is_stretched_and_must_be_finite() -> None:
    values = np.linspace(-3, 5, 64 * 96, dtype=np.float32).reshape(64, 96)
    decoded = good(encode_image(Image.fromarray(values), "tiff"))
    np.testing.assert_allclose(decoded.pixels[..., 0], (values + 3) / 8 * 255, atol=0.51)
    values[3, 3] = np.nan
    assert "not finite" in decode("x", data=encode_image(Image.fromarray(values), "tiff")).reason


@pytest.mark.parametrize("file_format", ["gif", "webp", "png", "tiff"])
def test_the_first_frame_is_taken(file_format: str) -> None:
    frames = [Image.fromarray(pixels(seed)) for seed in (6, 7, 8)]
    options = {"lossless": True} if file_format == "webp" else {}
    data = encode_image(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_allclose(good(data).pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), atol=1)
    assert np.abs(good(data).pixels.astype(int) - pixels(6)).mean() < 8


def test_a_colour_profile_is_applied() -> None:
    # sRGB with the primaries of red and green exchanged: what the file calls red is green.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"____", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"____", b"gXYZ", 1)
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    for file_format in ("png", "tiff", "jpeg", "webp"):
        options = {"quality": 95} if file_format == "jpeg" else {"lossless": True} if file_format == "webp" else {}
        decoded = good(image_bytes(file_format, 9, icc_profile=swapped, **options))
        plain = good(image_bytes(file_format, 9, icc_profile=profile, **options))
        np.testing.assert_array_equal(plain.pixels, good(image_bytes(file_format, 9, **options)).pixels)
        assert np.abs(decoded.pixels.astype(int) - plain.pixels[..., [1, 0, 2]]).mean() < 2
        assert decoded.metadata["colour_profile"].startswith("swap")


def test_a_damaged_profile_costs_only_itself() -> None:
    decoded = good(image_bytes("png", 9, icc_profile=b"no profile at all"))
    np.testing.assert_array_equal(decoded.pixels, pixels(9))
    assert decoded.metadata["colour_profile"] == "damaged, ignored"


def test_a_jpeg_is_reduced_only_when_a_side_is_given_and_never_below_twice_it() -> None:
    data = image_bytes("jpeg", 10, 2000, 1500, quality=92)
    full = good(data)
    assert full.pixels.shape == (1500, 2000, 3)
    # 1/8 would do for a side of 80, but leave 250 pixels of the thumbnail's 320.
    for min_side, scale in ((80, 4), (187, 4), (188, 2), (375, 2), (376, 1)):
        decoded = good(data, min_side=min_side)
        assert decoded.pixels.shape == (-(-1500 // scale), 2000 // scale, 3)
        assert min(decoded.pixels.shape[:2]) >= 2 * min_side or scale == 1
        assert (decoded.width, decoded.height) == (2000, 1500)
    assert good(data, min_side=93, thumbnail=False).pixels.shape == (188, 250, 3)
    small = np.asarray(Image.fromarray(full.pixels).resize((250, 188), Image.Resampling.BOX)).astype(int)
    assert np.abs(good(data, min_side=93, thumbnail=False).pixels - small).mean() < 2


def test_thumbnails_are_small_upright_jpegs() -> None:
    for size, expected in (((1000, 500), (320, 160)), ((500, 1000), (160, 320)), ((200, 90), (200, 90))):
        thumbnail = Image.open(io.BytesIO(good(image_bytes("png", 11, *size)).thumbnail))
        assert (thumbnail.format, thumbnail.mode, thumbnail.size) == ("JPEG", "RGB", expected)
    line = Image.open(io.BytesIO(good(encode_image(Image.new("RGB", (4000, 1), "red"), "png")).thumbnail))
    assert line.size == (320, 1)
    large = good(image_bytes("jpeg", 11, 1000, 500), min_side=30)
    assert Image.open(io.BytesIO(large.thumbnail)).size == (320, 160)
    error = np.asarray(Image.open(io.BytesIO(large.thumbnail))).astype(int) - np.asarray(
        Image.fromarray(pixels(11, 1000, 500)).resize((320, 160))
    )
    assert np.abs(error).mean() < 6
    assert good(image_bytes("png", 11), thumbnail=False).thumbnail is None


@pytest.mark.parametrize("file_format", ["jpeg", "png", "webp", "tiff"])
def test_what_the_camera_wrote(file_format: str) -> None:
    # Pillow writes UTF-8 into every EXIF but a TIFF's.
    description = "Gulls\nover the port" if file_format == "tiff" else "Möwe\nüber dem Hafen"
    tags = exif(1, "2019:07:14 18:30:05", make="Kamera\0", model=" K-1 ", description=description)
    decoded = good(image_bytes(file_format, 12, exif=tags))
    assert decoded.captured_at == datetime(2019, 7, 14, 18, 30, 5)
    assert (decoded.camera, decoded.description) == ("Kamera K-1", description.replace("\n", " "))
    assert decoded.metadata == {"make": "Kamera", "model": "K-1"}


@pytest.mark.parametrize("taken", ["0000:00:00 00:00:00", "    :  :     :  :  ", "yesterday", ""])
def test_an_impossible_date_is_none(taken: str) -> None:
    assert good(image_bytes("jpeg", 12, exif=exif(1, taken))).captured_at is None


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_impossible_orientation_is_upright(orientation: int) -> None:
    np.testing.assert_array_equal(good(image_bytes("png", 12, exif=exif(orientation))).pixels, pixels(12))


def test_damaged_exif_costs_only_itself() -> None:
    data = image_bytes("png", 13, exif=exif(6, "2019:07:14 18:30:05", make="Kamera"))
    at = data.index(b"eXIf")
    length = struct.unpack(">I", data[at - 4 : at])[0]
    body = data[at + 4 : at + 14] + b"\xff" * (length - 10)
    damaged = data[: at + 4] + body + struct.pack(">I", zlib.crc32(b"eXIf" + body)) + data[at + 8 + length :]
    np.testing.assert_array_equal(good(damaged).pixels, pixels(13))


@pytest.mark.parametrize("file_format", IMAGE_FORMATS)
def test_one_colour_is_trivial_and_a_speck_is_not(file_format: str) -> None:
    image = Image.new("RGB", (400, 300), (30, 144, 255))
    assert good(encode_image(image, file_format)).trivial
    image.paste((255, 255, 255), (197, 101, 205, 109))
    assert not good(encode_image(image, file_format)).trivial
    assert good(encode_image(Image.new("RGB", (1, 1)), file_format)).trivial


@pytest.mark.parametrize("file_format", IMAGE_FORMATS)
def test_the_limit_of_pixels_is_inclusive(file_format: str) -> None:
    data = image_bytes(file_format, 14, 100, 50)
    limit, words = {
        "webp": (12_500, " for WEBP"),
        "avif": (7_500, " for AVIF"),
        "jpeg2000": (15_000, " for JPEG2000"),
    }.get(file_format, (5_000, ""))
    assert decode("x", Limits(max_pixels=limit), data=data).reason is None
    refused = decode("x", Limits(max_pixels=limit - 1), data=data)
    assert refused.reason.startswith("100 x 50 pixels is over the limit of 0.00")
    assert refused.reason.endswith(f" megapixels{words}")
    assert refused.too_large
    assert (refused.pixels, refused.thumbnail, refused.modality) == (None, None, "image")


def _png_16_bits(values: np.ndarray) -> bytes:
    """A colour PNG of 16 bits, which Pillow does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "1", "I;16", "F"])
def test_tall_pictures_join_without_a_seam(mode: str) -> None:
    """They are unpacked by bands of rows; the whole at once is the reference."""
    image = Image.fromarray(pixels(15, 90, 1100))
    if mode in ("I;16", "F"):
        values = np.asarray(image.convert("L")).astype(np.uint16 if mode == "I;16" else np.float32) * 200
        image = Image.fromarray(values)
    elif mode == "RGBA":
        image.putalpha(Image.fromarray(pixels(16, 90, 1100)[..., 0]))
    else:
        image = image.convert(mode)
    data = encode_image(image, "tiff" if mode == "F" else "png", **({} if mode == "F" else {"exif": exif(8)}))
    whole, _ = to_rgb(Image.open(io.BytesIO(data)))
    decoded = good(data)
    np.testing.assert_array_equal(decoded.pixels, np.asarray(whole) if mode == "F" else np.rot90(np.asarray(whole)))
    thumbnail = np.asarray(Image.open(io.BytesIO(decoded.thumbnail)))
    expected = Image.fromarray(decoded.pixels).resize(thumbnail.shape[1::-1], Image.Resampling.BOX)
    assert np.abs(thumbnail.astype(int) - np.asarray(expected)).mean() < (15 if mode == "1" else 10)  # dithered


def test_one_differing_row_far_down_is_not_trivial() -> None:
    image = Image.new("RGB", (50, 3000), "white")
    assert good(encode_image(image, "png")).trivial
    image.putpixel((49, 2999), (0, 0, 0))
    assert not good(encode_image(image, "png")).trivial


def _uncompressed(name: str) -> bytes:
    """A picture of 12 megapixels whose file holds its values as they are."""
    image = Image.fromarray(pixels(3, 500, 375)).resize((4000, 3000), Image.Resampling.NEAREST)
    if name == "wide pnm":  # 1,023 values in 16 bits, which Pillow is spared
        values = np.asarray(image.convert("L")).astype(">u2") * 4
        return b"P5 4000 3000 1023\n" + values.tobytes()
    return encode_image(image, name, **({"strip_size": 1 << 24} if name == "tiff" else {}))


@pytest.mark.parametrize("name", ["bmp", "tiff", "pnm", "wide pnm"])
def test_an_uncompressed_picture_is_read_from_its_file_and_not_held_beside_its_pixels(
    tmp_path: Path, name: str
) -> None:
    data = _uncompressed(name)
    path = tmp_path / "picture"
    path.write_bytes(data)
    expected = decode(name, data=data, min_side=224)
    tracemalloc.start()
    try:
        decoded = decode(path, min_side=224)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert decoded.reason is None
    assert decoded.content_hash == expected.content_hash == hash_bytes(data)
    np.testing.assert_array_equal(decoded.pixels, expected.pixels)
    assert peak < 0.75 * len(data)  # the reduced pixels, and bands of 256 rows


def test_a_compressed_tiff_may_be_cut_while_it_is_decoded(tmp_path: Path) -> None:
    """libtiff would map the file, and reading what is gone from under a map ends the process."""
    path = tmp_path / "picture.tif"
    path.write_bytes(image_bytes("tiff", compression="tiff_lzw"))
    with path.open("rb") as file:
        image = _open_tiff(file)
        path.write_bytes(b"")
        image.load()
    assert image.size == (96, 64)
