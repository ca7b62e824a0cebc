"""A file's fate, as a table: what the library holds of its place, what opening it gave, and what happens."""

from __future__ import annotations

import dataclasses

import pytest

from arrowlens.ingest.diff import Action, Known, decide
from arrowlens.ingest.prepare import Prepared
from arrowlens.ingest.walk import ScannedFile
from arrowlens.media import Decoded
from arrowlens.store import Root

CONTENT, OTHER = "c" * 32, "d" * 32
FOUND = ScannedFile(b"/in/a.png", Root.at("/in"), b"a.png", "image", 100, 7)
INDEXED = Known("root", b"a.png", 100, 7, CONTENT, None, indexed=True, roles=frozenset({"vision"}))
BAD = Known("root", b"a.png", 100, 7, CONTENT, "damaged", indexed=False)
UNREAD_BEFORE = Known("root", b"a.png", 100, 7, None, "forbidden", indexed=False)

READABLE = Prepared(FOUND, Decoded("image", None, CONTENT))
CHANGED = Prepared(FOUND, Decoded("image", None, OTHER))
DAMAGED = Prepared(FOUND, Decoded("image", "damaged", CONTENT))
DAMAGED_ANEW = Prepared(FOUND, Decoded("image", "damaged", OTHER))
TOO_LARGE = Prepared(FOUND, Decoded("image", "too large", None))
FORBIDDEN = Prepared(FOUND, Decoded("image", "forbidden", None), unread=True)
CHANGING = Prepared(FOUND, Decoded("image", "truncated", OTHER), unread=True)
SOUND = Prepared(FOUND, Decoded("audio", None, OTHER))
NO_CAPTION = dataclasses.replace(READABLE, caption_unread=True)
NO_MODEL = "the library has no model for audio files"
CAPTION = "the text file with its caption cannot be read; check its permissions, or where it links to"


@pytest.mark.parametrize(
    ("known", "prepared", "action"),
    [
        # readable
        (None, READABLE, Action("vectors", "indexed")),
        (BAD, READABLE, Action("vectors", "indexed")),
        (INDEXED, CHANGED, Action("vectors", "indexed")),
        (INDEXED, READABLE, Action("row", "unchanged")),
        (INDEXED, NO_CAPTION, Action("reason", "skipped", CAPTION)),
        (dataclasses.replace(INDEXED, reason=CAPTION), NO_CAPTION, Action("nothing", "skipped", CAPTION)),
        (None, NO_CAPTION, Action("vectors", "indexed")),
        # readable, without a model
        (None, SOUND, Action("row", "skipped", NO_MODEL)),
        (INDEXED, SOUND, Action("row", "skipped", NO_MODEL)),
        # read, and of no use: what was indexed of another content goes, what was indexed of this very content stays
        (None, DAMAGED, Action("row", "skipped", "damaged")),
        (BAD, DAMAGED, Action("nothing", "skipped", "damaged")),
        (BAD, DAMAGED_ANEW, Action("row", "skipped", "damaged")),
        (INDEXED, DAMAGED, Action("stamp", "unchanged")),
        (INDEXED, DAMAGED_ANEW, Action("row", "skipped", "damaged")),
        # too large to be looked at: of another size it is another content
        (INDEXED, TOO_LARGE, Action("reason", "skipped", "too large")),
        (dataclasses.replace(INDEXED, size=99), TOO_LARGE, Action("row", "skipped", "too large")),
        (None, TOO_LARGE, Action("row", "skipped", "too large")),
        # not read: what was indexed stays
        (None, FORBIDDEN, Action("row", "skipped", "forbidden")),
        (UNREAD_BEFORE, FORBIDDEN, Action("nothing", "skipped", "forbidden")),
        (BAD, FORBIDDEN, Action("row", "skipped", "forbidden")),
        (INDEXED, FORBIDDEN, Action("reason", "skipped", "forbidden")),
        (INDEXED, CHANGING, Action("reason", "skipped", "truncated")),
        (dataclasses.replace(INDEXED, reason="forbidden"), FORBIDDEN, Action("nothing", "skipped", "forbidden")),
        # the model failed: a fault of the file's own costs its vectors only if its content is new
        (None, READABLE.failed("no memory", unread=True), Action("row", "skipped", "no memory")),
        (INDEXED, CHANGED.failed("no memory", unread=True), Action("reason", "skipped", "no memory")),
        (INDEXED, CHANGED.failed("no direction", unread=False), Action("row", "skipped", "no direction")),
    ],
)
def test_decide(known, prepared, action):
    assert decide(known, prepared, {"vision"}) == action
