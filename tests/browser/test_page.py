"""The search page without a browser: every state it can be in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import arrowlens
from arrowlens import Library
from arrowlens.search import printable
from arrowlens.ui.ingest_jobs import ingest_runs_of, making
from arrowlens.ui.search_service import PAGE_SIZE
from arrowlens.ui.session import close_library, shared_library
from tests.browser.conftest import SAMPLES
from tests.browser.steps import in_sections
from tests.support.folders import write_picture
from tests.support.processes import within

APP = Path(arrowlens.__file__).parent / "ui" / "app.py"


@pytest.fixture
def opened(monkeypatch):
    """The page on a library, at an address."""

    def run(library: Path, **params: str | list[str]) -> AppTest:
        monkeypatch.setenv("ARROWLENS_LIBRARY", str(library))
        app = AppTest.from_file(str(APP), default_timeout=60)
        for name, value in params.items():
            app.query_params[name] = value
        return app.run()

    yield run
    close_library()  # its decoding processes would be those of the tests that follow


@pytest.fixture(scope="module")
def library(library_path):
    with Library.open(library_path) as library:
        yield library


@pytest.fixture
def pressed(monkeypatch):
    """Presses what the gallery offers; ``AppTest`` draws no components, so a button stands for each action."""
    component = st.components.v2.component

    def registered(*args, **options):
        show = component(*args, **options)
        if args[0] != "arrowlens.gallery":
            return show

        def shown(key, data, on_action_change):
            def act(action):
                st.session_state[key] = {"action": action}
                on_action_change()
                del st.session_state[key]

            hits = [hit["id"] for section in data["batch"]["sections"] for hit in section["hits"][:1]]
            actions = [{"type": role, "id": media_id} for role in ("like", "unlike") for media_id in hits]
            actions += [{"type": "forget", "ids": ["0" * 32]}]  # from a page that is older than the library
            for action in [*actions, *([{"type": "everything"}] if data["batch"]["folded"] else [])]:
                st.button(json.dumps(action), on_click=act, args=(action,))
            show(key=key, data=data)

        return shown

    monkeypatch.setattr(st.components.v2, "component", registered)

    def press(app: AppTest, **action: object) -> AppTest:
        return next(button for button in app.button if button.label == json.dumps(action)).click().run()

    return press


def html(app: AppTest) -> str:
    return "\n".join(element.proto.body for element in app.get("html"))


def galleries(app: AppTest) -> list:
    return [each for each in app.get("bidi_component") if each.proto.component_name == "arrowlens.gallery"]


def batch(app: AppTest) -> dict:
    """The results that the gallery has to draw."""
    (gallery,) = galleries(app)
    return json.loads(gallery.proto.json)["batch"]


def hits(app: AppTest) -> list[dict]:
    return [hit for section in batch(app)["sections"] for hit in section["hits"]] if galleries(app) else []


def shown(app: AppTest) -> list[str]:
    return [hit["name"] for hit in hits(app)]


def chips(app: AppTest) -> list[str]:
    return [button.label.replace("\\", "") for button in app.button if button.label.endswith("✕")]


def params(app: AppTest) -> dict[str, list[str]]:
    return {name: [value] if isinstance(value, str) else value for name, value in app.query_params.items()}


def test_it_opens_on_the_newest_files(opened, library_path, library):
    app = opened(library_path)
    assert not app.exception
    assert not app.error
    assert "pictures · " in html(app)
    assert len(shown(app)) == PAGE_SIZE
    assert "The newest files" in html(app)
    assert all(hit["relevance"] is None and not hit["why"] for hit in hits(app))


def test_a_query_shows_hits_with_their_relevance(opened, library_path, library):
    app = opened(library_path)
    app.text_input(key="words").set_value("a yellow car").run()
    assert not app.exception
    found = library.search("a yellow car", k=PAGE_SIZE)
    assert shown(app)[0] == found[0].path.name == "yellow-car-01.jpg"
    assert shown(app) == [hit.path.name for hit in found.matching]
    assert f"likely to be right by what it shows; cosine similarity {found[0].score:.3f}" in hits(app)[0]["meaning"]
    assert f"{found.n_matches} matches in " in html(app)
    # A percentage, or what stands in its place.
    assert [hit["why"] for hit in hits(app)] == [hit.reason or f"{hit.relevance:.0%}" for hit in found.matching]
    assert batch(app)["total"] == f"{found.n_matches} matches"
    assert params(app) == {"q": ["a yellow car"]}


def test_it_says_when_nothing_really_matches(opened, library_path):
    assert "Nothing here really matches" not in html(opened(library_path, q="a yellow car"))
    app = opened(library_path, q="a nuclear power station")
    assert "Nothing here really matches" in html(app)
    assert shown(app) == []


def test_what_does_not_match_is_folded_until_it_is_asked_for(opened, pressed, library_path, library):
    app = opened(library_path, q="a yellow car")
    found = library.search("a yellow car", k=PAGE_SIZE)
    assert 0 < len(found.matching) < PAGE_SIZE
    assert batch(app)["folded"]
    pressed(app, type="everything")
    assert params(app) == {"q": ["a yellow car"], "all": ["1"]}
    assert shown(app) == [printable(hit.path.name) for hit in in_sections(found)]
    assert len(shown(app)) == PAGE_SIZE
    assert not batch(app)["folded"]
    app.text_input(key="words").set_value("a dog").run()
    assert params(app) == {"q": ["a dog"]}


def test_forgetting_files_that_are_gone_says_so(opened, pressed, library_path):
    app = pressed(opened(library_path), type="forget", ids=["0" * 32])
    (toast,) = app.toast
    assert toast.value.replace("\\", "") == "Nothing was forgotten: the library no longer holds these files"


def test_a_group_has_its_pictures_before_its_recordings(opened, library_path, library):
    app = opened(library_path, q="a dog barking", all="1", group="folder")
    (section,) = batch(app)["sections"]
    kinds = [hit["kind"] == "audio" for hit in section["hits"]]
    assert True in kinds
    assert kinds == sorted(kinds)
    best_first = sorted(library.search("a dog barking", k=PAGE_SIZE), key=lambda hit: hit.modality == "audio")
    assert [hit["id"] for hit in section["hits"]] == [hit.media_id for hit in best_first]


def test_a_blank_query_is_none(opened, library_path):
    app = opened(library_path)
    app.text_input(key="words").set_value("   ").run()
    assert not app.exception
    assert "The newest files" in html(app)
    assert params(app) == {}


def test_the_address_says_everything(opened, library_path, library):
    bus = library.search("a blue bus", k=1)[0]
    address = {"q": "a car", "less": "a bus^0.7", "like": bus.media_id, "kind": "pictures", "format": "jpeg"}
    app = opened(library_path, **address, sort="date", group="day")
    assert not app.exception
    assert not app.error
    assert app.text_input(key="words").value == "a car"
    assert app.button_group(key="modality").value == "image"
    assert app.selectbox(key="sort").value == "date"
    assert app.selectbox(key="group").value == "day"
    assert app.button_group(key="formats").value == ["jpeg"]
    assert chips(app) == ["− a bus × 0.7 ✕", f"like ![](/thumbnail/{bus.content_hash}) {bus.path.name} ✕"]
    assert all(name.endswith(".jpg") for name in shown(app))
    assert all(section["title"] for section in batch(app)["sections"])


def test_texts_are_added_and_subtracted_and_taken_away(opened, library_path, library):
    app = opened(library_path, q="a cat and a castle")
    app.text_input(key="add-less").set_value("a castle").run()
    assert not app.exception
    assert params(app) == {"q": ["a cat and a castle"], "less": ["a castle"]}
    assert app.text_input(key="add-less").value == ""
    expected = library.search("a cat and a castle", k=PAGE_SIZE, minus=["a castle"])
    assert shown(app)[:3] == [hit.path.name for hit in in_sections(expected)][:3]
    slider = next(slider for slider in app.slider if "castle" in slider.label)
    slider.set_value(1.0).run()
    assert params(app)["less"] == ["a castle^1"]
    next(button for button in app.button if button.label == "− a castle × 1 ✕").click().run()
    assert params(app) == {"q": ["a cat and a castle"]}
    assert chips(app) == []


def test_more_and_less_like_a_result(opened, pressed, library_path, library):
    car = library.search("a yellow car", k=1)[0]
    for role in ("like", "unlike"):
        app = pressed(opened(library_path, q="a yellow car"), type=role, id=car.media_id)
        assert params(app) == {"q": ["a yellow car"], role: [car.media_id]}
        assert not app.exception
        assert not app.error
        expected = library.search("a yellow car", k=PAGE_SIZE, **{role: [car]})
        assert shown(app)[:5] == [hit.path.name for hit in in_sections(expected.folded)][:5]


def test_an_example_alone_finds_itself_first(opened, library_path, library):
    long = next(hit for hit in library.newest(k=100) if hit.path.name == "long.wav")
    app = opened(library_path, like=long.media_id)
    assert shown(app)[0] == "long.wav"
    assert all(name.endswith((".wav", ".flac", ".ogg")) for name in shown(app))


def test_an_example_that_is_gone_is_said(opened, library_path):
    app = opened(library_path, q="a car", like="0" * 32)
    assert not app.exception
    assert any("1 of the examples" in caption.value for caption in app.caption)
    assert chips(app) == ["like a file that is gone ✕"]


def test_filters_have_counts_and_leave_files_out(opened, library_path, library):
    app = opened(library_path, kind="recordings")
    n_wav = library.facets("modality = audio").formats["wav"]
    assert f"wav {n_wav}" in app.button_group(key="formats").options
    app.button_group(key="formats").set_value(["wav"]).run()
    assert not app.exception
    assert params(app) == {"kind": ["recordings"], "format": ["wav"]}
    assert len(shown(app)) == n_wav
    next(button for button in app.button if button.label == "Clear all").click().run()
    assert params(app) == {"kind": ["recordings"]}


def test_the_gallery_knows_where_further_results_are(opened, library_path, library):
    app = opened(library_path, q="a picture", all="1", page="2")  # as addresses of earlier versions have it
    first = in_sections(library.search("a picture", k=PAGE_SIZE))
    assert shown(app) == [printable(hit.path.name) for hit in first]
    assert batch(app)["more"] == f"/results?q=a+picture&all=1&offset={PAGE_SIZE}&revision={library.revision}"
    app.text_input(key="words").set_value("a dog").run()
    assert params(app) == {"q": ["a dog"]}
    assert batch(app)["more"] is None


def test_an_uploaded_picture_that_the_library_lacks_is_a_part_of_this_session_only(opened, library_path):
    app = opened(library_path)
    stranger = sorted((SAMPLES / "pictures").rglob("*-01.*"))[2]
    app.file_uploader(key="file-0").set_value((stranger.name, stranger.read_bytes(), "image/png")).run()
    assert not app.exception
    assert chips(app) == [f"like {stranger.name} ✕"]
    assert params(app) == {}
    assert any("not part of the address" in caption.value for caption in app.caption)
    assert all(not name.endswith(".wav") for name in shown(app))
    next(button for button in app.button if button.label.endswith("✕")).click().run()
    assert chips(app) == []


def test_an_uploaded_file_that_the_library_holds_becomes_part_of_the_address(opened, library_path):
    app = opened(library_path)
    held = sorted((SAMPLES / "pictures").rglob("*-01.*"))[4]
    app.file_uploader(key="file-0").set_value((held.name, held.read_bytes(), "image/png")).run()
    assert not app.exception
    assert list(params(app)) == ["like"]
    assert shown(app)[0] == held.name


def test_an_upload_that_cannot_be_read_is_one_line(opened, library_path):
    app = opened(library_path)
    app.file_uploader(key="file-0").set_value(("a![x](y).jpg", b"\xff\xd8\xff" + bytes(100), "image/jpeg")).run()
    assert not app.exception
    assert app.error[0].value.replace("\\", "").startswith("a![x](y).jpg: ")


def test_nonsense_in_the_address_is_passed_over(opened, library_path):
    app = opened(library_path, page="-1", size="x", since="yesterday", like="../../etc/passwd", kind="sculptures")
    assert not app.exception
    assert not app.error
    assert shown(app)


def test_no_file_passes_the_filters(opened, library_path):
    app = opened(library_path, q="a car", folder="no/such")
    assert not app.exception
    assert "No file passes these filters" in html(app)


def test_an_empty_library_says_what_to_do(opened, empty_library_path):
    app = opened(empty_library_path)
    assert not app.exception
    assert "This library is empty" in html(app)
    assert "arrowlens ingest FOLDER" in html(app)
    assert [link.proto.page for link in app.get("page_link")] == ["library"]
    app.text_input(key="words").set_value("a dog").run()
    assert "This library is empty" in html(app)


def test_without_a_library_the_page_makes_one(opened, tmp_path):
    path = tmp_path / "new.lens"
    app = opened(path)
    assert not app.exception
    assert not app.error
    assert any("There is none at" in text.value for text in app.markdown)
    app.selectbox(key="new-models").set_value("demo")
    app.text_input(key="new-folder").set_value(str(tmp_path / "typo"))
    app.button[0].click().run()
    assert "there is no folder" in app.error[0].value.replace("\\", "")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "in").mkdir()
    write_picture(tmp_path / "in" / "a.png", 1, (32, 32))
    app.text_input(key="new-folder").set_value(str(tmp_path / "in"))
    app.button[0].click().run()
    within(60, lambda: not making.is_going)
    assert making.error is None
    ingest_runs_of(shared_library()).wait()
    assert shared_library().status().images == 1
    assert "1 picture" in html(app.run())


def test_without_a_library_nobody_makes_one_where_everybody_gets_in(opened, tmp_path, monkeypatch):
    monkeypatch.setenv("ARROWLENS_OPEN_TO_ALL", "1")
    app = opened(tmp_path / "typo.lens")
    assert not app.exception
    assert "no library at" in app.error[0].value.replace("\\", "")
    assert not app.button
    assert list(tmp_path.iterdir()) == []
