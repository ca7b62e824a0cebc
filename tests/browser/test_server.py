"""The real server behind a password: what it gives out over HTTP, and journeys through the pages beside Search."""

from __future__ import annotations

import http.client
import re
import shutil
from urllib.parse import unquote, urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from arrowlens import Library
from arrowlens.passwords import hash_password, write_hash
from arrowlens.search import printable
from tests.browser.conftest import HOSTILE_NAME, SAMPLES, serving, watched
from tests.browser.steps import leave_screenshot

pytestmark = pytest.mark.browser

PASSWORD = "correct horse"


class Guarded:
    """A server with a password, its library's path and hits by name, and the cookie of a signed-in client."""

    def __init__(self, address, path, hits):
        self.address, self.path, self.hits = address, path, hits
        self.cookie = self.ask("/login", "POST", urlencode({"password": PASSWORD}), cookie=None)[1]["set-cookie"]

    def ask(self, path, method="GET", body=None, cookie="own", **headers):
        """Status, headers and body."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if cookie == "own":
            headers["Cookie"] = self.cookie.split(";")[0]
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=30)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    base = tmp_path_factory.mktemp("Photos", numbered=False)
    media = base / "media"
    media.mkdir()
    pictures = sorted((SAMPLES / "pictures").rglob("*-01.*"))
    for picture in pictures[:12]:
        shutil.copy(picture, media)
    shutil.copy(pictures[1], media / HOSTILE_NAME)
    shutil.copy(sorted((SAMPLES / "sounds").iterdir())[0], media)
    (media / "broken.jpg").write_bytes(b"\xff\xd8\xffnothing")
    (base / "more").mkdir()
    for picture in pictures[20:30]:
        shutil.copy(picture, base / "more")
    write_hash(base / "password", hash_password(PASSWORD))
    with Library.open(base / "a.lens", models="demo") as library:
        library.ingest(media, workers=1)
        hits = {hit.path.name: hit for hit in library.newest(100)}
    with serving(base / "a.lens", "--password-file", base / "password") as address:
        yield Guarded(address, base, hits)


@pytest.fixture
def inside(browser: Browser, guarded: Guarded):
    """A page of somebody who has signed in."""
    with watched(browser, guarded.address) as page:
        sign_in(page)
        yield page


def sign_in(page: Page) -> None:
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_test_id("stApp")).to_be_visible()


def go_to(page: Page, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()


# -- over HTTP --------------------------------------------------------------------------------------------------------


def test_without_the_cookie_only_the_health_check_answers(guarded):
    hit = next(iter(guarded.hits.values()))
    for path in (
        "/",
        f"/original/{hit.media_id}",
        f"/thumbnail/{hit.content_hash}",
        f"/poster/{hit.media_id}?start=0&end=1",
        f"/details/{hit.media_id}",
        "/results?offset=0",
        "/_stcore/host-config",
        "/media/a",
    ):
        assert guarded.ask(path, cookie=None)[0] == 401
    assert guarded.ask(f"/details/{hit.media_id}")[0] == guarded.ask("/results?offset=0")[0] == 200
    form = {"Content_Type": "application/x-www-form-urlencoded", "body": f"as=json&ids={hit.media_id}"}
    assert guarded.ask("/export", "POST", **form)[0] == 200
    assert guarded.ask("/export", "POST", cookie=None, **form)[0] == 401
    assert guarded.ask("/_stcore/upload_file/a/b", "PUT", b"x", cookie=None)[0] == 401
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
    upgrade["Sec_WebSocket_Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    assert guarded.ask("/_stcore/stream", cookie=None, **upgrade)[0] == 403
    assert guarded.ask("/_stcore/health", cookie=None)[0] == 200


def test_other_names_are_refused(guarded):
    for host in ("evil.example", "127.0.0.1.evil.example", "192.0.2.1"):
        assert guarded.ask("/", Host=host)[0] == 421
        assert guarded.ask("/_stcore/health", Host=host)[0] == 421


def test_a_thumbnail_is_kept_for_good(guarded):
    hit = next(hit for hit in guarded.hits.values() if hit.modality == "image")
    status, headers, jpeg = guarded.ask(f"/thumbnail/{hit.content_hash}")
    assert status == 200
    assert jpeg.startswith(b"\xff\xd8\xff")
    assert headers["cache-control"] == "private, max-age=31536000, immutable"
    assert guarded.ask(f"/thumbnail/{hit.content_hash}", If_None_Match=headers["etag"])[0] == 304
    assert guarded.ask("/thumbnail/0000")[0] == 404


def test_a_range_of_a_recording(guarded):
    hit = next(hit for hit in guarded.hits.values() if hit.modality == "audio")
    whole = hit.path.read_bytes()
    for wanted, expected in (("bytes=10-19", whole[10:20]), ("bytes=-7", whole[-7:]), ("bytes=100-", whole[100:])):
        status, headers, part = guarded.ask(f"/original/{hit.media_id}", Range=wanted, Accept_Encoding="gzip")
        assert (status, part) == (206, expected)
        assert headers["content-range"].endswith(f"/{len(whole)}")
        assert headers["content-type"].startswith("audio/")
    assert guarded.ask(f"/original/{hit.media_id}", Range=f"bytes={len(whole)}-")[0] == 416
    assert guarded.ask(f"/original/{hit.media_id}", Range="bytes=5-2")[2] == whole
    changed = guarded.ask(f"/original/{hit.media_id}", Range="bytes=0-1", If_Range='"other"')
    assert (changed[0], changed[2]) == (200, whole)


def test_a_download_has_its_name_however_hostile(guarded):
    hit = guarded.hits[HOSTILE_NAME]
    status, headers, content = guarded.ask(f"/original/{hit.media_id}?download=1")
    assert (status, content) == (200, hit.path.read_bytes())
    quoted = re.fullmatch(
        r"attachment; filename=\"[\w ._()+-]+\"; filename\*=UTF-8''(\S+)", headers["content-disposition"]
    )
    assert quoted
    assert unquote(quoted[1]) == printable(HOSTILE_NAME)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("sandbox")


@pytest.mark.parametrize("name", ["..%2f..%2fetc%2fpasswd", "../../etc/passwd", "%00", "x" * 5000, "'"])
def test_nothing_else_is_given_out(guarded, name):
    status, _, content = guarded.ask(f"/original/{name}")
    assert status in (400, 404)
    assert b"root:" not in content
    assert content.count(b"\n") <= 1


def test_a_file_that_is_gone_is_one_line(guarded):
    hit = guarded.hits[sorted(guarded.hits)[-1]]
    away = hit.path.with_name("away")
    hit.path.rename(away)
    try:
        status, headers, content = guarded.ask(f"/original/{hit.media_id}")
    finally:
        away.rename(hit.path)
    assert status == 404
    assert headers["content-type"].startswith("text/plain")
    assert content.decode().endswith("the file is gone\n")


# -- in a browser -----------------------------------------------------------------------------------------------------


def test_signing_in(browser, guarded):
    page = browser.new_page()
    page.goto(guarded.address)
    expect(page.get_by_label("Password")).to_be_focused()
    leave_screenshot(page, "login")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("That is not the password.")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_label("Search by words")).to_be_visible(timeout=60_000)
    page.close()


def test_a_folder_is_added_watched_and_tried_again(inside, guarded):
    go_to(inside, "Library")
    expect(inside.get_by_text("broken.jpg")).to_be_visible()
    inside.get_by_label("Add a folder of this server's disk").fill(str(guarded.path / "more"))
    inside.get_by_role("button", name="Add folder").click()
    expect(inside.get_by_text(re.compile(r"Done\. 10 indexed"))).to_be_visible()
    expect(inside.locator(".al-numbers dd").first).to_have_text("23")
    leave_screenshot(inside, "library")
    shutil.copy(sorted((SAMPLES / "pictures").rglob("*-01.*"))[40], guarded.path / "media" / "broken.jpg")
    inside.get_by_role("button", name="Try these files again").click()
    expect(inside.get_by_text("Every file that was found could be read.")).to_be_visible()


def test_a_run_is_watched_by_two_and_cancelled_by_one(inside, browser, guarded):
    many = guarded.path / "many"
    many.mkdir()
    for number, picture in enumerate(sorted((SAMPLES / "pictures").rglob("*.*")) * 8):
        data = picture.read_bytes()
        (many / f"{number}{picture.suffix}").write_bytes(data + str(number).encode())
    with watched(browser, guarded.address) as other:
        sign_in(other)
        for page in (inside, other):
            go_to(page, "Library")
        inside.get_by_label("Add a folder of this server's disk").fill(str(many))
        inside.get_by_role("button", name="Add folder").click()
        other.get_by_role("button", name="Cancel").click()
        for page in (inside, other):
            expect(page.get_by_text(re.compile("Cancelled"))).to_be_visible()
            expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


def test_the_map_shows_what_is_boxed(inside):
    go_to(inside, "Map")
    canvas = inside.locator("[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg").first
    expect(canvas).to_be_visible()
    expect(inside.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    expect(inside.get_by_text("Nothing selected")).to_be_visible()
    box = canvas.bounding_box()
    inside.mouse.move(box["x"] + 12, box["y"] + 12)
    inside.mouse.down()
    inside.mouse.move(box["x"] + box["width"] - 12, box["y"] + box["height"] * 0.8, steps=8)
    inside.mouse.up()
    expect(inside.get_by_text(re.compile(r"\d+ files selected"))).to_be_visible()
    image = inside.locator(".al-tile img").first
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    leave_screenshot(inside, "map")
    inside.get_by_role("button", name="Search for more like these").click()
    expect(inside.get_by_role("button", name=re.compile(r"^like .*✕$")).first).to_be_visible()
    assert inside.url.partition("?")[2].startswith("like=")


def test_duplicates_are_side_by_side(inside):
    go_to(inside, "Duplicates")
    group = inside.locator(".al-group", has_text="<img src=x").first
    expect(group).to_be_visible()
    expect(group.locator("img")).to_have_count(2)
    for image in group.locator("img").all():
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    leave_screenshot(inside, "duplicates")
