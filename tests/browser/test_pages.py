"""The pages beside Search, without a browser: a library, an empty one, files that cannot be read."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import arrowlens
from arrowlens import Library
from arrowlens.errors import InputError, LibraryBusyError
from arrowlens.ui.ingest_jobs import IngestRuns, folder_of, ingest_runs_of
from arrowlens.ui.session import close_library, shared_library
from tests.browser.conftest import SAMPLES
from tests.support.folders import write_picture
from tests.support.processes import within

PAGES = Path(arrowlens.__file__).parent / "ui" / "views"


@pytest.fixture
def opened(monkeypatch):
    def run(page: str, library: Path) -> AppTest:
        monkeypatch.setenv("ARROWLENS_LIBRARY", str(library))
        # What links to other pages runs within the frame that knows them.
        file = PAGES.parent / "app.py" if page == "search" else PAGES / f"{page}.py"
        return AppTest.from_file(str(file), default_timeout=60).run()

    yield run
    close_library()  # its decoding processes would be those of the tests that follow


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A library of two files that cannot be read, one with a name that is HTML."""
    base = tmp_path_factory.mktemp("damaged")
    (base / "in").mkdir()
    (base / "in" / "<b>broken.jpg").write_bytes(b"\xff\xd8\xffnothing")
    (base / "in" / "empty.png").write_bytes(b"")
    with Library.open(base / "a.lens", models="demo") as library:
        library.ingest(base / "in", workers=1)
    return base / "a.lens"


def html(app: AppTest) -> str:
    return "\n".join(element.proto.body for element in app.get("html"))


def test_the_library_page_says_what_the_library_is(opened, library_path):
    app = opened("library", library_path)
    assert not app.exception
    shown = html(app)
    assert "exact scan" in shown
    assert '<th scope="row">jpeg</th>' in shown
    assert "Every file that was found could be read" in shown


@pytest.mark.parametrize(
    ("page", "told"),
    [("library", "none yet"), ("map", "Nothing to draw yet"), ("duplicates", "No duplicates")],
)
def test_an_empty_library_has_a_helpful_state(opened, empty_library_path, page, told):
    app = opened(page, empty_library_path)
    assert not app.exception
    assert not app.error
    assert told in html(app)


@pytest.mark.parametrize("page", ["library", "map", "duplicates"])
def test_no_library_is_one_line(opened, tmp_path, page):
    app = opened(page, tmp_path / "typo.lens")
    assert not app.exception
    assert "no library at" in app.error[0].value.replace("\\", "")


@pytest.fixture
def small(tmp_path):
    """A library of three pictures, two of them in a folder of their own."""
    for number, name in enumerate(("top.png", "trip/a.png", "trip/b.png")):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        write_picture(tmp_path / "in" / name, number, (40, 30))
    with Library.open(tmp_path / "a.lens", models="demo") as library:
        library.ingest(tmp_path / "in", workers=1)
    return tmp_path / "a.lens"


def ended(app: AppTest) -> AppTest:
    """The page once the run that it has started is over."""
    ingest_runs_of(shared_library()).wait()
    app.run()
    assert not app.exception
    return app


def plain_text(element) -> str:
    return element.value.replace("\\", "")


