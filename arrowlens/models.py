"""Named model sets and their model directories: bundled, cached, or downloaded and converted on first use.

Converted models lie in the user's cache folder (the environment variable ARROWLENS_CACHE names another), one directory
each. When two processes need the same model at once, one installs it and the other waits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from arrowlens.conversion.hub import cache_directory, locked
from arrowlens.conversion.report import OnProgress, silent
from arrowlens.deprecation import renamed_property
from arrowlens.encoders.model_directory import ARROW_NAME, PARQUET_NAME, ModelInfo, model_info
from arrowlens.encoders.registry import ROLES, ModelFamily, family_for, family_named
from arrowlens.errors import ModelLoadError

DEMO = Path(__file__).parent / "demo" / "models"
_DEMO_MODELS = {"vision": DEMO / "clip", "audio": DEMO / "audio"}
_EARLIER_ROLES = {"clip": "vision"}
_ROLE = "|".join([*ROLES, *_EARLIER_ROLES])
_ITEM = re.compile(rf"({_ROLE})=(.*)", re.DOTALL)
_USAGE = f"use demo, base, or {','.join(f'{role}=DIR' for role in ROLES)} (each optional)"


@dataclass(frozen=True)
class ModelSet:
    """Model directories by role, None where the set has no model for it."""

    name: str
    vision: Path | None = None
    audio: Path | None = None
    text: Path | None = None

    def directories(self) -> dict[str, Path]:
        """Return the directories by role, without those that are None."""
        by_role = {"vision": self.vision, "audio": self.audio, "text": self.text}
        return {role: path for role, path in by_role.items() if path is not None}

    clip = renamed_property("clip", "vision")


@dataclass(frozen=True)
class Pretrained:
    """A published checkpoint of the set ``base``. ``download_bytes`` is the size of its safetensors on the hub."""

    family: ModelFamily
    model_id: str
    licence: str
    download_bytes: int

    @property
    def role(self) -> str:
        """What the model is used for."""
        return self.family.role

    @property
    def directory(self) -> Path:
        """The model directory in the cache folder, whether it is there or not."""
        return cache_directory() / "models" / self.model_id.replace("/", "--")


BASE = (
    Pretrained(family_named("clip"), "openai/clip-vit-base-patch16", "MIT", 598_641_023),
    Pretrained(family_named("whisper"), "openai/whisper-base", "Apache-2.0", 290_403_936),
    Pretrained(family_named("bert"), "sentence-transformers/all-MiniLM-L6-v2", "Apache-2.0", 90_868_376),
)


@dataclass(frozen=True)
class AvailableModel:
    """A model of a named set.

    Attributes:
        set_name: the set that it belongs to.
        role: what it is used for.
        source: where its checkpoint came from.
        state: ``bundled``, ``cached`` or ``downloadable``.
        licence: of the model.
        n_bytes: its size on disk; of a downloadable one, the size of the download.
        path: the model directory; None for a downloadable one.
        digest: its identity, 64 hex digits; None for a downloadable one.
    """

    set_name: str
    role: str
    source: str
    state: str
    licence: str
    n_bytes: int
    path: Path | None
    digest: str | None


def resolve(spec: str, on_progress: OnProgress | None = None) -> ModelSet:
    """Find the model directories of a set. Those of ``base`` that are not in the cache are downloaded and converted.

    Args:
        spec: ``demo``, ``base``, or ``vision=DIR,audio=DIR,text=DIR`` with at least one of the three;
            ``clip=DIR`` is the earlier name of ``vision=DIR``.
        on_progress: called with each step of downloads and conversions.

    Raises:
        ModelLoadError: the name is unknown, or a directory is missing or holds a model for another role.
        DownloadError: ``base`` is not in the cache and cannot be downloaded; says what works offline.
        ConversionError, QualityError: as ``arrowlens.conversion.convert_clip_model``.
    """
    if spec == "demo":
        return _demo()
    if spec == "base":
        installed = {model.role: _install(model, on_progress or silent) for model in BASE}
        return ModelSet("base", **installed)
    return _from_directories(spec)


def available() -> list[AvailableModel]:
    """List the models of the named sets, whether they are bundled, cached or still to be downloaded.

    Raises:
        ModelLoadError: a bundled or cached model is damaged.
    """
    return [*_bundled(), *(_pretrained(model) for model in BASE)]


def _demo() -> ModelSet:
    for directory in _DEMO_MODELS.values():
        if not _is_model(directory):
            raise ModelLoadError(f"the bundled demo model {directory} is missing; install arrowlens again")
    return ModelSet("demo", **_DEMO_MODELS)


def _from_directories(spec: str) -> ModelSet:
    directories: dict[str, Path] = {}
    for item in re.split(rf",(?=(?:{_ROLE})=)", spec):  # a folder's name may hold commas
        match = _ITEM.fullmatch(item)
        role = _EARLIER_ROLES.get(match[1], match[1]) if match else ""
        if match is None or not match[2] or role in directories:
            raise ModelLoadError(f"model set {spec!r} is unknown or garbled at {item!r}; {_USAGE}")
        directories[role] = Path(match[2]).expanduser().absolute()
        _check_family(role, directories[role])
    return ModelSet(spec, **directories)


def _check_family(role: str, path: Path) -> ModelInfo:
    info = model_info(path)
    family_for(role, info.family, path)
    return info


def _install(model: Pretrained, on_progress: OnProgress) -> Path:
    """Return the directory of a base model, converted first where it is missing."""
    if _is_model(model.directory):
        return model.directory
    lock = model.directory.with_name(model.directory.name + ".lock")
    with locked(lock, f"another process installs {model.model_id}", on_progress):
        if not _is_model(model.directory):  # another process may have made it meanwhile
            from arrowlens import conversion  # deferred: torch, only to convert

            options = conversion.ConversionOptions(on_progress=on_progress)
            conversion.convert_model(model.family.command, model.model_id, model.directory, options)
    return model.directory


def _is_model(directory: Path) -> bool:
    return any((directory / name).is_file() for name in (ARROW_NAME, PARQUET_NAME))


def _bundled() -> Iterator[AvailableModel]:
    for role, directory in _DEMO_MODELS.items():
        if _is_model(directory):
            yield _here("demo", role, directory, ("bundled", "Apache-2.0, as Arrowlens"))


def _pretrained(model: Pretrained) -> AvailableModel:
    if _is_model(model.directory):
        return _here("base", model.role, model.directory, ("cached", model.licence))
    return AvailableModel(
        "base", model.role, model.model_id, "downloadable", model.licence, model.download_bytes, None, None
    )


def _here(set_name: str, role: str, path: Path, state_and_licence: tuple[str, str]) -> AvailableModel:
    info, (state, licence) = _check_family(role, path), state_and_licence
    n_bytes = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    return AvailableModel(set_name, role, info.source, state, licence, n_bytes, path, info.digest)
