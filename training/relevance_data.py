"""Pictures, recordings and texts with known meanings, to fit and to measure relevance on: never used in training.

Concepts and kinds of sounds are split in two halves by a fixed seed: coefficients are fitted on one, measured on the
other. What is drawn and synthesised is kept in the work folder, so that another model can be measured in a minute; who
changes how drawings or sounds are made empties it.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from captions import COLOURS, SHORT
from catalogue import Concept, concepts, sounds, with_article
from make_sounds import clip
from numpy.typing import NDArray
from pictures import Sources, compose, drawing

from arrowlens.encoders import AudioEncoder, CLIPEngine, ImageProcessor

Vectors = NDArray[np.float32]
SEED = 99_000_000
STYLES = ("noto", "twemoji", "flat", "modern", "openmoji")  # the last is drawn as training never saw it
PICTURES, ASKING = 7, 2  # of each concept: in libraries, and to ask with
SCENES = 320
CLIPS, CLIPS_ASKING = 8, 2  # of each kind
SIZE = (224, 224)
ARTICLES = ("a ", "an ", "the ")


@dataclass(frozen=True)
class Items:
    """Vectors (n, d) and what each shows: meanings by number, -1 where there is no second or third."""

    vectors: Vectors
    shown: NDArray[np.int32]  # (n, 3)

    def of(self, chosen: Iterable[int]) -> NDArray[np.intp]:
        """Rows that show nothing but these meanings."""
        allowed = np.array([-1, *sorted(chosen)])
        return np.nonzero(np.isin(self.shown, allowed).all(1))[0]


@dataclass(frozen=True)
class World:
    """Everything encoded by one set of models. Meanings are numbered: concepts first, then kinds of sounds.

    Attributes:
        names: of every meaning. halves: the meanings to fit on, and those to measure on.
        pictures, clips: for libraries. asking_pictures, asking_clips: to ask with.
        texts, text_meanings: to ask with (n, d), (n,); `wording` has the words.
        same: pairs of meanings of which one finds the other (the word for an animal and for its sound).
    """

    names: tuple[str, ...]
    halves: tuple[frozenset[int], frozenset[int]]
    pictures: Items
    asking_pictures: Items
    clips: Items
    asking_clips: Items
    texts: Vectors
    text_meanings: NDArray[np.int32]
    wording: tuple[str, ...]
    same: frozenset[tuple[int, int]]


def draw_pictures(sources: Sources, size: int, work: Path) -> dict[str, NDArray[np.generic]]:
    """uint8 pixels (n, size, size, 3) of single concepts and of scenes, and what they show; kept in `work`."""
    path = work / f"relevance-pictures-{size}-{_stamp(concept.name for concept in concepts(sources.npm))}.npz"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        np.savez(path, allow_pickle=False, **_drawn(sources, ImageProcessor(size)))
    return dict(np.load(path))


def _drawn(sources: Sources, processor: ImageProcessor) -> dict[str, NDArray[np.generic]]:
    everything, rng = concepts(sources.npm), random.Random(SEED)
    halves = split(len(everything), SEED)
    plans: list[tuple[str, tuple[int, ...]]] = []
    for concept in range(len(everything)):
        first = rng.randrange(len(STYLES))
        plans += [(STYLES[(first + number) % len(STYLES)], (concept,)) for number in range(PICTURES + ASKING)]
    for number in range(SCENES):
        half = sorted(halves[number % 2])
        plans.append((rng.choice(STYLES[:-1]), tuple(rng.sample(half, rng.choice((2, 2, 3))))))
    pixels = np.empty((len(plans), processor.image_size, processor.image_size, 3), np.uint8)
    shown = np.full((len(plans), 3), -1, np.int32)
    for row, (style, chosen) in enumerate(plans):
        shown[row, : len(chosen)] = chosen
        images = [drawing(sources, style, everything[c], 0) for c in chosen]
        picture = compose(images, SIZE, rng.choice(list(COLOURS)), rng)
        pixels[row] = processor(picture, normalize=False)
    return {"pixels": pixels, "shown": shown}


def make_clips(work: Path) -> dict[str, NDArray[np.generic]]:
    """Recordings of every kind with parameters that training never saw, one after the other; kept in `work`."""
    path = work / f"relevance-clips-{_stamp(sounds())}.npz"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        waves, kinds = [], []
        for number, kind in enumerate(sounds()):
            for index in range(CLIPS + CLIPS_ASKING):
                waves.append(clip(kind, SEED + 1000 * number + index, unseen=True).astype(np.float16))
                kinds.append(number)
        starts = np.cumsum([0, *map(len, waves)])
        np.savez(path, allow_pickle=False, samples=np.concatenate(waves), starts=starts, kinds=np.array(kinds))
    return dict(np.load(path))


def _stamp(names: Iterable[str]) -> str:
    return f"{zlib.crc32(chr(10).join(names).encode()):08x}"


def split(n: int, seed: int) -> tuple[frozenset[int], frozenset[int]]:
    """The numbers below n in two halves."""
    order = random.Random(seed).sample(range(n), n)
    return frozenset(order[::2]), frozenset(order[1::2])


def world(engine: CLIPEngine, encoder: AudioEncoder, sources: Sources, work: Path) -> World:
    """Draw or load everything, and encode it."""
    everything, kinds = concepts(sources.npm), sounds()
    n_concepts = len(everything)
    drawn, recorded = draw_pictures(sources, engine.image_processor.image_size, work), make_clips(work)
    pictures = Items(_pictures(engine, drawn["pixels"]), drawn["shown"].astype(np.int32))
    clips = Items(_recordings(encoder, recorded), _alone(recorded["kinds"] + n_concepts))
    singles = np.arange(n_concepts * (PICTURES + ASKING)) % (PICTURES + ASKING) >= PICTURES
    asks = np.concatenate([singles, np.zeros(SCENES, bool)])
    clip_asks = np.arange(len(clips.shown)) % (CLIPS + CLIPS_ASKING) >= CLIPS
    wording, meanings = _questions(everything, kinds)
    by_half = zip(split(n_concepts, SEED), split(len(kinds), SEED + 1), strict=True)
    halves = [seen | {n_concepts + kind for kind in heard} for seen, heard in by_half]
    return World(
        names=(*(concept.name for concept in everything), *kinds),
        halves=(halves[0], halves[1]),
        pictures=Items(pictures.vectors[~asks], pictures.shown[~asks]),
        asking_pictures=Items(pictures.vectors[asks], pictures.shown[asks]),
        clips=Items(clips.vectors[~clip_asks], clips.shown[~clip_asks]),
        asking_clips=Items(clips.vectors[clip_asks], clips.shown[clip_asks]),
        texts=engine.encode_text(list(wording)),
        text_meanings=np.array(meanings, np.int32),
        wording=wording,
        same=frozenset(_same(everything, kinds)),
    )


def _questions(everything: Sequence[Concept], kinds: dict[str, tuple[str, ...]]) -> tuple[tuple[str, ...], list[int]]:
    """Every concept by its name, by a caption and by another word; every sound by three of its phrases."""
    rng = random.Random(SEED + 2)
    asked: list[tuple[str, int]] = []
    for number, concept in enumerate(everything):
        asked.append((with_article(concept.name), number))
        asked.append((rng.choice(SHORT).format(a=with_article(concept.name), n=concept.name), number))
        asked += [(with_article(word), number) for word in concept.words[:1]]
    for number, phrases in enumerate(kinds.values()):
        asked += [(phrase, len(everything) + number) for phrase in phrases[:3]]
    return tuple(text for text, _ in asked), [meaning for _, meaning in asked]


def _same(everything: Sequence[Concept], kinds: dict[str, tuple[str, ...]]) -> set[tuple[int, int]]:
    pairs = set()
    for number, (kind, phrases) in enumerate(kinds.items()):
        words = {kind, *(_bare(phrase) for phrase in phrases)}
        for concept, thing in enumerate(everything):
            if words & set(thing.names):
                pairs |= {(concept, len(everything) + number), (len(everything) + number, concept)}
    return pairs


def _bare(phrase: str) -> str:
    return next((phrase.removeprefix(article) for article in ARTICLES if phrase.startswith(article)), phrase)


def _alone(meanings: NDArray[np.generic]) -> NDArray[np.int32]:
    shown = np.full((len(meanings), 3), -1, np.int32)
    shown[:, 0] = meanings
    return shown


def _pictures(engine: CLIPEngine, pixels: NDArray[np.generic]) -> Vectors:
    return np.concatenate([engine.encode_image(pixels[start : start + 64]) for start in range(0, len(pixels), 64)])


def _recordings(encoder: AudioEncoder, recorded: dict[str, NDArray[np.generic]]) -> Vectors:
    waves = np.split(recorded["samples"].astype(np.float32), recorded["starts"][1:-1].astype(int))
    return np.concatenate(
        [encoder.encode(waves[start : start + 32], context="own") for start in range(0, len(waves), 32)]
    )
