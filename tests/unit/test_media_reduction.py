"""Pictures reduced while they are decoded: never too small, alike in what a model sees, and cheap in memory."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arrowlens.encoders import CLIPEngine, ImageProcessor
from arrowlens.media import decode
from tests.support.media_factory import IMAGE_FORMATS, encode_image, exif

DEMO_CLIP = Path(__file__).parents[2] / "arrowlens" / "demo" / "models" / "clip"
N_PICTURES = 30


def photograph(seed: int, width: int, height: int) -> Image.Image:
    """Something like a photograph: detail at every scale as nature has it (1/f), light, things with edges."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]) + 1 / max(width, height)
    shared = rng.normal(size=(height, width))
    channels = []
    for _ in range(3):
        noise = np.fft.rfft2(shared + 0.4 * rng.normal(size=(height, width))) / frequency**1.1
        channel = np.fft.irfft2(noise, (height, width))
        channels.append((channel - channel.mean()) / channel.std())
    image = 118 + 45 * np.stack(channels, axis=2)
    y, x = np.mgrid[0:height, 0:width]
    for _ in range(rng.integers(2, 7)):
        centre, radii = rng.uniform(0, [width, height]), rng.uniform(0.03, 0.3, 2) * min(width, height)
        inside = ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 < 1
        image[inside] = 0.3 * image[inside] + 0.7 * rng.uniform(0, 255, 3)
    return Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    sizes = np.random.default_rng(0).integers(300, 900, (N_PICTURES, 2))
    return [photograph(seed, int(width), int(height)) for seed, (width, height) in enumerate(sizes)]


@pytest.mark.parametrize(
    ("file_format", "options"),
    [  # drafts, boxes and wavelets
        ("jpeg", {"quality": 90}),
        ("png", {"compress_level": 1}),
        ("jpeg2000", {"irreversible": True, "quality_mode": "rates", "quality_layers": [8]}),
    ],
)
def test_a_model_sees_the_same(photographs: list[Image.Image], file_format: str, options: dict[str, object]) -> None:
    processor, engine = ImageProcessor.from_pretrained(DEMO_CLIP), CLIPEngine(DEMO_CLIP, precision="float32")
    vectors = []
    n_reduced = 0
    for image in photographs:
        data = encode_image(image, file_format, **options)
        full, reduced = (
            decode("x", data=data, thumbnail=False, min_side=side) for side in (None, processor.image_size)
        )
        assert full.reason is reduced.reason is None
        assert min(reduced.pixels.shape[:2]) >= 2 * processor.image_size
        n_reduced += reduced.pixels.size < full.pixels.size
        assert full.box is None
        vectors += [processor(each.pixels, normalize=False, box=each.box) for each in (full, reduced)]
    embedded = engine.encode_image(np.stack(vectors))
    cosines = (embedded[::2] * embedded[1::2]).sum(axis=1)
    assert n_reduced > N_PICTURES // 2
    assert cosines.mean() > 0.999
    assert cosines.min() > 0.99


@pytest.mark.parametrize("file_format", IMAGE_FORMATS)
def test_never_below_twice_the_side_nor_the_thumbnail(file_format: str) -> None:
    image = photograph(50, 1500, 900)
    options = {"compress_level": 1} if file_format == "png" else {"method": 0} if file_format == "webp" else {}
    data = encode_image(image, file_format, **options)
    full = decode("x", data=data)
    # A JPEG is decoded at half or a quarter; what is left is for boxes.
    factors = {"png": [4, 4, 3, 2, 1, 1], "jpeg": [4, 4, 2, 2, 1, 1]}
    for number, min_side in enumerate((32, 100, 150, 225, 226, 10_000)):
        decoded = decode("x", data=data, min_side=min_side)
        height, width, _ = decoded.pixels.shape
        factor = full.width / width
        assert (decoded.width, decoded.height) == (1500, 900)
        assert min(height, width) >= 2 * min_side or factor == 1
        assert max(height, width) >= 320
        assert round(factor) == factors.get(file_format, factors["png"])[number]
        boxes = np.asarray(Image.fromarray(full.pixels).resize((width, height), Image.Resampling.BOX)).astype(int)
        assert np.abs(decoded.pixels - boxes).mean() < (6 if file_format == "jpeg2000" else 3.5)
        thumbnail = np.asarray(Image.open(io.BytesIO(decoded.thumbnail))).astype(int)
        assert thumbnail.shape == (192, 320, 3)
        assert np.abs(thumbnail - np.asarray(image.resize((320, 192), Image.Resampling.BOX))).mean() < 8


