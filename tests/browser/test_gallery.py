"""The gallery in a real Chromium: rows, scrolling on, the large view and its address, and what is done with several."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import time
import zipfile
from contextlib import contextmanager
from urllib.parse import quote, urlsplit

import pytest
from PIL import Image
from playwright.sync_api import expect

from arrowlens import Library
from arrowlens.addresses import as_path
from arrowlens.originals import Original
from arrowlens.search import Hit, printable
from arrowlens.store import MultimodalStorage
from arrowlens.ui import exports
from arrowlens.ui.exports import MAX_FILES, BrokenOffError, playlist_of, safe_name, unique_names, zip_of
from arrowlens.ui.search_service import PAGE_SIZE
from tests.browser.conftest import HOSTILE_NAME, serving, watched
from tests.browser.steps import CARDS, leave_screenshot, names, settle
from tests.browser.visitors import ask

pytestmark = pytest.mark.browser

N_PICTURES = 100  # three batches
FIRST_BYTES, FURTHER_BYTES = 200_000, 60_000  # of JSON: of the first screen, and of 50 further hits
SHAPES = ((600, 400), (400, 600), (800, 450), (640, 480), (480, 480))
# What of the cards is moved from now on, while pictures load and further results come.
WATCH_SHIFTS = """() => {
  window.shifts = [];
  const names = list => list.map(({ node }) => node?.closest?.(".al-card")?.dataset.id).filter(Boolean);
  new PerformanceObserver(list => list.getEntries().forEach(
    each => window.shifts.push(...names(each.sources)))).observe({ type: "layout-shift" });
}"""
ALL_IDS = "() => [...document.querySelectorAll('.al-block')].flatMap(({ block }) => block.hits.map(hit => hit.id))"
FORM = {"Content_Type": "application/x-www-form-urlencoded"}
# How far each row of pictures is from filling the width, the last row of all left out.
HOLES = """() => [...document.querySelectorAll(".al-cards")].slice(0, -1).map(row => {
  const right = row.lastChild.getBoundingClientRect().right;
  return Math.round(Math.abs(row.parentElement.parentElement.getBoundingClientRect().right - right));
})"""


@pytest.fixture(scope="module")
def library(library_path):
    with Library.open(library_path) as library:
        yield library


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """A server of pictures of many shapes, and its library's path; what is forgotten here is missed by nobody."""
    base = tmp_path_factory.mktemp("gallery")
    (base / "in").mkdir()
    for number in range(N_PICTURES):
        colour = (number * 53 % 256, number * 97 % 256, number * 29 % 256)
        Image.new("RGB", SHAPES[number % len(SHAPES)], colour).save(base / "in" / f"{number:03}.jpg")
    with Library.open(base / "a.lens", models="demo") as library:
        library.ingest(base / "in", workers=1)
    with serving(base / "a.lens") as address:
        yield address, base / "a.lens"


@pytest.fixture
def page_of_album(browser, album):
    with watched(browser, album[0]) as page:
        expect(page.locator(CARDS)).not_to_have_count(0)
        settle(page)
        yield page


def select_first(page, n):
    """Select the first cards by keyboard."""
    page.locator(f"{CARDS} .al-open").first.focus()
    for _ in range(n):
        page.keyboard.press("x")
        page.keyboard.press("ArrowRight")


# -- over HTTP --------------------------------------------------------------------------------------------------------


