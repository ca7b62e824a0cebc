"""``make eval-sounds``: what is said about recordings, with the demo model and with the real whisper-base.

python -m benchmarks.sounds [--every N]

Prints a table and exits with 1 where a figure is below its bar. Each part takes the models and gives its figures. It
needs espeak-ng and the recordings of spoken digits.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch

from arrowlens import Library
from arrowlens.conversion import convert_whisper_model
from arrowlens.modalities import SAMPLE_RATE
from arrowlens.models import resolve
from arrowlens.query_engine import provider_of
from arrowlens.search import KINDS, DuplicateGroup
from benchmarks.measure import header
from tests.support.duplicate_recordings import EDITED, NEAR, RECODED, Sound, copies, sources, takes
from tests.support.measures import EVERYDAY, claimed
from tests.support.real_weights import DATA, whisper_base_folder

sys.path.append(str(Path(__file__).parents[1] / "training"))  # a folder of scripts, which make the noises
import evaluate_relevance

COPY_PRECISION, COPY_RECALL, NEAR_PRECISION = 0.98, 0.9, 0.95


@dataclasses.dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        name: what was measured. value: what came out.
        least, most: the bars; None where there is none.
    """

    name: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def holds(self) -> bool:
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)

    def __str__(self) -> str:
        bars = [("at least", self.least), ("at most", self.most)]
        bar = ", ".join(f"{word} {value:g}" for word, value in bars if value is not None) or "no bar"
        return f"  {self.name:<58} {self.value:>8.4g}   {bar}{'' if self.holds else '   BELOW THE BAR'}"


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=6, help="take every N-th recording only")
    options = parser.parse_args()
    header("sounds")
    with tempfile.TemporaryDirectory(prefix="arrowlens-") as name:
        work = Path(name)
        whisper = convert_whisper_model(whisper_base_folder(work / "checkpoint"), work / "whisper-base").directory
        figures: list[Figure] = []
        cases = written(work / "files", options.every)
        for title, models in (("demo model", "demo"), ("whisper-base", f"audio={whisper}")):
            found = list(duplicates(work / f"{title}.lens", models, work / "files", cases))
            print(f"duplicates, {title}, {len(cases):,} files:", *found, sep="\n", flush=True)
            figures += found
            found = list(relevance(models))
            found.append(sure_copies(work / f"{title}-copies", models))
            print(f"relevance of recordings, {title}:", *found, sep="\n", flush=True)
            figures += found
        words = everyday_words(work / "words.lens")
        print("texts and recordings, demo model:", words, sep="\n", flush=True)
        figures.append(words)
    below = sum(not figure.holds for figure in figures)
    print(f"{below} of {len(figures)} figures below their bars")
    return 1 if below else 0


def written(folder: Path, every: int) -> dict[str, Sound]:
    """Files of recordings, their copies and parts, and of many takes of one thing, by the name of the file."""
    folder.mkdir()
    cases = {}
    for number, source in enumerate([*list(sources())[::every], *takes(every)]):
        with_copies = source.name.split(" ")[0] != "rain" or number % 5 == 0
        with_copies &= not source.name.startswith("digit") or number % 5 == 0
        for case in [source, *(copies(source) if with_copies else ())]:
            name = f"{len(cases)}.{_SUFFIXES.get(case.data[:4], 'bin')}"
            (folder / name).write_bytes(case.data)
            cases[name] = case
    return cases


_SUFFIXES = {b"RIFF": "wav", b"fLaC": "flac", b"OggS": "ogg", b"ID3\x04": "mp3", b"\x1aE\xdf\xa3": "webm"}
_SUFFIXES |= {b"\x00\x00\x00\x1c": "m4a", b"\x00\x00\x00 ": "m4a"}


