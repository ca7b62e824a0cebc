"""PNG: the checksums of its chunks are held against what they cover."""

from __future__ import annotations

import struct
import zlib
from datetime import datetime

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from arrowlens.media import decode
from tests.support.media_factory import encode_image, exif, pixels


def chunks(data: bytes) -> dict[str, tuple[int, int]]:
    """Name -> where the contents of a chunk begin, and how long they are."""
    found, at = {}, 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4])
        found[data[at + 4 : at + 8].decode()] = at + 8, length
        at += 12 + length
    return found


def with_wrong_checksum(data: bytes, name: str) -> bytes:
    start, length = chunks(data)[name]
    return data[: start + length] + bytes([data[start + length] ^ 1]) + data[start + length + 1 :]


@pytest.fixture(scope="module")
def data() -> bytes:
    texts = PngInfo()
    texts.add_text("Title", "Hafen")
    image = Image.fromarray(pixels(1)).quantize(16)
    return encode_image(image, "png", pnginfo=texts, exif=exif(6, "2019:07:14 18:30:05"))


@pytest.mark.parametrize("name", ["IHDR", "PLTE", "IDAT", "IEND"])
def test_a_wrong_checksum_of_a_critical_chunk_refuses_the_picture(data: bytes, name: str) -> None:
    decoded = decode("x", data=with_wrong_checksum(data, name))
    assert decoded.reason == f"damaged: the checksum of a PNG chunk ({name}) is wrong"
    assert decoded.pixels is None


def test_every_changed_byte_of_the_pixels_refuses_the_picture(data: bytes) -> None:
    start, length = chunks(data)["IDAT"]
    for at in range(start, start + length, 7):
        reason = decode("x", data=data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]).reason
        assert reason == "damaged: the checksum of a PNG chunk (IDAT) is wrong"


@pytest.mark.parametrize("name", ["tEXt", "eXIf"])
def test_an_ancillary_chunk_with_a_wrong_checksum_costs_only_itself(data: bytes, name: str) -> None:
    whole, decoded = decode("x", data=data), decode("x", data=with_wrong_checksum(data, name))
    assert (whole.title, whole.captured_at) == ("Hafen", datetime(2019, 7, 14, 18, 30, 5))
    assert decoded.reason is None
    assert decoded.title == (None if name == "tEXt" else "Hafen")
    assert decoded.captured_at == (None if name == "eXIf" else whole.captured_at)
    upright = whole.pixels if name == "tEXt" else np.rot90(whole.pixels)  # the orientation goes with the EXIF
    np.testing.assert_array_equal(decoded.pixels, upright)


def test_what_follows_the_end_or_lacks_it_is_as_before(data: bytes) -> None:
    whole = decode("x", data=data).pixels
    for readable in (data[:-4], data[:-12], data + b"junk" * 10):
        np.testing.assert_array_equal(decode("x", data=readable).pixels, whole)
    start, length = chunks(data)["IDAT"]
    assert "truncated" in str(decode("x", data=data[: start + length // 2]).reason)


def test_frames_of_an_animation_are_ancillary() -> None:
    """The first picture is the one that is indexed; a damaged later frame is dropped."""
    frames = [Image.fromarray(pixels(seed)) for seed in (1, 2)]
    data = encode_image(frames[0], "png", save_all=True, append_images=frames[1:])
    decoded = decode("x", data=with_wrong_checksum(data, "fdAT"))
    np.testing.assert_array_equal(decoded.pixels, pixels(1))


def test_a_chunk_that_claims_another_length_is_damaged(data: bytes) -> None:
    start, _ = chunks(data)["IDAT"]
    shorter = data[: start - 8] + struct.pack(">I", 10) + data[start - 4 :]
    assert zlib.crc32(shorter[start - 4 : start + 10]) != int.from_bytes(shorter[start + 10 : start + 14])
    assert decode("x", data=shorter).reason == "damaged: the checksum of a PNG chunk (IDAT) is wrong"