def test_further_results_and_details_are_json_of_bounded_size(server, library):
    status, headers, body = ask(server, f"/results?q=a+picture&all=1&offset={PAGE_SIZE}")
    assert (status, headers["content-type"], headers["cache-control"]) == (200, "application/json", "no-store")
    hits = [hit for section in json.loads(body)["sections"] for hit in section["hits"]]
    more = library.search("a picture", k=PAGE_SIZE, offset=PAGE_SIZE)
    assert {hit["id"] for hit in hits} == {hit.media_id for hit in more}
    further = json.loads(ask(server, "/results?q=a+picture&all=1&offset=0")[2])["more"]
    assert ask(server, further)[2] == body
    outdated = further.replace(f"revision={library.revision}", "revision=before")
    assert json.loads(ask(server, outdated)[2]) == {"is_outdated": True}
    # Asked again, it is what was not shown yet, wherever that stands now.
    shown = [hit.media_id for hit in library.search("a picture", k=PAGE_SIZE + 2)]
    for left_out, is_later in (([shown[3], shown[-1]], True), ([], False)):
        ids = [media_id for media_id in shown[:-1] if media_id not in left_out]
        again = json.loads(ask(server, outdated, "POST", f"shown={','.join(ids)}", **FORM)[2])
        new = [hit["id"] for section in again["sections"] for hit in section["hits"]]
        expected = [hit.media_id for hit in library.search("a picture", k=2 * PAGE_SIZE) if hit.media_id not in ids]
        assert sorted(new) == sorted(expected[:PAGE_SIZE])
        assert again["is_later"] == is_later
    first = ask(server, "/results?q=a+picture&all=1&offset=0")[2]
    assert len(first) * 50 / PAGE_SIZE <= FURTHER_BYTES < FIRST_BYTES
    hostile = next(hit for hit in library.newest(100) if hit.path.name == HOSTILE_NAME)
    known = json.loads(ask(server, f"/details/{hostile.media_id}")[2])
    assert known["paths"] == [printable(str(hostile.path))]
    assert dict(known["about"])["Format"].startswith("jpeg")


