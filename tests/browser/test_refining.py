"""Ways to refine and to arrange a search in a real Chromium: examples, weights, order, groups, pages, the keyboard."""

from __future__ import annotations

import io
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image, ImageOps
from playwright.sync_api import Locator, Page, expect

from arrowlens import Library
from arrowlens.search import grouped, printable
from arrowlens.ui.search_service import PAGE_SIZE
from tests.browser.conftest import CHROMIUM, HOSTILE_CAPTION, HOSTILE_NAME, SAMPLES, serving, watched
from tests.browser.steps import CARDS, ask, in_sections, leave_screenshot, names, settle

pytestmark = pytest.mark.browser

PAGES = ("?q=a+yellow+car", "library", "map", "duplicates")
PHONE = {"width": 390, "height": 844}
# Where the search box and the grid are in each frame from now on.
WATCH_PLACES = """() => {
  window.places = [];
  const at = selector => Math.round(document.querySelector(selector)?.getBoundingClientRect().top ?? -1);
  const look = () => {
    window.places.push(`${at("input[aria-label='Search by words']")} ${at(".al-gallery")}`);
    requestAnimationFrame(look);
  };
  look();
}"""

# The middle of a point that no other one covers.
UPPERMOST = """points => {
  for (const point of points) {
    const box = point.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
    if (document.elementFromPoint(x, y) === point) return [x, y];
  }
}"""


@pytest.fixture(scope="module")
def library(library_path):
    with Library.open(library_path) as library:
        yield library


def shows(page: Page, hits) -> None:
    """Wait until the page shows these files in this order, by modality."""
    expect(page.locator(f"{CARDS} .al-name")).to_have_text([printable(hit.path.name) for hit in in_sections(hits)])


def params(page: Page) -> dict[str, list[str]]:
    """The query of the address."""
    return parse_qs(urlsplit(page.url).query)


def choose(page: Page, label: str, option: str) -> None:
    """Choose in a select box."""
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option).click()


def card_of(page: Page, name: str) -> Locator:
    return page.locator(CARDS).filter(has=page.locator(".al-name", has_text=name)).last


def test_an_uploaded_picture_finds_the_one_it_was_made_from(page, library):
    mirrored = io.BytesIO()
    with Image.open(next((SAMPLES / "pictures").rglob("yellow-car-01.jpg"))) as picture:
        ImageOps.mirror(picture).save(mirrored, "PNG")
    example = library.example(mirrored.getvalue(), "mirrored.png")
    page.get_by_role("button", name="By example").click()
    page.locator("input[type=file]").set_input_files(
        {"name": "mirrored.png", "mimeType": "image/png", "buffer": mirrored.getvalue()}
    )
    expect(page.get_by_role("button", name="like mirrored.png ✕")).to_be_visible()
    found = library.similar_to(example, k=PAGE_SIZE)
    assert found[0].path.name == "yellow-car-01.jpg"
    shows(page, found.folded)
    expect(page.get_by_text("It is compared and forgotten")).to_be_hidden()
    # Removed where it was chosen, it is no part of what is asked for further on.
    page.get_by_role("button", name="By example").click()
    page.get_by_role("button", name=re.compile(r"Remove .*mirrored\.png")).click()
    expect(page.get_by_role("button", name="like mirrored.png ✕")).to_have_count(0)
    settle(page)
    page.keyboard.press("Escape")
    with page.expect_request(lambda request: "/results?" in request.url) as asked:
        page.mouse.move(700, 600)
        page.mouse.wheel(0, 50_000)
    assert "upload" not in asked.value.url
    n_files = len(library.newest(1000))
    expect(page.locator(".al-foot")).to_contain_text(f"{n_files} of {n_files} files")


def test_a_sound_is_recorded_and_found(browser, server, library, tmp_path):
    sound = next(hit for hit in library.newest(100, "audio") if hit.format == "wav" and hit.path.name != "long.wav")
    chromium = browser.browser_type.launch(
        executable_path=CHROMIUM,
        args=[
            "--no-sandbox",
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-audio-capture={sound.path}",
        ],
    )
    with watched(chromium, server) as page:
        page.get_by_role("button", name="By example").click()
        page.get_by_role("button", name="Record", exact=True).click()
        page.wait_for_timeout(2_500)
        page.get_by_role("button", name="Stop recording").click()
        expect(page.get_by_role("button", name=re.compile(r"^like .*\.wav ✕$"))).to_be_visible()
        settle(page)
        assert sound.path.name in names(page)[:3]
    chromium.close()


