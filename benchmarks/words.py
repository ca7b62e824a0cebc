"""``make eval-words``: how well written and spoken words are found, with the real OCR and the real whisper-base.

python -m benchmarks.words [--documents N] [--part text] [--part speech]

Prints a table and exits with 1 where a figure is below its bar. It needs espeak-ng and the recordings of spoken digits.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from arrowlens import Library
from arrowlens.models import DEMO
from benchmarks.measure import header
from benchmarks.sounds import Figure
from tests.support.documents import document
from tests.support.real_weights import DATA, SPEECH, spoken_sentence, whisper_base_folder

SAMPLES = DEMO.parent / "samples"
FOUND, READ_IN_NOTHING = 0.95, 0.01
SEVENS, OTHERS = 24 / 30, 6
SENTENCES = {
    "en": ("The train to the city leaves at nine in the morning", "train city morning"),
    "de": ("Der Zug in die Stadt fährt am Morgen um neun Uhr", "Zug Stadt Morgen"),
    "fr": ("Le train pour la ville part à neuf heures du matin", "train ville heures"),
    "es": ("El tren a la ciudad sale a las nueve de la mañana", "tren ciudad mañana"),
}


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=200, help="documents, and pictures without lettering")
    parser.add_argument("--part", choices=("text", "speech"), action="append", help="only this part")
    options = parser.parse_args()
    header("words")
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="arrowlens-") as name:
        for part, measure in {"text": text_in_pictures, "speech": speech}.items():
            if part in (options.part or ("text", "speech")):
                folder = Path(name) / part
                folder.mkdir()
                found = list(measure(folder, options.documents))
                print(f"{part}:", *found, sep="\n", flush=True)
                figures += found
    below = sum(not figure.holds for figure in figures)
    print(f"{below} of {len(figures)} figures below their bars")
    return 1 if below else 0


def text_in_pictures(work: Path, n: int) -> Iterator[Figure]:
    """Documents by three of their words, and what is read in pictures that have none."""
    questions = write_documents(work / "documents", n)
    write_pictures(work / "pictures", n)
    with Library.open(work / "a.lens", models="demo") as library:
        started = time.perf_counter()
        library.ingest(work)
        encoded = time.perf_counter()
        report = library.ingest(work, read_text=True)
        read = time.perf_counter()
        assert report.read == 2 * n, report
        lost = [name for name, text in questions.items() if not is_first(library, text, name)]
        with_text = library.newest(2 * n, where="source = ocr and folder = pictures")
    print(*(f"    not first: {name}, {questions[name]}" for name in lost), sep="\n")
    yield Figure(f"documents first by three of their words, of {n}", n - len(lost), least=FOUND * n)
    yield Figure(f"pictures without lettering that get text, of {n}", len(with_text), most=READ_IN_NOTHING * n)
    yield Figure("pictures a second: vectors", 2 * n / (encoded - started))
    yield Figure("pictures a second: text", 2 * n / (read - encoded))


def speech(work: Path, n: int) -> Iterator[Figure]:
    """What is said in recordings, at which moment, and nothing where nobody speaks."""
    write_speech(work / "said", every=1)
    for path in (SAMPLES / "sounds").iterdir():
        (work / path.name).write_bytes(path.read_bytes())
    model = whisper_base_folder(work / "whisper-base")
    with Library.open(work / "a.lens", models="demo") as library:
        library.ingest(work)
        started = time.perf_counter()
        report = library.ingest(work, transcribe=True, speech_model=str(model))
        seconds = time.perf_counter() - started
        sounds = library.newest(100, where="source = speech and folder != said")
        print(*(f"    words in {hit.path.name}: {library.texts(hit)[0].text[:60]}" for hit in sounds), sep="\n")
        yield Figure("bundled sounds with words, of 60", len(sounds), most=0)
        country = library.search("what can you do for your country", 1, mode="keyword")
        at = country[0].start if country and country[0].path.name == SPEECH.name else None
        yield Figure("jfk.flac first by its words, at second", -1.0 if at is None else at, least=0.0, most=9.0)
        sevens = [hit.path.name for hit in library.search("seven", 300, mode="keyword") if hit.path.name[1] == "_"]
        n_right = sum(name.startswith("7_") for name in sevens)
        yield Figure("sevens by 'seven', of 30", n_right, least=30 * SEVENS)
        yield Figure("other digits by 'seven', of 270", len(sevens) - n_right, most=OTHERS)
        for language, (_, question) in SENTENCES.items():
            found = is_first(library, question, f"{language}.wav")
            yield Figure(f"a sentence of espeak-ng in {language}, found first", found, least=1)
        yield Figure("recordings a second", report.heard / seconds)


def is_first(library: Library, question: str, name: str) -> bool:
    hits = library.search(question, 1)
    return bool(hits) and hits[0].path.name == name


def write_documents(folder: Path, n: int) -> dict[str, str]:
    """Write documents; three of their words by file name."""
    folder.mkdir(parents=True)
    questions = {}
    for number in range(n):
        drawn = document(number)
        name = f"{number:03d}.{drawn.suffix}"
        (folder / name).write_bytes(drawn.data)
        questions[name] = drawn.question
    return questions


def write_pictures(folder: Path, n: int) -> None:
    """Write the bundled pictures, and then parts of them."""
    folder.mkdir(parents=True)
    pictures = sorted((SAMPLES / "pictures").glob("*/*"))
    for number in range(n):
        image = Image.open(pictures[number % len(pictures)]).convert("RGB")
        if number >= len(pictures):
            image = image.crop((0, 0, 2 * image.width // 3, 2 * image.height // 3)).transpose(Image.Transpose.ROTATE_90)
        image.save(folder / f"{number:03d}.png")


def write_speech(folder: Path, every: int) -> None:
    """Write jfk.flac, every so manyth spoken digit that is no seven and all sevens, and sentences in four languages."""
    folder.mkdir(parents=True)
    (folder / SPEECH.name).write_bytes(SPEECH.read_bytes())
    digits = sorted((DATA / "digits").glob("*.wav"))
    others = [path for path in digits if not path.name.startswith("7_")]
    for path in [*(path for path in digits if path.name.startswith("7_")), *others[::every]]:
        (folder / path.name).write_bytes(path.read_bytes())
    for language, (text, _) in SENTENCES.items():
        samples = np.float32(spoken_sentence(text, f"{language}+f3", words_a_minute=130))
        soundfile.write(folder / f"{language}.wav", samples, 16_000)


if __name__ == "__main__":
    sys.exit(main())