@pytest.mark.parametrize("address", ["offset=-1", "offset=", "offset=1000000", "offset=0&upload=nobodys", "q=a"])
def test_nonsense_asked_for_is_one_line(server, address):
    status, headers, body = ask(server, f"/results?{address}")
    assert (status, headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert body.count(b"\n") == 1
    assert ask(server, f"/details/{quote(address, safe='')}")[0] == 404


def test_files_are_exported_by_their_ids(server, library):
    recording = next(hit for hit in library.newest(100, "audio") if hit.path.name == "long.wav")
    hostile = next(hit for hit in library.newest(100) if hit.path.name == HOSTILE_NAME)
    ids = f"{recording.media_id},{'0' * 32},{hostile.media_id}"

    def exported(form):
        return ask(server, "/export", "POST", form, **FORM)

    status, headers, body = exported(f"as=zip&ids={ids}")
    assert (status, headers["content-disposition"]) == (200, 'attachment; filename="arrowlens.zip"')
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["long.wav", safe_name(HOSTILE_NAME), "not included.txt"]
        assert archive.read("long.wav") == recording.path.read_bytes()
        modified = time.localtime(recording.path.stat().st_mtime)
        assert archive.getinfo("long.wav").date_time[:5] == modified[:5]
        assert archive.read("not included.txt").decode() == f"{'0' * 32}: the library no longer holds it\n"
    playlist = exported(f"as=m3u&ids={ids}")[2].decode()
    assert playlist.splitlines()[0] == "#EXTM3U"
    assert playlist.splitlines()[3:] == [recording.path.as_uri()]
    known = json.loads(exported(f"as=json&ids={ids}")[2])
    files = known["files"]
    assert [file["media_id"] for file in files] == [recording.media_id, hostile.media_id]
    assert known["gone"] == ["0" * 32]
    assert exported(f"as=zip&ids={ids}&check=1")[::2] == (204, b"")
    assert files[0]["duration"] == recording.duration
    many = ",".join(f"{number:032x}" for number in range(MAX_FILES + 1))
    gone = f"as=zip&ids={'0' * 32}"
    for form in ("as=exe&ids=" + ids, "as=zip&ids=../../etc/passwd", f"as=zip&ids={many}", "as=zip", gone):
        status, _, body = exported(form)
        assert (status, body.count(b"\n")) == (400, 1)


def test_a_file_that_cannot_be_read_is_named_in_the_zip(server, library):
    hit = library.newest(100, "audio")[-1]
    away = hit.path.with_name("away")
    hit.path.rename(away)
    try:
        body = ask(server, "/export", "POST", f"as=zip&ids={hit.media_id}", **FORM)[2]
    finally:
        away.rename(hit.path)
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert hit.path.name in archive.read("not included.txt").decode()


class Shrinking:
    """A library of files that have as many bytes as their size says, or of which reading fails after some."""

    def __init__(self, contents):
        self._contents = contents

    @contextmanager
    def open_original(self, media_id):
        size, content = self._contents[media_id]
        yield Original(io.BytesIO(content), media_id, "wav", size, 10**18)


def hits_of(*paths, modality="image"):
    return [Hit(as_path(path), path, modality, 0.5) for path in paths]


def test_a_zip_never_holds_a_part_of_a_file_that_looks_whole(monkeypatch):
    monkeypatch.setattr(exports, "_HEAD", 1000)
    monkeypatch.setattr(exports, "_CHUNK", 100)
    library = Shrinking({"/short": (500, bytes(300)), "/whole": (2000, bytes(2000)), "/long": (2000, bytes(1500))})
    body = b"".join(zip_of(library, hits_of("/short", "/whole")))
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["whole", "not included.txt"]
        assert archive.read("not included.txt") == b"/short: /short: it changed while it was read\n"
    with pytest.raises(BrokenOffError):
        list(zip_of(library, hits_of("/whole", "/long")))


def test_a_download_fails_where_a_file_shrinks_on_the_way(album):
    address, path = album
    picture = path.parent / "late" / "large.jpg"
    picture.parent.mkdir()
    Image.new("RGB", (64, 64)).save(picture)
    os.truncate(picture, 48 << 20)
    with Library.open(path) as library:
        library.ingest(picture.parent, workers=1)
        (hit,) = library.newest(1, where="format = jpeg and path = large.jpg")
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
        connection.request("POST", "/export", f"as=zip&ids={hit.media_id}", {"Content-Type": FORM["Content_Type"]})
        answer = connection.getresponse()
        assert answer.read(1 << 20)
        os.truncate(picture, 10 << 20)
        with pytest.raises(http.client.IncompleteRead):
            answer.read()
        connection.close()
        library.remove([picture])


def test_names_in_a_zip_are_safe_and_apart_on_every_system(library):
    hits = list(library.newest(1))
    stem, dot, suffix = safe_name(hits[0].path.name).rpartition(".")
    assert unique_names([*hits, *hits]) == [f"{stem}{dot}{suffix}", f"{stem} (2){dot}{suffix}"]
    hostile = ["..\\..\\evil.jpg", "caf\udce9.jpg", "a:b?.jpg", "caf\u00e9.jpg", "CAFE\u0301.jpg", "nul.jpg"]
    assert unique_names(hits_of(*(f"/m/{name}" for name in hostile))) == [
        *("__.._evil.jpg", "caf_xe9.jpg", "a_b_.jpg", "caf\u00e9.jpg", "CAFE\u0301 (2).jpg", "_nul.jpg"),
    ]


def test_a_playlist_names_recordings_in_buckets_by_their_addresses():
    lines = playlist_of(hits_of("s3://music/a b.wav", "/m/a b.wav", modality="audio")).decode().splitlines()
    assert lines[2::2] == ["s3://music/a b.wav", "file:///m/a%20b.wav"]


# -- in a browser -----------------------------------------------------------------------------------------------------


def test_rows_have_no_holes_at_any_width_and_scrolling_brings_all(page_of_album):
    page = page_of_album
    page.evaluate(WATCH_SHIFTS)
    expect(page.locator(".al-foot")).to_contain_text(f"of {N_PICTURES} files")
    for _ in range(40):
        page.mouse.move(700, 600)
        page.mouse.wheel(0, 2000)
        if f"{N_PICTURES} of {N_PICTURES} files" in page.locator(".al-foot").inner_text():
            break
        page.wait_for_timeout(100)
    expect(page.locator(".al-foot")).to_contain_text(f"{N_PICTURES} of {N_PICTURES} files")
    assert page.evaluate("window.shifts") == []
    for width in (390, 700, 1000, 1600):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("width => document.querySelector('.al-list').clientWidth < width", arg=width)
        page.wait_for_timeout(300)
        holes = page.evaluate(HOLES)
        assert len(holes) > 3
        assert max(holes) <= 1
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_large_view_is_in_the_address_and_back_closes_it(page_of_album):
    page = page_of_album
    shown = names(page)
    page.get_by_role("button", name=f"Open {shown[1]}").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"2 of {len(shown)}")
    for key, name in (("ArrowRight", shown[2]), ("ArrowLeft", shown[1]), ("ArrowLeft", shown[0])):
        page.keyboard.press(key)
        expect(dialog).to_have_accessible_name(name)
    dialog.get_by_role("button", name="Next").click()
    expect(dialog).to_have_accessible_name(shown[1])
    page.keyboard.press("+")
    expect(dialog.locator(".al-stage img")).to_have_css("transform", re.compile("matrix"))
    page.reload()
    expect(dialog).to_have_accessible_name(shown[1])
    page.go_back()
    expect(dialog).to_have_count(0)
    assert "#" not in page.url
    page.go_forward()
    expect(dialog).to_have_accessible_name(shown[1])
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button", name=f"Open {shown[1]}")).to_be_focused()


