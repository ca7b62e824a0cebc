"""Raw photographs: the camera's own picture where it is large enough, else a development at half the size."""

from __future__ import annotations

import dataclasses
import io
import sys
from datetime import datetime

import numpy as np
import pytest
from PIL import Image

from arrowlens.media import Decoded, Limits, decode
from arrowlens.media.formats import sniff
from tests.support.media_factory import image_bytes
from tests.support.raw_factory import dng_bytes


def scene(width: int = 640, height: int = 480) -> np.ndarray:
    """(H, W, 3) uint8: colours that change slowly, another one in each corner, and white for the brightness."""
    corners = np.array([[[200, 40, 40], [40, 190, 60]], [[50, 60, 210], [255, 255, 255]]], np.uint8)
    return np.asarray(Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR))


def good(data: bytes, **options: object) -> Decoded:
    decoded = decode("a.dng", data=data, **options)
    assert decoded.reason is None
    assert (decoded.modality, decoded.format) == ("image", "raw")
    return decoded


def reduced(pixels: np.ndarray, factor: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).reduce(factor)).astype(float)


def test_a_raw_photograph_without_a_picture_is_developed_at_half_its_size():
    decoded = good(dng_bytes(scene()))
    assert (decoded.width, decoded.height) == (640, 480)
    assert decoded.pixels.shape == (240, 320, 3)
    assert np.abs(decoded.pixels - reduced(scene(), 2)).mean() < 8, "brightness is the camera's matter, colours are not"
    assert decoded.captured_at == datetime(2021, 5, 6, 7, 8, 9)
    assert decoded.camera == "Kamera One"
    assert max(Image.open(io.BytesIO(decoded.thumbnail)).size) == 320
    assert not decoded.trivial


def test_the_camera_s_picture_is_taken_where_it_is_as_large_as_needed():
    other = scene()[::-1]
    data = dng_bytes(scene(), preview=np.ascontiguousarray(other[::2, ::2]))
    decoded = good(data, min_side=224)
    assert (decoded.width, decoded.height) == (640, 480), "of the photograph, not of the picture in it"
    assert np.abs(decoded.pixels - reduced(other, 2)).mean() < 3
    assert decoded.captured_at == datetime(2021, 5, 6, 7, 8, 9)


@pytest.mark.parametrize("small", [scene(160, 120)[::-1], image_bytes("jpeg")[:-2000]], ids=["too small", "damaged"])
def test_a_picture_that_is_too_small_or_damaged_is_not_taken(small):
    preview = small if isinstance(small, bytes) else np.ascontiguousarray(small)
    decoded = good(dng_bytes(scene(), preview=preview), min_side=224)
    assert np.abs(decoded.pixels - reduced(scene(), 2)).mean() < 8


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, 3), (8, 1)])
@pytest.mark.parametrize("with_preview", [False, True])
def test_it_is_turned_upright(orientation, turns, with_preview):
    preview = np.ascontiguousarray(scene()[::2, ::2]) if with_preview else None
    decoded = good(dng_bytes(scene(), preview=preview, orientation=orientation))
    upright = np.rot90(scene(), turns)
    assert (decoded.height, decoded.width) == upright.shape[:2]
    assert np.abs(decoded.pixels - reduced(np.ascontiguousarray(upright), 2)).mean() < 8


def test_a_picture_that_says_another_turn_of_itself_is_not_taken():
    """As after a program has turned the photograph alone; LibRaw leaves a JPEG that begins with EXIF as it is."""
    exif, jpeg = Image.Exif(), io.BytesIO()
    exif[274] = 1
    Image.fromarray(scene()[::-1]).save(jpeg, "JPEG", exif=exif)
    data = jpeg.getvalue()
    begins_with_exif = data[:2] + data[data.index(b"\xff\xe1") :]
    decoded = good(dng_bytes(scene(), preview=begins_with_exif, orientation=6), min_side=100)
    assert (decoded.width, decoded.height) == (480, 640)
    upright = np.ascontiguousarray(np.rot90(scene(), 3))
    thumbnail = Image.open(io.BytesIO(decoded.thumbnail)).convert("RGB").resize((240, 320))
    assert np.abs(np.asarray(thumbnail) - reduced(upright, 2)).mean() < 10


