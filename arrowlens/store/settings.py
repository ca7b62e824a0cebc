"""What a library knows about itself: one small JSON file, replaced whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from arrowlens.errors import LibraryVersionError, ModelMismatchError, StorageError
from arrowlens.modalities import AUDIO_WINDOWS
from arrowlens.store.copies import COPIES, keep_copy
from arrowlens.store.fsync import sync_folder
from arrowlens.store.schema import (
    ROLES,
    SCHEMA_VERSION,
    is_digest,
    is_root_id,
    is_vector_table_name,
    root_id_of,
    vector_table_name,
)

SETTINGS_NAME = "library.json"
_PARTIAL = ".partial"
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
_LARGEST = 10**6  # of any number in it


@dataclasses.dataclass(frozen=True, slots=True)
class ModelRecord:
    """The model that a role's vectors come from.

    Attributes:
        digest: 64 hex characters; the model's identity.
        dimension: length of its vectors.
        source: where the model can be found again: a set's name or a directory.
        space: name of the space it shares with other models, None when it shares none.
    """

    digest: str
    dimension: int
    source: str = ""
    space: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Root:
    """A folder whose files the library holds. ``path`` is absolute; odd bytes of its name are surrogates."""

    root_id: str
    path: str

    @classmethod
    def at(cls, path: str) -> Root:
        """The root of an absolute folder path."""
        return cls(root_id_of(path), path)

    def relative(self, path: str) -> bytes | None:
        """The bytes of an absolute path relative to this root, b"" for the root itself, None when it lies outside."""
        return relative_to(self.path, path)

    def absolute(self, path_bytes: bytes) -> bytes:
        """The bytes of the absolute path of a path relative to this root.

        Raises:
            StorageError: it leads out of the root, as no path does that was indexed.
        """
        return os.path.join(os.fsencode(self.path), relative_path(path_bytes))  # noqa: PTH118 - pathlib has no bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """The library's own facts: layout, models by role, windows over recordings in seconds, and its folders.

    ``mounts`` are the paths below which files lay on a disk mounted there: an empty folder in such a place means that
    the disk is away, not that its files are gone. ``next_models`` are those that the library is changing to, empty
    when it is not; ``models`` serve until then. ``retired`` names tables of earlier models that are yet to be deleted.
    """

    schema_version: int = SCHEMA_VERSION
    models: Mapping[str, ModelRecord] = dataclasses.field(default_factory=dict)
    window_s: float = AUDIO_WINDOWS.length_s
    hop_s: float = AUDIO_WINDOWS.hop_s
    roots: tuple[Root, ...] = ()
    mounts: tuple[str, ...] = ()
    next_models: Mapping[str, ModelRecord] = dataclasses.field(default_factory=dict)
    retired: tuple[str, ...] = ()

    @property
    def text_reaches_audio(self) -> bool:
        """Whether CLIP's text vectors may be compared with the vectors of recordings: their models share a space."""
        clip, audio = self.models.get("clip"), self.models.get("audio")
        return clip is not None and audio is not None and clip.space is not None and clip.space == audio.space

    @property
    def vector_tables(self) -> dict[str, tuple[str, ModelRecord]]:
        """Role and model by the name of each vector table, of the models that serve and of the next ones."""
        both = (*self.models.items(), *self.next_models.items())
        return {vector_table_name(role, record.digest): (role, record) for role, record in both}

    def changing_to(self, models: Mapping[str, ModelRecord]) -> Settings:
        """The same with ``models`` as the next ones, none for an empty mapping; what only earlier next ones had goes.

        Raises:
            ModelMismatchError: tables of two models would have one name.
        """
        names = {vector_table_name(role, record.digest): record for role, record in models.items()}
        for name, (role, held) in dataclasses.replace(self, next_models={}).vector_tables.items():
            if name in names and names[name].digest != held.digest:
                raise ModelMismatchError(
                    f"the digests of two {role} models begin alike ({held.digest[:8]}); index into a new library"
                )
        return dataclasses.replace(self, next_models=dict(models))._without(self.vector_tables)

    def changed(self) -> Settings:
        """The next models serve; the tables of those that served are to be deleted."""
        return dataclasses.replace(self, models=self.next_models, next_models={})._without(self.vector_tables)

    def without_retired(self) -> Settings:
        """The same once those tables are deleted."""
        return dataclasses.replace(self, retired=())

    def _without(self, earlier: Iterable[str]) -> Settings:
        retired = {*self.retired, *earlier} - self.vector_tables.keys()
        return dataclasses.replace(self, retired=tuple(sorted(retired)))

    def with_models(self, models: Mapping[str, ModelRecord]) -> Settings:
        """The same with ``models``, which may add roles but neither change nor leave out one that is there.

        Raises:
            ModelMismatchError: they do.
        """
        for role, record in self.models.items():
            held = f"{role} vectors of model {record.digest[:8]}{f' ({record.source})' if record.source else ''}"
            if role not in models:
                raise ModelMismatchError(f"the library holds {held}, and no {role} model was given; open it with that")
            if models[role].digest != record.digest:
                raise ModelMismatchError(
                    f"the library holds {held}, not of {models[role].digest[:8]}; open it with the models it was made "
                    "with, or change it with `arrowlens models use SET`"
                )
        added = {role: record for role, record in models.items() if role not in self.models}
        return dataclasses.replace(self, models={**self.models, **added}) if added else self

    def record_of(self, role: str, digest: str) -> ModelRecord | None:
        """The model of a role, None when the library has none.

        Raises:
            ModelMismatchError: it is not the one with that digest.
        """
        record = self.models.get(role)
        if record is not None and record.digest != digest:
            raise ModelMismatchError(
                f"the library holds {role} vectors of model {record.digest[:8]}, the query is of {digest[:8]}; "
                "open it with the models it was made with, or change it with `arrowlens models use SET`"
            )
        return record

    def with_root(self, path: str) -> Settings:
        """The same with a root for the folder ``path``, unless one holds it already."""
        if any(root.relative(path) is not None for root in self.roots):
            return self
        return dataclasses.replace(self, roots=(*self.roots, Root.at(path)))

    def root_of(self, path: str) -> Root | None:
        """The deepest root that contains an absolute path."""
        holding = [root for root in self.roots if root.relative(path) is not None]
        return max(holding, key=lambda root: len(root.path), default=None)


