"""Pictures to measure the search for duplicates on: sources, copies of them, and what only looks alike.

sources()                 every source: drawings, photographs, scenes, pages, charts, gradients, skies, textures
copies(source)            the same picture re-encoded, resized, made brighter, cropped a little
look_alikes(source)       other pictures that resemble it: recoloured, mirrored, a part of it, its scene a moment later

Everything is made from seeds and from the bundled samples; the same call always gives the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from tests.support.signals import pixels

SAMPLES = Path("arrowlens/demo/samples/pictures")
RECODED = "recoded"  # the same picture in another file: the kind that the promise is about
EDITED = "edited"  # brighter, darker, with more contrast, sharpened
CROPPED = "cropped"  # a few percent cut off
MOMENT = "moment"  # in the name of a look-alike: the same scene a moment later, nearly the same


@dataclass(frozen=True, eq=False)
class Case:
    """One picture's file.

    Attributes:
        name: of the case. family: what sort of source it is. image: its pixels. data: its file.
        kind: of a copy: RECODED, EDITED, CROPPED; else "source" or "look-alike".
    """

    name: str
    family: str
    image: Image.Image
    data: bytes
    kind: str = "source"


def sources() -> Iterator[Case]:
    """Every source; no two of them show the same picture."""
    for path in sorted(SAMPLES.rglob("*.*")):
        with Image.open(path) as image:
            yield _case(path.stem, "drawing", _over_white(image))
    for name, image in _photographs():
        yield _case(name, "photograph", image)
    for family, make, count in _FAMILIES:
        for seed in range(count):
            yield _case(f"{family}-{seed}", family, make(seed))


def copies(source: Case) -> Iterator[Case]:
    """The same picture in other files."""
    image = source.image
    for quality in (30, 50, 75, 90, 95):
        yield _copy(source, f"jpeg {quality}", image, "jpeg", quality=quality)
    for quality in (40, 80):
        yield _copy(source, f"webp {quality}", image, "webp", quality=quality)
    yield _copy(source, "png", image, "png")
    yield _copy(source, "gif", image.quantize(256), "gif")
    yield _copy(source, "avif", image, "avif", quality=60, speed=10)
    for percent in (25, 50, 75, 150, 200):
        size = (max(8, image.width * percent // 100), max(8, image.height * percent // 100))
        smaller = image.resize(size, Image.Resampling.LANCZOS)
        yield _copy(source, f"{percent} %", smaller, "png")
        yield _copy(source, f"{percent} % jpeg 50", smaller, "jpeg", quality=50)
    twice = Image.open(io.BytesIO(_encoded(image, "jpeg", quality=40)))
    yield _copy(source, "jpeg 40 in webp", twice, "webp", quality=70)
    for factor in (0.8, 0.9, 1.1, 1.2):
        yield _copy(source, f"brightness {factor}", ImageEnhance.Brightness(image).enhance(factor), kind=EDITED)
    for factor in (0.85, 1.15):
        yield _copy(source, f"contrast {factor}", ImageEnhance.Contrast(image).enhance(factor), kind=EDITED)
        yield _copy(source, f"colour {factor}", ImageEnhance.Color(image).enhance(factor), kind=EDITED)
    yield _copy(source, "sharpened", image.filter(ImageFilter.SHARPEN), kind=EDITED)
    for percent in (1, 2, 4):
        yield _copy(source, f"crop {percent} %", _cropped(image, percent), kind=CROPPED)


def look_alikes(source: Case) -> Iterator[Case]:
    """Other pictures that resemble a source and are no copies of it, each one other than the rest."""
    image = source.image
    for change, other in (
        ("hue 60", _hue(image, 60)),
        ("hue 180", _hue(image, 180)),
        ("mirrored", ImageOps.mirror(image)),
    ):
        if _differs(image, other):  # a grey picture stays what it is in every hue
            yield _alike(source, change, other)
    number = source.name.rsplit("-", 1)[-1]
    if source.family in ("drawing", "photograph"):
        yield _alike(source, "a part", _part(image, 0.6))
    if source.family == "scene":
        for moment in (1, 2):
            yield _alike(source, f"{MOMENT} {moment}", scene(int(number), moment))
    if source.family == "page":
        yield _alike(source, "other words", page(int(number), words=1))


def scene(seed: int, moment: int = 0) -> Image.Image:
    """Overlapping coloured shapes of all sizes, as photographs have them; later moments move some and the camera."""
    rng = np.random.default_rng((seed, 11))
    width, height = [(640, 480), (480, 640), (800, 450)][seed % 3]
    image = Image.new("RGB", (width, height), _colour(rng))
    draw = ImageDraw.Draw(image)
    mood = rng.integers(0, 120, 3)
    moving = np.random.default_rng((seed, moment, 12))
    shift = moving.normal(0, 0.02, 2) * (moment > 0)
    for index in range(160):
        x, y = rng.uniform(-0.1, 1.1, 2)
        radius = min(0.45, 0.02 / rng.uniform(0.03, 1.0) ** 1.1)
        colour = tuple(int(v) for v in np.clip(rng.integers(0, 200, 3) * 0.7 + mood, 0, 255))
        sides, turn = int(rng.integers(3, 9)), float(rng.uniform(0, 360))
        if moment and index >= 145:
            x, y = x + moving.normal(0, 0.15), y + moving.normal(0, 0.15)
        centre = ((x + shift[0]) * width, (y + shift[1]) * height)
        draw.regular_polygon((centre, max(3.0, radius * height)), sides, rotation=turn, fill=colour)
    return _grain(image.filter(ImageFilter.GaussianBlur(1.2)), (seed, moment, 13))


def page(seed: int, words: int = 0) -> Image.Image:
    """A page of text: the layout by the seed, what it says by both."""
    rng = np.random.default_rng((seed, 21))
    said = np.random.default_rng((seed, words, 22))
    size = int(rng.choice([11, 13, 16, 20]))
    image = Image.new("RGB", (496, 702), (250, 250, 246) if seed % 3 else (255, 255, 255))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    left, top = int(rng.integers(30, 60)), int(rng.integers(40, 80))
    draw.text((left, top), _words(said, 3).title(), (20, 20, 20), ImageFont.load_default(size + 10))
    y = top + 2 * size + 20
    while y < 702 - top:
        n_letters = int((496 - 2 * left) / (size * 0.52))
        if rng.random() < 0.12:
            n_letters = int(n_letters * rng.uniform(0.2, 0.9))
        draw.text((left, y), _words(said, 40)[:n_letters], (30, 30, 30), font)
        y += int(size * (2.6 if rng.random() < 0.1 else 1.4))
    return image


def chart(seed: int) -> Image.Image:
    """A line or bar chart: the same axes for all, other figures for each."""
    rng = np.random.default_rng((seed, 31))
    image = Image.new("RGB", (640, 400), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    for y in range(40, 361, 40):
        draw.line([(60, y), (610, y)], (225, 225, 225))
    draw.line([(60, 30), (60, 360), (610, 360)], (60, 60, 60), 2)
    colour = [(31, 119, 180), (214, 39, 40), (44, 160, 44)][seed // 2 % 3]
    values = np.clip(200 + np.cumsum(rng.normal(0, 35, 16)), 45, 350)
    if seed % 2:
        draw.line([(70 + 35 * i, int(v)) for i, v in enumerate(values)], colour, 3)
    else:
        for i, v in enumerate(values):
            draw.rectangle([66 + 34 * i, int(v), 90 + 34 * i, 359], colour)
    return image


def gradient(seed: int) -> Image.Image:
    """A smooth slope between two colours, straight or round."""
    rng = np.random.default_rng((seed, 41))
    height, width = 360, 480
    y, x = np.mgrid[0:height, 0:width] / width
    if seed % 2:
        turn = rng.uniform(0, 2 * np.pi)
        t = x * np.cos(turn) + y * np.sin(turn)
    else:
        t = np.hypot(x - rng.uniform(0.2, 0.8), y - rng.uniform(0.1, 0.6))
    t = ((t - t.min()) / (t.max() - t.min()))[..., None]
    first, second = rng.integers(0, 256, (2, 3))
    return Image.fromarray((first * (1 - t) + second * t).astype(np.uint8))


def sky(seed: int) -> Image.Image:
    """A night: almost black, with a few lights."""
    rng = np.random.default_rng((seed, 51))
    image = Image.new("RGB", (600, 400), (4, 5, 12))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(8, 60))):
        x, y, r = rng.uniform(0, 600), rng.uniform(0, 400), rng.exponential(1.5) + 0.7
        level = int(rng.integers(90, 255))
        draw.ellipse([x - r, y - r, x + r, y + r], (level, level, int(level * 0.9)))
    return _grain(image, (seed, 52), 2.0)


def texture(seed: int) -> Image.Image:
    """Fine patterns without a subject: noise of a few scales, tinted."""
    rng = np.random.default_rng((seed, 61))
    total = np.zeros((384, 384))
    for scale in (1, 4, 16):
        coarse = Image.fromarray(rng.normal(0, 1, (384 // scale, 384 // scale)).astype(np.float32))
        total += rng.uniform(0.3, 1.0) * np.asarray(coarse.resize((384, 384), Image.Resampling.BICUBIC))
    tint, base = rng.uniform(15, 40, 3), rng.integers(60, 200, 3)
    return Image.fromarray(np.clip(base + tint * total[..., None], 0, 255).astype(np.uint8))


def shapes(seed: int) -> Image.Image:
    """A slope with four rectangles."""
    return Image.fromarray(pixels(seed, 384, 256))


_FAMILIES = (
    ("scene", scene, 40),
    ("page", page, 30),
    ("chart", chart, 16),
    ("gradient", gradient, 16),
    ("sky", sky, 12),
    ("texture", texture, 10),
    ("shapes", shapes, 20),
)


def _photographs() -> Iterator[tuple[str, Image.Image]]:
    """The two photographs that scikit-learn brings, in tiles that share nothing."""
    import sklearn

    for path in sorted((Path(sklearn.__file__).parent / "datasets" / "images").glob("*.jpg")):
        with Image.open(path) as image:
            whole = image.convert("RGB")
        for row in range(2):
            for column in range(3):
                box = (column * 213, row * 213, column * 213 + 212, row * 213 + 212)
                yield f"{path.stem}-{row}{column}", whole.crop(box)


def _case(name: str, family: str, image: Image.Image) -> Case:
    return Case(name, family, image, _encoded(image, "png"))


def _copy(
    source: Case, change: str, image: Image.Image, file_format: str = "jpeg", kind: str = RECODED, **options: object
) -> Case:
    options = options or ({"quality": 85} if file_format == "jpeg" else {})
    return Case(f"{source.name}: {change}", source.family, image, _encoded(image, file_format, **options), kind)


def _alike(source: Case, change: str, image: Image.Image) -> Case:
    return Case(f"{source.name}: {change}", source.family, image, _encoded(image, "jpeg", quality=85), "look-alike")


def jpeg(image: Image.Image) -> bytes:
    """Its file, as a thumbnail's."""
    return _encoded(image.convert("RGB"), "jpeg", quality=80)