def test_more_like_this_from_the_large_view(page):
    expect(page.locator(CARDS)).not_to_have_count(0)
    settle(page)
    name = names(page)[0]
    page.get_by_role("button", name=f"Open {name}").click()
    page.get_by_role("dialog").get_by_role("button", name="More like this").click()
    expect(page.get_by_role("button", name=f"like {name} ✕")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert re.search(r"\?like=[0-9a-f]{32}$", page.url)


def test_recordings_are_played_and_passed_by_keyboard(browser, server):
    with watched(browser, f"{server}/?kind=recordings") as page:
        rows = page.locator(".al-audio")
        expect(rows.first).to_be_visible()
        assert rows.evaluate_all("rows => rows.every(row => row.getBoundingClientRect().height <= 40)")
        rows.nth(0).locator(".al-open").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press(" ")
        expect(rows.nth(1).locator(".al-play")).to_have_text("❚❚")
        expect(page.get_by_role("region", name="Player")).to_contain_text(names(page)[1])
        page.keyboard.press(" ")
        expect(rows.nth(1).locator(".al-play")).to_have_text("▶")
        expect(page.locator("audio")).to_have_count(1)
        leave_screenshot(page, "recordings")


def test_several_are_selected_downloaded_copied_and_forgotten(page_of_album, album):
    page, (_, path) = page_of_album, album
    shown = names(page)
    select_first(page, 1)
    page.locator(f"{CARDS} .al-check").nth(2).click(modifiers=["Shift"])
    bar = page.get_by_role("toolbar", name="Selected files")
    expect(bar).to_contain_text("3 selected")
    with page.expect_download() as download:
        bar.get_by_role("button", name="Download ZIP").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.namelist() == shown[:3]
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    bar.get_by_role("button", name="Copy paths").click()
    expect(bar).to_contain_text("3 paths copied")
    copied = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert copied == [str(path.parent / "in" / name) for name in shown[:3]]
    leave_screenshot(page, "selection")
    page.get_by_label("Search by words").press("Escape")  # is not meant for the selection
    expect(bar).to_contain_text("3 paths copied")
    with MultimodalStorage(path) as storage, storage.writing():
        bar.get_by_role("button", name="Forget").press("Enter")
        expect(bar.get_by_role("button", name="Cancel")).to_be_focused()
        bar.get_by_role("button", name="Forget").click()
        expect(page.get_by_text("Nothing was forgotten: a run is going on")).to_be_visible()
    expect(page.locator(CARDS).first).to_contain_text(shown[0])
    bar.get_by_role("button", name="Cancel").click()
    bar.get_by_role("button", name="Forget").click()
    bar.get_by_role("button", name="Forget").click()
    expect(page.get_by_text("3 files forgotten")).to_be_visible()
    expect(page.locator(".al-foot")).to_contain_text(f"of {N_PICTURES - 3} files")
    expect(bar).to_have_count(0)
    assert all((path.parent / "in" / name).exists() for name in shown[:3])


def test_favourites_are_starred_by_keyboard_beside_a_run_and_filtered(page_of_album, album):
    page, (_, path) = page_of_album, album
    shown = names(page)
    with MultimodalStorage(path) as storage, storage.writing():  # as a run holds it
        page.locator(f"{CARDS} .al-open").first.focus()
        page.keyboard.press("f")
        expect(page.locator(CARDS).first.locator(".al-star")).to_have_attribute("aria-pressed", "true")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        star = page.get_by_role("dialog").get_by_role("button", name=f"Favourite {shown[1]}")
        star.press("Enter")
        expect(star).to_have_attribute("aria-pressed", "true")
        page.keyboard.press("Escape")
        expect(page.locator(f"{CARDS} .al-open").nth(1)).to_be_focused()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("x")
        toolbar = page.get_by_role("toolbar", name="Selected files")
        toolbar.get_by_role("button", name="★ Favourite").click()
        expect(toolbar).to_contain_text("☆ No favourite")
    with Library.open(path) as library:
        assert sorted(hit.path.name for hit in library.favourites()) == sorted(shown[:3])
    page.reload()
    settle(page)
    expect(page.locator(".al-star[aria-pressed=true]")).to_have_count(3)
    page.get_by_text("Favourites only").click()
    expect(page.locator(CARDS)).to_have_count(3)
    assert page.url.endswith("?favourites=1")
    page.locator(".al-star").first.click()
    expect(page.locator(CARDS).first.locator(".al-star")).to_have_attribute("aria-pressed", "false")
    with Library.open(path) as library:
        assert len(library.favourites()) == 2
        library.set_favourites(library.favourites(), False)


def test_keys_go_to_the_search_box_and_are_shown(page_of_album):
    page = page_of_album
    box = page.get_by_label("Search by words")
    expect(box).to_be_focused()
    page.keyboard.type("a?/x")  # is typed, and does nothing else
    expect(box).to_have_value("a?/x")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.locator(f"{CARDS} .al-open").first.focus()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_contain_text("these keys")
    leave_screenshot(page, "keys")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator(f"{CARDS} .al-open").first).to_be_focused()
    page.keyboard.press("/")
    expect(box).to_be_focused()