def relative_path(path_bytes: bytes) -> bytes:
    """``path_bytes``, which a table says is relative to a root.

    Raises:
        StorageError: it leads out of the root, as no path does that was indexed.
    """
    if path_bytes.startswith(b"/") or b"\0" in path_bytes or b".." in path_bytes.split(b"/"):
        raise StorageError(f"the library names a file outside its folders ({path_bytes!r:.200}); index into a new one")
    return path_bytes


def relative_to(folder: str, path: str) -> bytes | None:
    """The bytes of an absolute path relative to a folder, b"" for the folder itself, None when it lies outside."""
    if path == folder:
        return b""
    base = folder if folder.endswith(os.sep) else folder + os.sep
    return os.fsencode(path[len(base) :]) if path.startswith(base) else None


def read_settings(folder: Path) -> Settings | None:
    """The settings of the library in ``folder``, None where there are none.

    Raises:
        LibraryVersionError: a newer Arrowlens wrote them. StorageError: unreadable or damaged.
    """
    path = folder / SETTINGS_NAME
    try:
        return _parsed(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        if copy_of_settings(folder).is_file():
            raise StorageError(f"{path} is lost; {_way_back(folder)}") from error
        return None
    except OSError as error:
        raise StorageError(f"{path} cannot be read ({error.strerror}); check the permissions") from error
    except _MALFORMED as error:
        raise StorageError(f"{path} is damaged ({error}); {_way_back(folder)}") from error


def _parsed(path: Path) -> Settings:
    values = json.loads(path.read_text(encoding="ascii"))
    version = int(values["schema_version"])
    if version > SCHEMA_VERSION:
        raise LibraryVersionError(
            f"{path} was written by a newer Arrowlens (layout {version}, this one reads {SCHEMA_VERSION}); "
            "update with pip install --upgrade arrowlens"
        )
    return _from_json(values)


def write_settings(folder: Path, settings: Settings) -> None:
    """Replace the settings in one step; what is cut off leaves the earlier ones.

    Raises:
        StorageError: the disk refused.
    """
    path = folder / SETTINGS_NAME
    partial = folder / (SETTINGS_NAME + _PARTIAL)  # one writer at a time: the name needs nothing random
    try:
        with partial.open("w", encoding="ascii") as file:
            json.dump(dataclasses.asdict(settings), file, indent=1)  # ASCII: surrogates of odd names come back
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(folder)
        keep_copy(path, copy_of_settings(folder))
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror}); free space or check permissions") from error


