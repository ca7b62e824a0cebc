"""Thousands of mutated files: each gives contents or a reason, in bounded time and memory.

A crash of a native decoder is counted and named, with the number that makes it again: it costs one file, since ingest
decodes in processes of their own. Python's side must never fail. FUZZ_FIRST=10000 begins with other files.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from arrowlens.media import decode
from tests.fuzz.campaign import N_INPUTS, Findings, run_campaign
from tests.fuzz.mutations import mutated, seeds
from tests.fuzz.parts import FORMATS
from tests.fuzz.structures import format_of, samples_of_structure, structured
from tests.support.film_factory import film_bytes

MOST_CRASHES = 0.01  # of the inputs


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("source", "readable"), [("bytes", 0.02), ("structure", 0.1)])
def test_mutated_files_give_contents_or_a_reason_within_their_memory(
    source: str, readable: float, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = run_campaign(source)
    with capsys.disabled():
        print(f"\n{source}: {findings.summary()}")
    _check(findings, readable)


def _check(findings: Findings, readable: float) -> None:
    assert not findings.faults
    assert findings.n_outcomes == N_INPUTS
    assert len(findings.crashes) <= max(1, MOST_CRASHES * N_INPUTS)
    # Mutations that are only ever refused at the door find nothing.
    assert findings.n_contents > readable * N_INPUTS


def test_every_seed_is_readable_and_mutations_are_deterministic() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert {name: decode("x", data=data).reason for name, data in seeds().items()} == dict.fromkeys(seeds())
    assert [mutated(number) for number in range(50)] == [mutated(number) for number in range(50)]
    assert sum(mutated(number)[1] != seeds()[mutated(number)[0]] for number in range(100)) > 95


def test_containers_are_taken_apart_and_put_together_without_loss() -> None:
    samples = samples_of_structure()
    for name, data in samples.items():
        root = FORMATS[format_of(name)].parse(data)
        before, after = decode("x", data=data), decode("x", data=FORMATS[format_of(name)].write(root))
        assert (before.reason, after.reason) == (None, None), name
        assert len(list(root.walk())) > 1, name
        assert (before.title, before.metadata) == (after.title, after.metadata), name
        one, other = (before.pixels, after.pixels) if before.modality == "image" else (before.samples, after.samples)
        np.testing.assert_array_equal(one, other)
    assert [structured(number) for number in range(50)] == [structured(number) for number in range(50)]
    assert sum(structured(number)[1] != samples[structured(number)[0]] for number in range(100)) > 90


@pytest.mark.parametrize("file_format", ["mkv", "webm"])
def test_matroska_is_read_whatever_the_bytes_that_its_sizes_take(file_format: str) -> None:
    root = FORMATS["ebml"].parse(film_bytes(file_format, 1, 0.3))
    for part in root.walk():
        part.head = b"\x08"
    decoded = decode("x", data=FORMATS["ebml"].write(root))
    assert (decoded.reason, decoded.format) == (None, file_format)
