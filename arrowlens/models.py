"""Named model sets and their model directories: bundled, cached, or downloaded and converted on first use.

Converted models lie in the user's cache folder (the environment variable ARROWLENS_CACHE names another), one directory
each. When two processes need the same model at once, one installs it and the other waits.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from arrowlens.conversion.hub import locked
from arrowlens.conversion.report import OnProgress, silent
from arrowlens.deprecation import renamed_property
from arrowlens.encoders.model_directory import ARROW_NAME, PARQUET_NAME, ModelInfo, cache_directory, model_info
from arrowlens.encoders.registry import ROLES, ModelFamily, family_for, family_named
from arrowlens.errors import ModelLoadError

DEMO = Path(__file__).parent / "demo" / "models"
_DEMO_MODELS = {"vision": DEMO / "clip", "audio": DEMO / "audio"}
_EARLIER_ROLES = {"clip": "vision"}
_SPEEDS = "speeds.json"
_ROLE = "|".join([*ROLES, *_EARLIER_ROLES])
_ITEM = re.compile(rf"({_ROLE})=(.*)", re.DOTALL)


@dataclass(frozen=True)
class ModelSet:
    """Model directories by role, None where the set has no model for it.

    Attributes:
        name: as it was asked for.
        vision, audio, text: the directories.
        sources: where each role's model comes from: the name of a set, or the path of its directory.
    """

    name: str
    vision: Path | None = None
    audio: Path | None = None
    text: Path | None = None
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)

    def directories(self) -> dict[str, Path]:
        """Return the directories by role, without those that are None."""
        by_role = {"vision": self.vision, "audio": self.audio, "text": self.text}
        return {role: path for role, path in by_role.items() if path is not None}

    clip = renamed_property("clip", "vision")


@dataclass(frozen=True)
class Pretrained:
    """A published checkpoint of a named set.

    Attributes:
        family: what kind of model it is.
        model_id: its name on the hub.
        licence: its makers'.
        languages: that it knows texts in, "" for a model that takes none.
        download_bytes: the size of its safetensors on the hub; None where nobody has looked it up.
    """

    family: ModelFamily
    model_id: str
    licence: str
    languages: str
    download_bytes: int | None = None

    @property
    def role(self) -> str:
        """What the model is used for."""
        return self.family.role

    @property
    def directory(self) -> Path:
        """The model directory in the cache folder, whether it is there or not."""
        return cache_directory() / "models" / self.model_id.replace("/", "--")


_CLIP = Pretrained(family_named("clip"), "openai/clip-vit-base-patch16", "MIT", "English", 598_641_023)
_WHISPER = Pretrained(family_named("whisper"), "openai/whisper-base", "Apache-2.0", "", 290_403_936)
_MINILM = Pretrained(
    family_named("bert"), "sentence-transformers/all-MiniLM-L6-v2", "Apache-2.0", "English", 90_868_376
)
BASE = (_CLIP, _WHISPER, _MINILM)

# Sizes on the hub and the list of languages of these could not be looked up when they were added.
_SIGLIP = Pretrained(family_named("siglip"), "google/siglip2-base-patch16-224", "Apache-2.0", "many, unverified")
_SIGLIP_FAST = Pretrained(family_named("siglip"), "google/siglip2-base-patch32-256", "Apache-2.0", "many, unverified")
_SIGLIP_BEST = Pretrained(family_named("siglip"), "google/siglip2-so400m-patch14-384", "Apache-2.0", "many, unverified")
_CLAP = Pretrained(family_named("clap"), "laion/clap-htsat-unfused", "Apache-2.0", "English")

PRETRAINED_SETS: Mapping[str, tuple[Pretrained, ...]] = {
    "base": BASE,
    "standard": (_SIGLIP, _CLAP, _MINILM),
    "fast": (_SIGLIP_FAST, _CLAP, _MINILM),
    "best": (_SIGLIP_BEST, _CLAP, _MINILM),
    "speech": (_SIGLIP, _WHISPER),
}
"""The published models of each named set."""

SET_ROLES: Mapping[str, tuple[str, ...]] = {
    "demo": tuple(_DEMO_MODELS),
    **{name: tuple(model.role for model in models) for name, models in PRETRAINED_SETS.items()},
}
"""The roles of each named set."""

_USAGE = (
    f"use {', '.join(SET_ROLES)}, or {','.join(f'{role}=DIR' for role in ROLES)} (each optional); roles after the name "
    "of a set, as in base,audio=DIR, take the place of its own"
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
        languages: that it knows texts in, "" for a model that takes none.
        n_bytes: its size on disk; of a downloadable one, the size of the download, None where it is not known.
        path: the model directory; None for a downloadable one.
        digest: its identity, 64 hex digits; None for a downloadable one.
        ms_per_item: milliseconds of this machine for a picture, or a recording of 5 s, as ``arrowlens benchmark``
            measured them last; None where it has not.
    """

    set_name: str
    role: str
    source: str
    state: str
    licence: str
    languages: str
    n_bytes: int | None
    path: Path | None
    digest: str | None
    ms_per_item: float | None = None


