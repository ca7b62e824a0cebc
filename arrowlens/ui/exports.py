"""Files of the library as a download: a ZIP that is streamed, a playlist, or what is known of them as JSON."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from arrowlens.errors import ArrowlensError
from arrowlens.library import Library
from arrowlens.search import Hit, Results, printable

MAX_FILES = 500  # in one export
MAX_BYTES = 4 << 30  # of the files in one ZIP

_CHUNK = 1 << 18  # bytes read at a time
_MISSING = "not included.txt"
_OF_A_QUESTION = [
    *("score", "relevance", "start", "end", "found_by", "found_in"),
    *("matched_words", "matches", "cluster_size", "text", "source"),
]


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


def zip_of(library: Library, hits: Sequence[Hit]) -> Iterator[bytes]:
    """Yield a ZIP of the files as they are on disk, uncompressed; what cannot be read is listed in a text file."""
    sink, missing = _Sink(), []
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for hit, name in zip(hits, unique_names(hits), strict=True):
            try:
                with (
                    library.open_original(hit.media_id) as opened,
                    archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as entry,
                ):
                    while chunk := opened.file.read(_CHUNK):
                        entry.write(chunk)
                        yield sink.taken()
            except (ArrowlensError, OSError) as error:
                missing.append(f"{printable(str(hit.path))}: {printable(str(error))}\n")
        if missing:
            archive.writestr(_MISSING, "".join(missing))
    yield sink.taken()


def unique_names(hits: Iterable[Hit]) -> list[str]:
    """Return a name for each file, as it is called; later ones of one name get a number: "a (2).jpg"."""
    used: set[str] = set()
    names = []
    for hit in hits:
        path = PurePosixPath(printable(hit.path.name))
        name, number = path.name, 1
        while name.casefold() in used:
            number += 1
            name = f"{path.stem} ({number}){path.suffix}"
        used.add(name.casefold())
        names.append(name)
    return names


def playlist_of(library: Library, hits: Sequence[Hit]) -> Iterator[bytes]:
    """Yield a playlist (M3U, in UTF-8) of the recordings among the files, by where they lie."""
    lines = ["#EXTM3U"]
    for hit in hits:
        if hit.modality == "audio":
            lines += [f"#EXTINF:{round(hit.duration or -1)},{printable(hit.path.name)}", hit.path.as_uri()]
    yield "".join(f"{line}\n" for line in lines).encode()


def json_of(library: Library, hits: Sequence[Hit]) -> Iterator[bytes]:
    """Yield all that the library knows of the files as JSON: ``{"files": [...]}``, times as ISO 8601."""
    rows = Results(hits).to_arrow().drop_columns(_OF_A_QUESTION).to_pylist()
    files = [row | {"metadata": dict(row["metadata"] or ())} for row in rows]
    yield (json.dumps({"files": files}, default=lambda value: value.isoformat(), indent=1) + "\n").encode()


Export = Callable[[Library, Sequence[Hit]], Iterator[bytes]]
EXPORTS: dict[str, tuple[str, str, Export]] = {
    "zip": ("application/zip", "arrowlens.zip", zip_of),
    "m3u": ("audio/x-mpegurl", "arrowlens.m3u8", playlist_of),
    "json": ("application/json", "arrowlens.json", json_of),
}
"""By the word of the form: content type, name of the download, and what writes it."""
