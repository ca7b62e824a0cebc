"""At most 1.5 GB at peak, the run and its workers together, whatever the number and the size of the pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.soak.pictures import write_large, write_many
from tests.soak.processes import PeakMemory, Run
from tests.soak.whole import n_bytes

MOST = 1.5e9  # bytes


def measured(folder: Path, library: Path, *options: str) -> tuple[dict, int]:
    """A run's report, and the most memory that was held at once."""
    arguments = ["ingest", str(folder), "--library", str(library), "--models", "demo", "--json", *options]
    with Run(*arguments) as run:
        memory = PeakMemory(run)
        report = run.report(3000)
    assert memory.n_samples > 5
    parts = ", ".join(f"{held / 1e6:,.0f}" for held in memory.parts.values())
    print(f"\npeak {memory.peak / 1e6:,.0f} MB ({parts}) in {report['seconds']:.0f} s; {options}")
    return report, memory.peak


def test_pictures_of_60_to_100_megapixels_in_five_workers_at_once(tmp_path):
    n_files = write_large(tmp_path / "in", every_format=False)
    report, peak = measured(tmp_path / "in", tmp_path / "a.lens", "--workers", "5")
    assert (report["indexed"], report["skipped"]) == (n_files, 0)
    assert peak <= MOST


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_every_format_at_its_largest(tmp_path):
    """What is too large for the memory may be refused, by name; nothing may take it."""
    n_files = write_large(tmp_path / "in", every_format=True)
    for workers in ("1", "2", "5"):
        report, peak = measured(tmp_path / "in", tmp_path / f"{workers}.lens", "--workers", workers)
        print(json.dumps(report["reasons"], indent=1))
        assert report["indexed"] + report["skipped"] == n_files
        assert report["skipped"] <= 3
        assert peak <= MOST


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_fifty_thousand_pictures(tmp_path):
    write_many(tmp_path / "in", 50_000)
    n_large = write_large(tmp_path / "in" / "large", every_format=False)
    report, peak = measured(tmp_path / "in", tmp_path / "a.lens")
    assert (report["indexed"], report["skipped"]) == (50_000 + n_large, 0)
    assert peak <= MOST
    again, peak = measured(tmp_path / "in", tmp_path / "a.lens")
    assert (again["indexed"], again["unchanged"]) == (0, 50_000 + n_large)
    assert peak <= MOST
    print(f"{n_bytes(tmp_path / 'a.lens') / (50_000 + n_large):,.0f} bytes a picture on disk")
