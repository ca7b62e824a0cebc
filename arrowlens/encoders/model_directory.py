"""The header of a model directory and its small files, read without torch.

A model directory holds ``weights.arrow`` (or ``weights.parquet``, for exchange), ``config.json`` and the files that
preprocessing needs (``tokenizer.json``, ``preprocessor.json``), whose hashes the header of the weights carries.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq

from arrowlens.encoders.registry import COMMANDS, FAMILY_NAMES, family_named
from arrowlens.errors import ModelLoadError
from arrowlens.modalities import SAMPLE_RATE, Recipe

FORMAT_VERSION = 1
MAX_DIMENSION = 2**20  # of anything in a model; the largest today have vocabularies of 250,000
ARROW_NAME, PARQUET_NAME, CONFIG_NAME = "weights.arrow", "weights.parquet", "config.json"
METADATA_PREFIX = "arrowlens."
_SHA256 = re.compile("[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
CURE = "convert the model again with 'arrowlens convert'"


@dataclass(frozen=True)
class ModelInfo:
    """The header of a weights file; reading it touches no tensor.

    ``digest`` is the model's identity: 64 hex digits, a SHA-256 over dimensions, tensors and preprocessing files. Two
    models with the same ``space`` name (not None) put their vectors in one shared space. ``pooling_layer`` is the layer
    whose output libraries read from recordings, None for the last one with all that follows it. It is no part of the
    identity: a library remembers which layer it reads.
    """

    family: str
    dimensions: dict[str, Any]
    digest: str
    source: str
    space: str | None
    files: dict[str, str]
    format_version: int
    pooling_layer: int | None = None

    @property
    def dimension(self) -> int:
        """The length of the model's vectors: that of the shared space where there is one, else the hidden size."""
        projected = self.dimensions.get("projection_dim")
        return int(projected or self.dimensions["hidden_size"])

    @property
    def recipe(self) -> Recipe:
        """How a new library makes vectors of recordings with this model."""
        family = family_named(self.family)
        rate = family.sample_rate or SAMPLE_RATE
        return Recipe(family.windows, rate, layer=self.pooling_layer, skip_silence=True)


def cache_directory() -> Path:
    """Return our folder for downloads and converted models: ARROWLENS_CACHE, else the user's cache folder."""
    chosen = os.environ.get("ARROWLENS_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else platformdirs.user_cache_path("arrowlens")


def model_files(model_path: str | Path) -> dict[str, bytes]:
    """Return the files of a model directory by name, for ``install_model`` on another machine.

    Raises:
        ModelLoadError: as ``WeightLoader``; a file cannot be read.
    """
    weights = weights_file(Path(model_path).expanduser())
    files = {name: read_model_file(weights.parent, name) for name in model_info(weights).files}
    try:
        return {**files, weights.name: weights.read_bytes()}
    except OSError as error:
        raise ModelLoadError(f"{weights}: {error.strerror or error}; {CURE}") from error


def install_model(directory: Path, digest: str, files: Callable[[], Mapping[str, bytes]]) -> Path:
    """Return a directory that holds a model: the named one, else its copy in the cache folder.

    Args:
        directory: where it lies on the machine that knows it, and perhaps on this one.
        digest: of the model.
        files: gives what ``model_files`` gave, where there is no such copy yet.

    Raises:
        ModelLoadError: the files are those of another model, or the cache folder cannot be written.
    """
    copy = cache_directory() / "copies" / digest
    for there in (directory, copy):
        if _is_model(there, digest):
            return there
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=copy.parent))
        for name, data in files().items():
            (made / name).write_bytes(data)
        with suppress(OSError):  # another process was faster
            made.rename(copy)
        shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise ModelLoadError(f"{copy}: a model cannot be kept there ({error.strerror}); set ARROWLENS_CACHE") from error
    if not _is_model(copy, digest):
        raise ModelLoadError(f"{copy}: not the model {digest[:8]} that was sent; delete the folder")
    return copy


def _is_model(directory: Path, digest: str) -> bool:
    try:
        return model_info(directory).digest == digest
    except ModelLoadError:
        return False


def model_info(model_path: str | Path) -> ModelInfo:
    """Read the header of a model directory without touching its tensors.

    Raises:
        ModelLoadError: as ``WeightLoader``.
    """
    path = weights_file(Path(model_path).expanduser())
    try:
        with pa.memory_map(str(path)) as source:
            is_parquet = path.suffix == ".parquet"
            schema = pq.read_schema(source) if is_parquet else pa.ipc.open_file(source).schema
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
    return parse_metadata(schema.metadata or {}, path)


def read_model_file(model_path: str | Path, name: str) -> bytes:
    """Read a preprocessing file of a model directory, checked against the header's hash.

    Raises:
        ModelLoadError: as ``WeightLoader.read_file``.
    """
    path = weights_file(Path(model_path).expanduser())
    return read_checked(path.parent / name, model_info(path).files.get(name))


