"""The page without a browser: every state it can be in."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import arrowlens

APP = Path(arrowlens.__file__).parent / "ui" / "app.py"


@pytest.fixture
def opened(monkeypatch):
    """The page on a library."""

    def run(library: Path) -> AppTest:
        monkeypatch.setenv("ARROWLENS_LIBRARY", str(library))
        return AppTest.from_file(str(APP), default_timeout=60).run()

    return run


def html(app: AppTest) -> str:
    return "\n".join(element.proto.body for element in app.get("html"))


def test_it_opens_on_a_library_and_says_what_it_holds(opened, library_path):
    app = opened(library_path)
    assert not app.exception
    assert not app.error
    assert "pictures · " in html(app)
    assert 'class="al-hit"' not in html(app)


def test_a_query_shows_hits(opened, library_path):
    app = opened(library_path)
    app.text_input(key="words").set_value("a yellow car").run()
    assert not app.exception
    assert html(app).count('class="al-hit"') == 24
    assert "24 results" in html(app)


def test_it_says_when_nothing_really_matches(opened, library_path):
    app = opened(library_path)
    app.text_input(key="words").set_value("a yellow car").run()
    assert "really matches" not in html(app)
    assert 'title="how likely it is right; cosine similarity' in html(app)
    app.text_input(key="words").set_value("a nuclear power station").run()
    assert "Nothing here really matches" in html(app)


def test_a_blank_query_shows_none(opened, library_path):
    app = opened(library_path)
    app.text_input(key="words").set_value("   ").run()
    assert not app.exception
    assert 'class="al-hit"' not in html(app)


def test_an_empty_library_says_what_to_do(opened, empty_library_path):
    app = opened(empty_library_path)
    assert not app.exception
    assert "This library is empty" in html(app)
    assert "arrowlens ingest FOLDER" in html(app)
    app.text_input(key="words").set_value("a dog").run()
    assert "This library is empty" in html(app)


def test_no_library_is_one_line(opened, tmp_path):
    app = opened(tmp_path / "typo.lens")
    assert not app.exception
    assert "no library at" in app.error[0].value.replace("\\", "")
    assert list(tmp_path.iterdir()) == []