def scroll_to_all(page, n):
    """Scroll down until so many files are listed, and return their ids."""
    for _ in range(40):
        page.mouse.move(700, 600)
        page.mouse.wheel(0, 2000)
        ids = page.evaluate(ALL_IDS)
        if len(ids) == n:
            return ids
        page.wait_for_timeout(100)
    pytest.fail("not all results came")


def test_place_selection_and_focus_survive_further_results_and_forgetting(page_of_album, album):
    page, (_, path) = page_of_album, album
    foot = page.locator(".al-foot")
    with Library.open(path) as library:
        n = len(library.newest(1000))
    select_first(page, 1)
    # The last card of the first batch moves to a row of the next one, and keeps the focus.
    last = page.locator(f"{CARDS} .al-open").last
    name = last.get_attribute("aria-label")
    last.focus()
    expect(foot).not_to_contain_text(f"{PAGE_SIZE} of")
    expect(page.get_by_role("button", name=name, exact=True)).to_be_focused()
    scroll_to_all(page, n)
    page.mouse.wheel(0, 50_000)
    page.wait_for_timeout(300)
    cards = page.locator(CARDS)
    kept, gone = cards.nth(cards.count() - 2), cards.last
    kept_id, gone_id = kept.get_attribute("data-id"), gone.get_attribute("data-id")
    kept.locator(".al-check").click()
    gone.locator(".al-check").click()
    bar = page.get_by_role("toolbar", name="Selected files")
    expect(bar).to_contain_text("3 selected")
    with Library.open(path) as library:  # somebody else forgets one of them: the selection goes on beyond the first 48
        library.remove([hit.path for hit in library.hits([gone_id])])
    bar.get_by_role("button", name="Forget").click()
    with MultimodalStorage(path) as storage, storage.writing():
        bar.get_by_role("button", name="Forget").click()
        expect(page.get_by_text("Nothing was forgotten: a run is going on")).to_be_visible()
        expect(foot).to_contain_text(f"{n - 1} of {n - 1} files")
        expect(bar).to_contain_text("Forget 3 from the library?")
    expect(page.locator(f"{CARDS}[data-id='{kept_id}']")).to_be_in_viewport()
    expect(page.locator(f"{CARDS}[data-id='{kept_id}']")).to_have_attribute("data-selected", "")
    bar.get_by_role("button", name="Cancel").click()
    expect(bar.get_by_role("button", name="Forget")).to_be_focused()
    page.locator(f"{CARDS}[data-id='{kept_id}'] .al-check").click()
    bar.get_by_role("button", name="Select nothing").click()
    page.locator(f"{CARDS}[data-id='{kept_id}'] .al-check").click()
    bar.get_by_role("button", name="Forget").click()
    bar.get_by_role("button", name="Forget").click()
    expect(foot).to_contain_text(f"{n - 2} of {n - 2} files")
    expect(bar).to_have_count(0)
    assert page.evaluate("document.querySelector('.al-foot').getBoundingClientRect().top") < 900


