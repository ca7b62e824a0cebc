"""What a library knows about itself, in one small JSON file that is replaced as a whole."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from arrowlens.addresses import scheme_of
from arrowlens.errors import LibraryVersionError, ModelMismatchError, StorageError
from arrowlens.modalities import FIRST_RECIPE, MAX_WINDOW_S, ROLE_OF, SAMPLE_RATES, Recipe, Windows
from arrowlens.store.identifiers import (
    ROLES,
    SCHEMA_VERSION,
    SHARDED_VERSION,
    is_digest,
    is_root_id,
    is_vector_table_name,
    root_id_of,
    vector_table_name,
)
from arrowlens.store.location import COPY_OF_SETTINGS as _COPY
from arrowlens.store.location import SETTINGS_NAME, Location

_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
_LARGEST = 10**6  # for any number
MAX_SHARDS = 256
_LEAST_HOP_S = 0.1  # each window takes a row, and memory while a recording is cut
_EARLIER_ROLES = {"clip": "vision", "vision": "pooled_vision"}  # as settings before version 4 name them


class Models(Protocol):
    """What a library remembers of a model set; ``embedding.Provider`` says more."""

    @property
    def recipe(self) -> Recipe:
        """How vectors are made of recordings."""

    def digest(self, role: str) -> str:
        """Identity of a role's model, 64 hex characters."""

    def dimension(self, role: str) -> int:
        """Length of a role's vectors."""

    def space(self, role: str) -> str | None:
        """Name of the space that a role's model shares with others."""

    def takes_text(self, role: str) -> bool:
        """Whether a role's model encodes texts, too."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelRecord:
    """The model that a role's vectors come from.

    Attributes:
        digest: identifies the model; 64 hex characters.
        dimension: length of its vectors.
        source: where the model came from: a set's name or a directory.
        space: name of the embedding space that it shares with other models, None when it shares none.
        recipe: how recordings become vectors; without a meaning, and not written, for other roles.
        takes_text: whether the model encodes texts, too, into the space of its vectors. Settings of earlier versions do
            not say; of their models of recordings none does.
    """

    digest: str
    dimension: int
    source: str = ""
    space: str | None = None
    recipe: Recipe = FIRST_RECIPE
    takes_text: bool = False

    @classmethod
    def of(cls, models: Models, role: str, source: str = "") -> ModelRecord:
        """The record of a model set's model for a role."""
        recipe = models.recipe if role == ROLE_OF["audio"] else FIRST_RECIPE
        space, takes_text = models.space(role), models.takes_text(role)
        return cls(models.digest(role), models.dimension(role), source, space, recipe, takes_text)

    @property
    def recipe_digest(self) -> str:
        """Identity of the vectors, and the name of their table; 64 hex characters."""
        return self.recipe.digest(self.digest)


