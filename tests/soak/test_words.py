"""One ingest that reads and listens, killed twice: what was read is not read again, and everything is found."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from arrowlens import Library
from arrowlens.store import MultimodalStorage
from tests.soak.commands import start, wait_until
from tests.support.documents import document
from tests.support.film_scenes import BICYCLE, Story
from tests.support.folders import write_picture, write_sound
from tests.support.real_weights import SPEECH, spoken_sentence, whisper_base_folder

N_DOCUMENTS, N_PICTURES, N_TONES, N_FILMS = 60, 240, 39, 20
PLACES = ("station", "library", "market", "harbour", "museum", "airport", "bakery", "hospital", "garden", "theatre")
TIMES = ("in the morning", "at nine in the evening")


def fill(folder: Path) -> tuple[dict[str, str], dict[str, str], dict[Path, Story]]:
    """Write 300 pictures, 60 recordings and 20 films; the questions for documents and sentences, and the films."""
    folder.mkdir()
    written, said, films = {}, {}, {}
    for number in range(N_DOCUMENTS):
        drawn = document(number)
        path = folder / f"document {number}.{drawn.suffix}"
        path.write_bytes(drawn.data)
        written[path.name] = drawn.question
    for number in range(N_PICTURES):
        write_picture(folder / f"picture {number}.png", number, (320, 240))
    for number, (place, time) in enumerate((place, time) for place in PLACES for time in TIMES):
        path = folder / f"sentence {number}.wav"
        text = f"We will meet our friends at the {place} {time}"
        soundfile.write(path, np.float32(spoken_sentence(text, "en+f3", words_a_minute=130)), 16_000)
        said[path.name] = f"friends {place} {time.split()[-1]}"
    (folder / SPEECH.name).write_bytes(SPEECH.read_bytes())
    for number in range(N_TONES):
        write_sound(folder / f"tones {number}.wav", number)
    for number in range(N_FILMS):
        path = folder / f"film {number}.mp4"
        films[path] = Story.drawn(number)
        path.write_bytes(films[path].film())
    return written, said, films


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_an_ingest_that_reads_and_listens_killed_twice(tmp_path):
    if not SPEECH.exists():
        pytest.skip(f"{SPEECH} is not there")
    folder, path = tmp_path / "in", tmp_path / "a.lens"
    written, said, films = fill(folder)
    model = whisper_base_folder(tmp_path / "whisper-base")
    options = ("--read-text", "--transcribe", "--speech-model", str(model), "--workers", "2")

    def n_rows() -> int:
        return (
            len(MultimodalStorage(path, create=False).all_media(["media_id"]))
            if (path / "library.json").exists()
            else 0
        )

    def n_read() -> int:
        return len(MultimodalStorage(path, create=False).readings())

    for has_come_so_far in (lambda: n_rows() >= 100, lambda: n_read() >= 100):
        with start(folder, path, *options) as running:
            wait_until(has_come_so_far, running, 1200)
            running.kill()
            running.assert_nothing_left()
    before = n_read()
    n_to_read = N_DOCUMENTS + N_PICTURES + N_FILMS + len(said) + 1 + N_TONES + N_FILMS
    assert 100 <= before < n_to_read, "the second kill met a run that was reading"
    with start(folder, path, *options) as running:
        report = running.report(3000)
    assert (report["indexed"], report["skipped"], report["unread_texts"]) == (0, 0, {})
    assert report["read"] + report["heard"] == n_to_read - before, "nothing is read twice"
    readings = MultimodalStorage(path, create=False).readings()
    pairs = Counter(zip(readings["content_hash"].to_pylist(), readings["source"].to_pylist(), strict=True))
    assert (len(pairs), max(pairs.values())) == (n_to_read, 1)
    with Library.open(path) as library:
        lost = [name for name, question in (written | said).items() if library.search(question, 1)[0].path.name != name]
        print(f"not first: {lost}")
        assert len(lost) <= 0.05 * len(written | said)
        assert not library.newest(300, where="source = ocr and name like 'picture%'")
        assert not library.newest(300, where="source = speech and name like 'tones%'")
        country = library.search("what can you do for your country", 1, mode="keyword")[0]
        assert country.path.name == SPEECH.name
        hits = library.search("a red bicycle", N_FILMS, modality="video")
        n_found = sum(abs(hit.start - films[hit.path].start_of(BICYCLE)) <= 2.0 for hit in hits)
        assert n_found >= 0.95 * N_FILMS