def test_a_weight_is_turned_by_keyboard_and_said_by_the_chip(page, library):
    ask(page, "a cat and a castle")
    page.get_by_role("button", name="Refine").click()
    also = page.get_by_label("Also")
    also.fill("a dog")
    also.press("Enter")
    expect(page.get_by_role("button", name="+ a dog ✕")).to_be_visible()
    weight = page.get_by_role("slider", name="Weight: + a dog")
    weight.press("ArrowRight")
    chip = page.get_by_role("button", name="+ a dog × 1.1 ✕")
    expect(chip).to_be_visible()
    assert params(page)["more"] == ["a dog^1.1"]
    shows(page, library.search("a cat and a castle", PAGE_SIZE, plus=["a dog"], weights={"a dog": 1.1}))
    page.keyboard.press("Escape")
    chip.click()
    shows(page, library.search("a cat and a castle", PAGE_SIZE).folded)


def test_less_like_a_result(page, library):
    ask(page, "a yellow car")
    car = library.search("a yellow car", k=1)[0]
    card_of(page, "yellow-car-01.jpg").get_by_role("button", name="Less like this").click()
    expect(page.get_by_role("button", name="not like yellow-car-01.jpg ✕")).to_be_visible()
    assert params(page)["unlike"] == [car.media_id]
    shows(page, library.search("a yellow car", PAGE_SIZE, unlike=[car]))
    page.go_back()
    shows(page, library.search("a yellow car", PAGE_SIZE).folded)


def test_order_and_groups(page, library):
    ask(page, "a picture")
    page.goto(f"{page.url}&all=1")
    choose(page, "Order", "Newest first")
    newest = library.search("a picture", PAGE_SIZE, sort="date")
    shows(page, newest)
    choose(page, "Groups", "By day")
    groups = list(grouped(newest, "day"))
    assert len(groups) >= 3
    # Without numbers: further results may belong to the same days.
    expect(page.locator(".al-title")).to_have_text([str(group.key) for group in groups])
    assert params(page) == {"q": ["a picture"], "sort": ["date"], "group": ["day"], "all": ["1"]}
    in_groups = [hit for group in groups for hit in sorted(group.hits, key=lambda hit: hit.modality == "audio")]
    expect(page.locator(f"{CARDS} .al-name")).to_have_text([printable(hit.path.name) for hit in in_groups])
    # Shift selects what lies between two files, also where pictures and recordings are of one day.
    place = next(number for number, hit in enumerate(in_groups) if hit.modality == "audio" and number > 1)
    for number, modifiers in ((1, []), (place, ["Shift"])):
        page.locator(f"{CARDS} .al-check").nth(number).click(modifiers=modifiers)
    selected = page.locator(CARDS).evaluate_all("cards => cards.map(card => card.hasAttribute('data-selected'))")
    assert selected == [1 <= number <= place for number in range(len(in_groups))]
    page.get_by_role("button", name="Select nothing").click()
    choose(page, "Groups", "By folder")
    expect(page.locator(".al-title")).to_have_text([re.compile(r"^media /.*/media$")])
    recordings = library.search("a picture", PAGE_SIZE, "audio", sort="date")
    page.goto(f"{page.url}&kind=recordings")
    expect(page.locator(".al-title")).to_have_text([re.compile(rf"^media · {len(recordings)} results /.*/media$")])


def test_further_results_follow_and_nothing_jumps(page, library):
    ask(page, "a dog barking")
    page.evaluate(WATCH_PLACES)
    for words in ("a nuclear power station", "a yellow car"):  # the first one is said to match nothing
        ask(page, words)
        if words == "a nuclear power station":
            expect(page.locator(".al-foot p")).to_have_text("No matches")
        page.get_by_role("button", name="Show the nearest anyway").click()
        settle(page)
        shows(page, library.search(words, PAGE_SIZE))
    places = [place for place in page.evaluate("window.places") if not place.endswith(" -1")]  # -1: folded
    assert places == [places[0]] * len(places)
    more = library.search("a yellow car", PAGE_SIZE, offset=PAGE_SIZE)
    page.locator(".al-foot").scroll_into_view_if_needed()
    expect(page.locator(".al-foot")).to_contain_text(f"{PAGE_SIZE + len(more)} results")
    for hit in more:
        expect(page.locator(f"{CARDS}[data-id='{hit.media_id}']")).to_have_count(1)


