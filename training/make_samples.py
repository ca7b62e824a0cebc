"""Write the sample pictures and recordings that come with the package, with seeds that training never uses."""

from __future__ import annotations

import argparse
import csv
import random
import re
import shutil
from pathlib import Path

from captions import COLOURS, NUMBERS
from catalogue import Concept, add_folders, concepts, plural, with_article
from pictures import Sources, compose, drawing, tinted
from PIL import Image

GROUPS = {3: "nature", 4: "food", 5: "travel", 6: "play"}
STYLES = ("noto", "twemoji", "flat", "modern")
SINGLES, TINTED, SCENES, COUNTED = 92, 14, 36, 8
PAIRS = 64
SEED = 20_260_101
SEARCHED_FOR = {"bicycle": "red"}  # the example of the documentation
PLAIN_TINTS = ("red", "green", "blue", "yellow", "purple", "orange")
TINTABLE = (
    "bicycle", "car", "umbrella", "balloon", "dress", "chair", "butterfly", "teapot", "bus", "boot", "sofa", "kite",
    "guitar", "handbag",
)  # fmt: skip


def slug(text: str) -> str:
    """Lower case words joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


class Album:
    """The sample pictures as they are written."""

    def __init__(self, sources: Sources, folder: Path) -> None:
        self.sources, self.folder = sources, folder
        self.rng = random.Random(SEED)
        self.rows: list[tuple[str, str, frozenset[str]]] = []

    def _drawing(self, concept: Concept, style: str) -> Image.Image:
        return drawing(self.sources, style, concept, 0)

    def _size(self) -> tuple[int, int]:
        long = self.rng.choice((224, 256, 320, 400, 480, 640))
        return self.rng.choice(((long, long), (long, long * 3 // 4), (long * 3 // 4, long)))

    def _write(self, image: Image.Image, stem: str, caption: str, shown: list[Concept]) -> None:
        suffix = self.rng.choices(("jpg", "webp", "png"), (0.6, 0.2, 0.2))[0]
        if suffix == "png":
            image = image.quantize(128)
        path = self.folder / f"{stem}-{1 + sum(row[0].rpartition('-')[0] == stem for row in self.rows):02d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == "png":
            image.save(path, optimize=True)
        else:
            image.save(path, quality=85)
        name = path.relative_to(self.folder).as_posix()
        self.rows.append((name, caption, frozenset(concept.name for concept in shown)))

    def single(self, concept: Concept) -> None:
        """One concept on any background."""
        colour = self.rng.choice((*COLOURS, "white", "white"))
        image = compose([self._drawing(concept, self.rng.choice(STYLES))], self._size(), colour, self.rng)
        folder = GROUPS.get(concept.group, "things")
        self._write(image, f"{folder}/{slug(concept.name)}", with_article(concept.name), [concept])

    def tinted(self, concept: Concept, tint: str) -> None:
        """One concept in shades of one colour."""
        colour = self.rng.choice([name for name in ("white", "grey", "beige", "light blue") if name != tint])
        image = tinted(self._drawing(concept, self.rng.choice(STYLES)), tint)
        picture = compose([image], self._size(), colour, self.rng)
        text = with_article(f"{tint} {concept.name}")
        self._write(picture, f"colours/{slug(f'{tint} {concept.name}')}", text, [concept])

    def counted(self, concept: Concept, count: int) -> None:
        """One concept two or three times."""
        image = self._drawing(concept, self.rng.choice(STYLES))
        picture = compose([image] * count, self._size(), self.rng.choice(list(COLOURS)), self.rng)
        text = f"{NUMBERS[count]} {plural(concept.name)}"
        self._write(picture, f"scenes/{slug(text)}", text, [concept])

    def scene(self, chosen: list[Concept]) -> None:
        """Two or three concepts in one style."""
        style = self.rng.choice(STYLES)
        colour = self.rng.choice(list(COLOURS))
        picture = compose([self._drawing(concept, style) for concept in chosen], self._size(), colour, self.rng)
        names = [with_article(concept.name) for concept in chosen]
        text = f"{', '.join(names[:-1])} and {names[-1]}"
        stem = "-and-".join(slug(concept.name) for concept in chosen)
        self._write(picture, f"scenes/{stem}", f"{text} on {with_article(colour)} background", chosen)

    def pairs(self) -> list[tuple[str, str]]:
        """Pictures with captions of which no two show the same concept."""
        taken: set[str] = set()
        found: list[tuple[str, str]] = []
        order = self.rng.sample(self.rows, len(self.rows))
        for path, caption, shown in sorted(order, key=lambda row: len(row[2]) < 2):
            if not taken & shown and len(found) < PAIRS and (len(shown) < 2 or len(found) < PAIRS // 4):
                taken |= shown
                found.append((f"pictures/{path}", caption))
        return sorted(found)


def pictures(sources: Sources, folder: Path) -> Album:
    """All sample pictures below `folder`."""
    album = Album(sources, folder)
    everything = concepts(sources.npm)
    by_name = {concept.name: concept for concept in everything}
    for concept in album.rng.sample(everything, SINGLES):
        album.single(concept)
    for name in TINTABLE[:TINTED]:
        drawn = album.rng.choice(PLAIN_TINTS)
        album.tinted(by_name[name], SEARCHED_FOR.get(name, drawn))
    for concept in album.rng.sample(everything, COUNTED):
        album.counted(concept, album.rng.choice((2, 3)))
    for number in range(SCENES):
        album.scene(album.rng.sample(everything, 2 if number % 3 else 3))
    return album


def main() -> None:
    """Write `pictures/`, `sounds/` and `pairs.csv`."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_folders(parser)
    parser.add_argument("--output", type=Path, required=True, help="the samples' folder, which is written anew")
    parser.add_argument("--only", choices=("pictures", "sounds"))
    options = parser.parse_args()
    if options.only != "sounds":
        shutil.rmtree(options.output / "pictures", ignore_errors=True)
        album = pictures(Sources(options.npm, options.font), options.output / "pictures")
        with (options.output / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("path", "caption"))
            writer.writerows(album.pairs())
    if options.only != "pictures":
        # here, not above: the sounds need scipy and espeak-ng, which the pictures do without
        from make_sounds import write_recordings

        shutil.rmtree(options.output / "sounds", ignore_errors=True)
        write_recordings(options.output / "sounds", SEED)


if __name__ == "__main__":
    main()