def resolve(spec: str, on_progress: OnProgress | None = None, others: str | None = None) -> ModelSet:
    """Find the model directories of a set. Published models that are not in the cache are downloaded and converted.

    Args:
        spec: the name of a set, ``vision=DIR,audio=DIR,text=DIR`` with at least one of the three, or the name followed
            by roles that take the place of the set's own. In place of a directory, the name of a set means its model
            of that role (a directory called ``base`` is written ``./base``); ``clip=`` is the earlier name of
            ``vision=``.
        on_progress: called with each step of downloads and conversions.
        others: a set in the same words, for the roles that ``spec`` does not mention; without meaning where ``spec``
            begins with the name of a set.

    Raises:
        ModelLoadError: a name is unknown, a set has no model of the role, or a directory is missing or holds a model
            for another role.
        DownloadError: a model is not in the cache and cannot be downloaded; says what works offline.
        ConversionError, QualityError: as ``arrowlens.conversion.convert_clip_model``.
    """
    sources = _sources(spec, others)
    found = {role: Path(source) for role, source in sources.items() if source not in SET_ROLES}
    for role, path in found.items():  # before anything is downloaded
        _check_family(role, path)
    for role, source in sources.items():
        if source in SET_ROLES:
            found[role] = _of_set(source, role, on_progress or silent)
    return ModelSet(spec, **found, sources=sources)


def available() -> list[AvailableModel]:
    """List the models of the named sets, whether they are bundled, cached or still to be downloaded.

    Raises:
        ModelLoadError: a bundled or cached model is damaged.
    """
    published = [_pretrained(name, model) for name, models in PRETRAINED_SETS.items() for model in models]
    return [*_bundled(), *published]


def keep_speeds(ms_per_item: Mapping[str, float]) -> None:
    """Keep what a benchmark measured, by the model's digest, for ``available``; earlier figures of other models stay.

    Raises:
        OSError: the cache folder cannot be written.
    """
    if not ms_per_item:
        return
    path = cache_directory() / _SPEEDS
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False, encoding="ascii") as file:
        json.dump({**_speeds(), **ms_per_item}, file)
    Path(file.name).replace(path)


def measured_ms(digest: str) -> float | None:
    """Return the milliseconds of this machine for an item of a model, as ``AvailableModel``; None where unknown."""
    return _speeds().get(digest)


def digest_of(spec: str, role: str) -> str | None:
    """Return the digest of a set's model as far as it is on this machine; nothing is downloaded.

    Args:
        spec: as of ``resolve``. role: of the model.

    Returns:
        None where the set has no such model, or it is not here yet.

    Raises:
        ModelLoadError: an unknown set.
    """
    source = _sources(spec, None).get(role)
    if source is None:
        return None
    if source == "demo":
        directory = _DEMO_MODELS[role]
    elif source in PRETRAINED_SETS:
        (directory,) = [model.directory for model in PRETRAINED_SETS[source] if model.role == role]
    else:
        directory = Path(source)
    return model_info(directory).digest if _is_model(directory) else None


def _speeds() -> dict[str, float]:
    """What was kept; nothing where the file is missing or of another form."""
    try:
        kept = json.loads((cache_directory() / _SPEEDS).read_bytes())
        return {str(digest): float(ms) for digest, ms in kept.items() if 0 < float(ms) < float("inf")}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}


def _sources(spec: str, others: str | None) -> dict[str, str]:
    """Where the model of each role comes from: the name of a set, or the path of a directory."""
    first, *exchanged = items = re.split(rf",(?=(?:{_ROLE})=)", spec)  # a folder's name may hold commas
    if first in SET_ROLES:
        sources = dict.fromkeys(SET_ROLES[first], first)
    else:
        sources, exchanged = _sources(others, None) if others else {}, items
    named: dict[str, str] = {}
    for item in exchanged:
        match = _ITEM.fullmatch(item)
        role = _EARLIER_ROLES.get(match[1], match[1]) if match else ""
        if match is None or not match[2] or role in named:
            raise ModelLoadError(f"model set {spec!r} is unknown or garbled at {item!r}; {_USAGE}")
        if match[2] not in SET_ROLES:
            named[role] = str(Path(match[2]).expanduser().absolute())
        elif role in SET_ROLES[match[2]]:
            named[role] = match[2]
        else:
            having = ", ".join(name for name, roles in SET_ROLES.items() if role in roles)
            cure = f"sets with one: {having}; a directory of that name is written ./{match[2]}"
            raise ModelLoadError(f"the set {match[2]} has no {role} model for {item!r}; {cure}")
    return {**sources, **named}


def _of_set(name: str, role: str, on_progress: OnProgress) -> Path:
    """Return the directory of a named set's model, converted first where it is missing."""
    if name == "demo":
        directory = _DEMO_MODELS[role]
        if not _is_model(directory):
            raise ModelLoadError(f"the bundled demo model {directory} is missing; install arrowlens again")
        return directory
    (model,) = [model for model in PRETRAINED_SETS[name] if model.role == role]
    return _install(model, on_progress)


def _check_family(role: str, path: Path) -> ModelInfo:
    info = model_info(path)
    family_for(role, info.family, path)
    return info


def _install(model: Pretrained, on_progress: OnProgress) -> Path:
    """Return the directory of a published model, converted first where it is missing."""
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
            languages = "English" if role == "vision" else ""
            yield _here("demo", role, directory, "bundled", "Apache-2.0, as Arrowlens", languages)


def _pretrained(set_name: str, model: Pretrained) -> AvailableModel:
    if _is_model(model.directory):
        return _here(set_name, model.role, model.directory, "cached", model.licence, model.languages)
    return AvailableModel(
        set_name,
        model.role,
        model.model_id,
        "downloadable",
        model.licence,
        model.languages,
        model.download_bytes,
        None,
        None,
    )


def _here(set_name: str, role: str, path: Path, state: str, licence: str, languages: str) -> AvailableModel:
    info = _check_family(role, path)
    n_bytes = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    speed = _speeds().get(info.digest)
    return AvailableModel(set_name, role, info.source, state, licence, languages, n_bytes, path, info.digest, speed)
