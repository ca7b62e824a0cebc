"""Captions, descriptions and titles as vectors of the text model, so that a question finds what they mean.

They are kept apart from decoding: when a run ends, what the library says of its files is compared with the vectors that
it has of it. A caption that changed is encoded again without its picture, and a library that gets a text model later
catches up.
"""

from __future__ import annotations

import threading

from arrowlens.embedding import Provider
from arrowlens.ingest.batching import is_usable
from arrowlens.store import CAPTION_ROLE, MultimodalStorage

_TEXTS_AT_ONCE = 128


def keep_captions(storage: MultimodalStorage, provider: Provider, stop: threading.Event) -> int:
    """Encode captions that have no vectors yet, and delete vectors of captions that are no more.

    Does nothing without a text model. Once ``stop`` is set it ends early; the next call goes on from there.

    Returns:
        How many captions it encoded; equal ones count each.

    Raises:
        LibraryBusyError, StorageError: as for writing. ModelLoadError: the text model cannot be loaded.
    """
    if CAPTION_ROLE not in storage.models:
        return 0
    wanted = {caption.embedding_id: caption for caption in storage.captions()}
    held = storage.vector_ids(CAPTION_ROLE)
    storage.delete_vectors(CAPTION_ROLE, sorted(held - wanted.keys()))
    missing = [wanted[name] for name in sorted(wanted.keys() - held)]
    for start in range(0, len(missing), _TEXTS_AT_ONCE):
        if stop.is_set():
            return start
        part = missing[start : start + _TEXTS_AT_ONCE]
        texts = sorted({caption.text for caption in part})
        vectors = dict(zip(texts, provider.text_encoder.encode(texts), strict=True))
        rows = [caption.row(vectors[caption.text]) for caption in part]
        storage.upsert_vectors(CAPTION_ROLE, [row for row in rows if is_usable(row.embedding)])
    return len(missing)
