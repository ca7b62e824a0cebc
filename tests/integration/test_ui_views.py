"""Pages without a browser: what their addresses say, and what the frame around them offers."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

import arrowlens
from arrowlens import Library
from arrowlens.ui.ingest_jobs import ingest_runs_of
from arrowlens.ui.session import close_library, shared_library
from tests.browser.conftest import SAMPLES
from tests.support.folders import write_picture
from tests.support.processes import within

UI = Path(arrowlens.__file__).parent / "ui"
N_GROUPS = 51  # one more than a page shows


@pytest.fixture(scope="module")
def library_path(tmp_path_factory):
    """Pictures that are each there twice."""
    base = tmp_path_factory.mktemp("views")
    (base / "in" / "again").mkdir(parents=True)
    for seed in range(N_GROUPS):
        picture = write_picture(base / "in" / f"{seed:02d}.png", seed, (64 + seed, 48))
        shutil.copy(picture, base / "in" / "again")
    with Library.open(base / "a.lens", models="demo") as library:
        library.ingest(base / "in", workers=1)
    return base / "a.lens"


@pytest.fixture
def opened(monkeypatch, library_path):
    """A script of the pages at an address."""

    def run(script: str, **params: str) -> AppTest:
        monkeypatch.setenv("ARROWLENS_LIBRARY", str(library_path))
        app = AppTest.from_file(str(UI / script), default_timeout=60)
        for name, value in params.items():
            app.query_params[name] = value
        return app.run()

    yield run
    close_library()  # its decoding processes would be those of the tests that follow


def html(app: AppTest) -> str:
    return "\n".join(element.proto.body for element in app.get("html"))


def shown(app: AppTest) -> list[str]:
    return re.findall(r'class="al-name"[^>]*>([^<]*)<', html(app))


def button(app: AppTest, label: str):
    return next(button for button in app.button if button.label == label)


def params(app: AppTest) -> dict[str, list[str]]:
    return {name: [value] if isinstance(value, str) else value for name, value in app.query_params.items()}


def test_the_page_of_duplicates_is_in_the_address(opened):
    app = opened("views/duplicates.py")
    assert not app.exception
    assert app.button_group(key="duplicates_kind").value == "all"
    first = shown(app)
    assert len(first) == 2 * (N_GROUPS - 1)
    (pages,) = app.get("pagination")
    assert pages.proto.num_pages == 2
    app = opened("views/duplicates.py", page="2")
    second = shown(app)
    assert len(set(second)) == 1
    assert not set(first) & set(second)
    assert app.session_state["duplicates_page"] == 2


def test_another_kind_of_duplicates_begins_with_its_first_page(opened):
    app = opened("views/duplicates.py", page="2")
    app.button_group(key="duplicates_kind").set_value("identical").run()
    assert not app.exception
    assert params(app) == {"kind": ["identical"]}
    assert len(shown(app)) == 2 * (N_GROUPS - 1)
    app.button_group(key="duplicates_kind").set_value("near").run()
    assert params(app) == {"kind": ["near"]}
    assert shown(app) == []


@pytest.mark.parametrize(("page", "n_groups"), [("0", 50), ("99", 1), ("-1", 50), ("two", 50), ("\u00b2", 50)])
def test_a_page_of_duplicates_that_there_is_not(opened, page, n_groups):
    app = opened("views/duplicates.py", page=page, kind="nonsense")
    assert not app.exception
    assert len(shown(app)) == 2 * n_groups


def test_what_is_no_duplicate_is_remembered_and_the_list_names_the_others(monkeypatch, tmp_path):
    picture = Image.open(next((SAMPLES / "pictures").rglob("lion-01.*"))).convert("RGB")
    for name, quality in (("a.jpg", 95), ("b.jpg", 60)):
        (tmp_path / "in").mkdir(exist_ok=True)
        picture.save(tmp_path / "in" / name, quality=quality)
    with Library.open(tmp_path / "a.lens", models="demo") as library:
        library.ingest(tmp_path / "in", workers=1)
    monkeypatch.setenv("ARROWLENS_LIBRARY", str(tmp_path / "a.lens"))
    try:
        app = AppTest.from_file(str(UI / "views/duplicates.py"), default_timeout=60).run()
        assert not app.exception
        assert "Copies: 2 pictures" in html(app)
        assert html(app).count("Flicker with the first") == 1
        (download,) = app.get("download_button")
        assert download.proto.label == "List of 1 file that could go"
        button(app, "Not a duplicate").click().run()
        assert not app.exception
        assert "No duplicates" in html(app)
        assert len(shared_library().not_duplicates()) == 1
        next(each for each in app.button if each.label.startswith("Take back")).click().run()
        assert "Copies: 2 pictures" in html(app)
        assert shared_library().not_duplicates() == []
    finally:
        close_library()


def test_who_got_in_with_a_password_can_sign_out(opened, monkeypatch):
    assert "Sign out" not in html(opened("app.py"))
    monkeypatch.setenv("ARROWLENS_SIGNED_IN", "1")
    app = opened("app.py")
    assert not app.exception
    assert '<a href="/logout">Sign out</a>' in html(app)


def test_filters_count_what_the_others_leave(opened, library_path):
    app = opened("app.py", format="png", folder="again")
    assert not app.exception
    assert app.button_group(key="formats").options == [f"png {N_GROUPS}"]
    assert app.button_group(key="modality").options == [
        *(f"All {N_GROUPS}", f"Pictures {N_GROUPS}"),
        *("Recordings 0", "Films 0"),
    ]
    assert app.selectbox(key="folder").options == [f"All folders ({2 * N_GROUPS})", f"again ({N_GROUPS})"]
    assert app.selectbox(key="filter-size").options == ["Any", f"under 100 KB ({N_GROUPS})"]


def test_files_that_are_gone_are_removed_once_somebody_confirms_their_number(monkeypatch, tmp_path):
    (tmp_path / "in").mkdir()
    paths = [write_picture(tmp_path / "in" / f"{seed:02d}.png", seed, (16, 16)) for seed in range(22)]
    with Library.open(tmp_path / "a.lens", models="demo") as library:
        library.ingest(tmp_path / "in", workers=1)
    for path in paths[:21]:
        path.unlink()
    monkeypatch.setenv("ARROWLENS_LIBRARY", str(tmp_path / "a.lens"))
    app = AppTest.from_file(str(UI / "views/library.py"), default_timeout=60).run()
    button(app, "Look for changes").click().run()
    try:
        within(60, lambda: ingest_runs_of(shared_library()).latest.is_over)
        app.run()
        assert not app.exception
        assert any("21 files are gone" in warning.value for warning in app.warning)
        assert shared_library().status().images == 22
        button(app, "Remove 21 files").click().run()
        within(
            60, lambda: (report := ingest_runs_of(shared_library()).latest.report) is not None and report.removed == 21
        )
        app.run()
        assert not app.warning
        assert shared_library().status().images == 1
    finally:
        close_library()