def weights_file(path: Path) -> Path:
    """Return the weights file of a model directory, or the path itself when it is a file.

    Raises:
        ModelLoadError: there is none.
    """
    if path.is_file():
        return path
    for name in (ARROW_NAME, PARQUET_NAME):
        if (path / name).is_file():
            return path / name
    what = f"no {ARROW_NAME} in it" if path.is_dir() else "no such directory"
    raise ModelLoadError(
        f"model directory {path}: {what}; make one with 'arrowlens convert {'|'.join(COMMANDS)} SOURCE'"
    )


def unreadable(path: Path, error: Exception, cure: str = CURE) -> ModelLoadError:
    """Return the error for a file that Arrow cannot read, with its cure."""
    detail = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ModelLoadError(f"{path}: truncated, damaged or not a weights file of Arrowlens ({detail}); {cure}")


def read_checked(path: Path, expected: str | None) -> bytes:
    """Read a file whose SHA-256 must be the expected one.

    Raises:
        ModelLoadError: it cannot be read, or is another file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelLoadError(f"{path}: {error.strerror or error}; {CURE}") from error
    if expected is None or hashlib.sha256(data).hexdigest() != expected:
        raise ModelLoadError(f"{path}: not the file the model was converted with; {CURE}")
    return data


def parse_metadata(raw: Mapping[bytes, bytes], path: Path) -> ModelInfo:
    """Read the header from a schema's metadata; each value is checked for its type and form.

    Raises:
        ModelLoadError: the format is newer, or a value is missing or malformed.
    """
    found = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in raw.items()}
    version = found.get(METADATA_PREFIX + "format_version", "")
    if not re.fullmatch("[0-9]{1,9}", version):
        raise ModelLoadError(f"{path}: an Arrow file, but not a weights file of Arrowlens; {CURE}")
    if int(version) > FORMAT_VERSION:
        raise ModelLoadError(f"{path}: format {version} is newer than this Arrowlens reads; upgrade Arrowlens")
    try:
        family = _checked("family", found[METADATA_PREFIX + "family"], FAMILY_NAMES.__contains__)
        dimensions = _dimensions(json.loads(found[METADATA_PREFIX + "dimensions"]))
        named = found.get(METADATA_PREFIX + "pooling_layer")
        return ModelInfo(
            family=family,
            dimensions=dimensions,
            digest=_checked("sha256", found[METADATA_PREFIX + "sha256"], _is_sha256),
            source=found[METADATA_PREFIX + "source"],
            space=found[METADATA_PREFIX + "space"] or None,
            files=_files(json.loads(found[METADATA_PREFIX + "files"])),
            format_version=int(version),
            # Headers of earlier versions name none.
            pooling_layer=default_pooling_layer(family, dimensions, found[METADATA_PREFIX + "space"] or None)
            if named is None
            else _pooling_layer(named, dimensions),
        )
    except (KeyError, ValueError, RecursionError) as error:
        raise unreadable(path, error) from error


def _dimensions(values: object) -> dict[str, Any]:
    """Check the dimensions that ``ModelInfo`` reads; the model checks the rest when it is built."""
    if not isinstance(values, dict):
        raise ValueError(f"dimensions are {values!r:.80}")
    projected = values.get("projection_dim")
    widths = [values["hidden_size"]] if projected is None else [projected]
    for width in widths:
        if type(width) is not int or not 1 <= width <= MAX_DIMENSION:
            raise ValueError(f"the vectors' dimension is {width!r:.80}")
    return values


def default_pooling_layer(family: str, dimensions: dict[str, Any], space: str | None) -> int | None:
    """Return the layer that a new model directory names: half of the layers of a family that is read in the middle.

    Projected vectors, and those of a space shared with other models, come from the last layer, which was trained for
    it. Measured in docs/performance.md.
    """
    n_layers = dimensions.get("num_layers")
    is_free = space is None and dimensions.get("projection_dim") is None
    if type(n_layers) is not int or not is_free or not family_named(family).is_read_in_the_middle:
        return None
    return max(1, n_layers // 2)


def _pooling_layer(text: str, dimensions: dict[str, Any]) -> int | None:
    layer, n_layers = json.loads(text), dimensions.get("num_layers")
    if layer is None:
        return None
    if type(layer) is not int or type(n_layers) is not int or layer not in range(1, n_layers + 1):
        raise ValueError(f"pooling_layer is {layer!r:.80} of {n_layers!r:.80} layers")
    if dimensions.get("projection_dim") is not None:
        raise ValueError(f"pooling_layer is {layer}, but vectors are projected from the last layer")
    return layer


def _files(values: object) -> dict[str, str]:
    """Check file names and hashes. A name becomes a path, so it must be a plain one."""
    if not isinstance(values, dict):
        raise ValueError(f"files are {values!r:.80}")
    return {
        _checked("file name", name, _FILE_NAME.fullmatch): _checked("file hash", digest, _is_sha256)
        for name, digest in values.items()
    }


def _is_sha256(value: Any) -> bool:  # noqa: ANN401 - from JSON
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _checked(name: str, value: Any, is_right: Callable[[Any], object]) -> str:  # noqa: ANN401 - from JSON
    if not is_right(value):
        raise ValueError(f"{name} is {value!r:.80}")
    text: str = value
    return text
