"""The search page in a real browser: the time from Enter to the first result, and what a page of results weighs.

python -m benchmarks.page [--items 10000] [--queries 12] [--rounds 3]

Builds a library of drawn pictures with the grain of a camera in a temporary folder (some three minutes on two cores).
Needs /usr/bin/chromium.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from arrowlens import Library
from arrowlens.ui.search_service import PAGE_SIZE
from benchmarks.encodings import rendered, texts
from benchmarks.measure import header
from tests.browser.conftest import CHROMIUM, serving

TARGET_S, TARGET_MB = 1.0, 2.0
SIDE = 480  # pixels: ingest makes a full-sized thumbnail of it
WARM_UP = "something else"
# From the key to the frame in which the first card is the expected one and its thumbnail can be seen.
WATCH = """expected => { window.shown = new Promise(done => {
  const look = since => {
    const card = document.querySelector(".al-card"), image = card && card.querySelector("img");
    if (image && card.dataset.id === expected && image.complete && image.naturalWidth)
      done((performance.now() - since) / 1000);
    else requestAnimationFrame(() => look(since));
  };
  addEventListener("keydown", event => event.key === "Enter" && look(performance.now()), {once: true, capture: true});
}) }"""
LOAD_ALL = """async n => {
  for (let tries = 0; tries < 600; tries++) {
    const images = [...document.querySelectorAll(".al-card .al-open img")];
    images.forEach(image => image.loading = "eager");
    if (images.length === n && images.every(image => image.complete && image.naturalWidth)) return true;
    await new Promise(next => setTimeout(next, 50));
  }
  return false;
}"""


class Traffic:
    """Bytes that a page received: HTTP as it came over the wire, and the payloads of its websocket."""

    def __init__(self, page: Page) -> None:
        self.http = self.websocket = 0
        session: CDPSession = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.send("Network.setCacheDisabled", {"cacheDisabled": True})
        session.on("Network.loadingFinished", self._count_http)
        session.on("Network.webSocketFrameReceived", self._count_frame)

    def _count_http(self, event: dict[str, float]) -> None:
        self.http += int(event["encodedDataLength"])

    def _count_frame(self, event: dict[str, dict[str, str]]) -> None:
        self.websocket += len(event["response"]["payloadData"]) * 3 // 4  # base64, for its frames are binary


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    header("page")
    with tempfile.TemporaryDirectory() as folder:
        path, media = Path(folder) / "page.lens", Path(folder) / "media"
        first = built(path, media, options.items, options.queries)
        with serving(path) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            measure_times(browser, address, first, options.rounds)
            media.rename(Path(folder) / "away")
            measure_bytes(browser, address, next(iter(first)))
            browser.close()


def built(path: Path, media: Path, n_items: int, n_queries: int) -> dict[str, str]:
    """Make the library; gives questions and the ``media_id`` that each finds first, no two in a row the same."""
    media.mkdir()
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        list(pool.map(partial(draw, media), range(n_items), chunksize=100))
    with Library.open(path, models="demo") as library:
        report = library.ingest(media)
        assert report.indexed == n_items
        found = [(text, library.search(text, k=1)[0].media_id) for text in texts()[: 4 * n_queries]]
        sizes = [len(library.thumbnail(hit.content_hash) or b"") for hit in library.newest(200)]
    print(f"{n_items:,} pictures; their thumbnails: {statistics.mean(sizes) / 1e3:.1f} KB")
    changing = [later for earlier, later in pairwise([("", ""), *found]) if later[1] != earlier[1]][:n_queries]
    assert changing[0][1] != changing[-1][1], "the last question and the first find the same"
    return dict(changing)


def draw(media: Path, number: int) -> None:
    """Write a picture: a rendered scene under grain, so that it compresses as photographs do."""
    scene = np.asarray(rendered(number).resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.int16)
    grain = np.random.default_rng(number).integers(-16, 17, (SIDE, SIDE, 1), np.int16)
    picture = Image.fromarray(np.clip(scene + grain, 0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    (media / f"{number:05}.jpg").write_bytes(buffer.getvalue())


def measure_times(browser: Browser, address: str, first: dict[str, str], rounds: int) -> None:
    """Print the seconds from Enter to the first result: of the first time that each is asked, and of all."""
    page = opened(browser, address)
    page.get_by_label("Search by words").fill(WARM_UP)
    page.get_by_label("Search by words").press("Enter")
    page.get_by_text(" results in ").wait_for()
    times = [[asked(page, text, expected) for text, expected in first.items()] for _ in range(rounds)]
    page.context.close()
    load = os.getloadavg()[0]
    for title, seconds in (("first asked", times[0]), (f"{rounds} rounds", [each for row in times for each in row])):
        print(
            f"  Enter to the first result, {len(first)} questions in turns, {title}: median "
            f"{statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s, target {TARGET_S} s; load {load:.1f}",
            flush=True,
        )


def opened(browser: Browser, address: str) -> Page:
    """A page of a client of its own, with the newest files shown."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(60_000)
    page.goto(address)
    page.wait_for_function(LOAD_ALL, arg=PAGE_SIZE)
    return page


def asked(page: Page, text: str, expected: str) -> float:
    """Seconds from Enter until the expected first result is seen."""
    page.get_by_label("Search by words").fill(text)
    page.evaluate(WATCH, expected)
    page.keyboard.press("Enter")
    seconds: float = page.evaluate("window.shown")
    return seconds


def measure_bytes(browser: Browser, address: str, text: str) -> None:
    """Print what one page of results brings to a browser that has seen none of it, its originals being away."""
    page = opened(browser, address)
    traffic = Traffic(page)
    page.get_by_label("Search by words").fill(text)
    page.get_by_label("Search by words").press("Enter")
    page.get_by_text(f"{PAGE_SIZE} results in ").wait_for()
    assert page.evaluate(LOAD_ALL, PAGE_SIZE), "results without a picture"
    page.wait_for_timeout(1000)  # what comes late counts too
    megabytes = (traffic.http + traffic.websocket) / 1e6
    print(
        f"  a page of {PAGE_SIZE} results: {megabytes:.2f} MB (thumbnails {traffic.http / 1e6:.2f}, websocket "
        f"{traffic.websocket / 1e6:.2f}), target {TARGET_MB} MB; asked and drawn with all originals away"
    )
    page.context.close()


if __name__ == "__main__":
    main()