@dataclasses.dataclass(frozen=True, slots=True)
class RouteCalibration:
    """What a user's own pairs of a text and a file say of the scores of one route.

    Attributes:
        weights: as ``search.relevance.calibration`` fits them.
        n_pairs: how many texts they were fitted with.
        digests: ``recipe_digest`` by role, of the models that the scores are of.
    """

    weights: tuple[float, float, float]
    n_pairs: int
    digests: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Root:
    """A folder that was ingested, or a prefix of a bucket.

    ``path`` is absolute, or such as ``s3://bucket/photos``; bytes of its name that are not UTF-8 are surrogates.
    """

    root_id: str
    path: str

    @classmethod
    def at(cls, path: str) -> Root:
        """Return the root of an absolute folder path."""
        return cls(root_id_of(path), path)

    def relative(self, path: str) -> bytes | None:
        """Return an absolute path relative to this root: b"" for the root itself, None for a path outside."""
        return relative_to(self.path, path)

    def absolute(self, path_bytes: bytes) -> bytes:
        """Return the absolute path of a path relative to this root.

        Raises:
            StorageError: it leads out of the root, which no indexed path does.
        """
        return os.path.join(os.fsencode(self.path), relative_path(path_bytes))  # noqa: PTH118 - pathlib has no bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Layout, models and folders of a library.

    Attributes:
        schema_version: of the tables.
        models: the models in use, by role.
        roots: the folders that were ingested.
        mounts: paths where disks were mounted. An empty folder there means that the disk is away, not that its files
            were deleted.
        next_models: the models of a migration that has begun, empty when there is none.
        retired: tables of earlier models that are still to be dropped.
        calibrations: by route, such as "text to image": what was saved by ``eval --save-calibration``.
        n_shards: parts that the tables are divided into, a power of two; it never changes.
    """

    schema_version: int = SCHEMA_VERSION
    models: Mapping[str, ModelRecord] = dataclasses.field(default_factory=dict)
    roots: tuple[Root, ...] = ()
    mounts: tuple[str, ...] = ()
    next_models: Mapping[str, ModelRecord] = dataclasses.field(default_factory=dict)
    retired: tuple[str, ...] = ()
    calibrations: Mapping[str, RouteCalibration] = dataclasses.field(default_factory=dict)
    n_shards: int = 1

    @property
    def recipe(self) -> Recipe:
        """How recordings become vectors; where there is no model for them yet, that of the earlier versions."""
        return self.models[ROLE_OF["audio"]].recipe if ROLE_OF["audio"] in self.models else FIRST_RECIPE

    @property
    def text_reaches_audio(self) -> bool:
        """Whether texts find recordings, too: the audio model encodes texts, or shares the vision model's space."""
        audio = self.models.get(ROLE_OF["audio"])
        return audio is not None and (audio.takes_text or self.has_one_space)

    @property
    def has_one_space(self) -> bool:
        """Whether vectors of pictures and of recordings may be compared."""
        vision, audio = self.models.get("vision"), self.models.get("audio")
        return vision is not None and audio is not None and vision.space is not None and vision.space == audio.space

    @property
    def vector_tables(self) -> dict[str, tuple[str, ModelRecord]]:
        """Role and model by the name of each vector table, of the models in use and of the next ones."""
        both = (*self.models.items(), *self.next_models.items())
        return {vector_table_name(role, record.recipe_digest): (role, record) for role, record in both}

    def with_calibrations(self, calibrations: Mapping[str, RouteCalibration]) -> Settings:
        """Return these settings with further calibrations; those of other models than the ones in use are dropped."""
        in_use = {(role, record.recipe_digest) for role, record in self.models.items()}
        together = {**self.calibrations, **calibrations}
        kept = {route: each for route, each in together.items() if each.digests.items() <= in_use}
        return dataclasses.replace(self, calibrations=kept)

    def changing_to(self, models: Mapping[str, ModelRecord]) -> Settings:
        """Return these settings with ``models`` as the next ones; tables of other next models are retired.

        Raises:
            ModelMismatchError: tables of two models would have the same name.
        """
        names = {vector_table_name(role, record.recipe_digest): record for role, record in models.items()}
        for name, (role, held) in dataclasses.replace(self, next_models={}).vector_tables.items():
            if name in names and (names[name].digest, names[name].recipe) != (held.digest, held.recipe):
                raise ModelMismatchError(
                    f"the digests of two {role} models begin alike ({held.digest[:8]}); index into a new library"
                )
        return dataclasses.replace(self, next_models=dict(models))._without(self.vector_tables)

    def changed(self) -> Settings:
        """Return these settings with the next models in use, and the tables of the earlier ones retired."""
        changed = dataclasses.replace(self, models=self.next_models, next_models={})
        return changed.with_calibrations({})._without(self.vector_tables)

    def without_retired(self) -> Settings:
        """Return these settings without retired tables."""
        return dataclasses.replace(self, retired=())

    def _without(self, earlier: Iterable[str]) -> Settings:
        retired = {*self.retired, *earlier} - self.vector_tables.keys()
        return dataclasses.replace(self, retired=tuple(sorted(retired)))

    def with_models(self, models: Mapping[str, ModelRecord]) -> Settings:
        """Return these settings with ``models``, which may add roles.

        Raises:
            ModelMismatchError: they change or leave out a role.
        """
        for role, record in self.models.items():
            held = f"{role} vectors of model {record.digest[:8]}{f' ({record.source})' if record.source else ''}"
            if role not in models:
                raise ModelMismatchError(f"the library holds {held}, and no {role} model was given; open it with that")
            cure = "open it with the models it was made with, or change it with `arrowlens models use SET`"
            if models[role].digest != record.digest:
                raise ModelMismatchError(f"the library holds {held}, not of {models[role].digest[:8]}; {cure}")
            if models[role].recipe != record.recipe:
                raise ModelMismatchError(
                    f"the library holds {held} by {record.recipe}, not by {models[role].recipe}; {cure}"
                )
        added = {role: record for role, record in models.items() if role not in self.models}
        return dataclasses.replace(self, models={**self.models, **added}) if added else self

    def with_root(self, path: str) -> Settings:
        """Return these settings with a root for the folder ``path``, unless a root contains it already."""
        if any(root.relative(path) is not None for root in self.roots):
            return self
        return dataclasses.replace(self, roots=(*self.roots, Root.at(path)))

    def root_of(self, path: str) -> Root | None:
        """Return the deepest root that contains an absolute path."""
        holding = [root for root in self.roots if root.relative(path) is not None]
        return max(holding, key=lambda root: len(root.path), default=None)


