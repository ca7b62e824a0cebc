"""Windows over long recordings: wherever a query is cut, it finds its own recording first."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from arrowlens import Library
from tests.soak.recordings import RATE, cut, write_recordings

LATER = 1.2  # seconds
SECONDS = 10.0  # of a query, as long as a window
LEAST = 0.98
LEAST_OWN = {3.0: 0.2, 5.0: 0.5, 7.5: 0.9, 10.0: LEAST, 15.0: LEAST, 20.0: LEAST}  # by a query's seconds; see below


@dataclasses.dataclass(frozen=True)
class Case:
    """A query of a recording, cut at ``offset`` and again 1.2 s later, and which files were found first."""

    path: Path
    offset: float
    first: Path
    first_later: Path
    margin: float
    """How much better the recording itself scored than the best other one, for the later cut."""


def ask(library: Library, recordings: list[Path], seconds: float, hop_s: float) -> list[Case]:
    """A case for each recording: cut where a window begins, and 1.2 s later; the window is drawn by a seed."""
    dice, cases = np.random.default_rng(12), []
    for path in recordings:
        n_places = int((soundfile.info(path).duration - seconds - LATER) // hop_s) + 1
        offset = float(dice.integers(n_places)) * hop_s
        hits = [
            library.search_by_audio(cut(path, start, seconds), RATE, k=len(recordings))
            for start in (offset, offset + LATER)
        ]
        own = next(hit.score for hit in hits[1] if hit.path == path)
        other = max(hit.score for hit in hits[1] if hit.path != path)
        cases.append(Case(path, offset, hits[0][0].path, hits[1][0].path, own - other))
    return cases


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("n_recordings", [pytest.param(16, id="short"), pytest.param(200, marks=pytest.mark.soak)])
def test_a_query_cut_later_finds_the_same_file_first(tmp_path, n_recordings):
    recordings = write_recordings(tmp_path / "in", range(n_recordings))
    with Library.open(tmp_path / "a.lens", models="demo") as library:
        assert library.ingest(tmp_path / "in").indexed == n_recordings
        status = library.status()
        cases = ask(library, recordings, SECONDS, status.hop_s)
        share = np.mean([case.first_later == case.first for case in cases])
        own = np.mean([case.first_later == case.path for case in cases])
        print(f"\n{n_recordings} recordings, windows of {status.window_s} s every {status.hop_s} s, queries of")
        print(f"{SECONDS} s: the same file first {share:.3f}, its own {own:.3f}")
        for case in cases:
            if case.first_later != case.first:
                print(f"  {case.path.name} at {case.offset:.1f} s: {case.first.name} and {case.first_later.name}")
    assert all(case.first == case.path for case in cases), "cut where a window begins, it is that window"
    assert sum(case.first_later != case.first for case in cases) <= math.ceil((1 - LEAST) * n_recordings)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_queries_of_other_lengths(tmp_path):
    """Shorter queries than a window promise less: half a window sounds like half of what is in it. Longer do not."""
    recordings = write_recordings(tmp_path / "in", range(200))
    with Library.open(tmp_path / "a.lens", models="demo") as library:
        library.ingest(tmp_path / "in")
        for seconds, least in LEAST_OWN.items():
            cases = ask(library, recordings, seconds, library.status().hop_s)
            own = np.mean([case.first_later == case.path for case in cases])
            print(
                f"{seconds:5.1f} s: its own recording first {own:.3f}, least margin {min(c.margin for c in cases):.4f}"
            )
            assert own >= least, "by chance: 0.005"
