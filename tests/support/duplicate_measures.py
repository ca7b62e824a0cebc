"""How well copies are told from what only looks or sounds alike, over the generated cases.

A pair is right where one is a copy of the other; wrong pairs are counted among all different pictures: every source
with every other and with every look-alike. A copy counts once, with its source, however many copies a source has.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from arrowlens.encoders import CLIPEngine
from arrowlens.media import decode
from arrowlens.media.acoustic_fingerprint import AcousticFingerprint, Waveform
from arrowlens.models import resolve
from arrowlens.search.clustering import Close, stars
from arrowlens.search.perceptual_hash import Fingerprints
from arrowlens.search.similarity import Pictures
from arrowlens.search.waveform_matching import Recordings, spectra_of
from tests.support import duplicate_cases, duplicate_recordings

_COPIES = (
    *(duplicate_cases.RECODED, duplicate_cases.EDITED, duplicate_cases.CROPPED),
    duplicate_recordings.LOW_RATE,
    duplicate_recordings.NEAR,
)

_TAKES_WITHOUT_COPIES = 10


@dataclass
class Labels:
    """What each case is, by position; the first case of a source is the source itself."""

    sources: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    families: list[str] = field(default_factory=list)

    def add(self, source: int, name: str, kind: str, family: str) -> None:
        self.sources.append(source)
        self.names.append(name)
        self.kinds.append(kind)
        self.families.append(family)

    def distinct(self) -> np.ndarray:
        """Cases that are no copies: every two of them are different."""
        return np.array([at for at, kind in enumerate(self.kinds) if kind not in _COPIES])

    def pairs(self, kind: str) -> list[tuple[int, int]]:
        """Each copy of a kind with its source."""
        first = {source: at for at, source in reversed(list(enumerate(self.sources)))}
        return [(first[self.sources[at]], at) for at, found in enumerate(self.kinds) if found == kind]


@dataclass(frozen=True)
class Found:
    """What a threshold lets through.

    Attributes:
        recall: share of the copies that are found with their source, by kind. by_family: of the recoded ones.
        n_right, n_wrong: pairs. wrong: their names.
    """

    recall: dict[str, float]
    by_family: dict[str, float]
    n_right: int
    wrong: list[tuple[str, str]]

    @property
    def precision(self) -> float:
        return self.n_right / max(1, self.n_right + len(self.wrong))


def prepared_pictures(step: int = 1) -> tuple[Labels, Pictures]:
    """Every ``step``-th source with its copies and look-alikes, decoded and encoded as an ingest does."""
    engine = CLIPEngine(resolve("demo").vision)
    labels, thumbnails, vectors = Labels(), [], []
    for number, source in enumerate(duplicate_cases.sources()):
        if number % step:
            continue
        inputs = []
        for case in (source, *duplicate_cases.copies(source), *duplicate_cases.look_alikes(source)):
            decoded = decode(case.name, data=case.data, min_side=engine.image_processor.image_size)
            assert decoded.reason is None, decoded.reason
            labels.add(number, case.name, case.kind, case.family)
            thumbnails.append(decoded.thumbnail)
            inputs.append(engine.image_processor(decoded.pixels, normalize=False))
        vectors.append(engine.encode_image(np.stack(inputs)).astype(np.float16))
    return labels, Pictures(Fingerprints.of(thumbnails), np.concatenate(vectors))


def prepared_recordings(step: int = 1) -> tuple[Labels, Recordings]:
    """The same of recordings, and takes of one rain and of one digit; of every tenth take copies and parts as well."""
    labels, prints = Labels(), []
    sources = [source for number, source in enumerate(duplicate_recordings.sources()) if number % step == 0]
    for number, source in enumerate([*sources, *duplicate_recordings.takes(step)]):
        family = source.name.split("-")[0]
        cases = [source]
        if number < len(sources) or (number - len(sources)) % _TAKES_WITHOUT_COPIES == 0:
            cases += [*duplicate_recordings.copies(source), *duplicate_recordings.look_alikes(source)]
        for case in cases:
            prints.append(fingerprint_of(case.name, case.data))
            labels.add(number, case.name, case.kind, family if case.kind == "source" else case.name.split(": ")[1])
    return labels, recordings_of(prints)


def fingerprint_of(name: str, data: bytes) -> AcousticFingerprint:
    """The fingerprint of a recording's file, as an ingest makes it."""
    decoded = decode(name, data=data)
    assert decoded.reason is None, decoded.reason
    assert decoded.fingerprint is not None
    return decoded.fingerprint


def recordings_of(prints: Sequence[AcousticFingerprint]) -> Recordings:
    """What a library would compare of these fingerprints."""
    spectra = spectra_of([each.spectrum for each in prints])
    return Recordings(spectra, lambda positions: [Waveform.unpack(prints[position].waveform) for position in positions])


def found_by(labels: Labels, close: Close, kinds: Sequence[str]) -> Found:
    """What ``close`` says of the pairs of copies and sources, and of all pairs of different files."""
    recall, by_family, n_right = {}, defaultdict(list), 0
    for kind in kinds:
        hits = []
        for source, copy in labels.pairs(kind):
            hits.append(len(close(np.array([source]), np.array([copy]))[0]) == 1)
            if kind == kinds[0]:
                by_family[labels.families[copy]].append(hits[-1])
        recall[kind] = float(np.mean(hits))
        n_right += sum(hits)
    distinct = labels.distinct()
    left, right = close(distinct, distinct)
    wrong = [(labels.names[a], labels.names[b]) for a, b in zip(left, right, strict=True) if a < b]
    return Found(recall, {family: float(np.mean(hits)) for family, hits in by_family.items()}, n_right, wrong)


def grouped(labels: Labels, close: Close) -> tuple[float, int]:
    """Share of the copies in a group with their source, and how many files are in a group that another leads.

    The order of worth is by chance: whichever copy is the largest leads.
    """
    order = np.random.default_rng(0).permutation(len(labels.names))
    at = np.argsort(order)

    def renumbered(rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        left, right = close(order[rows], order[columns])
        return at[left], at[right]

    groups = [order[group] for group in stars(np.arange(len(order)), renumbered)]
    group_of = {item: number for number, group in enumerate(groups) for item in group}
    pairs = [pair for kind in _COPIES for pair in labels.pairs(kind)]
    together = [group_of.get(source, -1) == group_of.get(copy, -2) for source, copy in pairs]
    strangers = sum(labels.sources[item] != labels.sources[group[0]] for group in groups for item in group)
    return float(np.mean(together)), strangers


def of_one(first: str, second: str) -> bool:
    """Whether two cases come from one source: shots of one scene, parts of one recording, a drawing in two colours."""
    return first.split(": ")[0] == second.split(": ")[0]


def families(wrong: Sequence[tuple[str, str]]) -> str:
    """The most frequent sorts of wrong pairs."""
    sorts = Counter(f"{_sort(first)} with {_sort(second)}" for first, second in wrong)
    return ", ".join(f"{count} {sort}" for sort, count in sorts.most_common(6))


def _sort(name: str) -> str:
    source, _, change = name.partition(": ")
    return f"{source.rstrip('0123456789').rstrip('-')} {change}".strip()
