"""One ``Library`` shared by threads, and another process's, while files are ingested and the models change."""

from __future__ import annotations

import threading
import time

import pytest

from arrowlens import Library
from tests.support.folders import write_picture, write_sound
from tests.support.other_models import write_other_models

N_THREADS = 8
SLEEP_S = 0.02  # on few cores the writer shall get on as well


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(10):
        write_picture(tmp_path / "in" / f"{number}.png", number)
    write_sound(tmp_path / "in" / "a.wav", 1)
    return tmp_path / "in"


class Asking:
    """Threads that ask two handles all kinds of questions; every answer must be whole."""

    def __init__(self, libraries, n_files):
        self.n_files = n_files
        self.faults, self.n_answers, self.dimensions = [], 0, set()
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(libraries[i % 2], i)) for i in range(N_THREADS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, library, number):
        while not self._end.is_set():
            try:
                self._check(library, number)
            except Exception as error:
                self.faults.append(f"{type(error).__name__}: {error}")
                return
            self.n_answers += 1
            time.sleep(SLEEP_S)

    def _check(self, library, number):
        least = self.n_files
        hits = library.search(f"a picture {number}", k=100, mode="vector")
        assert len(hits) >= least, f"{len(hits)} hits of {least} files"
        picture = next(hit for hit in hits if hit.modality == "image")
        same = library.similar_to(picture, k=3)
        assert same[0].media_id == picture.media_id, "a picture is most like itself"
        assert same[0].score > 0.99

    def more(self, n_answers):
        """Wait until so many more answers were given."""
        goal, deadline = self.n_answers + n_answers, time.monotonic() + 120
        while self.n_answers < goal and not self.faults:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_eight_threads_search_while_files_come_and_models_change(tmp_path, folder):
    other = write_other_models(tmp_path / "models")
    with (
        Library.open(tmp_path / "library", models="demo") as library,
        Library.open(tmp_path / "library", models="demo") as reader,
    ):
        library.ingest(folder, workers=1)
        with Asking([library, reader], 11) as asking:
            asking.more(16)
            for number in range(10, 14):
                write_picture(folder / f"{number}.png", number)
                library.ingest(folder, workers=1)
                asking.n_files += 1
            asking.more(16)
            before = library.search("a red bicycle", k=3, modality="image")
            report = library.migrate(other, workers=1)
            asking.more(32)
            assert library.ingest(folder, workers=1).unchanged == 15
        assert asking.faults == []
        assert (report.encoded, report.switched) == (15, True)
        digests = {role: record.digest for role, record in library.status().models.items()}
        assert reader.status().models["vision"].digest == digests["vision"]
        # Pictures only: where recordings stand among them is a matter of relevance, which each model has its own way.
        after = reader.search("a red bicycle", k=3, modality="image")
        assert [hit.media_id for hit in after] == [hit.media_id for hit in before]
        assert reader.ingest(folder, workers=1).unchanged == 15, "a handle that was open before writes as well"
    with Library.open(tmp_path / "library") as again:
        assert len(again.search("a red bicycle", k=100, mode="vector")) == 15