def is_number_of_shards(number: object) -> bool:
    """Return whether a library may have so many shards: a power of two, up to ``MAX_SHARDS``."""
    return type(number) is int and 1 <= number <= MAX_SHARDS and number.bit_count() == 1


def relative_path(path_bytes: bytes) -> bytes:
    """Check a path that a table says is relative to a root, and return it.

    Raises:
        StorageError: it leads out of the root, which no indexed path does.
    """
    if path_bytes.startswith(b"/") or b"\0" in path_bytes or b".." in path_bytes.split(b"/"):
        raise StorageError(f"the library names a file outside its folders ({path_bytes!r:.200}); index into a new one")
    return path_bytes


def relative_to(folder: str, path: str) -> bytes | None:
    """Return an absolute path relative to a folder: b"" for the folder itself, None for a path outside."""
    if path == folder:
        return b""
    base = folder if folder.endswith(os.sep) else folder + os.sep
    return os.fsencode(path[len(base) :]) if path.startswith(base) else None


def read_settings(location: Location) -> tuple[Settings, str] | None:
    """Return the settings of a library and the tag of their file, None where there are none.

    Raises:
        LibraryVersionError: a newer Arrowlens wrote them. StorageError: they are unreadable, damaged or lost.
    """
    path = f"{location.uri}/{SETTINGS_NAME}"
    try:
        stored = location.read(SETTINGS_NAME)
        if stored is not None:
            return _parsed(path, stored[0]), stored[1]
    except OSError as error:
        raise StorageError(f"{path} cannot be read ({error.strerror}); check the permissions") from error
    except _MALFORMED as error:
        # Names in the file stand in some messages; escaped, they stay on one line.
        raise StorageError(f"{path} is damaged ({ascii(str(error))[1:-1]}); {_way_back(location)}") from error
    if not location.is_durable and location.tag(_COPY) is not None:
        raise StorageError(f"{path} is lost; {_way_back(location)}")
    return None


def write_settings(location: Location, settings: Settings, expected_tag: str | None) -> str | None:
    """Replace the settings, and their copy, in one step each; return the new tag. The caller holds the writer lock.

    Raises:
        LibraryBusyError: the settings are not those with the expected tag. StorageError: the disk refused.
    """
    assert settings.schema_version == SCHEMA_VERSION, "settings are written in the layout of now only"
    content = json.dumps(_to_json(settings), indent=1)  # ASCII: surrogates of odd names come back
    try:
        tag = location.replace(SETTINGS_NAME, content.encode("ascii"), expected_tag)
        location.keep_copy(SETTINGS_NAME)
    except OSError as error:
        path = f"{location.uri}/{SETTINGS_NAME}"
        raise StorageError(f"{path} cannot be written ({error.strerror}); free space or check permissions") from error
    return tag