def pressed(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def test_a_folder_is_forgotten_once_its_number_is_confirmed(opened, small):
    app = opened("library", small)
    assert re.findall(r"</th><td>(\d)</td><td>[\d.]+ [KM]?B", html(app)) == ["3", "2"]
    folder = next(each for each in shared_library().folder_status() if each.path.name == "trip")
    assert not any(button.label.startswith("Forget") for button in app.button), "a folder has to be chosen"
    app.selectbox(key="forget_folder").set_value(str(folder.path)).run()
    app = pressed(app, "Forget 2 files")
    assert not app.exception
    assert not app.error
    assert shared_library().status().images == 1
    assert (small.parent / "in" / "trip" / "a.png").is_file()
    app.selectbox(key="forget_folder").set_value(str(small.parent / "in")).run()
    app = pressed(app, "Forget 1 file")
    assert "none yet" in html(app)
    assert shared_library().folders() == ()


def test_an_added_folder_without_media_says_so(opened, small):
    (small.parent / "texts").mkdir()
    (small.parent / "texts" / "a.doc").touch()
    app = opened("library", small)
    app.text_input(key="folder").set_value(str(small.parent / "texts"))
    app = ended(pressed(app, "Add folder"))
    assert "There is no picture, recording or film in /" in plain_text(app.warning[0])
    assert plain_text(app.warning[0]).endswith("passed over: 1 other.")


def test_the_library_page_examines_the_library(opened, small):
    app = pressed(opened("library", small), "Examine the library")
    assert not app.exception
    assert "0 problems found" in html(app)
    assert '<th scope="row">ok</th><td>vision vectors</td><td>3</td>' in html(app)


def test_models_are_changed_in_a_run(opened, small):
    app = opened("library", small)
    app.selectbox(key="models").set_value("demo").run()
    app = ended(pressed(app, "Change to demo"))
    assert "The library uses the models demo: 0 files encoded" in plain_text(app.success[0])


def test_a_speech_model_that_cannot_be_had_is_one_line(opened, small, monkeypatch):
    monkeypatch.setenv("ARROWLENS_CACHE", str(small.parent))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    app = opened("library", small)
    app.selectbox(key="speech_model").set_value("tiny").run()
    app = ended(pressed(app, "Write down speech"))
    assert "Systran/faster-whisper-tiny" in plain_text(app.error[0])


@pytest.mark.soak
def test_texts_in_pictures_are_read_in_a_run(opened, small):
    app = ended(pressed(opened("library", small), "Read text in pictures"))
    assert "text was looked for in 3 files" in plain_text(app.success[0])
    assert shared_library().status().read == 3


def test_watched_folders_are_read_when_something_changes(opened, small):
    app = opened("library", small)
    runs = ingest_runs_of(shared_library())
    app.toggle(key="watch").set_value(True).run()
    assert runs.is_watching
    within(60, lambda: runs.latest is not None and runs.latest.is_over)
    write_picture(small.parent / "in" / "later.png", 9, (40, 30))
    within(60, lambda: shared_library().status().images == 4)
    (small.parent / "more").mkdir()
    write_picture(small.parent / "more" / "x.png", 10, (40, 30))
    runs.wait()
    runs.start([small.parent / "more"])
    within(60, lambda: shared_library().status().images == 5)
    write_picture(small.parent / "more" / "y.png", 11, (40, 30))  # in a folder that was added meanwhile
    within(60, lambda: shared_library().status().images == 6)
    runs.wait()
    app.run()
    assert app.toggle(key="watch").value is True
    app.toggle(key="watch").set_value(False).run()
    within(60, lambda: not runs.is_watching)


def test_files_that_cannot_be_read_are_listed_and_filtered(opened, damaged):
    app = opened("library", damaged)
    assert "&lt;b&gt;broken.jpg" in html(app)
    assert "<b>broken" not in html(app)
    app.text_input(key="skipped_filter").set_value("EMPTY").run()
    assert "broken.jpg" not in html(app)
    assert "empty.png" in html(app)


def test_a_path_that_is_no_folder_is_one_line(opened, damaged):
    app = opened("library", damaged)
    app.text_input(key="folder").set_value("Pictures")
    app.button[0].click().run()
    assert "is not an absolute path" in app.error[0].value.replace("\\", "")


def test_folders_cannot_be_added_where_everybody_gets_in(opened, damaged, monkeypatch):
    monkeypatch.setenv("ARROWLENS_OPEN_TO_ALL", "1")
    app = opened("library", damaged)
    assert not app.button
    assert "arrowlens ingest" in app.info[0].value


def test_the_map_and_the_duplicates_open(opened, library_path):
    for page in ("map", "duplicates"):
        app = opened(page, library_path)
        assert not app.exception
        assert not app.error
    assert "Near points are alike" in html(opened("map", library_path))


def test_duplicates_show_their_files(opened, tmp_path):
    picture = next((SAMPLES / "pictures").rglob("lion-01.*"))
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        shutil.copy(picture, tmp_path / "in" / f"{name}{picture.suffix}")
    with Library.open(tmp_path / "a.lens", models="demo") as library:
        library.ingest(tmp_path / "in", workers=1)
    app = opened("duplicates", tmp_path / "a.lens")
    assert not app.exception
    assert "Identical: 2 pictures" in html(app)
    assert all(f'class="al-name" title="{name}{picture.suffix}"' in html(app) for name in ("a", "b"))


@pytest.mark.parametrize("page", ["search", "map", "duplicates"])
def test_files_that_cannot_be_read_are_on_no_other_page(opened, damaged, page):
    app = opened(page, damaged)
    assert not app.exception
    assert not app.error
    assert "broken" not in html(app)


def test_one_run_at_a_time_and_it_can_be_cancelled(damaged, library_path):
    folder = library_path.parent / "media"
    with Library.open(damaged) as library:
        runs = IngestRuns(library)
        runs.start([folder])
        with pytest.raises(LibraryBusyError, match="a run is going on"):
            runs.start([folder])
        runs.stop()
        assert runs.latest is not None
        runs.close()
        assert runs.latest.report is not None
        assert runs.latest.report.stopped
        runs.start([folder])
        until = time.monotonic() + 60
        while not runs.latest.is_over and time.monotonic() < until:
            time.sleep(0.05)
        assert runs.latest.report is not None
        assert not runs.latest.report.stopped
        assert library.status().images > 30


@pytest.mark.parametrize("text", ["", "  ", "Pictures", "~nobody-at-all/x"])
def test_a_folder_is_typed_as_a_whole_path(text):
    with pytest.raises(InputError):
        folder_of(text)


def test_the_library_itself_and_a_missing_folder_are_no_folders_to_add(damaged):
    with Library.open(damaged) as library:
        for folder, told in (
            (damaged / "data", "no folder"),
            (damaged, "the library itself"),
            (Path("/\0"), "no folder"),
        ):
            with pytest.raises(InputError, match=told):
                IngestRuns(library).start([folder])
