"""Files of the library as a download: a ZIP that is streamed, a playlist, or what is known of them as JSON."""

from __future__ import annotations

import io
import json
import re
import time
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import BinaryIO

from arrowlens.addresses import is_bucket
from arrowlens.errors import ArrowlensError, FileChangedError
from arrowlens.library import Library
from arrowlens.originals import Original
from arrowlens.search import Hit, Results, printable

MAX_FILES = 500  # in one export
MAX_BYTES = 4 << 30  # of the files in one ZIP

_CHUNK = 1 << 18  # bytes read at a time
_HEAD = 8 << 20  # bytes that are read before an entry begins: nearly all pictures are whole by then
_MISSING = "not included.txt"
_UNSAFE = re.compile(r'^\.+|[\\/:*?"<>|]|[. ]+$')  # in names on some system
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")  # names of devices on Windows
_OF_A_QUESTION = [
    *("score", "relevance", "start", "end", "found_by", "found_in"),
    *("matched_words", "matches", "cluster_size", "text", "source"),
]


class BrokenOffError(Exception):
    """A download cannot go on; what was sent of it must not look whole."""


class _Sink(io.RawIOBase):
    """Takes what is written and gives it away in pieces; it has no place to go back to."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._pieces.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        """Return what was written since the last call."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


def zip_of(library: Library, hits: Sequence[Hit], gone: Sequence[str] = ()) -> Iterator[bytes]:
    """Yield a ZIP of the files as they are on disk, uncompressed; what cannot be read is listed in a text file.

    Args:
        library: reads the files.
        hits: the files.
        gone: ids of files that the library no longer holds; they are listed, too.

    Raises:
        BrokenOffError: a file could not be read to its end after a part of it was sent.
    """
    sink = _Sink()
    missing = [f"{media_id}: the library no longer holds it\n" for media_id in gone]
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for hit, name in zip(hits, unique_names(hits), strict=True):
            has_begun = False
            try:
                with library.open_original(hit.media_id) as opened:
                    head = _read(opened.file, min(_HEAD, opened.size + 1))
                    _check(opened, len(head), is_end=len(head) < _HEAD)
                    has_begun = True
                    with archive.open(zipfile.ZipInfo(name, _date(opened)), "w", force_zip64=True) as entry:
                        n_bytes = len(head)
                        entry.write(head)
                        yield sink.taken()
                        while n_bytes <= opened.size and (chunk := opened.file.read(_CHUNK)):
                            n_bytes += len(chunk)
                            entry.write(chunk)
                            yield sink.taken()
                        _check(opened, n_bytes, is_end=True)
            except (ArrowlensError, OSError) as error:
                why = f"{printable(str(hit.path))}: {printable(str(error))}"
                if has_begun:
                    raise BrokenOffError(why) from error
                missing.append(f"{why}\n")
        if missing:
            archive.writestr(zipfile.ZipInfo(_MISSING, time.localtime()[:6]), "".join(missing))
    yield sink.taken()


def _read(file: BinaryIO, n_bytes: int) -> bytes:
    """Return the next bytes of a file, fewer only at its end."""
    pieces, left = [], n_bytes
    while left and (chunk := file.read(min(left, _CHUNK))):
        pieces.append(chunk)
        left -= len(chunk)
    return b"".join(pieces)


def _check(opened: Original, n_bytes: int, *, is_end: bool) -> None:
    if n_bytes > opened.size or (is_end and n_bytes < opened.size):
        raise FileChangedError(f"{opened.name}: it changed while it was read")


def _date(opened: Original) -> tuple[int, int, int, int, int, int]:
    """Return when a file was modified, within the years that a ZIP can say."""
    year, month, day, hour, minute, second = time.localtime(opened.modified_ns / 1e9)[:6]
    if year < 1980:
        return (1980, 1, 1, 0, 0, 0)
    return (year, month, day, hour, minute, second) if year < 2108 else (2107, 12, 31, 23, 59, 58)


def safe_name(name: str) -> str:
    """Return a file's name without what some system takes for a folder, a drive, a pattern, a device or hidden."""
    name = _UNSAFE.sub("_", printable(name)) or "_"
    return f"_{name}" if _RESERVED.match(name) else name


def unique_names(hits: Iterable[Hit]) -> list[str]:
    """Return a safe name for each file; later ones of one name get a number: "a (2).jpg".

    Names are the same where any file system takes them for the same: whatever their case and their form of accents.
    """
    used: set[str] = set()
    names = []
    for hit in hits:
        path = PurePosixPath(safe_name(hit.path.name))
        name, number = path.name, 1
        while _folded(name) in used:
            number += 1
            name = f"{path.stem} ({number}){path.suffix}"
        used.add(_folded(name))
        names.append(name)
    return names


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def playlist_of(hits: Sequence[Hit], gone: Sequence[str] = ()) -> bytes:
    """Return a playlist (M3U, in UTF-8) of the recordings among the files, by where they lie."""
    lines = ["#EXTM3U", *(f"# The library no longer holds {media_id}" for media_id in gone)]
    for hit in hits:
        if hit.modality == "audio":
            address = printable(str(hit.path)) if is_bucket(hit.path) else hit.path.as_uri()
            lines += [f"#EXTINF:{round(hit.duration or -1)},{printable(hit.path.name)}", address]
    return "".join(f"{line}\n" for line in lines).encode()


def json_of(hits: Sequence[Hit], gone: Sequence[str] = ()) -> bytes:
    """Return all that the library knows of the files as JSON, times as ISO 8601.

    Its keys are ``files``, and ``gone``, the ids that the library no longer holds.
    """
    rows = Results(hits).to_arrow().drop_columns(_OF_A_QUESTION).to_pylist()
    files = [row | {"metadata": dict(row["metadata"] or ())} for row in rows]
    known = {"files": files, "gone": list(gone)}
    return (json.dumps(known, default=lambda value: value.isoformat(), indent=1) + "\n").encode()


EXPORTS = {
    "zip": ("application/zip", "arrowlens.zip"),
    "m3u": ("audio/x-mpegurl", "arrowlens.m3u8"),
    "json": ("application/json", "arrowlens.json"),
}
"""By the word of the form: content type and name of the download."""
