"""What a search gives back: hits, best first, with what the library knows of each file."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from arrowlens.deprecation import renamed_property
from arrowlens.modalities import Modality
from arrowlens.search.sanitize import as_stored, printable

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FoundBy = Literal["meaning", "words", "caption", "both", "name"]


@dataclasses.dataclass(frozen=True, slots=True)
class Hit:
    """One file that was found.

    Attributes:
        path: absolute; a name that is not UTF-8 carries its bytes as surrogates (``os.fsencode`` gives them back).
        media_id: 32 hex characters; names this place of the file in its library.
        modality: "image" or "audio".
        score: cosine similarity of the query and the file (of its best window), in [-1, 1]. Scores of different
            queries, modalities and models are not comparable. 0 where there is none: in the mode "keyword", and for
            recordings that the text cannot reach.
        relevance: how likely the hit is right, in [0, 1]; comparable between questions, kinds of files and models
            (``arrowlens.search.relevance``). None where there is no cosine to measure.
        start, end: seconds; the window that matched. Audio only.
        width, height: pixels of the upright picture. Images only.
        duration: seconds. sample_rate: Hz of the original. Audio only.
        format: "jpeg", "png", "wav", ...
        size: bytes. modified, captured_at: UTC for the former; the latter as the camera wrote it.
        taken: when the file came about, without a time zone: ``captured_at``, or else ``modified`` by the clock of the
            machine that ingested it.
        caption: the text of the file ``name.txt`` beside it. description: what its own tags say of its contents.
        camera: make and model. latitude, longitude: where it was taken, in degrees north and east (WGS 84).
        title, artist, album: of a recording.
        content_hash: 32 hex characters; equal for equal bytes.
        found_by: "meaning" (what it shows or sounds like), "words" (of its name, folder, caption or tags), "caption"
            (what that means), "both" for several of these, or "name": the text is its name.
        cluster_size: how many files the hit stands for, where what looks or sounds the same was asked for once.
        metadata: further tags of the file, as text.
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
    cluster_size: int = 1
    metadata: dict[str, str] = dataclasses.field(default_factory=dict, hash=False)

    n_alike = renamed_property("n_alike", "cluster_size")


class Results(Sequence[Hit]):
    """Hits, best first; equal ones are ordered by ``media_id``. Immutable.

    Slicing gives ``Results`` again. ``took_ms`` is the time from the question to the hits in milliseconds, encoding of
    the query included (and on a first search, the loading of the model). ``notices`` are remarks for the user, a line
    each. ``has_match`` goes with the whole answer, of which these may be a part.
    """

    __slots__ = ("_has_match", "_hits", "_notices", "_took_ms")

    def __init__(
        self,
        hits: Iterable[Hit] = (),
        took_ms: float = 0.0,
        notices: Iterable[str] = (),
        has_match: bool | None = None,
    ) -> None:
        self._hits = tuple(hits)
        self._took_ms = float(took_ms)
        self._notices = tuple(notices)
        self._has_match = has_match

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
        """
        return self._has_match

    matches = renamed_property("matches", "has_match")

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> Results: ...
    def __getitem__(self, index: int | slice) -> Hit | Results:
        if isinstance(index, slice):
            return Results(self._hits[index], self._took_ms, self._notices, self._has_match)
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
        import pyarrow as pa  # deferred: half of a second that a search on the command line need not pay

        rows = [{field.name: getattr(hit, field.name) for field in dataclasses.fields(Hit)} for hit in self._hits]
        for row in rows:
            row["path"] = as_stored(str(row["path"]))
            row["metadata"] = list(row["metadata"].items())
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
        "cluster_size": pa.int64(),
    }
    names = [field.name for field in dataclasses.fields(Hit)]
    return pa.schema([(name, own[name] if name in own else media.field(name).type) for name in names])
