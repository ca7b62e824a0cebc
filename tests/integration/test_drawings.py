"""The routes of waveforms and spectrograms."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from arrowlens import Library
from arrowlens.ui.drawings import drawing_routes, spectrogram_url, waveform_url
from tests.folders import write_picture, write_sound


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    base = tmp_path_factory.mktemp("drawings")
    (base / "in").mkdir()
    write_sound(base / "in" / "sound.wav", 1)
    write_sound(base / "in" / "damaged.wav", 2)
    write_picture(base / "in" / "picture.png", 3)
    with Library.open(base / "a.lens", models="demo") as library:
        library.ingest(base / "in", workers=1)
        (base / "in" / "damaged.wav").write_bytes(b"RIFF\x24\x00\x00\x00WAVEfmt ")
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


@pytest.mark.parametrize("name", ["damaged.wav", "picture.png"])
@pytest.mark.parametrize("url", [waveform_url, spectrogram_url])
def test_what_cannot_be_drawn_says_so_where_the_drawing_would_be(client, library, name, url):
    """An ``img`` shows a picture or a broken one; a status of 404 would be an error in the browser's console."""
    answer = client.get(url(hit(library, name)))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
    assert ">cannot be drawn<" in answer.text
    assert answer.headers["cache-control"] == "private, max-age=600"


def test_what_the_library_does_not_hold_is_not_found(client):
    answer = client.get(f"/waveform/{'0' * 32}")
    assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")
    assert "the library holds no file" in answer.text