def duplicates(library: Path, models: str, folder: Path, cases: dict[str, Sound]) -> Iterator[Figure]:
    """How well copies, and what is nearly the same, are told from other takes."""
    with Library.open(library, models=models) as opened:
        report = opened.ingest(folder)
        assert report.skipped == 0, opened.skipped()[:3]
        groups = opened.duplicates()
    kinds = {kind: [group for group in groups if group.kind == kind] for kind in KINDS}
    alike = {kind: _pairs(found, cases) for kind, found in kinds.items()}
    right = {kind: [a for a, b in pairs if _source(a) == _source(b)] for kind, pairs in alike.items()}
    # A recording of 16 kHz is the same to the byte when it is written at 16 kHz again.
    together = _together(kinds["identical"], cases) | _together(kinds["copy"], cases)
    shares = defaultdict(list)
    for case in cases.values():
        if case.kind in (RECODED, EDITED):
            shares[case.name.split(": ")[1]].append(case.name in together)
    everything = [found for family in shares.values() for found in family]
    yield Figure("copy: precision", _share(len(right["copy"]), len(alike["copy"])), COPY_PRECISION)
    yield Figure("copy: recall", _share(sum(everything), len(everything)), COPY_RECALL)
    for family, found in shares.items():
        yield Figure(f"copy: recall of {family}", _share(sum(found), len(found)), COPY_RECALL)
    yield Figure("near: precision", _share(len(right["near"]), len(alike["near"])), NEAR_PRECISION)
    together |= _together(kinds["near"], cases)
    parts = [case.name in together for case in cases.values() if case.kind == NEAR]
    yield Figure("near: recall, as near or as copy", _share(sum(parts), len(parts)))
    for taken in ("rain take", "digit"):
        wrong = [a for a, b in alike["copy"] if _source(a) != _source(b) and a.name.startswith(taken)]
        yield Figure(f"pairs of different takes ({taken}) that are copies", len(wrong), most=0)


def relevance(models: str) -> Iterator[Figure]:
    """How true it is what is said of the best hit of a recording."""
    torch.set_num_threads(1)  # recordings of half a second: beside other work, threads mostly wait for each other
    found = evaluate_relevance.figures(provider_of(resolve(models), None, "auto", {}), DATA / "digits")
    bars = evaluate_relevance
    yield Figure(f"right answers called no match, of {found.n_right}", found.missed, most=bars.MOST_MISSED)
    yield Figure("another world: area under the ROC curve", found.other_world, bars.OTHER_WORLD)
    yield Figure("a kind left out, against held: area", found.kind_left_out, bars.KIND_LEFT_OUT)
    yield Figure("a digit left out, claimed to match", found.claimed_digits)
    yield Figure("a kind of noise left out, claimed to match", found.claimed_noises)
    yield Figure("copies in MP3 and Vorbis above 0.9 by the model alone", found.sure_copies, bars.SURE_COPIES)


def sure_copies(folder: Path, models: str) -> Figure:
    """How many MP3 and Vorbis files of noises find the original in a library with a relevance above 0.9."""
    waves, kinds = evaluate_relevance.noises()
    held = np.nonzero(evaluate_relevance.in_library(kinds))[0]
    (folder / "media").mkdir(parents=True)
    for row in held:
        soundfile.write(folder / "media" / f"{row}.wav", waves[row], SAMPLE_RATE)
    with Library.open(folder / "a.lens", models=models, create=True) as library:
        library.ingest(folder / "media")
        relevance = [
            max(
                (hit.relevance or 0.0 for hit in library.similar((copy, SAMPLE_RATE)) if hit.path.stem == str(row)),
                default=0.0,
            )
            for row in held[:: evaluate_relevance.COPIED]
            for copy in evaluate_relevance.copies(waves[row])
        ]
    sure = float((np.array(relevance) > evaluate_relevance.COPY).mean())
    return Figure(f"copies in MP3 and Vorbis above 0.9 in a library, of {len(relevance)}", sure, least=1.0)


def everyday_words(library: Path) -> Figure:
    """How many of forty words that nobody says claim to be found among spoken digits."""
    with Library.open(library, models="demo") as opened:
        opened.ingest(DATA / "digits")
        wrong = claimed(opened, EVERYDAY)
    return Figure(f"everyday words, of {len(EVERYDAY)}, that claim a spoken digit", len(wrong), most=1)


def _source(case: Sound) -> str:
    return case.name.split(": ")[0]


def _pairs(groups: list[DuplicateGroup], cases: dict[str, Sound]) -> list[tuple[Sound, Sound]]:
    """The best file of each group with each of the others."""
    return [(cases[member.path.name], cases[group.best.path.name]) for group in groups for member in group.files[1:]]


def _together(groups: list[DuplicateGroup], cases: dict[str, Sound]) -> set[str]:
    """Names of the cases that are in a group with the recording they were made of, or with a copy of it."""
    found = set()
    for group in groups:
        members = [cases[member.path.name] for member in group.files]
        of = [_source(member) for member in members]
        found |= {member.name for member in members if of.count(_source(member)) > 1}
    return found


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


if __name__ == "__main__":
    sys.exit(main())
