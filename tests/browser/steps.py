"""Steps that journeys through the pages are made of."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote_plus

from playwright.sync_api import Page, expect

SCREENSHOTS = Path(__file__).parents[2] / "docs" / "screenshots"
CARDS = ".al-card"


def settle(page: Page) -> None:
    """Wait until the script has ended."""
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


def ask(page: Page, text: str) -> None:
    box = page.get_by_label("Search by words")
    box.fill(text)
    box.press("Enter")
    page.wait_for_url(re.compile(rf"[?&]q={re.escape(quote_plus(text))}(&|$)"))  # the run has begun
    settle(page)
    told = re.compile(r"^(\d[\d,]*|No|More than 1,000) (results?|match(es)?).* in \d+ ms")
    expect(page.get_by_text(told)).to_be_visible()


def names(page: Page) -> list[str]:
    return page.locator(f"{CARDS} .al-name").all_text_contents()


def in_sections(hits):
    """Hits in the order of the page: by modality, that of the best one first."""
    modalities = list(dict.fromkeys(hit.modality for hit in hits))
    return sorted(hits, key=lambda hit: modalities.index(hit.modality))


def leave_screenshot(page: Page, name: str) -> None:
    """Where an environment variable asks for it; ``pytest --basetemp`` says which folders are seen in it."""
    if os.environ.get("ARROWLENS_SCREENSHOTS"):
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png")