def _encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    if file_format == "png":
        options = {"compress_level": 1}
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def _over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba).convert("RGB")


def _cropped(image: Image.Image, percent: int) -> Image.Image:
    """``percent`` of the width and height off, unevenly at the four sides."""
    dx, dy = image.width * percent / 100, image.height * percent / 100
    box = (round(dx * 0.7), round(dy * 0.4), image.width - round(dx * 0.3), image.height - round(dy * 0.6))
    return image.crop(box)


def _part(image: Image.Image, share: float) -> Image.Image:
    return image.crop((0, 0, max(16, int(image.width * share)), max(16, int(image.height * share))))


def _differs(image: Image.Image, other: Image.Image) -> bool:
    """Whether people would see it."""
    return float(np.abs(np.asarray(image, dtype=float) - np.asarray(other)).mean()) > 6


def _hue(image: Image.Image, degrees: int) -> Image.Image:
    hsv = np.array(image.convert("HSV"))
    hsv[..., 0] = (hsv[..., 0].astype(int) + degrees * 256 // 360) % 256
    return Image.fromarray(hsv, "HSV").convert("RGB")


def _grain(image: Image.Image, seed: tuple[int, ...], sigma: float = 4.0) -> Image.Image:
    noise = np.random.default_rng(seed).normal(0, sigma, (image.height, image.width, 1))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in rng.integers(0, 256, 3))
    return red, green, blue


def _words(rng: np.random.Generator, n: int) -> str:
    letters = "etaoinshrdlucmfwypvbgk"
    weights = np.linspace(2.0, 0.2, len(letters))
    weights /= weights.sum()
    return " ".join("".join(rng.choice(list(letters), int(rng.integers(2, 10)), p=weights)) for _ in range(n))