def has_copy(location: Location) -> bool:
    """Return whether there is a copy of a library's settings; earlier versions of Arrowlens kept none."""
    return location.tag(_COPY) is not None


def restore_settings(location: Location) -> bool:
    """Replace settings that are lost or damaged by their copy; return whether that was needed.

    Raises:
        LibraryVersionError: a newer Arrowlens wrote them. StorageError: the copy is damaged, too; the disk refused.
    """
    try:
        read_settings(location)
    except StorageError as refused:
        if isinstance(refused.__cause__, OSError):  # what cannot be read now may be whole
            raise
        try:
            kept = location.read(_COPY)
        except OSError as error:
            cure = "check the permissions"
            raise StorageError(f"{location.uri}/{_COPY} cannot be read ({error.strerror}); {cure}") from error
        try:
            settings = None if kept is None else _parsed(f"{location.uri}/{_COPY}", kept[0])
        except _MALFORMED:
            settings = None
        if settings is None or kept is None:
            raise
        try:  # as it is: a copy of an earlier layout is upgraded by the next writer, as any library
            location.replace(SETTINGS_NAME, kept[0], location.tag(SETTINGS_NAME))
        except OSError as error:
            path, cure = f"{location.uri}/{SETTINGS_NAME}", "free space or check permissions"
            raise StorageError(f"{path} cannot be written ({error.strerror}); {cure}") from error
        return True
    return False


def _way_back(location: Location) -> str:
    try:
        kept = location.read(_COPY)
        if kept is not None:
            _parsed(f"{location.uri}/{_COPY}", kept[0])
            return f"`arrowlens doctor --repair --library {location.uri}` restores it from its copy"
    except (OSError, *_MALFORMED):
        pass
    return "restore it from a backup"


def _parsed(path: str, content: bytes) -> Settings:
    values = json.loads(content.decode("ascii"))
    version = int(values["schema_version"])
    if version > SHARDED_VERSION:
        raise LibraryVersionError(
            f"{path} was written by a newer Arrowlens (layout {version}, this one reads {SHARDED_VERSION}); "
            "update with pip install --upgrade arrowlens"
        )
    return _from_json(values)


def _to_json(settings: Settings) -> dict[str, Any]:
    values = dataclasses.asdict(settings)
    if settings.n_shards == 1:  # as earlier versions write and read it
        del values["n_shards"]
    else:
        values["schema_version"] = SHARDED_VERSION
    for models in (values["models"], values["next_models"]):
        for role in models.keys() - {ROLE_OF["audio"]}:
            del models[role]["recipe"]  # only recordings have one
    return values


def _from_json(values: dict[str, Any]) -> Settings:
    """Check all values: anybody may have written the file, and names in it become names of tables.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: something is missing, or of another form.
    """
    version = _natural("schema_version", values["schema_version"])
    n_shards = values["n_shards"] if version == SHARDED_VERSION else 1
    if version == SHARDED_VERSION and (not is_number_of_shards(n_shards) or n_shards == 1):
        raise ValueError(f"n_shards is {n_shards!r:.80}")
    if version < 4:
        values = _with_roles_and_recipes(values)
    return Settings(
        schema_version=min(version, SCHEMA_VERSION),  # the tables of a shard are those of a library
        models=_records(values["models"]),
        roots=tuple(_root(**root) for root in values["roots"]),
        mounts=tuple(_absolute("mount", mount) for mount in values["mounts"]),
        next_models=_records(values.get("next_models", {})),
        retired=tuple(_checked("retired table", name, is_vector_table_name) for name in values.get("retired", ())),
        calibrations={
            _checked("route", route, _is_text): _calibration(**each)
            for route, each in values.get("calibrations", {}).items()
        },
        n_shards=n_shards,
    )