@pytest.mark.parametrize("min_side", [0, 1])
@pytest.mark.parametrize("file_format", IMAGE_FORMATS)
def test_the_least_of_sides(file_format: str, min_side: int) -> None:
    data = encode_image(photograph(51, 700, 40), file_format)
    decoded = decode("x", data=data, min_side=min_side, thumbnail=False)
    assert decoded.reason is None
    assert min(decoded.pixels.shape[:2]) >= 2


@pytest.mark.parametrize(("width", "height"), [(1001, 777), (4001, 130), (130, 4001), (640, 5000), (2, 3000)])
def test_odd_sizes_join_without_a_seam(width: int, height: int) -> None:
    """Bands of rows, and rests of boxes at the edges; turned as well."""
    image = photograph(52, width, height)
    data = encode_image(image, "png", exif=exif(6), compress_level=1)
    decoded = decode("x", data=data, min_side=16)
    factor = -(-width // decoded.pixels.shape[0])  # turned by a quarter
    whole = np.rot90(np.asarray(image.reduce(factor)), -1)
    assert decoded.pixels.shape == whole.shape
    np.testing.assert_array_equal(decoded.pixels, whole)
    assert (decoded.width, decoded.height) == (height, width)
    assert decoded.box == expected_box(width / factor, height / factor, *image.reduce(factor).size)


def expected_box(across: float, down: float, width: int, height: int) -> tuple[float, float, float, float] | None:
    """Of a picture turned by a quarter to the right: what was at the bottom is at the left."""
    return None if (across, down) == (width, height) else (height - down, 0.0, float(height), across)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["jpeg", "png"])
def test_the_box_is_where_the_picture_lies(file_format: str, orientation: int) -> None:
    """Scaled by its box, a reduced picture lies on the whole one without a shift."""
    image = photograph(54, 1003, 771)
    data = encode_image(image, file_format, exif=exif(orientation))
    full, reduced = decode("x", data=data), decode("x", data=data, min_side=60)
    size = (97, 97)
    left, top, right, bottom = reduced.box
    height, width, _ = reduced.pixels.shape
    assert min(left, top) == 0 or max(width - right, height - bottom) == 0
    assert (right - left) / (bottom - top) == pytest.approx(full.width / full.height)
    small = [
        np.asarray(Image.fromarray(each.pixels).resize(size, Image.Resampling.BICUBIC, box=each.box)).astype(int)
        for each in (full, reduced)
    ]
    shifted = np.asarray(Image.fromarray(reduced.pixels).resize(size, Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(small[0] - small[1]).mean() < 0.8
    assert np.abs(small[0] - small[1]).mean() < np.abs(small[0] - shifted).mean()


def test_a_speck_in_a_large_picture_is_not_trivial() -> None:
    image = Image.new("RGB", (3000, 3000), "white")
    assert decode("x", data=encode_image(image, "png"), min_side=64).trivial
    image.paste((0, 0, 0), (2995, 2995, 3000, 3000))
    assert not decode("x", data=encode_image(image, "png"), min_side=64).trivial


@pytest.mark.parametrize(("file_format", "mode"), [("png", "RGB"), ("png", "L"), ("tiff", "RGB")])
def test_memory_of_a_hundred_megapixels(tmp_path: Path, file_format: str, mode: str) -> None:
    """Little more than what Pillow itself takes for the whole: 4 bytes a pixel, 1 of grey."""
    program = """
import sys
from arrowlens.media import decode

def most_bytes():
    # Not getrusage: its maximum is handed on from the process that started this one.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

assert decode(sys.argv[1], min_side=112).reason is None
before = most_bytes()
decoded = decode(sys.argv[2], min_side=112)
assert decoded.reason is None and decoded.width * decoded.height == 100_000_000
print((most_bytes() - before) / 1e8)
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("the system does not say how much memory a process took")
    image = photograph(53, 500, 500).convert(mode)
    options = {"compress_level": 1} if file_format == "png" else {"compression": "tiff_deflate"}
    image.save(tmp_path / "small", file_format, **options)
    image.resize((10_000, 10_000), Image.Resampling.NEAREST).save(tmp_path / "large", file_format, **options)
    paths = [str(tmp_path / "small"), str(tmp_path / "large")]
    run = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True)
    file = (tmp_path / "large").stat().st_size / 1e8
    assert float(run.stdout) - file < (1.7 if mode == "L" else 4.7)