def test_it_may_be_reduced_to_what_a_model_takes():
    decoded = good(dng_bytes(scene(1280, 960)), min_side=64, thumbnail=False)
    assert decoded.pixels.shape == (160, 214, 3)
    assert decoded.box == (0, 0, 640 / 3, 160)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"II*\0\x10\0\0\0CR\x02\0", "raw"),
        (b"IIRO\x08\0\0\0", "raw"),
        (b"MMOR\0\0\0\x08", "raw"),
        (b"IIU\0\x18\0\0\0", "raw"),
        (b"FUJIFILMCCD-RAW 0201", "raw"),
        (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", "raw"),
        (b"II*\0\x08\0\0\0", "tiff"),
    ],
)
def test_raw_photographs_are_told_by_their_content(head, expected):
    assert sniff(head) == expected


def test_a_dng_with_the_name_of_a_tiff_is_raw_and_a_tiff_with_the_name_of_a_dng_is_not():
    assert decode("a.tif", data=dng_bytes(scene(64, 48))).format == "raw"
    assert decode("a.dng", data=image_bytes("tiff")).format == "tiff"
    finished = io.BytesIO()
    Image.fromarray(scene(64, 48)).save(finished, "TIFF", tiffinfo={50706: b"\1\4\0\0"})  # by a program for DNGs
    decoded = decode("a.tif", data=finished.getvalue())
    assert (decoded.format, decoded.reason) == ("tiff", None)


def test_bad_ones_are_refused_in_one_line():
    data = dng_bytes(scene())
    cut = decode("a.dng", data=data[:-100_000])
    assert cut.reason == f"truncated: {len(data) - 100_000:,} of {len(data):,} bytes are there"
    headless = decode("a.dng", data=data[:300])
    assert "raw photograph" in headless.reason
    large = decode("a.dng", data=data, limits=dataclasses.replace(Limits(), max_pixels=300_000))
    assert "640 x 480 pixels is over the limit of 0.2 megapixels for RAW" in large.reason
    assert large.too_large
    fuji = decode("a.raf", data=b"FUJIFILMCCD-RAW 0201" + bytes(10_000))
    assert "raw photograph" in fuji.reason
    assert len((cut.reason + headless.reason + large.reason + fuji.reason).splitlines()) == 1


@pytest.mark.parametrize("compression", [1, 34892])
def test_linear_ones_are_developed_at_their_size_and_have_a_lower_limit(compression):
    data = dng_bytes(scene(), linear=True, compression=compression)
    decoded = good(data)
    assert decoded.pixels.shape == (480, 640, 3)
    assert np.corrcoef(decoded.pixels.ravel(), scene().ravel())[0, 1] > 0.95
    large = decode("a.dng", data=data, limits=dataclasses.replace(Limits(), max_pixels=1_000_000))
    assert large.reason == "640 x 480 pixels is over the limit of 0.192308 megapixels for LINEAR RAW"
    assert large.too_large


@pytest.mark.parametrize(
    "form",
    [{"n_strips": 4}, {"linear": True}, {"linear": True, "compression": 34892}],
    ids=["filters", "linear", "JPEG"],
)
def test_one_whose_pixels_are_cut_off_is_refused(form):
    """LibRaw develops most of them, in grey where nothing is there."""
    data = dng_bytes(scene(), **form)
    assert good(data).pixels.std() > 10
    for n in (len(data) // 2, len(data) - 1):
        assert decode("a.dng", data=data[:n]).reason == f"truncated: {n:,} of {len(data):,} bytes are there"
    whole = dng_bytes(scene(), preview=np.ascontiguousarray(scene()[::2, ::2]), **form)
    assert good(whole[: -len(data) // 4], min_side=224).pixels.std() > 10, "the camera's picture is whole"


def test_one_of_which_nothing_is_decoded_is_refused_and_one_of_one_colour_is_not():
    refused = decode("a.dng", data=dng_bytes(scene(), linear=True, compression=7))
    assert "nothing is seen in the raw photograph" in refused.reason
    for form in ({}, {"linear": True}, {"linear": True, "compression": 34892}):
        assert good(dng_bytes(np.full((480, 640, 3), 0, np.uint8), **form)).trivial


def test_without_the_extra_the_reason_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "rawpy", None)
    refused = decode("a.dng", data=dng_bytes(scene(64, 48)))
    assert refused.reason == "a raw photograph, and rawpy is not installed; pip install 'arrowlens[raw]'"
    assert refused.content_hash is None, "the next run reads it, which may have the package"
