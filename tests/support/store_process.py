"""Files of a library made of their names, and a process that searches it until it is told to stop."""

from __future__ import annotations

import collections
import json
import random
import re
import sys
import threading
from collections.abc import Iterable, Mapping

import numpy as np

from arrowlens.store import MultimodalStorage, VectorRow

DIGEST, D = "c" * 64, 64
THUMBNAIL_BYTES = 2000


def vector_of(content: str) -> np.ndarray:
    """Different for each content; always the same for one."""
    vector = np.random.default_rng(random.Random(content).getrandbits(64)).standard_normal(D).astype(np.float32)
    return vector / np.linalg.norm(vector)


def bytes_of(content: str) -> bytes:
    """The vector as it lies on disk."""
    return vector_of(content).astype(np.float16).tobytes()


def thumbnail_of(content: str) -> bytes:
    return b"\xff\xd8\xff" + random.Random("jpeg " + content).randbytes(THUMBNAIL_BYTES)


def commit(storage: MultimodalStorage, files: Iterable[str] | Mapping[str, str]) -> None:
    """Files by name, with their contents (the names themselves), as an ingest writes them."""
    contents = dict(files) if isinstance(files, Mapping) else {name: name for name in files}
    storage.upsert_vectors("vision", [VectorRow(n, c, "image", vector_of(c)) for n, c in contents.items()])
    storage.upsert_thumbnails({content: thumbnail_of(content) for content in contents.values()})
    root = storage.add_root("/pictures").root_id
    common = {"root_id": root, "modality": "image", "state": "indexed", "trivial": False}
    storage.upsert_media(
        [
            {"media_id": name, "content_hash": content, "path": name, "path_bytes": name.encode(), **common}
            for name, content in contents.items()
        ]
    )


def search_until_told(address: str) -> dict[str, object]:
    """Search again and again; says what was not whole.

    A batch "batchN-*" has seven files, all or none; "stable-*" are thirty, always there; the first five of them change
    their content together.
    """
    storage = MultimodalStorage(address, create=False)
    told = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), told.set()), daemon=True).start()
    faults: list[str] = []
    states: set[tuple[str, ...]] = set()
    n_searches = 0
    print("searching", flush=True)
    while not told.is_set() and len(faults) < 5:
        hits = storage.search("vision", DIGEST, vector_of("query"), 1000)
        n_searches += 1
        names, contents = hits["media_id"].to_pylist(), hits["content_hash"].to_pylist()
        states.add(tuple(sorted(contents)))
        counts = collections.Counter(name.split("-")[0] for name in names)
        faults += [f"{n} of {name}" for name, n in counts.items() if n != (30 if name == "stable" else 7)]
        if len(set(names)) != len(names):
            faults.append("a file twice")
        changed = {content.split()[0] for content in contents if "content" in content}
        if len(changed) > 1:
            faults.append(f"contents of runs {changed}")
        stable = [name for name in names if re.match("stable", name)]
        if len(storage.media(stable)) != 30:
            faults.append("a hit without its row")
    return {"faults": faults, "searches": n_searches, "states": len(states)}


if __name__ == "__main__":
    print(json.dumps(search_until_told(sys.argv[1])))