def tab_to(page: Page, goal: Locator, most: int) -> None:
    """Press Tab until something has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if goal.evaluate("goal => goal === document.activeElement"):
            return
    pytest.fail(f"{most} times Tab do not reach {goal}")


def test_the_keyboard_is_enough(page, library):
    settle(page)
    tab_to(page, page.get_by_label("Search by words"), most=30)
    page.keyboard.type("a yellow car")
    page.keyboard.press("Enter")
    shows(page, library.search("a yellow car", PAGE_SIZE).folded)
    settle(page)
    first = page.locator(CARDS).first
    tab_to(page, first.get_by_role("button", name="Open"), most=15)
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("yellow-car-01.jpg")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    settle(page)
    first.get_by_role("button", name="Open").focus()
    tab_to(page, first.get_by_role("button", name="More like this"), most=1)
    expect(first.get_by_role("button", name="More like this")).to_have_css("opacity", "1")
    tab_to(page, first.get_by_role("button", name="Less like this"), most=1)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="not like yellow-car-01.jpg ✕")).to_be_visible()


def test_a_hostile_name_and_caption_are_only_text_everywhere(page):
    ask(page, "onerror")
    card = page.locator(CARDS).filter(has=page.locator(".al-name", has_text="onerror")).last
    card.get_by_role("button", name="More like this").click()
    shown = printable(HOSTILE_NAME)
    expect(page.get_by_role("button", name=f"like {shown} ✕")).to_be_visible()
    card.get_by_role("button", name="Open").press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(HOSTILE_CAPTION)
    expect(dialog).to_contain_text(shown)
    expect(page.locator("img[src=x], img[src=y], img[src*=evil], .katex, .al-about strong")).to_have_count(0)


def test_a_click_on_the_map_shows_that_file(page, library):
    page.get_by_role("link", name="Map", exact=True).click()
    points = page.locator("[data-testid=stVegaLiteChart] svg .mark-symbol.role-mark path")
    expect(points).to_have_count(library.status().images)
    settle(page)
    x, y = points.evaluate_all(UPPERMOST)
    page.mouse.move(x, y)
    tooltip = page.locator("#vg-tooltip-element")
    expect(tooltip).to_be_visible()
    name = tooltip.locator("td.value").first.inner_text()
    page.mouse.click(x, y)
    expect(page.get_by_text("1 file selected")).to_be_visible()
    expect(page.locator(".al-tile .al-name")).to_have_text([name])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_a_phone(browser, server, scheme):
    context = browser.new_context(viewport=PHONE, color_scheme=scheme, has_touch=True, is_mobile=True)
    page = context.new_page()
    for name in PAGES:
        page.goto(f"{server}/{name}")
        expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=60_000)
        settle(page)
        expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        dark = page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
        leave_screenshot(page, f"phone-{scheme}-{name.partition('?')[0] or 'search'}")
        assert (sum(map(int, re.findall(r"\d+", dark)[:3])) < 3 * 60) == (scheme == "dark")
    context.close()


def test_an_empty_library_has_a_way_on_from_every_page(browser, empty_library_path):
    with serving(empty_library_path) as address, watched(browser, address) as page:
        expect(page.get_by_text("This library is empty")).to_be_visible()
        leave_screenshot(page, "empty")
        page.get_by_role("link", name="Add a folder").click()
        expect(page.get_by_text("none yet")).to_be_visible()
        page.go_back()
        expect(page.get_by_text("This library is empty")).to_be_visible()
        for name, told in (("Library", "none yet"), ("Map", "Nothing to draw yet"), ("Duplicates", "No duplicates")):
            page.get_by_role("link", name=name, exact=True).click()
            expect(page.get_by_text(told)).to_be_visible()
