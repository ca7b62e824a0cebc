"""``arrowlens mcp``: the library as tools of assistants on this machine, over standard input and output. Read-only."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import arrowlens
from arrowlens.cli.output import hit_record
from arrowlens.cli.searching import open_library
from arrowlens.errors import ArrowlensError, InputError
from arrowlens.search import Hit, Results, printable

if TYPE_CHECKING:
    from mcp.server import MCPServer

_MOST_HITS = 100
_MEDIA_ID = re.compile("[0-9a-f]{32}")
_INSTRUCTIONS = (
    "Finds pictures, recordings and films of this machine by meaning, and by the words in them. A file is named by its "
    "path or by its media_id. Hits that do not match have matches false: they are only the nearest."
)


def serve(options: argparse.Namespace) -> int:
    """Answer an assistant until it closes standard input.

    Raises:
        InputError: the extra ``mcp`` is not installed. Others as ``Library.open``.
    """
    try:
        from mcp.server import MCPServer  # deferred: an extra
    except ImportError as error:
        raise InputError("arrowlens mcp needs the extra mcp: pip install 'arrowlens[mcp]'") from error
    with open_library(options) as library:
        server = MCPServer("arrowlens", instructions=_INSTRUCTIONS, version=arrowlens.__version__, log_level="ERROR")
        add_tools(server, library)
        server.run("stdio")
    return 0


def add_tools(server: MCPServer, library: arrowlens.Library) -> None:
    """Give a server the tools of a library; none of them writes."""
    from mcp.types import ToolAnnotations

    tools = Tools(library)
    read_only = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
    for call in (tools.search, tools.similar, tools.show, tools.thumbnail, tools.status):
        is_picture = call == tools.thumbnail
        server.tool(annotations=read_only, structured_output=not is_picture)(_answered(call))


def _answered(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a tool whose errors reach the assistant in their own words."""
    from mcp.server.mcpserver.exceptions import ToolError

    @functools.wraps(call)
    def answered(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as the tool
        try:
            return call(*arguments, **named)
        except ArrowlensError as error:
            raise ToolError(printable(" ".join(str(error).split()))) from error

    return answered


class Tools:
    """What an assistant may ask; names, arguments and docstrings are what it sees of them."""

    def __init__(self, library: arrowlens.Library) -> None:
        self._library = library

    def search(self, text: str, k: int = 10, where: Sequence[str] = ()) -> dict[str, Any]:
        """Find files by a text. `where` holds conditions such as "modality = image", "taken >= 2024-05"."""
        return _answer(self._library.search(text, _checked(k), where=list(where)))

    def similar(self, file: str, k: int = 10, where: Sequence[str] = ()) -> dict[str, Any]:
        """Find files that look or sound like a file of the library, which comes first."""
        return _answer(self._library.similar(self._file(file), _checked(k), where=list(where)))

    def show(self, file: str) -> dict[str, Any]:
        """Tell all that is known of a file, with its texts: what is said, written, and in captions and tags."""
        hit = self._file(file)
        return _record(hit) | {"texts": [dataclasses.asdict(text) for text in self._library.texts(hit)]}

    def thumbnail(self, file: str) -> Any:  # noqa: ANN401 - a type of the SDK, which is imported late
        """Give a JPEG of at most 320 pixels of a picture or film."""
        from mcp.server.mcpserver import Image

        hit = self._file(file)
        data = self._library.thumbnails([hit]).get(hit.media_id)
        if data is None:
            raise InputError(f"{hit.path} has no thumbnail; pictures and films have one")
        return Image(data=data, format="jpeg")

    def status(self) -> dict[str, Any]:
        """Tell how many files the library holds, of which folders, and what its models can find."""
        status = self._library.status()
        held = {"pictures": status.images, "recordings": status.audio, "films": status.films}
        folders = [printable(str(folder)) for folder in status.folders]
        return held | {"folders": folders, "text_finds": status.text_finds, "library": printable(status.uri)}

    def _file(self, file: str) -> Hit:
        """Return a file of the library by its id or path; other files of the machine are nobody's business here."""
        held = self._library.hits([file]) if _MEDIA_ID.fullmatch(file) else []
        return held[0] if held else self._library.file(file)


def _checked(k: int) -> int:
    if k > _MOST_HITS:
        raise InputError(f"k is {k}; ask for at most {_MOST_HITS} files")
    return k


def _answer(results: Results) -> dict[str, Any]:
    hits = [_record(hit) for hit in results]
    return {"hits": hits, "n_matches": results.n_matches, "notices": list(results.notices)}


def _record(hit: Hit) -> dict[str, Any]:
    """Return what is known of a hit, as JSON can hold it; nothing of what is not known."""
    record = hit_record(hit) | {"path": printable(str(hit.path))}
    record["companion"] = None if hit.companion is None else printable(str(hit.companion))
    plain: dict[str, Any] = json.loads(json.dumps(record, default=str))
    return {name: value for name, value in plain.items() if value not in (None, {}, "")}
