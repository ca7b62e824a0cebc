"""``arrowlens mcp`` as an assistant's client sees it: the SDK's own, over standard input and output."""

from __future__ import annotations

import asyncio
import base64
import io
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from mcp import Client, StdioServerParameters
from PIL import Image

from arrowlens import Library
from arrowlens.models import DEMO
from tests.support.folders import write_folder


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    base = tmp_path_factory.mktemp("mcp")
    with Library.open(base / "a.lens", models="demo") as library:
        library.ingest(write_folder(base / "in", 3, 1))
    return base


async def asked(library, *calls):
    """The tools, and the answer to each call, as ``CallToolResult``."""
    arguments = ["-m", "arrowlens", "mcp", "--library", str(library / "a.lens")]
    async with Client(StdioServerParameters(command=sys.executable, args=arguments)) as client:
        tools = (await client.list_tools()).tools
        return tools, [await client.call_tool(name, given) for name, given in calls]


def run_apart(coroutine):
    """Run a coroutine in a thread of its own: the main thread may have the loop of a browser's tests."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def test_an_assistant_searches_and_looks_and_can_change_nothing(library):
    picture = str(library / "in" / "picture 001.jpg")
    tools, (status, found, like, shown, thumbnail, missing, elsewhere, greedy) = run_apart(
        asked(
            library,
            ("status", {}),
            ("search", {"text": "picture 001", "k": 2, "where": ["modality = image"]}),
            ("similar", {"file": picture, "k": 3}),
            ("show", {"file": picture}),
            ("thumbnail", {"file": picture}),
            ("thumbnail", {"file": str(library / "in" / "sound 000.wav")}),
            ("similar", {"file": str(DEMO / "vision" / "config.json")}),
            ("search", {"text": "a dog", "k": 1_000}),
        )
    )
    assert [tool.name for tool in tools] == ["search", "similar", "show", "thumbnail", "status"]
    assert all(tool.annotations.read_only_hint and tool.description for tool in tools)
    assert status.structured_content["pictures"] == 3
    assert status.structured_content["folders"] == [str(library / "in")]
    first = found.structured_content["hits"][0]
    assert (first["path"], first["matched_words"]["name"]) == (picture, "picture 001")
    assert like.structured_content["hits"][0]["media_id"] == first["media_id"]
    assert (shown.structured_content["width"], shown.structured_content["texts"][0]["source"]) == (64, "name")
    (image,) = thumbnail.content
    with Image.open(io.BytesIO(base64.b64decode(image.data))) as opened:
        assert opened.size == (64, 48)
    reasons = ["has no thumbnail", "the library holds no file at", "k is 1000; ask for at most 100"]
    for refused, reason in zip((missing, elsewhere, greedy), reasons, strict=True):
        assert refused.is_error
        assert reason in refused.content[0].text
