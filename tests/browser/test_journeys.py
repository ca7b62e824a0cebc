"""What people do with the page, in a real Chromium against the real command."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from arrowlens import Library
from arrowlens.search import printable
from tests.browser.conftest import HOSTILE_NAME, SAMPLES

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def library(library_path: Path):
    with Library.open(library_path) as library:
        yield library


def ask(page: Page, text: str) -> None:
    box = page.get_by_label("Search by words")
    box.fill(text)
    box.press("Enter")
    wait_for_results(page)


def upload(page: Page, path: Path) -> None:
    page.locator("input[type=file]").set_input_files(path)
    wait_for_results(page)


def wait_for_results(page: Page) -> None:
    """Their count comes first; the grid is complete when the script has ended."""
    expect(page.get_by_text(re.compile(r"^\d+ results in "))).to_be_visible()
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


def names(page: Page, kind: str) -> list[str]:
    return page.locator(f".st-key-{kind} .al-name").all_text_contents()


def test_a_query_shows_the_pictures_that_the_library_finds(page, library):
    ask(page, "a yellow car")
    expected = [hit.path.name for hit in library.search("a yellow car", k=24) if hit.modality == "image"]
    expect(page.locator(".st-key-pictures .al-name")).to_have_text([printable(name) for name in expected])
    images = page.locator(".st-key-pictures img")
    expect(images).to_have_count(len(expected))
    assert images.nth(0).evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    expect(images.nth(0)).to_have_attribute("alt", printable(expected[0]))


def test_another_query_shows_other_pictures_and_the_kind_can_be_chosen(page):
    ask(page, "a yellow car")
    first = names(page, "pictures")
    ask(page, "a dog barking")
    expect(page.locator(".st-key-pictures .al-name").first).not_to_have_text(first[0])
    page.get_by_role("radio", name="Sounds").click()
    expect(page.locator(".st-key-pictures")).to_have_count(0)
    expect(page.locator(".st-key-sounds audio").first).to_be_visible()


def test_more_results_on_request(page, library):
    ask(page, "a picture")
    page.get_by_role("radio", name="Pictures").click()
    expect(page.locator(".st-key-pictures img")).to_have_count(24)
    page.get_by_role("button", name="More results").click()
    everything = len(library.search("a picture", k=1000, modality="image"))
    expect(page.locator(".st-key-pictures img")).to_have_count(min(48, everything))


def test_an_uploaded_picture_finds_itself_first_and_only_pictures(page):
    picture = sorted((SAMPLES / "pictures").rglob("*-01.*"))[4]
    upload(page, picture)
    expect(page.locator(".st-key-pictures .al-name").first).to_have_text(picture.name)
    expect(page.locator(".st-key-pictures .al-facts").first).to_contain_text("100%")
    expect(page.locator(".st-key-sounds")).to_have_count(0)
    expect(page.get_by_label("Search by words")).to_be_disabled()


def test_an_uploaded_sound_shows_players_that_start_at_the_window(page):
    sound = sorted((SAMPLES / "sounds").iterdir())[1]  # lies in the last seconds of long.wav
    upload(page, sound)
    long = page.locator(".st-key-sounds [class*='st-key-hit-']").filter(has_text="long.wav")
    expect(long).to_be_visible()
    start = re.search(r"(\d+):(\d+) –", long.locator(".al-facts").inner_text())
    seconds = 60 * int(start[1]) + int(start[2])
    assert seconds >= 10
    expect(long.locator("audio")).to_have_js_property("currentTime", seconds)
    expect(page.locator(".st-key-pictures")).to_have_count(0)


def test_an_upload_that_cannot_be_read_is_one_line(page, tmp_path):
    broken = tmp_path / "broken![x](http:evil.example).jpg"
    broken.write_bytes(b"\xff\xd8\xff" + bytes(100))
    page.locator("input[type=file]").set_input_files(broken)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("broken![x](http:evil.example).jpg: ")
    assert "Traceback" not in alert.inner_text()
    expect(page.locator("img")).to_have_count(0)


def test_a_hostile_file_name_is_only_text(page):
    ask(page, "a picture")
    page.get_by_role("radio", name="Pictures").click()
    page.get_by_role("button", name="More results").click()
    shown = page.locator(".al-name").filter(has_text="onerror")
    expect(shown).to_have_text(printable(HOSTILE_NAME))
    expect(page.locator("img[src=x]")).to_have_count(0)


def test_two_people_at_once_see_their_own_results(page, browser, server):
    ask(page, "a yellow car")
    mine = names(page, "pictures")
    assert mine
    other = browser.new_page()
    other.goto(server)
    ask(other, "a dog barking")
    assert names(other, "pictures") != mine
    other.close()
    assert names(page, "pictures") == mine


def test_the_page_is_for_this_machine_only(server):
    """Bound to every interface, it would answer on the whole loopback network."""
    port = urlsplit(server).port
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    with pytest.raises(OSError, match=r"refused|timed out"):
        socket.create_connection(("127.0.0.2", port), timeout=5)
