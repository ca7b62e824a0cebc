"""Written and spoken words with the real programs: RapidOCR, and faster-whisper with the real whisper-base.

Ten of each; `make eval-words` measures two hundred.
"""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest
import soundfile
import soxr
from PIL import Image, ImageDraw, ImageFont

from arrowlens import Library
from arrowlens.cli import main
from arrowlens.media import Decoded, decode
from arrowlens.models import DEMO
from arrowlens.store import MediaText
from arrowlens.texts import ocr as ocr_module
from arrowlens.texts.ocr import OcrReader
from arrowlens.texts.speech import SpeechReader
from tests.support.documents import document
from tests.support.film_factory import Scene, scene_film
from tests.support.folders import write_sound
from tests.support.real_weights import DATA, SPEECH, spoken_sentence, whisper_base_folder

SAMPLES = DEMO.parent / "samples"
FILM_SENTENCE = "Please do not leave your luggage alone on the platform"
SENTENCE = "The train to the city leaves at nine in the morning"


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    return whisper_base_folder(tmp_path_factory.mktemp("speech") / "whisper-base")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten documents, ten pictures without lettering, recordings of speech, and sounds without."""
    folder = tmp_path_factory.mktemp("media")
    for number in range(10):
        drawn = document(number)
        (folder / f"document {number}.{drawn.suffix}").write_bytes(drawn.data)
    for path in sorted((SAMPLES / "pictures").glob("*/*"))[::15]:
        (folder / path.name).write_bytes(path.read_bytes())
    digits = [DATA / "digits" / f"{name}.wav" for name in ("7_lucas_25", "7_jackson_45", "3_lucas_25")]
    for path in (SPEECH, *digits):
        if not path.exists():
            pytest.skip(f"{path} is not there")
        (folder / path.name).write_bytes(path.read_bytes())
    soundfile.write(folder / "train.wav", np.float32(spoken_sentence(SENTENCE, "en+f3")), 16_000)
    for name in ("engine-01.ogg", "motorcycle-01.ogg", "propeller-plane-01.flac", "choir-01.ogg", "speech-03.flac"):
        (folder / name).write_bytes((SAMPLES / "sounds" / name).read_bytes())
    (folder / "station.mp4").write_bytes(station_film())
    return folder


def station_film() -> bytes:
    """Four seconds of a drawing, then a slide with words, with a sentence said from the start."""
    drawing = np.asarray(Image.open(next((SAMPLES / "pictures").glob("*/lion-01.png"))).convert("RGB"))
    slide = Image.new("RGB", (960, 540), "white")
    ImageDraw.Draw(slide).text((60, 200), "Departure platform eleven", "black", ImageFont.load_default(60))
    said = soxr.resample(np.float32(spoken_sentence(FILM_SENTENCE, "en+m3")), 16_000, 48_000)
    silence = np.zeros(48_000, np.float32)
    sound = np.concatenate([said, np.resize(silence, max(0, 4 * 48_000 - len(said)))])
    scenes = [Scene(drawing, len(sound) / 48_000, sound), Scene(np.asarray(slide), 4.0)]
    return scene_film(scenes, size=(960, 540))


@pytest.fixture(scope="module")
def library(folder, whisper, tmp_path_factory):
    """One run of the command that reads and listens; the models only show and sound."""
    path = tmp_path_factory.mktemp("library") / "a.lens"
    command = ["ingest", str(folder), "--library", str(path), "--models", "demo", "--read-text", "--transcribe"]
    assert main([*command, "--speech-model", str(whisper)]) == 0
    with Library.open(path) as library:
        yield library


def test_documents_are_found_first_by_three_of_their_words(library):
    lost = [
        number
        for number in range(10)
        if not library.search(document(number).question, 1)[0].path.name.startswith(f"document {number}.")
    ]
    assert lost == []


def test_pictures_without_lettering_and_sounds_without_speech_have_no_text(library):
    with_text = {hit.path.name for hit in library.newest(100, where="source in (ocr, speech)")}
    assert {name for name in with_text if not name.startswith("document")} <= {
        SPEECH.name,
        "7_lucas_25.wav",
        "7_jackson_45.wav",
        "3_lucas_25.wav",
        "train.wav",
        "station.mp4",
    }
    assert len(with_text) >= 12
    status = library.status()
    assert (status.read, status.heard, status.skipped) == (21, 11, 0)


def test_a_film_is_found_by_what_is_written_and_said_in_it_at_its_moment(library):
    (written,) = library.search('"departure platform"', sources=["ocr"])
    assert (written.path.name, written.modality, written.source) == ("station.mp4", "video", "ocr")
    assert 3.9 <= written.start < written.end
    said = library.search("luggage", mode="keyword", sources=["speech"])[0]
    assert (said.path.name, said.source) == ("station.mp4", "speech")
    assert 0.0 <= said.start < 3.0
    assert [text.source for text in library.texts(said)].count("ocr") == 1


def test_what_is_said_is_found_at_its_moment(library):
    hit = library.search('"what you can do for your country"')[0]
    assert (hit.path.name, hit.source, hit.found_by) == (SPEECH.name, "speech", "words")
    assert "country" in hit.text
    assert 0.0 <= hit.start < hit.end <= 11.1
    (text,) = [text for text in library.texts(hit) if text.source == "speech"][:1]
    assert text.language == "en"
    assert 0.5 < text.confidence <= 1.0
    assert library.search("train city morning")[0].path.name == "train.wav"


def test_seven_finds_the_recording_in_which_it_is_said(library):
    names = [hit.path.name for hit in library.search("seven", mode="keyword", sources=["speech"])]
    assert sorted(names) == ["7_jackson_45.wav", "7_lucas_25.wav"], "of the first, the model alone hears 'shave in'"


def test_show_prints_the_texts_of_a_file_with_their_times(library, folder, capsys):
    assert main(["show", str(folder / SPEECH.name), "--library", str(library.path)]) == 0
    printed = capsys.readouterr().out
    assert "speech 0:00-" in printed
    assert "country" in printed
    assert main(["show", str(folder / "document 0.png"), "--library", str(library.path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [text["source"] for text in shown["texts"]] == ["ocr", "name"]
    assert (shown["format"], shown["modality"]) == ("png", "image")
    assert main(["show", str(folder / "nothing.png"), "--library", str(library.path)]) == 1
    assert "the library holds no file at" in capsys.readouterr().err


def test_the_command_shows_the_line_that_was_found(library, capsys):
    assert main(["search", '"for your country"', "--in", "speech", "--library", str(library.path)]) == 0
    printed = capsys.readouterr().out
    assert "what you can do for your" in printed
    assert SPEECH.name in printed
    with pytest.raises(SystemExit):
        main(["search", "x", "--in", "subtitles", "--library", str(library.path)])


def test_a_dry_run_says_how_much_there_is_to_hear(folder, tmp_path, capsys):
    command = ["ingest", str(folder), "--library", str(tmp_path / "b.lens"), "--dry-run"]
    assert main([*command, "--read-text", "--transcribe", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert (planned["to_read"], planned["to_hear"]) == (21, 11)
    assert 20 / 3600 < planned["hours_to_hear"] < 90 / 3600
    assert main([*command, "--transcribe"]) == 0
    assert "would listen to 11 files" in capsys.readouterr().out
    assert not (tmp_path / "b.lens").exists()


# -- the readers alone -----------------------------------------------------------------------------------------------


@pytest.mark.soak
def test_large_and_long_pictures_are_read_in_parts():
    drawn = decode("x", data=document(1).data, thumbnail=False).pixels
    page = np.full((2_900, 1_200, 3), drawn[0, 0], np.uint8)
    page[2_400 : 2_400 + drawn.shape[0], 900 : 900 + drawn.shape[1]] = drawn
    (text,) = OcrReader().extract(Decoded("image", None, pixels=page))
    assert len(set(document(1).words) & set(text.text.split())) > 0.8 * len(document(1).words)


def test_a_large_picture_without_text_is_searched_once(monkeypatch):
    calls = []

    class Engine:
        def __call__(self, pixels, **parts):
            calls.append(parts)
            return types.SimpleNamespace(boxes=None)

    monkeypatch.setattr(ocr_module, "_engine", Engine)
    assert OcrReader().extract(Decoded("image", None, pixels=np.zeros((3_000, 4_000, 3), np.uint8))) == []
    assert calls == [{"use_det": True, "use_cls": False, "use_rec": False}]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([("00", 0.98)], None),
        ([("B", 0.97), ("8", 0.99)], None),
        ([("品", 0.95)], None),
        ([("DOT", 0.7)], None),
        ([("出口", 0.9)], "出口"),
        ([("EXIT", 0.9), ("2", 0.6), ("~", 0.9), ("xx", 0.3)], "EXIT\n2"),
    ],
)
def test_what_is_unlikely_to_be_text_is_left_out(monkeypatch, lines, text):
    boxes = [np.array([[0, 50 * n], [90, 50 * n], [90, 50 * n + 30], [0, 50 * n + 30]]) for n in range(len(lines))]
    result = types.SimpleNamespace(txts=[t for t, _ in lines], scores=[s for _, s in lines], boxes=boxes)
    monkeypatch.setattr(ocr_module, "_engine", lambda: lambda pixels, **parts: result)
    read = OcrReader().extract(Decoded("image", None, pixels=np.zeros((200, 100, 3), np.uint8)))
    assert [each.text for each in read] == ([] if text is None else [text])


def test_long_recordings_are_heard_in_parts_cut_where_it_is_quiet(monkeypatch, whisper):
    from arrowlens.texts import speech

    heard = []

    class Model:
        def transcribe(self, samples, **options):
            heard.append(len(samples) / 16_000)
            segment = types.SimpleNamespace(
                start=1.0, end=2.0, text=" hello", avg_logprob=-0.2, no_speech_prob=0.1, compression_ratio=1.0
            )
            return [segment], types.SimpleNamespace(language="en")

    monkeypatch.setattr(speech, "_model", lambda directory: Model())
    samples = np.ones(1_000 * 16_000, np.float32)
    samples[592 * 16_000 : 593 * 16_000] = 0.0
    texts = SpeechReader.of(whisper).extract(Decoded("audio", None, samples=samples))
    assert sum(heard) == pytest.approx(1_000)
    assert 592 <= heard[0] <= 593
    assert texts[1] == MediaText("speech", "hello", round(heard[0] + 1, 3), round(heard[0] + 2, 3), "en", 0.8187)


@pytest.mark.parametrize(
    ("heard", "text"),
    [
        ({0.5: (" Shave in.", -0.9), 1.25: (" Seven. Seven.", -0.6)}, "Seven"),
        ({0.5: (" Seven.", -0.9), 1.25: (" Devon. Devon.", -1.0)}, "Seven."),
        ({0.5: (" Seven.", -1.2), 1.25: (" Seven. Eleven.", -0.6)}, "Seven."),
        ({0.5: (" Seven.", -1.3), 1.25: (" Seven. Seven. Seven.", -0.6)}, None),
        ({0.5: (" It's me.", -0.9), 1.25: (" It's me, it's me.", -0.8)}, "It's me"),
        ({0.5: (" Eleven.", -0.9), 1.25: (" Seven.", -0.8)}, "Seven."),
        ({0.5: (" Seven.", -0.9), 1.25: (" 777", -0.8)}, "Seven."),
    ],
    ids=[
        "twice is surer",
        "once is surer",
        "the halves differ",
        "neither",
        "several words",
        "only once",
        "run together",
    ],
)
def test_a_short_recording_is_heard_twice_and_the_surer_hearing_kept(monkeypatch, whisper, heard, text):
    from arrowlens.texts import speech

    class Model:
        def transcribe(self, samples, **options):
            said, log_probability = heard[len(samples) / 16_000]
            segment = types.SimpleNamespace(
                start=0.0, end=0.5, text=said, avg_logprob=log_probability, no_speech_prob=0.1, compression_ratio=1.0
            )
            return [segment], types.SimpleNamespace(language="en")

    monkeypatch.setattr(speech, "_model", lambda directory: Model())
    texts = SpeechReader.of(whisper).extract(Decoded("audio", None, samples=np.ones(8_000, np.float32)))
    assert [(each.text, each.start, each.end) for each in texts] == ([] if text is None else [(text, 0.0, 0.5)])


# -- without them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "package", "extra"), [("--read-text", "rapidocr", "ocr"), ("--transcribe", "faster-whisper", "speech")]
)
def test_without_the_extra_one_line_names_it_and_nothing_is_made(tmp_path, monkeypatch, capsys, option, package, extra):
    from importlib import metadata

    def version(name):
        if name == package:
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr("arrowlens.texts.version", version)
    (tmp_path / "in").mkdir()
    write_sound(tmp_path / "in" / "a.wav", 1)
    library = tmp_path / "library"
    assert main(["ingest", str(tmp_path / "in"), "--library", str(library), "--models", "demo", option]) == 1
    error = capsys.readouterr().err
    assert f"{package} is not installed; pip install 'arrowlens[{extra}]'" in error
    assert len(error.splitlines()) == 1
    assert not library.exists()


def test_offline_without_a_speech_model_one_line_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("ARROWLENS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "in").mkdir()
    write_sound(tmp_path / "in" / "a.wav", 1)
    command = ["ingest", str(tmp_path / "in"), "--library", str(tmp_path / "library"), "--models", "demo"]
    assert main([*command, "--transcribe"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "Systran/faster-whisper-base cannot be downloaded from http://127.0.0.1:9" in line
    assert line.endswith("give the folder of a speech model that you have, --speech-model DIR")
    assert main([*command, "--transcribe", "--speech-model", "huge"]) == 1
    assert "there is no speech model 'huge'; use one of tiny, base" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main([*command, "--transcribe", "--speech-model", str(tmp_path / "empty")]) == 1
    assert "model.bin cannot be read" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--speech-model", "base"])


def test_a_run_without_readers_imports_none_of_the_extras(tmp_path):
    import subprocess

    code = (
        "import sys, arrowlens; from arrowlens.texts.ocr import OcrReader; OcrReader(); import arrowlens.texts.speech; "
        "print([name for name in ('rapidocr', 'cv2', 'onnxruntime', 'faster_whisper', 'ctranslate2') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