def _with_roles_and_recipes(values: dict[str, Any]) -> dict[str, Any]:
    """Settings of a version before 4 as they are written now: one recipe was that of all, and roles had other names."""
    recipe = {"windows": {"length_s": values["window_s"], "hop_s": values["hop_s"]}}

    def converted(models: Mapping[str, Any]) -> dict[str, Any]:
        return {
            _EARLIER_ROLES.get(role, role): {**record, "recipe": recipe} if role == ROLE_OF["audio"] else record
            for role, record in models.items()
        }

    return {**values, "models": converted(values["models"]), "next_models": converted(values.get("next_models", {}))}


def _records(values: Mapping[str, Any]) -> dict[str, ModelRecord]:
    records = {_checked("role", role, lambda name: name in ROLES): _record(**record) for role, record in values.items()}
    for role, record in records.items():
        if role != ROLE_OF["audio"] and record.recipe != FIRST_RECIPE:
            raise ValueError(f"recipe of {role} is {record.recipe!r:.80}")
    return records


def _record(
    digest: object,
    dimension: object,
    source: object = "",
    space: object = None,
    recipe: Mapping[str, Any] | None = None,
    takes_text: object = False,
) -> ModelRecord:
    if type(takes_text) is not bool:
        raise ValueError(f"takes_text is {takes_text!r:.80}")
    return ModelRecord(
        _checked("digest", digest, is_digest),
        _natural("dimension", dimension),
        _checked("source", source, _is_text),
        None if space is None else _checked("space", space, _is_text),
        FIRST_RECIPE if recipe is None else _recipe(**recipe),
        takes_text,
    )


def _recipe(
    windows: Mapping[str, Any],
    sample_rate: object = FIRST_RECIPE.sample_rate,
    layer: object = FIRST_RECIPE.layer,
    skip_silence: object = FIRST_RECIPE.skip_silence,
) -> Recipe:
    length_s, hop_s = (_seconds(name, windows[name]) for name in ("length_s", "hop_s"))
    if not hop_s >= _LEAST_HOP_S or length_s > MAX_WINDOW_S:
        raise ValueError(f"windows are of {length_s!r:.80} s every {hop_s!r:.80} s")
    is_maximum = windows.get("is_maximum", False)  # earlier versions wrote none
    if type(is_maximum) is not bool:
        raise ValueError(f"is_maximum is {is_maximum!r:.80}")
    if sample_rate not in SAMPLE_RATES:
        raise ValueError(f"sample_rate is {sample_rate!r:.80}")
    if type(skip_silence) is not bool:
        raise ValueError(f"skip_silence is {skip_silence!r:.80}")
    depth = None if layer is None else _natural("layer", layer)
    return Recipe(Windows(length_s, hop_s, is_maximum), _natural("sample_rate", sample_rate), depth, skip_silence)


def _calibration(weights: Iterable[object], n_pairs: object, digests: Mapping[str, object]) -> RouteCalibration:
    slope, by_number, constant = (_number("weight", weight) for weight in weights)
    return RouteCalibration(
        (slope, by_number, constant),
        _natural("n_pairs", n_pairs),
        {
            _checked("role", role, lambda name: name in ROLES): _checked("digest", digest, is_digest)
            for role, digest in digests.items()
        },
    )


def _root(root_id: object, path: object) -> Root:
    is_elsewhere = isinstance(path, str) and scheme_of(path) is not None and "\0" not in path
    return Root(_checked("root_id", root_id, is_root_id), str(path) if is_elsewhere else _absolute("root", path))


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


def _number(name: str, value: object) -> float:
    if type(value) not in (int, float) or not -_LARGEST < value < _LARGEST:  # type: ignore[operator]
        raise ValueError(f"{name} is {value!r:.80}")
    return float(value)  # type: ignore[arg-type]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _checked(name: str, value: Any, is_right: Callable[[Any], bool]) -> str:  # noqa: ANN401 - from JSON
    if not is_right(value):
        raise ValueError(f"{name} is {value!r:.80}")
    text: str = value
    return text
