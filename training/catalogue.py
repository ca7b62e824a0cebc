"""The concepts of the pictures and the kinds of sounds: names, further words, and drawings."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build"
NOTO = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
# names that take no article, because there are several or because they are not counted
PLURAL = frozenset(
    """glasses; sunglasses; jeans; gloves; socks; skis; scissors; chains; books; scales; chips; noodles; fireworks;
    headphones; swords; masks; high heels; paw prints; footprints; chopsticks; grapes; peanuts; musical notes;
    pancakes; spectacles; trousers; nuts; dice; skates; olives; bricks; boots; traffic lights; animal tracks;
    french fries""".replace("\n    ", " ").split("; ")
)
MASS = frozenset(
    """bread; cheese; bacon; popcorn; butter; salt; rice; spaghetti; pasta; ramen; sushi; chocolate; honey; milk;
    coffee; champagne; wine; beer; soup; stew; salad; garlic; corn; maize; broccoli; lettuce; yarn; wool; thread; wood;
    soap; dna; golf; tennis; bowling; badminton; table tennis; ping pong; ice hockey; lightning; fire; toilet paper;
    rain; rainy weather; snowfall; bubble tea; paint; music; love; cash; medicine; luggage; cattle; meat; sunshine;
    archery; chess; halloween; earth; planet earth; saturn; dynamite; rope""".replace("\n    ", " ").split("; ")
)


@dataclass(frozen=True)
class Concept:
    """One thing that can be searched for: its name, other words for it, the Unicode sequences that draw it.

    `labels` are the sequences' names and `group` is the theme, both as emojibase-data has them.
    """

    name: str
    words: tuple[str, ...]
    hexcodes: tuple[str, ...]
    labels: tuple[str, ...]
    group: int

    @property
    def names(self) -> tuple[str, ...]:
        """The name first, then the other words."""
        return (self.name, *self.words)


def _lines(path: Path) -> list[tuple[str, str]]:
    pairs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            key, _, value = line.partition(" = ")
            pairs.append((key.strip(), value.strip()))
    return pairs


def concepts(npm: Path) -> list[Concept]:
    """The concepts of `concepts.txt`, with the Unicode sequences that emojibase-data under `npm` gives their labels.

    Raises:
        KeyError: a label that emojibase-data does not have.
    """
    table = json.loads((npm / "emojibase-data/en/data.json").read_text(encoding="utf-8"))
    rows = {row["label"]: row for row in table}
    found = []
    for name, rest in _lines(HERE / "concepts.txt"):
        drawings, _, words = rest.partition(";")
        labels = tuple(part.strip() for part in drawings.split(","))
        further = tuple(part.strip() for part in words.split(",") if part.strip())
        codes = tuple(rows[label]["hexcode"] for label in labels)
        found.append(Concept(name, further, codes, labels, rows[labels[0]]["group"]))
    return found


def sounds() -> dict[str, tuple[str, ...]]:
    """The kinds of sounds and what one may call each (without and with articles)."""
    return {kind: tuple(part.strip() for part in rest.split(",")) for kind, rest in _lines(HERE / "sounds.txt")}


def with_article(name: str) -> str:
    """`a cat`, `an owl`, `scissors`, `bread`."""
    if name in PLURAL or name in MASS or name.endswith("ies"):
        return name
    return ("an " if name[0] in "aeiou" and not name.startswith(("uni", "ufo")) else "a ") + name


def plural(name: str) -> str:
    """The plural as captions such as `two cats` use it."""
    irregular = {"mouse": "mice", "fish": "fish", "sheep": "sheep", "knife": "knives", "die": "dice", "deer": "deer"}
    head, _, last = name.rpartition(" ")
    if last in irregular:
        last = irregular[last]
    elif name in PLURAL or last.endswith("ies"):
        pass
    elif last.endswith(("s", "x", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and last[-2] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "s"
    return f"{head} {last}".strip()


def add_folders(parser: argparse.ArgumentParser, *, work: bool = False) -> None:
    """The options for where the sources are, and where everything is kept that is not part of the project."""
    parser.add_argument(
        "--npm", type=Path, default=BUILD / "sources/node_modules", help="the folder with the npm packages"
    )
    parser.add_argument("--font", type=Path, default=NOTO, help="Noto Color Emoji")
    if work:
        parser.add_argument("--work", type=Path, default=BUILD / "training", help="for sprites, sounds and checkpoints")