def test_one_reads_to_the_end_while_files_come_and_go(page_of_album, album):
    page, (_, path) = page_of_album, album
    foot = page.locator(".al-foot")
    (path.parent / "new").mkdir()
    for number in range(3):
        Image.new("RGB", (300, 200), (number * 70, 99, 200)).save(path.parent / "new" / f"new-{number}.jpg")
    with Library.open(path) as library:
        shown = {hit.media_id for hit in library.newest(PAGE_SIZE)}
        library.remove([hit.path for hit in library.newest(2)])  # what was 49th and 50th is 47th and 48th now
        library.ingest(path.parent / "new", workers=1)
        all_ids = shown | {hit.media_id for hit in library.newest(1000)}
        page.mouse.move(700, 600)
        page.mouse.wheel(0, 50_000)
        expect(foot).to_contain_text("The library has changed meanwhile")
        assert sorted(scroll_to_all(page, len(all_ids))) == sorted(all_ids)
        n = len(library.newest(1000))
        foot.get_by_role("button", name="Search again").click()
        expect(foot).to_contain_text(f"{n} of {n} files")
        expect(foot).not_to_contain_text("The library has changed meanwhile")
        library.remove([path.parent / "new"])


def test_what_fails_is_said_and_what_is_there_stays(browser, album):
    address, path = album
    page = browser.new_page(viewport={"width": 1280, "height": 900})  # not watched: the console tells of what fails
    page.goto(address)
    expect(page.locator(CARDS)).not_to_have_count(0)
    settle(page)
    with Library.open(path) as library:
        newest = library.newest(1)[0]
        n = len(library.newest(1000))
    scroll_to_all(page, n)
    # Where further results of a new answer do not come, those that were there stay.
    foot = page.locator(".al-foot")
    page.route("**/results?*", lambda route: route.fulfill(status=503, body="the disk is asleep\n"))
    page.locator(f"{CARDS} .al-check").last.click()
    for _ in range(2):
        page.get_by_role("toolbar", name="Selected files").get_by_role("button", name="Forget").click()
    n -= 1
    expect(foot).to_contain_text(f"{n} of {n} files")
    expect(foot.get_by_role("alert")).to_contain_text("More results did not come: the disk is asleep")
    page.unroute("**/results?*")
    foot.get_by_role("button", name="Try again").click()
    expect(foot.get_by_role("alert")).to_have_count(0)
    expect(foot).to_contain_text(f"{n} of {n} files")
    away = newest.path.with_name("away")
    newest.path.rename(away)
    try:
        page.goto(f"{address}/#open={newest.media_id}")
        expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("the file is gone")
        page.get_by_role("dialog").get_by_role("button", name="Close").click()
    finally:
        away.rename(newest.path)
    # The view is closed on a file far from where it was opened: the list follows, and the card has the focus.
    page.goto(f"{address}/?again=1")
    settle(page)
    page.locator(f"{CARDS} .al-open").first.click()
    for _ in range(60):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(30)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(re.compile(r"61 of \d\d"))
    name = dialog.get_attribute("aria-label")
    page.keyboard.press("Escape")
    opener = page.get_by_role("button", name=f"Open {name}", exact=True)
    expect(opener).to_be_focused()
    expect(opener).to_be_in_viewport()
    # Of a file that is gone there is no download, and the page stays.
    page.keyboard.press("x")
    with Library.open(path) as library:
        library.remove([path.parent / "in" / name])
    bar = page.get_by_role("toolbar", name="Selected files")
    bar.get_by_role("button", name="JSON").click()
    expect(bar).to_contain_text("Not downloaded: the library holds none of these files; search again")
    expect(opener).to_be_in_viewport()
    page.close()
