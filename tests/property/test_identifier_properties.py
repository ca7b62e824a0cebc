"""Text from a file is no path: whatever stands where an identifier is expected, nothing outside the folder changes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowlens.encoders import model_info
from arrowlens.errors import LibraryError, ModelLoadError
from arrowlens.search.relevance.background import Bank
from arrowlens.store import ModelRecord, MultimodalStorage

DIGEST = "c" * 64

_PATHS = st.sampled_from(
    ["../victim/media", "../../victim/media", "..", ".", "", "/etc/passwd", "a/b", "media\0", "clip_embeddings__/../x"]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | _PATHS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
TEXTS = _PATHS | st.text(st.characters(exclude_categories=[])) | st.integers().map(str)


def library(path: Path) -> MultimodalStorage:
    storage = MultimodalStorage(path)
    storage.bind_models({"vision": ModelRecord(DIGEST, 16)})
    storage.add_root("/pictures")
    storage.upsert_media([{"media_id": "0", "root_id": "0" * 16, "path": "a", "path_bytes": b"a", "state": "indexed"}])
    return storage


def state_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A library that is opened with altered settings, and another one beside it."""
    top = tmp_path_factory.mktemp("libraries")
    for name in ("opened", "victim"):
        library(top / name)
    return top


def try_settings(folders: Path, values: dict) -> None:
    before = state_of(folders / "victim")
    names = sorted(path.name for path in folders.iterdir())
    (folders / "opened" / "library.json").write_text(json.dumps(values))
    try:
        with MultimodalStorage(folders / "opened", create=False) as storage:
            storage.repair()
            storage.optimize(thorough=False)
    except LibraryError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017 - it may as well be accepted
    assert state_of(folders / "victim") == before
    assert sorted(path.name for path in folders.iterdir()) == names


@pytest.fixture(scope="module")
def right(folders):
    return json.loads((folders / "opened" / "library.json").read_text())


def test_a_retired_table_of_another_library_is_not_deleted(folders, right):
    """What was found: ``retired`` was joined to the folder's path."""
    for name in ("../victim/media", str(folders / "victim" / "media"), "media", "clip_embeddings__../../victim/media"):
        try_settings(folders, {**right, "retired": [name]})


@given(name=TEXTS, value=_JSON)
def test_any_text_in_the_settings_is_an_error_or_touches_nothing_outside(folders, right, name, value):
    record = right["models"]["vision"]
    for values in (
        {"retired": [name]},
        {"retired": value},
        {"models": {name: record}},
        {"models": {"vision": {**record, "digest": name}}},
        {"next_models": {"vision": {**record, "digest": name}}},
        {"models": value},
        {"roots": [{"root_id": name, "path": name}]},
        {"roots": value, "mounts": [name]},
        {"window_s": value, "schema_version": value},
    ):
        try_settings(folders, {**right, **values})


@pytest.mark.parametrize("path", [b"../outside", b"/etc/passwd", b"a/../../b", b"a\0b"])
@pytest.mark.parametrize("root", ["pictures", "unknown"])
def test_a_row_that_names_a_file_outside_its_folder_is_an_error(tmp_path, path, root):
    storage = library(tmp_path / "l")
    root_id = storage.settings.roots[0].root_id if root == "pictures" else "f" * 16
    storage.upsert_media([{"media_id": "1", "root_id": root_id, "path": "a", "path_bytes": path, "state": "indexed"}])
    with pytest.raises(LibraryError, match="outside its folders"):
        storage.media(["1"])


def write_header(folder: Path, **changed: str) -> None:
    """A weights file without tensors."""
    header = {
        "format_version": "1",
        "family": "clip",
        "dimensions": json.dumps({"hidden_size": 8, "projection_dim": 8}),
        "source": "a test",
        "space": "",
        "files": "{}",
        "sha256": DIGEST,
        **changed,
    }
    schema = pa.schema([pa.field("a", pa.int8())], metadata={f"arrowlens.{key}": text for key, text in header.items()})
    with pa.OSFile(str(folder / "weights.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema):
        pass


class _Provider:
    """A model as its header describes it; it cannot encode."""

    def __init__(self, digest: str) -> None:
        self._digest = digest

    def recipe_digest(self, role: str) -> str:
        return self._digest

    def dimension(self, role: str) -> int:
        return 8

    def templates(self, role: str) -> tuple[str, ...]:
        return ()


@given(text=TEXTS.filter(lambda text: not any("\ud800" <= letter <= "\udfff" for letter in text)))
def test_any_text_as_a_models_digest_or_file_name_is_a_model_error(text):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for changed in (
            {"sha256": text},
            {"files": json.dumps({text: DIGEST})},
            {"files": json.dumps({"tokenizer.json": text})},
        ):
            write_header(folder, **changed)
            try:
                info = model_info(folder)
            except ModelLoadError as error:
                assert len(str(error).splitlines()) == 1  # noqa: PT017 - it may as well be accepted
                continue
            assert set("/\\\0").isdisjoint(info.digest)
            for file in info.files:
                assert (folder / file).parent == folder
                assert file not in (".", "..")


def test_a_digest_that_is_a_path_writes_nothing_outside_the_cache(tmp_path):
    """What was found: vectors for relevance were kept under a name that held the digest."""
    write_header(tmp_path, sha256="/../../stolen")
    with pytest.raises(ModelLoadError, match=r"sha256 is '/\.\./\.\./stolen'"):
        model_info(tmp_path)
    bank = Bank(_Provider("/../../stolen"), lambda path: None, tmp_path / "cache" / "relevance")  # type: ignore[arg-type]
    with pytest.raises(ModelLoadError, match="digest"):
        bank.vectors("text")


def test_names_in_damaged_settings_stay_on_the_line_of_the_error(folders, right):
    for name in ("\r", "\n", "\x1b[2J", "\u2028"):
        try_settings(folders, {**right, "roots": [{"root_id": "0" * 16, "path": "/a", name: 1}]})
