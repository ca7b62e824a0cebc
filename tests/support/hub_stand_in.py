"""A stand-in for the Hugging Face hub on this machine: the routes that downloads really use, and its ways to fail.

Model info, ``resolve`` with HEAD, GET, ETag, X-Repo-Commit and ranges, small files by a redirect within the hub, large
ones by a redirect to another host ("the CDN"), and on demand: connections cut in the middle of a file, wrong content,
unknown, gated and unavailable models, hostile names of files, revisions and ETags, and answers in another form.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin")  # stored by LFS: announced with their SHA-256, served by the CDN
_API = re.compile(r"/api/models/([\w.-]+/[\w.-]+)")
_RESOLVE = re.compile(r"/([\w.-]+/[\w.-]+)/resolve/(\w+)/(.+)")
_SMALL = re.compile(r"/api/resolve-cache/models/([\w.-]+/[\w.-]+)/\w+/(.+)")
_CDN = re.compile(r"/cdn/([\w.-]+/[\w.-]+)/(.+)")


@dataclass
class Request:
    """A request as it came."""

    method: str
    path: str
    range: str | None
    authorized: bool


@dataclass
class Hub:
    """What the stand-in serves, and what was asked of it.

    ``cut`` maps file names to the sizes after which the next answers break off, one each; ``tampered`` names files
    whose content differs from what is announced; ``status`` answers every request with an error instead. ``claims``
    replaces parts of the model's description, ``etag`` the ETag of every file.
    """

    endpoint: str = ""
    models: dict[str, Path] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    cut: dict[str, list[int]] = field(default_factory=dict)
    tampered: set[str] = field(default_factory=set)
    status: int | None = None
    claims: dict[str, object] = field(default_factory=dict)
    etag: str | None = None
    requests: list[Request] = field(default_factory=list)

    def serve(self, model_id: str, directory: Path, licence: str | None = None) -> None:
        """Offer a checkpoint folder under a hub id."""
        self.models[model_id] = directory
        if licence is not None:
            self.licences[model_id] = licence

    def revision(self, model_id: str) -> str:
        """The commit that stands for the folder's present content, 40 hex digits."""
        digest = hashlib.sha1(model_id.encode())
        for path in self.files(model_id):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def files(self, model_id: str) -> list[Path]:
        """All files of a model."""
        return sorted(path for path in self.models[model_id].rglob("*") if path.is_file())

    def fetched(self, name: str) -> list[Request]:
        """The GET requests for the content of a file, by its name."""
        return [
            r for r in self.requests if r.method == "GET" and r.path.endswith(f"/{name}") and "/resolve/" not in r.path
        ]


@contextmanager
def hub_stand_in() -> Iterator[Hub]:
    """Serve on a free port of the loopback interface."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._route(body=False)

    def do_GET(self) -> None:
        self._route(body=True)

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def _route(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        authorized = "Authorization" in self.headers
        self.hub.requests.append(Request(self.command, path, self.headers.get("Range"), authorized))
        if self.hub.status is not None:
            self._answer(self.hub.status, b"", {})
        elif match := _API.fullmatch(path):
            self._info(match[1])
        elif match := _RESOLVE.fullmatch(path):
            self._resolve(match[1], match[3])
        elif match := _CDN.fullmatch(path) or _SMALL.fullmatch(path):
            self._content(match[1], match[2], body=body)
        else:
            self._answer(404, b"", {})

    def _info(self, model_id: str) -> None:
        if model_id not in self.hub.models:
            self._answer(401, b'{"error": "Invalid username or password."}', {"X-Error-Code": "RepoNotFound"})
            return
        if model_id in self.hub.gated:
            self._answer(403, b'{"error": "Access is restricted."}', {"X-Error-Code": "GatedRepo"})
            return
        root, licence = self.hub.models[model_id], self.hub.licences.get(model_id)
        info = {
            "id": model_id,
            "sha": self.hub.revision(model_id),
            "tags": ["pytorch"] + ([f"license:{licence}"] if licence else []),
            "siblings": [_sibling(path, root) for path in self.hub.files(model_id)],
        } | self.hub.claims
        self._answer(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _resolve(self, model_id: str, name: str) -> None:
        path = self.hub.models[model_id] / name
        if not path.is_file():
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        elif name.endswith(LARGE):
            headers = {
                "Location": f"http://localhost:{self.server.server_address[1]}/cdn/{model_id}/{name}",
                "X-Repo-Commit": self.hub.revision(model_id),
                "X-Linked-ETag": f'"{self.hub.etag or hashlib.sha256(path.read_bytes()).hexdigest()}"',
                "X-Linked-Size": str(path.stat().st_size),
            }
            self._answer(302, b"", headers)
        else:  # within the hub, by a relative redirect
            location = f"/api/resolve-cache/models/{model_id}/{self.hub.revision(model_id)}/{name}"
            self._answer(307, b"", {"Location": location, "X-Repo-Commit": self.hub.revision(model_id)})

    def _content(self, model_id: str, name: str, *, body: bool) -> None:
        content = (self.hub.models[model_id] / name).read_bytes()
        etag = self.hub.etag or hashlib.sha1(content).hexdigest()
        if name in self.hub.tampered:
            content = content[:-1] + bytes([content[-1] ^ 1])
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": self.hub.revision(model_id), "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked:
            start = int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content = content[start:]
        self._answer(206 if asked else 200, content, headers, body=body, cut=self._next_cut(name) if body else None)

    def _next_cut(self, name: str) -> int | None:
        cuts = self.hub.cut.get(name)
        return cuts.pop(0) if cuts else None

    def _answer(
        self, status: int, content: bytes, headers: dict[str, str], *, body: bool = True, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(content if cut is None else content[:cut])
        if cut is not None:
            self.close_connection = True  # fewer bytes than announced: cut off


def _sibling(path: Path, root: Path) -> dict[str, object]:
    content, name = path.read_bytes(), path.relative_to(root).as_posix()
    git_id = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    sibling: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": git_id}
    if name.endswith(LARGE):
        digest = hashlib.sha256(content).hexdigest()
        sibling["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
    return sibling
