"""One library, one server and one Chromium for all journeys; every page is watched for errors and for other hosts."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

import arrowlens
from arrowlens import Library

COMMAND = Path(sys.executable).with_name("arrowlens")
SAMPLES = Path(arrowlens.__file__).parent / "demo" / "samples"
CHROMIUM = Path("/usr/bin/chromium")
expect.set_options(timeout=30_000)  # milliseconds; a busy machine takes its time
HOSTILE_NAME = "<img src=x onerror=alert(1)>![x](http:evil.example) $x$ :red[y]\n\u202e.jpg"
HOSTILE_CAPTION = "<script>alert(2)</script><img src=y> ![y](http://evil.example/y) $\\frac{1}{2}$ **bold** :red[z]"
A_DAY = 24 * 3600


@pytest.fixture(autouse=True)
def _own_main() -> Iterator[None]:
    """``AppTest`` leaves a page behind as ``__main__``, which processes that a later test spawns would run."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture(scope="session")
def library_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures of three days, one of them with a hostile name and caption, and recordings, one of them long."""
    base = tmp_path_factory.mktemp("Album", numbered=False)
    media = base / "media"
    media.mkdir()
    pictures = sorted((SAMPLES / "pictures").rglob("*-01.*"))
    for number, picture in enumerate(pictures[::4]):
        taken = 1_700_000_000 + number % 3 * A_DAY
        os.utime(shutil.copy(picture, media), (taken, taken))
    shutil.copy(pictures[1], media / HOSTILE_NAME)
    (media / f"{HOSTILE_NAME}.txt").write_text(HOSTILE_CAPTION, encoding="utf-8")
    sounds = sorted((SAMPLES / "sounds").iterdir())
    for sound in sounds[::4]:
        shutil.copy(sound, media)
    write_long_recording(media / "long.wav", sounds[1])
    with Library.open(base / "a.lens", models="demo") as library:
        library.ingest(media)
    return base / "a.lens"


@pytest.fixture(scope="session")
def empty_library_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that holds nothing."""
    path = tmp_path_factory.mktemp("New", numbered=False) / "a.lens"
    Library.open(path, models="demo").close()
    return path


def write_long_recording(path: Path, sound: Path) -> None:
    """20 s of faint noise, then a sound: only the last windows are like it."""
    samples, rate = soundfile.read(sound, dtype="float32", always_2d=True)
    noise = np.random.default_rng(0).normal(0, 1e-4, 20 * rate).astype(np.float32)
    soundfile.write(path, np.concatenate([noise, samples.mean(axis=1)]), rate)


@pytest.fixture(scope="session")
def server(library_path: Path) -> Iterator[str]:
    """The address of the page, served by the installed command."""
    with serving(library_path) as address:
        yield address


@contextmanager
def serving(
    library: Path, *options: str | Path, log: Path | None = None, folder: Path | None = None, **variables: str
) -> Iterator[str]:
    """A server of its own for a library; gives its address.

    ``log`` takes what it prints, ``folder`` is where it is started, ``variables`` are added to its environment.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (log or Path(os.devnull)).open("wb") as output:
        process = subprocess.Popen(
            [COMMAND, "ui", "--library", library, "--port", str(port), *options],
            stdout=output,
            stderr=output,
            cwd=folder,
            env={**os.environ, **variables},
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_healthy(address, process)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def wait_until_healthy(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while True:
        assert process.poll() is None, f"arrowlens ui ended with {process.returncode}"
        assert time.monotonic() < deadline, "the page did not come up"
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{CHROMIUM} is missing, and CI must not skip the browser")
        pytest.skip(f"needs {CHROMIUM} (apt-get install chromium)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, server: str) -> Iterator[Page]:
    """The page, loaded. What must not happen on any journey: an error in the console, a request to another host."""
    with watched(browser, server) as page:
        yield page


@contextmanager
def watched(browser: Browser, address: str) -> Iterator[Page]:
    """A page of a server, loaded; in the end there was no error in its console and no request to another host."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(60_000)
    errors: list[str] = []
    strangers: list[str] = []

    def watch_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            errors.append(message.text)

    def watch_request(request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme not in ("data", "blob") and url.netloc != urlsplit(address).netloc:
            strangers.append(request.url)

    page.on("console", watch_console)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", watch_request)
    page.on("dialog", lambda dialog: errors.append(f"dialog {dialog.message}"))
    page.goto(address)
    yield page
    page.close()
    assert errors == []
    assert strangers == []
