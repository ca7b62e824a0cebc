"""Draw every concept in every emoji set once, as small RGBA sprites.

Two files are written: `sprites.npz` with the styles that are trained on, and `unseen.npz` with OpenMoji, which only
`evaluate.py` reads.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import resvg_py
from catalogue import Concept, add_folders, concepts
from PIL import Image, ImageDraw, ImageFont

STYLES = ("noto", "twemoji", "flat", "modern", "contrast")
UNSEEN = "openmoji"
NOTO_SIZE = 109  # the one size of the bitmaps in the font
Drawing = np.ndarray


def _svg(path: Path, size: int) -> Image.Image:
    text = path.read_text(encoding="utf-8")
    data = resvg_py.svg_to_bytes(svg_string=text, width=size, height=size)
    return Image.open(io.BytesIO(bytes(data))).convert("RGBA")


def _noto(hexcode: str, font: ImageFont.FreeTypeFont) -> Image.Image | None:
    text = "".join(chr(int(part, 16)) for part in hexcode.split("-") if part != "FE0F")
    image = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(image).text((10, 10), text, font=font, embedded_color=True)
    return image if image.getbbox() else None


def svg_path(npm: Path, style: str, hexcode: str, label: str) -> Path | None:
    """Where a set keeps the drawing of one emoji, or None when it has none."""
    bare = "-".join(part for part in hexcode.split("-") if part != "FE0F")
    slug = label.lower().replace("’", "").replace("'", "").replace(".", "").replace(" ", "-")
    slugs = [slug, slug.replace("ñ", "n")]
    candidates = {
        "twemoji": [npm / f"@twemoji/svg/{code.lower()}.svg" for code in (hexcode, bare)],
        "flat": [npm / f"fluentui-emoji/icons/flat/{name}.svg" for name in slugs],
        "modern": [npm / f"fluentui-emoji/icons/modern/{name}.svg" for name in slugs],
        "contrast": [npm / f"fluentui-emoji/icons/high-contrast/{name}.svg" for name in slugs],
        "openmoji": [npm / f"openmoji/color/svg/{code}.svg" for code in (hexcode, bare)],
    }[style]
    return next((path for path in candidates if path.exists()), None)


def square(image: Image.Image, size: int, margin: float = 0.02) -> Image.Image:
    """Crop to the drawing, centre it on a square, and resize."""
    box = image.getchannel("A").point(lambda value: 255 * (value > 8)).getbbox()
    if box is None:
        raise ValueError("an empty drawing")
    image = image.crop(box)
    side = round(max(image.size) * (1 + 2 * margin))
    canvas = Image.new("RGBA", (side, side))
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)


def draw(npm: Path, font_path: Path, style: str, concept: Concept, variant: int, size: int) -> Image.Image | None:
    """One drawing of a concept as an RGBA square, or None where the set lacks it."""
    hexcode, label = concept.hexcodes[variant], concept.labels[variant]
    if style == "noto":
        raw = _noto(hexcode, ImageFont.truetype(str(font_path), NOTO_SIZE))
    else:
        path = svg_path(npm, style, hexcode, label)
        raw = None if path is None else _svg(path, max(size, 128))
    return None if raw is None else square(raw, size)


def render(npm: Path, font_path: Path, styles: tuple[str, ...], size: int) -> dict[str, np.ndarray]:
    """Every concept in the given styles: `pixels` (n, size, size, 4) uint8, `concept`, `style`, `variant` (n,)."""
    pixels, concept_ids, style_ids, variants = [], [], [], []
    for index, concept in enumerate(concepts(npm)):
        for style_id, style in enumerate(styles):
            for variant in range(len(concept.hexcodes)):
                image = draw(npm, font_path, style, concept, variant, size)
                if image is None:
                    print(f"missing: {style} {concept.labels[variant]}")
                    continue
                pixels.append(np.asarray(image))
                concept_ids.append(index)
                style_ids.append(style_id)
                variants.append(variant)
    return {
        "pixels": np.stack(pixels),
        "concept": np.array(concept_ids),
        "style": np.array(style_ids),
        "variant": np.array(variants),
        "styles": np.array(styles),
    }


def main() -> None:
    """Write the sprites."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_folders(parser, work=True)
    parser.add_argument("--size", type=int, default=72)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    for name, styles in (("sprites", STYLES), ("unseen", (UNSEEN,))):
        table = render(options.npm, options.font, styles, options.size)
        np.savez(options.work / f"{name}.npz", allow_pickle=False, **table)
        print(name, table["pixels"].shape)


if __name__ == "__main__":
    main()
