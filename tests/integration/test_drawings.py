"""The routes of waveforms and spectrograms."""

from __future__ import annotations

import asyncio
import io
import threading

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from arrowlens import Library
from arrowlens.errors import MediaError
from arrowlens.ui.media import media_routes
from arrowlens.ui.waveform_routes import drawing_routes, spectrogram_url, waveform_url
from tests.support.coroutines import run_coroutine
from tests.support.folders import write_picture, write_sound


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    base = tmp_path_factory.mktemp("drawings")
    (base / "in").mkdir()
    write_sound(base / "in" / "sound.wav", 1)
    write_sound(base / "in" / "replaced.wav", 2)
    write_picture(base / "in" / "picture.png", 3)
    with Library.open(base / "a.lens", models="demo") as library:
        library.ingest(base / "in", workers=1)
        (base / "in" / "replaced.wav").unlink()
        (base / "in" / "replaced.wav").symlink_to("sound.wav")
        yield library


@pytest.fixture
def client(library, monkeypatch):
    monkeypatch.setenv("ARROWLENS_LIBRARY", str(library.path))
    return TestClient(Starlette(routes=drawing_routes()))


def hit(library, name):
    return next(hit for hit in library.newest() if hit.path.name == name)


@pytest.mark.parametrize("url", [waveform_url, spectrogram_url])
def test_a_recording_is_drawn_and_kept(client, library, url):
    answer = client.get(url(hit(library, "sound.wav")))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert answer.headers["cache-control"] == "private, max-age=86400"
    assert Image.open(io.BytesIO(answer.content)).width == 600


@pytest.mark.parametrize("url", [waveform_url, spectrogram_url])
def test_what_cannot_be_drawn_says_so_where_the_drawing_would_be(client, library, url):
    """An ``img`` shows a picture or a broken one; a status of 404 would be an error in the browser's console."""
    answer = client.get(url(hit(library, "picture.png")))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
    assert ">cannot be drawn<" in answer.text
    assert answer.headers["cache-control"] == "private, max-age=600"


def test_what_the_library_does_not_hold_is_not_found(client):
    answer = client.get(f"/waveform/{'0' * 32}")
    assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")
    assert "the library holds no file" in answer.text


def test_a_drawing_is_made_once_whatever_the_address_says_besides(client, library, monkeypatch):
    sound, drawn = hit(library, "sound.wav"), []
    real = Library.waveform
    monkeypatch.setattr(Library, "waveform", lambda *arguments: drawn.append(1) or real(*arguments))
    addresses = [f"/waveform/{sound.media_id}?{rest}" for rest in ("of=a", "of=b", "n_columns=9", "", "of=a&of=b")]
    answers = [client.get(address) for address in addresses]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert len({answer.content for answer in answers}) == 1
    assert len(drawn) == 1


def test_drawings_that_hang_hold_up_no_thumbnail_and_other_clients_by_one_turn(library, monkeypatch):
    """A client asks for sixty drawings that take long; another one asks for a drawing, and for something else."""
    monkeypatch.setenv("ARROWLENS_LIBRARY", str(library.path))
    sound, order = hit(library, "sound.wav"), []
    going = threading.Semaphore(0)

    def slow(_library, media_id):
        going.acquire(timeout=60)
        order.append("slow")
        raise MediaError("slow")

    monkeypatch.setattr(Library, "waveform", slow)
    real = Library.spectrogram
    monkeypatch.setattr(Library, "spectrogram", lambda *arguments: order.append("other") or real(*arguments))

    async def run():
        application = Starlette(routes=[*drawing_routes(), *media_routes()])
        crowd = AsyncClient(application, "192.0.2.1")
        other = AsyncClient(application, "192.0.2.2")
        slow_ones = [asyncio.create_task(crowd.status(f"/waveform/{sound.media_id}")) for _ in range(60)]
        await asyncio.sleep(0.5)
        assert await asyncio.wait_for(other.status(f"/original/{sound.media_id}"), 30) == 200
        drawing = asyncio.create_task(other.status(f"/spectrogram/{sound.media_id}"))
        await asyncio.sleep(0.5)
        for _ in range(60):
            going.release()
        assert await asyncio.wait_for(drawing, 30) == 200
        await asyncio.gather(*slow_ones)

    run_coroutine(run())
    assert order.index("other") <= 4  # two were under way, and one of the crowd's may come before


class AsyncClient:
    """Asks an application as a client with an address."""

    def __init__(self, application, address):
        self.application, self.address = application, address

    async def status(self, path):
        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
        messages, bodies = [], [b""]

        async def receive():
            if not bodies:  # the client stays until it has its answer
                await asyncio.sleep(3600)
            return {"type": "http.request", "body": bodies.pop(), "more_body": False}

        async def send(message):
            messages.append(message)

        await self.application({**scope, "client": (self.address, 1), "root_path": ""}, receive, send)
        return messages[0]["status"]


@pytest.mark.parametrize("kind", ["original", "waveform", "spectrogram"])
def test_a_file_that_was_replaced_by_a_link_is_gone_for_good(library, monkeypatch, kind):
    monkeypatch.setenv("ARROWLENS_LIBRARY", str(library.path))
    media_id = hit(library, "replaced.wav").media_id
    answer = TestClient(Starlette(routes=[*drawing_routes(), *media_routes()])).get(f"/{kind}/{media_id}")
    assert answer.status_code == 410
    assert answer.text.startswith("replaced.wav: changed since it was indexed")
