"""What people do with the search page, in a real Chromium against the real command."""

from __future__ import annotations

import re
import socket
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from arrowlens import Library
from arrowlens.search import printable
from tests.browser.conftest import HOSTILE_NAME, SAMPLES, watched
from tests.browser.steps import CARDS, ask, in_sections, leave_screenshot, names, settle

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def library(library_path):
    with Library.open(library_path) as library:
        yield library


def test_a_query_shows_the_files_that_the_library_finds(page, library):
    ask(page, "a yellow car")
    expected = [printable(hit.path.name) for hit in in_sections(library.search("a yellow car", k=48).folded)]
    expect(page.locator(f"{CARDS} .al-name")).to_have_text(expected)
    image = page.get_by_alt_text("yellow-car-01.jpg")
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    leave_screenshot(page, "search")


def test_an_address_is_shared_and_the_back_button_works(page, browser, server):
    ask(page, "a yellow car")
    cars = names(page)
    ask(page, "a dog barking")
    dogs = names(page)
    assert dogs != cars
    other = browser.new_context().new_page()
    other.goto(page.url)
    expect(other.get_by_label("Search by words")).to_have_value("a dog barking", timeout=60_000)
    expect(other.locator(f"{CARDS} .al-name")).to_have_text(dogs)
    other.context.close()
    page.go_back()
    expect(page.get_by_label("Search by words")).to_have_value("a yellow car")
    expect(page.locator(f"{CARDS} .al-name")).to_have_text(cars)
    assert page.url == f"{server}/?q=a+yellow+car"


def test_a_text_is_subtracted_by_keyboard_and_its_chip_taken_away(page, library):
    ask(page, "a cat and a castle")
    before = names(page)
    page.get_by_role("button", name="Refine").press("Enter")
    without = page.get_by_label("But without")
    without.fill("a castle")
    without.press("Enter")
    chip = page.get_by_role("button", name="− a castle ✕")
    expect(chip).to_be_visible()
    expected = [hit.path.name for hit in in_sections(library.search("a cat and a castle", k=48, minus=["a castle"]))]
    expect(page.locator(f"{CARDS} .al-name")).to_have_text([printable(name) for name in expected])
    page.keyboard.press("Escape")
    leave_screenshot(page, "composed")
    chip.press("Enter")
    expect(chip).to_have_count(0)
    expect(page.locator(f"{CARDS} .al-name")).to_have_text(before)


def test_a_filter_leaves_files_out(page, library):
    ask(page, "a picture")
    page.goto(f"{page.url}&all=1")
    page.get_by_role("button", name=re.compile(r"^webp \d+")).click()
    expected = [hit.path.name for hit in library.search("a picture", k=48, where="format = webp")]
    expect(page.locator(f"{CARDS} .al-name")).to_have_text([printable(name) for name in expected])
    leave_screenshot(page, "filter")


def test_a_picture_is_opened_large(page):
    ask(page, "a yellow car")
    page.get_by_role("button", name="Open yellow-car-01.jpg").press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("yellow-car-01.jpg")
    assert dialog.locator(".al-large img").evaluate("i => i.decode().then(() => i.naturalWidth)") > 0
    leave_screenshot(page, "large")
    with page.expect_download() as download:
        dialog.get_by_role("link", name="Download original").click()
    assert download.value.suggested_filename == "yellow-car-01.jpg"


def test_an_uploaded_sound_is_found_at_its_moment_and_played(page):
    page.get_by_role("button", name="By example").click()
    sound = sorted((SAMPLES / "sounds").iterdir())[1]  # lies in the last seconds of long.wav
    page.locator("input[type=file]").set_input_files(sound)
    expect(page.get_by_role("button", name=re.compile("^like .*✕$"))).to_be_visible()
    settle(page)
    page.keyboard.press("Escape")
    card = page.locator(CARDS).filter(has_text="long.wav").last
    expect(card.locator(".al-wave span")).to_have_count(1)
    card.get_by_role("button", name="Play long.wav").click()
    audio = page.locator(".al-player audio")
    start = float(audio.get_attribute("src").split("#t=")[1])
    assert start >= 10
    page.wait_for_function("start => document.querySelector('.al-player audio').currentTime > start", arg=start)
    assert start <= audio.evaluate("audio => { audio.pause(); return audio.currentTime }") < start + 5
    leave_screenshot(page, "sound")


def test_an_upload_that_cannot_be_read_is_one_line(page, tmp_path):
    broken = tmp_path / "broken![x](http:evil.example).jpg"
    broken.write_bytes(b"\xff\xd8\xff" + bytes(100))
    page.get_by_role("button", name="By example").click()
    page.locator("input[type=file]").set_input_files(broken)
    alert = page.get_by_role("alert").filter(has_text="broken![x](http:evil.example).jpg: ")
    expect(alert).to_be_visible()
    assert "Traceback" not in alert.inner_text()


def test_a_hostile_file_name_is_only_text(page):
    ask(page, "onerror")
    shown = page.locator(".al-name").filter(has_text="onerror")
    expect(shown).to_have_text(printable(HOSTILE_NAME))
    expect(page.locator("img[src=x]")).to_have_count(0)


def test_two_people_at_once_see_their_own_results(page, browser, server):
    ask(page, "a yellow car")
    mine = names(page)
    with watched(browser, server) as other:
        ask(other, "a dog barking")
        assert names(other) != mine
    assert names(page) == mine


def test_the_page_is_for_this_machine_only(server):
    """Bound to every interface, it would answer on the whole loopback network."""
    port = urlsplit(server).port
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    with pytest.raises(OSError, match=r"refused|timed out"):
        socket.create_connection(("127.0.0.2", port), timeout=5)
