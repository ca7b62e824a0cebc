"""Films in a library: found at the moment by what is seen and heard, once each, in whatever version they came in."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
import shutil
import threading
from pathlib import Path

import lancedb
import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from arrowlens import Library
from arrowlens.cli import main
from arrowlens.cli.output import report_text
from arrowlens.embedding import ExampleReader
from arrowlens.errors import InputError
from arrowlens.ingest import IngestOptions, plan, run
from arrowlens.ingest.pipeline import keep_texts
from arrowlens.media import Limits, decode
from arrowlens.modalities import MAX_SHOTS
from arrowlens.store import MultimodalStorage, strip_key
from arrowlens.store.identifiers import vector_table_name
from arrowlens.ui.gallery import hit_json
from arrowlens.ui.waveform_routes import drawing_routes, poster_url
from tests.support.film_factory import Scene, scene_film
from tests.support.film_scenes import BICYCLE, DRAWINGS, Story
from tests.support.media_factory import image_bytes
from tests.support.signals import pixels
from tests.support.small_models import SmallProvider

STORIES = [Story.drawn(seed) for seed in range(6)]
CONTAINERS = ("mp4", "mov", "matroska", "avi", "mpegts", "3gp")
SUFFIXES = {"matroska": "mkv", "mpegts": "m2ts"}


def write_films(folder: Path, stories: list[Story]) -> dict[Path, Story]:
    """Films in turn in each container."""
    films = {}
    for number, story in enumerate(stories):
        container = CONTAINERS[number % len(CONTAINERS)]
        path = folder / f"{number:02d}.{SUFFIXES.get(container, container)}"
        path.write_bytes(story.film(container=container))
        films[path] = story
    return films


def n_found_in_time(library: Library, films: dict[Path, Story]) -> int:
    """Of how many films a red bicycle is the best moment, to within two seconds."""
    hits = library.search("a red bicycle", k=len(films), modality="video")
    assert len(hits) == len({hit.media_id for hit in hits}) == len(films), "each film is one hit"
    moments = [(hit.start, hit.end, films[hit.path].start_of(BICYCLE)) for hit in hits]
    return sum(abs(start - wanted) <= 2.0 and end > wanted for start, end, wanted in moments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("films")


@pytest.fixture(scope="module")
def films(folder) -> dict[Path, Story]:
    films = write_films(folder, STORIES)
    shutil.copy(DRAWINGS[BICYCLE], folder / "bicycle.png")
    (folder / "copy.mkv").write_bytes(STORIES[0].film(container="matroska", size=(160, 120), codec="mpeg4", options={}))
    (folder / "live.heic").write_bytes(image_bytes("heic", 1))
    (folder / "live.mov").write_bytes(scene_film([Scene(pixels(1), 1.0)], container="mov", has_sound=False))
    return films


@pytest.fixture(scope="module")
def library(folder, films, tmp_path_factory):
    with Library.open(tmp_path_factory.mktemp("library") / "l", models="demo") as library:
        report = library.ingest(folder)
        assert (report.indexed, report.skipped) == (len(films) + 4, 0)
        yield library


def test_a_text_finds_each_film_at_its_scene(library, films, folder):
    hits = library.search("a red bicycle", k=20, modality="video", where="name != 'live.mov'")
    moments = {hit.path: hit for hit in hits}
    assert len(hits) == len(moments) == len(films) + 1, "each film is one hit"
    for path, story in {**films, folder / "copy.mkv": STORIES[0]}.items():
        assert abs(moments[path].start - story.start_of(BICYCLE)) <= 2.0
        assert moments[path].found_in == "image"
        assert moments[path].matches


def test_the_next_run_reads_nothing(library, folder):
    report = library.ingest(folder)
    assert (report.indexed, report.timings["decoding"]) == (0, 0.0)


def test_pictures_and_films_are_found_together(library, films):
    hits = library.search("a red bicycle", k=20)
    assert hits[0].path.name == "bicycle.png"
    assert {hit.modality for hit in hits.matching} == {"image", "video"}
    assert {hit.modality for hit in library.search("a red bicycle", modality="image")} == {"image"}
    assert library.search("a red bicycle", modality="audio") == library.search("a red bicycle", where="kind = audio")
    assert len(library.search("a red bicycle", modality="audio")) == 0, "films are no recordings"


def test_more_like_a_picture_a_film_or_a_moment(library, films, folder):
    story, path = STORIES[3], list(films)[3]
    hit = next(hit for hit in library.search("a red bicycle", k=20, modality="video") if hit.path == path)
    whole = library.similar(hit, k=20)
    assert whole[0].path == path
    assert {each.modality for each in whole} == {"video"}
    moment = library.similar(hit, k=20, at=story.start_of(BICYCLE) + 0.5)
    for at in (-1.0, 3600.0):
        with pytest.raises(InputError, match="s is not in its"):
            library.similar(hit, at=at)
    with pytest.raises(InputError, match="a picture has no moments"):
        library.similar(folder / "bicycle.png", at=1.0)
    assert {each.found_by for each in library.similar(folder / "bicycle.png") if each.modality == "video"} == {
        "meaning"
    }
    with_a_bicycle = {"bicycle.png", "copy.mkv", *(film.name for film in films)}
    assert {each.path.name for each in moment[: len(with_a_bicycle)]} == with_a_bicycle
    by_picture = library.similar(folder / "bicycle.png", k=20)
    assert by_picture[0].path.name == "bicycle.png"
    moments = [(each.start, films[each.path].start_of(BICYCLE)) for each in by_picture if each.path in films]
    assert len(moments) == len(films)
    assert all(abs(start - wanted) <= 2.0 for start, wanted in moments)
    by_file = library.similar(path, k=20)
    assert [each.path for each in by_file] == [each.path for each in whole]
    assert len(library.embed(hit)) == len(story.names)


def test_a_held_film_is_an_example_without_being_decoded(library, films, folder, tmp_path, monkeypatch):
    film = next(iter(films))
    decoded = library.similar(film, k=3)
    again = shutil.copy(film, tmp_path / "again.mp4")
    outside = tmp_path / "outside.mp4"
    outside.write_bytes(Story.drawn(70).film())
    monkeypatch.setattr("arrowlens.media.decode", lambda *_, **options: pytest.fail("it was decoded"))
    assert [hit.path for hit in library.similar(again, k=3)] == [hit.path for hit in decoded]
    assert folder / "bicycle.png" in {hit.path for hit in library.similar(shutil.copy(DRAWINGS[BICYCLE], tmp_path))}
    calls = []

    def too_long(path, *, sound=True, **options):
        calls.append(sound)
        return decode(path, Limits(max_seconds=1.0), sound=sound, **options)

    monkeypatch.setattr("arrowlens.media.decode", too_long)
    reader = ExampleReader(library._engine.provider)
    example = reader.file(outside)
    assert calls == [True, False]
    assert (example.windows, example.modality) == (None, "video")
    assert len(example.shots) > 0


def test_a_film_is_found_by_its_sound(library, films, folder):
    rate = 16_000
    noise = (0.1 * np.random.default_rng(5).standard_normal(2 * rate)).astype(np.float32)
    heard = library.search_by_audio(noise, rate, k=20)
    assert heard[0].found_in == "audio"
    assert heard[0].modality == "video"
    assert heard[0].end > heard[0].start


def test_copies_of_films(library, films, folder):
    groups = library.duplicates()
    (group,) = [group for group in groups if group.kind in ("copy", "near") and group.best.modality == "video"]
    assert {member.path.name for member in group.files} == {"00.mp4", "copy.mkv"}
    assert group.best.path.name == "00.mp4"


def test_thumbnail_and_strip(library, films):
    (hit,) = library.hits([hit.media_id for hit in library.search("a red bicycle", k=1, modality="video")])
    assert library.thumbnail(hit.content_hash).startswith(b"\xff\xd8")
    assert library.strip(hit.content_hash).startswith(b"\xff\xd8")
    assert library.strip("0" * 32) is None
    assert (hit.width, hit.height, hit.duration > 5) == (192, 144, True)


def is_like(jpeg: bytes, drawing: str) -> bool:
    """Whether a JPEG shows one of the bundled drawings, as frames of films show it."""
    sources = io.BytesIO(jpeg), DRAWINGS[drawing]
    shown, wanted = (Image.open(source).convert("RGB").resize((16, 16)) for source in sources)
    return np.abs(np.asarray(shown, float) - np.asarray(wanted, float)).mean() < 30


def test_a_film_is_shown_by_the_moment_that_was_found(library, films, folder, monkeypatch, capsys):
    hits = [hit for hit in library.search("a red bicycle", k=20, modality="video") if hit.path in films]
    assert all(is_like(library.poster(hit), BICYCLE) for hit in hits)
    assert not all(is_like(library.thumbnail(hit.content_hash), BICYCLE) for hit in hits), "as if it were their first"
    for hit in hits[:2]:  # whatever part is asked for, with a key frame in it or without one
        story = films[hit.path]
        for name, start, length in zip(story.names, story.starts, story.lengths, strict=True):
            for end in (start + 0.9 * length, start + 0.4):
                part = dataclasses.replace(hit, start=start + 0.25, end=end)
                assert is_like(library.poster(part), name), (hit.path.name, name, start, end)
    picture = library.newest(k=1, where="name = bicycle.png")[0]
    assert library.poster(picture) == library.thumbnail(picture.content_hash)
    client = TestClient(Starlette(routes=drawing_routes()))
    monkeypatch.setenv("ARROWLENS_LIBRARY", str(library.path))
    answer = client.get(poster_url(hits[0]))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert answer.content == library.poster(hits[0])
    for times in ("", "start=1", "start=nan&end=2", "start=-1&end=2", "start=1e9&end=2"):
        assert client.get(f"/poster/{hits[0].media_id}?{times}").status_code == 400
    command = ["search", "a red bicycle", "--library", str(library.path), "-k", "2", "--modality", "video"]
    assert main([*command, "--json", "--thumbnails"]) == 0
    found = json.loads(capsys.readouterr().out)["hits"]
    assert [base64.b64decode(hit["thumbnail"])[:2] for hit in found] == [b"\xff\xd8"] * 2
    with pytest.raises(SystemExit):
        main([*command, "--thumbnails"])
    assert "--thumbnails goes with --json" in capsys.readouterr().err


def test_a_film_that_is_not_there_is_shown_by_its_thumbnail(tmp_path):
    path = tmp_path / "in" / "a.mp4"
    path.parent.mkdir()
    path.write_bytes(STORIES[0].film())
    with Library.open(tmp_path / "l", models="demo") as library:
        library.ingest(path.parent)
        (hit,) = library.search("a red bicycle", modality="video")
        stored = library.thumbnail(hit.content_hash)
        of_the_moment = library.poster(hit)
        assert of_the_moment not in (None, stored)
        path.write_bytes(STORIES[1].film())
        assert library.poster(hit) == stored, "it is another file"
        path.unlink()
        assert library.poster(hit) == stored
        path.write_bytes(STORIES[1].film())
        library.ingest(path.parent)
        assert library.poster(hit) in (stored, None), "and another content at the same place"


def test_the_page_knows_the_moment_of_a_film(library):
    hits = library.search("a red bicycle", k=20, modality="video")
    hit = next(hit for hit in hits if hit.start)
    shown = hit_json(hit)
    assert shown["original"] == f"/original/{hit.media_id}"
    assert (shown["start"], shown["end"], shown["duration"]) == (hit.start, hit.end, hit.duration)
    times = f"start={hit.start:.2f}&end={hit.end:.2f}"
    assert shown["thumbnail"] == f"/poster/{hit.media_id}?{times}&of={hit.content_hash}"
    assert hit_json(library.hits([hit.media_id])[0])["thumbnail"] == f"/thumbnail/{hit.content_hash}", "has no moment"
    assert shown["strip"] == f"/thumbnail/{strip_key(hit.content_hash)}"


def test_the_halves_of_a_live_photo_know_each_other(library, folder):
    found = {hit.path.name: hit for hit in library.newest(k=50)}
    assert found["live.heic"].companion == folder / "live.mov"
    assert found["live.mov"].companion == folder / "live.heic"
    assert found["bicycle.png"].companion is None
    assert found["live.mov"].sample_rate is None


def test_status_facets_filters_and_commands(library, films, folder, capsys):
    status = library.status()
    assert (status.images, status.audio, status.films) == (2, 0, len(films) + 2)
    assert status.text_finds == "pictures, recordings and films"
    assert library.facets().modalities == {"video": len(films) + 2, "image": 2}
    assert main(["search", "a red bicycle", "--modality", "video", "--json", "--library", str(library.path)]) == 0
    hits = json.loads(capsys.readouterr().out)["hits"]
    assert hits[0]["found_in"] == "image"
    assert hits[0]["start"] < hits[0]["end"]
    assert main(["similar", str(next(iter(films))), "--at", "0:01", "--library", str(library.path)]) == 0
    assert "00.mp4" in capsys.readouterr().out
    assert main(["status", "--library", str(library.path)]) == 0
    assert f"{len(films) + 2} films" in capsys.readouterr().out


def test_doctor_finds_nothing_wrong(library):
    assert [finding for finding in library.doctor() if finding.level == "problem"] == []


@pytest.mark.parametrize("max_shots", [MAX_SHOTS, 4])
def test_doctor_compares_the_shots_of_a_film_that_fades_to_black(tmp_path, max_shots):
    black, (first, second, third) = np.zeros((48, 64, 3), np.uint8), (pixels(seed) for seed in range(3))
    scenes = [Scene(picture, 1.5) for picture in (black, first, second, black, third, first, third, black)]
    path = tmp_path / "in" / "fade.mp4"
    path.parent.mkdir()
    path.write_bytes(scene_film(scenes, options={"preset": "ultrafast"}, has_sound=False))
    with Library.open(tmp_path / "l", models="demo") as library:
        assert library.ingest(path.parent, limits=Limits(max_shots=max_shots)).indexed == 1
        findings = library.doctor()
    assert [finding for finding in findings if finding.level != "ok"] == []
    assert any(finding.what == "lowest cosine of 1 files, encoded again" for finding in findings)


# -- films in the steps of a run, with small models -------------------------------------------------------------------


def as_before_films(library: Path) -> None:
    """Make a library what the version before films would have left: films are recordings, and have no shots."""
    storage = MultimodalStorage(library, create=False)
    rows = [row for row in storage.all_media().to_pylist() if row["modality"] == "video"]
    silent = [row for row in rows if row["sample_rate"] is None]
    for row in silent:
        row |= {"state": "skipped", "reason": "the video has no sound"}
    for row in rows:
        row |= {"modality": "audio", "layout": 3, "width": None, "height": None}
    contents = [row["content_hash"] for row in rows]
    shots = storage.vector_rows("vision", contents)
    n_shots = {content: len(vectors) for content, vectors in shots.items()}
    storage.delete_vectors(
        "vision",
        [
            f"{row['media_id']}-{row['content_hash'][:8]}-{index}"
            for row in rows
            for index in range(n_shots[row["content_hash"]])
        ],
    )
    storage.upsert_media(rows)
    audio = vector_table_name("audio", storage.models["audio"].recipe_digest)
    storage.close()
    database = lancedb.connect(str(library))
    database.open_table(audio).update(values={"modality": "audio"})
    database.open_table("thumbnails").delete(
        " or ".join(f"content_hash like '{content}%'" for content in sorted(set(contents)))
    )
    path = library / "library.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 5}))


def sound_vectors(storage, media_ids):
    rows = storage.all_media(["media_id", "content_hash"]).to_pylist()
    by_content = storage.vector_rows("audio", [row["content_hash"] for row in rows if row["media_id"] in media_ids])
    return {content: np.stack([row.embedding for row in vectors]) for content, vectors in by_content.items()}


@pytest.fixture
def clips(tmp_path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        story = Story.drawn(number, n_scenes=2)
        (folder / f"{number}.mp4").write_bytes(story.film(size=(64, 48), has_sound=number != 2))
    shutil.copy(folder / "0.mp4", folder / "copy of 0.mp4")
    shutil.copy(DRAWINGS[BICYCLE], folder / "bicycle.png")
    return folder


def test_films_that_were_recordings_become_films(tmp_path, clips):
    storage, provider = MultimodalStorage(tmp_path / "library"), SmallProvider()
    run(storage, provider, [clips])
    made_now = {row["media_id"]: row for row in storage.all_media().to_pylist()}
    films = {media_id for media_id, row in made_now.items() if row["modality"] == "video"}
    before = sound_vectors(storage, films)
    storage.close()
    as_before_films(tmp_path / "library")
    storage = MultimodalStorage(tmp_path / "library")
    assert len(storage.select([("modality", "=", "audio")])) == 3, "an old library is searched as it is"
    n_sounds, n_pictures = provider.audio_encoder.n_encoded, provider.clip_engine.n_encoded
    report = run(storage, provider, [clips])
    assert (report.indexed, report.unchanged, report.skipped) == (4, 1, 0)
    assert provider.audio_encoder.n_encoded == n_sounds, "what was heard is not encoded again"
    assert provider.clip_engine.n_encoded > n_pictures
    rows = {row["media_id"]: row for row in storage.all_media().to_pylist()}
    assert {media_id for media_id, row in rows.items() if row["modality"] == "video"} == films
    after = sound_vectors(storage, films)
    assert before.keys() == after.keys()
    for content, vectors in before.items():
        np.testing.assert_array_equal(after[content], vectors)
    assert len(storage.select([("modality", "=", "audio")])) == 0
    assert len(storage.select([("modality", "=", "video")])) == 4
    digest = storage.models["audio"].recipe_digest
    query = next(iter(after.values()))[0]
    assert len(storage.search("audio", digest, query, 5, "video")) == 2, "equal content once"
    assert len(storage.search("audio", digest, query, 5, "audio")) == 0
    contents = {row["content_hash"] for row in rows.values()}
    assert storage.thumbnails(sorted(contents)).keys() == contents
    assert run(storage, provider, [clips]).unchanged == 5
    assert storage.repair() == 0


def test_a_caption_of_a_film_that_was_a_recording_is_one_of_a_film(tmp_path, clips):
    (clips / "1.txt").write_text("a long way home")
    provider = SmallProvider(["vision", "audio", "text"])
    storage = MultimodalStorage(tmp_path / "library")
    run(storage, provider, [clips])
    storage.close()
    as_before_films(tmp_path / "library")
    storage = MultimodalStorage(tmp_path / "library")
    keep_texts(storage, provider, threading.Event())  # as the version before wrote its vector
    digest, query = storage.models["text"].recipe_digest, provider.text_encoder.encode("a long way home")[0]

    def found(modality):
        return storage.search("text", digest, query, 5, modality).num_rows

    assert (found("audio"), found("video")) == (1, 0)
    run(storage, provider, [clips])
    assert (found("audio"), found("video")) == (0, 1)


def test_each_role_is_encoded_once_for_equal_content(tmp_path, clips):
    storage, provider = MultimodalStorage(tmp_path / "library"), SmallProvider()
    report = run(storage, provider, [clips])
    assert (report.indexed, report.copied) == (5, 1)
    rows = storage.all_media().to_pylist()
    places = {row["path"]: row for row in rows}
    for role in ("vision", "audio"):
        keys = storage.vector_keys(role)
        assert ((places["0.mp4"]["media_id"], places["0.mp4"]["content_hash"]) in keys) is True
        assert ((places["copy of 0.mp4"]["media_id"], places["0.mp4"]["content_hash"]) in keys) is True
    assert (places["2.mp4"]["media_id"], places["2.mp4"]["content_hash"]) not in storage.vector_keys("audio")
    strips = storage.thumbnails([strip_key(row["content_hash"]) for row in rows])
    assert len(strips) == 3
    (clips / "0.mp4").unlink()
    (clips / "copy of 0.mp4").unlink()
    run(storage, provider, [clips])
    assert {media_id for media_id, _ in storage.vector_keys("audio")} == {places["1.mp4"]["media_id"]}
    assert len(storage.thumbnails([strip_key(row["content_hash"]) for row in rows])) == 2


def test_a_library_without_a_model_for_pictures_hears_its_films(tmp_path, clips):
    storage = MultimodalStorage(tmp_path / "library")
    report = run(storage, SmallProvider(["audio"]), [clips])
    assert (report.indexed, report.skipped) == (3, 2)
    assert sorted(report.reasons) == [
        "the library has no model for image files",
        "the library has no model for video files",
    ]
    assert run(storage, SmallProvider(["audio"]), [clips]).unchanged == 3
    report = run(storage, SmallProvider(), [clips], None)
    assert (report.indexed, report.skipped) == (5, 0), "a model that comes later finds what it is for"


def test_a_film_whose_sound_was_too_long_gets_it_with_retry(tmp_path, clips, capsys):
    film = clips / "1.mp4"
    storage, provider = MultimodalStorage(tmp_path / "library"), SmallProvider()
    report = run(storage, provider, [film.parent], IngestOptions(limits=Limits(max_seconds=1.0)))
    assert sum(report.without_sound.values()) == 3, "two films and a copy; the third one is silent"
    assert "3 films without sound (" in report_text(report)
    row = next(row for row in storage.all_media().to_pylist() if row["path"] == "1.mp4")
    assert dict(row["metadata"])["sound"] in report.without_sound
    assert plan(storage, [clips], sources=["speech"]).to_hear == 3, "sound that was left out may be heard now"
    assert run(storage, provider, [clips]).timings["decoding"] == 0.0
    again = run(storage, provider, [clips], IngestOptions(retry=True))
    assert (again.indexed, again.unchanged, again.without_sound) == (3, 2, {})
    assert sound_vectors(storage, {row["media_id"]})[row["content_hash"]].shape[0] > 0
    assert run(storage, provider, [clips], IngestOptions(retry=True)).timings["decoding"] == 0.0
    assert plan(storage, [clips], sources=["speech"]).to_hear == 3


def test_a_film_that_was_cut_off_half_way_is_completed(tmp_path, clips):
    storage, provider = MultimodalStorage(tmp_path / "library"), SmallProvider()
    run(storage, provider, [clips])
    row = storage.media_by_path(clips / "1.mp4")
    storage.delete_vectors("vision", [f"{row['media_id']}-{row['content_hash'][:8]}-{index}" for index in range(99)])
    n_sounds = provider.audio_encoder.n_encoded
    assert run(storage, provider, [clips]).indexed == 1
    assert provider.audio_encoder.n_encoded == n_sounds
    assert (row["media_id"], row["content_hash"]) in storage.vector_keys("vision")


def test_a_film_that_is_damaged_later_stays_as_it_was(tmp_path, clips):
    storage, provider = MultimodalStorage(tmp_path / "library"), SmallProvider()
    run(storage, provider, [clips])
    path = clips / "1.mp4"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    report = run(storage, provider, [clips])
    assert (report.indexed, report.skipped) == (0, 1)
    assert next(iter(report.reasons)).startswith("truncated")
    os.truncate(path, 0)
    path.write_bytes(data)
    assert run(storage, provider, [clips]).indexed == 1


@pytest.mark.soak
def test_sixty_films_are_found_at_their_scene(tmp_path):
    (tmp_path / "in").mkdir()
    films = write_films(tmp_path / "in", [Story.drawn(seed) for seed in range(60)])
    with Library.open(tmp_path / "l", models="demo") as library:
        library.ingest(tmp_path / "in")
        n = n_found_in_time(library, films)
    print(f"a red bicycle: {n} of {len(films)} films at the scene")
    assert n >= 0.95 * len(films)
