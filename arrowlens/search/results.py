"""What a search gives back: hits, best first, with what the library knows of each file."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from arrowlens.deprecation import renamed_property
from arrowlens.modalities import Input, Modality, TextSource
from arrowlens.search.notebook import MOST_SHOWN, hits_html
from arrowlens.search.sanitize import as_stored, printable

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FoundBy = Literal["meaning", "words", "text", "copy"]
MAX_COUNTED = 1_000  # matches


@dataclasses.dataclass(frozen=True, slots=True)
class Hit:
    """One file that was found.

    The columns of ``media`` that it shows are spelled out: inherited from ``store.MediaRecord`` they would bring its
    bookkeeping and a ``path`` that is relative, and held in a record they would be no attributes. Their names and types
    are those of ``MediaRecord``, and their Arrow types are read from it (``result_schema``).

    Attributes:
        path: absolute; a name that is not UTF-8 carries its bytes as surrogates (``os.fsencode`` gives them back).
        media_id: 32 hex characters; names this place of the file in its library.
        modality: "image", "audio" or "video".
        score: cosine similarity of the query and the file (of its best window or shot), in [-1, 1]. Scores of different
            queries, modalities and models are not comparable. 0 where there is none: in the mode "keyword", and for
            recordings that the text cannot reach.
        relevance: how likely the hit is right, in [0, 1]; comparable between questions, modalities and models
            (``arrowlens.search.relevance``). None where there is no cosine to measure.
        start: seconds; where the window, the shot or the text that matched begins. Recordings and films only.
        end: seconds; where it ends.
        width: pixels of the upright picture. Pictures and films only.
        height: likewise.
        duration: seconds. Recordings and films only.
        sample_rate: Hz of the original. Recordings, and films with sound.
        channels: of the original. Likewise.
        format: "jpeg", "png", "wav", ...
        size: bytes.
        modified: when the file was changed last, in UTC.
        captured_at: by the clock of the camera, without a time zone.
        taken: when the file came about, without a time zone: ``captured_at``, or else ``modified`` by the clock of the
            machine that ingested it.
        caption: the text of the file ``name.txt`` beside it.
        description: what its own tags say of its contents.
        camera: make and model.
        latitude: where it was taken, in degrees north (WGS 84).
        longitude: likewise, in degrees east.
        title: of a recording.
        artist: of a recording.
        album: of a recording.
        content_hash: 32 hex characters; equal for equal bytes.
        found_by: "meaning" (what it shows or sounds like), "words" (one of its texts has the words that were searched
            for; its name and folder are texts, too), "text" (what one of its texts means), or "copy" (it is what was
            asked with, in another file).
        matched_words: which words of the file answer those of the question, by where they are: "name", "folder",
            "caption", "text" (description, title, artist and album), "speech" or "ocr". Empty where no words found it.
        text: the text that found it; None for "meaning". Its ``start`` and ``end`` are those of the hit, where it has
            any.
        source: where that text comes from: "speech", "ocr" (read in a picture), "caption", "description", "title"
            (or artist, or album) or "name" (or folder).
        matches: whether it answers the question: it was found by its words or its caption, or has a relevance of 0.5.
            None where that is not known: without a relevance, and for what is below that in a composed question.
        cluster_size: how many files the hit stands for, where what looks or sounds the same was asked for once.
        metadata: further tags of the file, as text.
        found_in: what of it is like the question: what is seen ("image") or heard ("audio"); tells which of a film.
        companion: the other half of a live photo, a picture and a film of one name in one folder.
    """

    path: Path
    media_id: str
    modality: Modality
    score: float
    relevance: float | None = None
    start: float | None = None
    end: float | None = None
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    sample_rate: int | None = None
    channels: int | None = None
    format: str | None = None
    size: int | None = None
    modified: dt.datetime | None = None
    captured_at: dt.datetime | None = None
    taken: dt.datetime | None = None
    caption: str | None = None
    description: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    title: str | None = None
    artist: str | None = None
    album: str | None = None
    content_hash: str | None = None
    found_by: FoundBy = "meaning"
    matched_words: dict[str, str] = dataclasses.field(default_factory=dict, hash=False)
    matches: bool | None = None
    cluster_size: int = 1
    metadata: dict[str, str] = dataclasses.field(default_factory=dict, hash=False)
    found_in: Input | None = None
    companion: Path | None = None
    text: str | None = None
    source: TextSource | None = None

    @property
    def reason(self) -> str:
        """What found it other than its meaning: "name: red bicycle", "its caption", "a copy"; empty for meaning."""
        if self.matched_words:
            return "; ".join(f"{place}: {words}" for place, words in self.matched_words.items())
        if self.found_by in ("meaning", "copy"):
            return "a copy" if self.found_by == "copy" else ""
        return {None: "its words", "speech": "what is said", "ocr": "what is written"}.get(
            self.source, f"its {self.source}"
        )

    @property
    def line(self) -> str:
        """The text that found it on one line: of what was read, the lines with the words that were searched for."""
        lines = (self.text or "").splitlines()
        if self.source == "ocr" and (words := self.matched_words.get("ocr", "").split()):
            lines = [line for line in lines if any(word in line for word in words)] or lines
        return " … ".join(" ".join(line.split()) for line in lines if line.strip())

    def _repr_html_(self) -> str:
        """Draw the hit in a notebook, without its thumbnail: only ``Results`` know their library."""
        return hits_html([self], {})

    n_alike = renamed_property("n_alike", "cluster_size")


class Results(Sequence[Hit]):
    """Hits, matches first, best first; equal ones are ordered by ``media_id``. Immutable.

    Slicing gives ``Results`` again. ``took_ms`` is the time from the question to the hits in milliseconds, encoding of
    the query included (and on a first search, the loading of the model). ``notices`` are remarks for the user, a line
    each. ``has_match`` and ``n_matches`` go with the whole answer, of which these may be a part.
    """

    __slots__ = ("_has_match", "_hits", "_n_matches", "_notices", "_thumbnails", "_took_ms")

    def __init__(
        self,
        hits: Iterable[Hit] = (),
        took_ms: float = 0.0,
        notices: Iterable[str] = (),
        has_match: bool | None = None,
        n_matches: int | None = None,
    ) -> None:
        self._hits = tuple(hits)
        self._took_ms = float(took_ms)
        self._notices = tuple(notices)
        self._has_match = has_match
        self._n_matches = n_matches
        self._thumbnails: Callable[[Iterable[Hit]], Mapping[str, bytes]] | None = None

    def with_thumbnails(self, thumbnails: Callable[[Iterable[Hit]], Mapping[str, bytes]]) -> Results:
        """Return the same, drawn in notebooks with the JPEGs by ``media_id`` that a function gives."""
        results = self[:]
        results._thumbnails = thumbnails
        return results

    def __reduce__(self) -> tuple[type[Results], tuple[Any, ...]]:
        """Pickle without the library that thumbnails come from."""
        return Results, (self._hits, self._took_ms, self._notices, self._has_match, self._n_matches)

    def _repr_html_(self) -> str:
        """Draw the hits in a notebook, with thumbnails inside the page."""
        thumbnails = self._thumbnails(self._hits[:MOST_SHOWN]) if self._thumbnails is not None else {}
        nothing = ", nothing really matches" if self._has_match is False else ""
        return hits_html(self._hits, thumbnails, f"{self.summary}{nothing}, {self._took_ms:.0f} ms")

    @property
    def took_ms(self) -> float:
        """Milliseconds from the question to the hits."""
        return self._took_ms

    @property
    def notices(self) -> tuple[str, ...]:
        """Remarks for the user, such as that a text was longer than the model reads."""
        return self._notices

    @property
    def has_match(self) -> bool | None:
        """Whether anything in the library matches the question at all, or only comes nearest; None if not known.

        Something does when a hit has the question's words in its name, caption or tags, or a relevance of 0.5. Where no
        hit of a composed question has, it is not known: what is right for several things at once is often below that.
        A file that is asked with (``similar``) is the first hit, and does not count.
        """
        return self._has_match

    @property
    def n_matches(self) -> int | None:
        """How many files of the library match, equal content once; None where it is not known of all of them.

        A file that is asked with (``similar``) is the first hit, and does not count.
        Exact up to ``MAX_COUNTED``; one more than that stands for any number above.
        """
        return self._n_matches

    @property
    def matching(self) -> Results:
        """The hits before the first that does not match, or of which it is not known."""
        n = next((n for n, hit in enumerate(self._hits) if not hit.matches), len(self))
        return self[:n]

    @property
    def folded(self) -> Results:
        """The hits before the first that does not match, which is what people are shown unless they ask for all."""
        n = next((n for n, hit in enumerate(self._hits) if hit.matches is False), len(self))
        return self[:n]

    @property
    def summary(self) -> str:
        """How many match, for people: "1 match", "12 matches", "more than 1,000 matches"; else how many there are."""
        n, noun = (len(self), "result") if self._n_matches is None else (self._n_matches, "match")
        if self._n_matches is not None and n > MAX_COUNTED:
            return f"more than {MAX_COUNTED:,} matches"
        plural = noun if n == 1 else {"result": "results", "match": "matches"}[noun]
        return f"{n or 'no'} {plural}" if n < 1 else f"{n:,} {plural}"

    matches = renamed_property("matches", "has_match")

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> Results: ...
    def __getitem__(self, index: int | slice) -> Hit | Results:
        if isinstance(index, slice):
            part = Results(self._hits[index], self._took_ms, self._notices, self._has_match, self._n_matches)
            part._thumbnails = self._thumbnails
            return part
        return self._hits[index]

    def __len__(self) -> int:
        return len(self._hits)

    def __eq__(self, other: object) -> bool:
        """Equal hits in equal order; the time taken does not count."""
        return self._hits == other._hits if isinstance(other, Results) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._hits)

    def __repr__(self) -> str:
        best = f", best {self._hits[0].score:.3f} {printable(self._hits[0].path.name)!r}" if self._hits else ""
        nothing = ", nothing matches" if self._has_match is False else ""
        return f"<Results: {len(self)} hits{best}{nothing}, {self._took_ms:.0f} ms>"

    def to_arrow(self) -> pa.Table:
        """A table with a row per hit and the columns of ``result_schema()``.

        Paths become text; bytes of a name that are not UTF-8 are written as ``\\xNN``. The schema's metadata hold
        ``matches`` ("true" or "false") where it is known.
        """
        import pyarrow as pa  # deferred: results need no table

        rows = [{field.name: getattr(hit, field.name) for field in dataclasses.fields(Hit)} for hit in self._hits]
        for row in rows:
            row["path"] = as_stored(str(row["path"]))
            row["companion"] = None if row["companion"] is None else as_stored(str(row["companion"]))
            row |= {name: list(row[name].items()) for name in ("metadata", "matched_words")}
        known = {} if self._has_match is None else {"matches": str(self._has_match).lower()}
        return pa.Table.from_pylist(rows, schema=result_schema().with_metadata(known or None))

    def to_pandas(self) -> pd.DataFrame:
        """The same as ``to_arrow()``, as a data frame."""
        return self.to_arrow().to_pandas()


def result_schema() -> pa.Schema:
    """Return the columns of ``Results.to_arrow()``: the fields of ``Hit``, of which most are columns of ``media``."""
    import pyarrow as pa  # deferred: as above

    from arrowlens.store import media_schema  # deferred: as above

    media = media_schema()
    own = {
        "path": pa.utf8(),
        "score": pa.float32(),
        "relevance": pa.float32(),
        "start": pa.float64(),
        "end": pa.float64(),
        "found_by": pa.utf8(),
        "matched_words": pa.map_(pa.utf8(), pa.utf8()),
        "matches": pa.bool_(),
        "cluster_size": pa.int64(),
        "found_in": pa.utf8(),
        "companion": pa.utf8(),
        "text": pa.utf8(),
        "source": pa.utf8(),
    }
    names = [field.name for field in dataclasses.fields(Hit)]
    return pa.schema([(name, own[name] if name in own else media.field(name).type) for name in names])