def copy_of_settings(folder: Path) -> Path:
    """Where the copy of a library's settings lies."""
    return folder / COPIES / SETTINGS_NAME


def restore_settings(folder: Path) -> bool:
    """Put the copy of the settings in the place of settings that are lost or damaged; says whether it did so.

    Raises:
        LibraryVersionError: a newer Arrowlens wrote them. StorageError: the copy is damaged, too; the disk refused.
    """
    kept = copy_of_settings(folder)
    try:
        read_settings(folder)
    except StorageError:
        settings = _parsed(kept) if kept.is_file() else None
        if settings is None:
            raise
        write_settings(folder, settings)
        return True
    return False


def _way_back(folder: Path) -> str:
    try:
        _parsed(copy_of_settings(folder))
    except (OSError, *_MALFORMED):
        return "restore it from a backup"
    return f"`arrowlens doctor --repair --library {folder}` restores it from its copy"


def is_settings_file(name: str) -> bool:
    """Whether ``name`` is a settings file, complete or cut off."""
    return name in (SETTINGS_NAME, SETTINGS_NAME + _PARTIAL, COPIES)


def _from_json(values: dict[str, Any]) -> Settings:
    """Settings out of a file that anybody may have written: names in it become names of tables, so all are checked.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: something is missing, or of another form.
    """
    return Settings(
        schema_version=_natural("schema_version", values["schema_version"]),
        models=_records(values["models"]),
        window_s=_seconds("window_s", values["window_s"]),
        hop_s=_seconds("hop_s", values["hop_s"]),
        roots=tuple(_root(**root) for root in values["roots"]),
        mounts=tuple(_absolute("mount", mount) for mount in values["mounts"]),
        next_models=_records(values.get("next_models", {})),
        retired=tuple(_checked("retired table", name, is_vector_table_name) for name in values.get("retired", ())),
    )


def _records(values: Mapping[str, Any]) -> dict[str, ModelRecord]:
    return {_checked("role", role, lambda name: name in ROLES): _record(**record) for role, record in values.items()}


def _record(digest: object, dimension: object, source: object = "", space: object = None) -> ModelRecord:
    return ModelRecord(
        _checked("digest", digest, is_digest),
        _natural("dimension", dimension),
        _checked("source", source, _is_text),
        None if space is None else _checked("space", space, _is_text),
    )


def _root(root_id: object, path: object) -> Root:
    return Root(_checked("root_id", root_id, is_root_id), _absolute("root", path))


def _absolute(name: str, value: object) -> str:
    path = _checked(name, value, lambda path: _is_text(path) and os.path.isabs(path) and "\0" not in path)  # noqa: PTH117
    os.fsencode(path)  # raises ValueError: surrogates that stand for no byte
    return path


def _natural(name: str, value: object) -> int:
    if type(value) is not int or not 1 <= value <= _LARGEST:
        raise ValueError(f"{name} is {value!r:.80}")
    return value


def _seconds(name: str, value: object) -> float:
    if type(value) not in (int, float) or not 0 < value < _LARGEST:  # type: ignore[operator]
        raise ValueError(f"{name} is {value!r:.80}")
    return float(value)  # type: ignore[arg-type]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _checked(name: str, value: Any, is_right: Callable[[Any], bool]) -> str:  # noqa: ANN401 - from JSON
    if not is_right(value):
        raise ValueError(f"{name} is {value!r:.80}")
    text: str = value
    return text
