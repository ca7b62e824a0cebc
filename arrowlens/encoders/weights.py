"""Memory-mapped Arrow weights, and the writer beside the reader.

``weights.arrow`` is an uncompressed Arrow IPC file with a row per tensor: ``layer_name: utf8, shape: list<int64>,
dtype: utf8, data: large_binary``. Arrow aligns buffers, not the values inside them, so the first row is a filler of
computed length and every value is padded: the address of each tensor in the mapping is a multiple of 64, which is what
vector instructions need. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import mmap
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from arrowlens.encoders.dimensions import check_dimensions
from arrowlens.encoders.model_directory import (
    ARROW_NAME,
    CONFIG_NAME,
    CURE,
    FORMAT_VERSION,
    METADATA_PREFIX,
    PARQUET_NAME,
    ModelInfo,
    default_pooling_layer,
    parse_metadata,
    read_checked,
    unreadable,
    weights_file,
)
from arrowlens.encoders.onednn import packs_alike
from arrowlens.encoders.registry import FAMILY_NAMES, family_named
from arrowlens.errors import ModelLoadError

logger = logging.getLogger(__name__)

ALIGNMENT = 64  # bytes
FOLDED_NAME = "weights.bfloat16.arrow"
_FOLDING = 2  # counts up when modules fold their parameters in another way, or have others
_FOLDED_FROM, _FOLDED_HASH = METADATA_PREFIX + "folded_from", METADATA_PREFIX + "sha256"
_REMOVE = "remove the file; 'arrowlens models prepare' makes it again"
_FILLER = ""  # the name of the first row, which no tensor can have
_Config = TypeVar("_Config")
ModelPath: TypeAlias = "str | Path | WeightLoader"
_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
# What torch and Python raise for a table with other columns, types or values.
_MALFORMED = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError, MemoryError)
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_ARROW_SCHEMA = pa.schema(
    [("layer_name", pa.utf8()), ("shape", pa.list_(pa.int64())), ("dtype", pa.utf8()), ("data", pa.large_binary())]
)


class WeightLoader:
    """Reads the weights of a model directory; ``weights.arrow`` is mapped, not copied.

    Args:
        model_path: a model directory, or its weights file.

    Raises:
        ModelLoadError: the file is missing, foreign, of a newer format, truncated or damaged.
    """

    def __init__(self, model_path: str | Path) -> None:
        path = Path(model_path).expanduser()
        self.path = weights_file(path)
        self.directory = self.path.parent
        self._tensors, metadata = _read_parquet(self.path) if self.path.suffix == ".parquet" else _map_arrow(self.path)
        self.info = parse_metadata(metadata, self.path)
        self.folded_path = self.directory / FOLDED_NAME
        self._modules: list[tuple[str, torch.nn.Module]] = []
        self._can_read_folded = True

    def load_weights(self) -> dict[str, torch.Tensor]:
        """Return all tensors by name, in their stored type. They are views of the mapping: copy one to change it."""
        return dict(self._tensors)

    def load_into(
        self,
        module: torch.nn.Module,
        prefix: str = "",
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Set a module's parameters to the tensors whose names start with ``prefix``.

        The module's parts declare their parameters in ``shapes`` (see ``transformer.LazyParameters``).

        Args:
            module: gets the parameters.
            prefix: of the tensors' names, with its final dot.
            device: None leaves them in the mapping.
            dtype: None leaves the stored type; with the stored type and the CPU nothing is copied.

        Raises:
            ModelLoadError: a tensor is missing or has another shape than the module's; the message names it.
        """
        folded = self.folded_tensors(device, dtype)
        parts = [each for each in module.named_modules(prefix=prefix.removesuffix(".")) if hasattr(each[1], "shapes")]
        missing = [path for path, _ in parts if folded is not None and path not in folded]
        if missing:
            self._pass_over_folded(f"{self.folded_path}: the parameters of '{missing[0]}' are missing; {_REMOVE}")
            folded = None
        for path, part in parts:
            if folded is None:
                for name, shape in cast(dict[str, tuple[int, ...]], part.shapes).items():
                    part.place(name, self.tensor(f"{path}.{name}" if path else name, shape), device, dtype)
            else:
                for name, tensor in folded[path].items():
                    original = self._tensors.get(f"{path}.{name}" if path else name, tensor)
                    part.place_folded(name, tensor, original.dtype)
        self._modules.append((prefix, module))

    def tensor(self, name: str, shape: tuple[int, ...] | None = None) -> torch.Tensor:
        """Return one tensor by name; with ``shape``, only of that shape.

        Raises:
            ModelLoadError: there is none of that name, or it has another shape.
        """
        if name not in self._tensors:
            raise ModelLoadError(f"{self.path}: tensor '{name}' is missing; {CURE}")
        tensor = self._tensors[name]
        if shape is not None and tensor.shape != shape:
            raise ModelLoadError(
                f"{self.path}: tensor '{name}' has shape {tuple(tensor.shape)}, "
                f"but the dimensions ask for {shape}; {CURE}"
            )
        return tensor

    def folded_tensors(
        self, device: torch.device | None, dtype: torch.dtype | None
    ) -> Mapping[str, Mapping[str, torch.Tensor]] | None:
        """Map the folded parameters of this model, where computing on a device in a type needs them and they are there.

        Returns:
            By module and name, as ``LazyParameters.place_folded`` takes them; None where there are none, those of
            another model or of another version of Arrowlens, or none that this processor can multiply with. Those of a
            damaged file are passed over with a warning, since the original is intact.
        """
        on_cpu = device is None or device.type == "cpu"
        if dtype is None or not on_cpu or not self._can_read_folded:
            return None
        if not self.folded_path.is_file() or not packs_alike(dtype):
            return None
        try:
            tensors, metadata = _map_arrow(self.folded_path, _REMOVE)
        except ModelLoadError as error:
            if not isinstance(error.__cause__, FileNotFoundError):  # else it was removed just now
                self._pass_over_folded(str(error))
            return None
        if metadata.get(_FOLDED_FROM.encode()) != self._folded_from.encode():
            return None
        folded: dict[str, dict[str, torch.Tensor]] = {}
        for full_name, tensor in tensors.items():
            path, _, name = full_name.rpartition(".")
            folded.setdefault(path, {})[name] = tensor
        return folded

    def _pass_over_folded(self, cause: str) -> None:
        self._can_read_folded = False
        logger.warning("%s. The model is cast from %s", cause, self.path.name)

    def write_folded(self) -> None:
        """Write what modules were loaded with, as a file that ``folded_tensors`` maps.

        The modules were loaded for bfloat16 on the CPU, and have not encoded yet.

        Raises:
            OSError: the disk refused; nothing half-written is left.
        """
        tensors = {
            prefix + name: parameter.detach().contiguous()
            for prefix, module in self._modules
            for name, parameter in module.named_parameters()
        }
        partial = self.folded_path.with_name(f".{FOLDED_NAME}.{os.getpid()}.tmp")
        try:
            _write_arrow(partial, tensors, {_FOLDED_FROM: self._folded_from, _FOLDED_HASH: _hash(tensors)})
            partial.replace(self.folded_path)
        finally:
            partial.unlink(missing_ok=True)

    @property
    def _folded_from(self) -> str:
        return f"{_FOLDING} {self.info.digest}"

    def config(self, kind: type[_Config], part: str | None = None) -> _Config:
        """Return the dimensions of the model, or of a part of it, as a dataclass.

        Args:
            kind: the dataclass.
            part: a key of the dimensions; None takes all of them.

        Raises:
            ModelLoadError: a dimension is missing, unknown, or out of its range.
        """
        try:
            config = kind(**(self.info.dimensions if part is None else self.info.dimensions[part]))
            check_dimensions(config)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelLoadError(f"{self.path}: the header's dimensions do not fit ({error}); {CURE}") from error
        return config

    def read_file(self, name: str) -> bytes:
        """Read a preprocessing file of the model directory, checked against the hash in the header.

        Raises:
            ModelLoadError: the file is missing or is not the one the model was converted with.
        """
        return read_checked(self.directory / name, self.info.files.get(name))

    def verify(self) -> None:
        """Compare the hash of all content with the header's digest; it reads the whole file, at conversion only.

        Raises:
            ModelLoadError: a tensor or a file has changed since the conversion.
        """
        files = {name: self.read_file(name) for name in self.info.files}
        measured = _digest(self.info.family, self.info.dimensions, self.info.space, self._tensors, files)
        if measured != self.info.digest:
            raise ModelLoadError(
                f"{self.path}: the content's SHA-256 is {measured[:12]}..., "
                f"the header says {self.info.digest[:12]}...: the file is damaged; {CURE}"
            )
        if self.folded_path.is_file():
            tensors, metadata = _map_arrow(self.folded_path, _REMOVE)
            if metadata.get(_FOLDED_HASH.encode()) != _hash(tensors).encode():
                raise ModelLoadError(f"{self.folded_path}: the file is damaged; {_REMOVE}")


def write_model(
    directory: str | Path,
    tensors: Mapping[str, torch.Tensor],
    *,
    family: str,
    dimensions: dict[str, Any],
    source: str,
    space: str | None = None,
    files: Mapping[str, bytes] | None = None,
    format: str = "arrow",  # noqa: A002 - the command line's word for it
) -> ModelInfo:
    """Write a model directory: weights, ``config.json`` and the given files. The directory must exist.

    Args:
        directory: the model directory.
        tensors: by module name; float16, bfloat16 or float32, contiguous or not.
        family: a name of ``registry.FAMILIES``.
        dimensions: of the model, as its encoder's dataclasses name them.
        source: where the checkpoint came from, for people.
        space: the name of the vector space that the model shares with another one; None without.
        files: preprocessing files by name; their hashes go into the header.
        format: ``arrow`` (mapped at run time) or ``parquet`` (the exchange layout; decoded at run time).

    Raises:
        ValueError: an unknown family or format, or a tensor of another type.
    """
    if family not in FAMILY_NAMES or format not in ("arrow", "parquet"):
        raise ValueError(f"family {family!r} must be one of {FAMILY_NAMES}, format {format!r} arrow or parquet")
    directory, files = Path(directory), dict(files or {})
    unknown = [name for name, tensor in tensors.items() if tensor.dtype not in _NAMES]
    if unknown:
        raise ValueError(f"tensor '{unknown[0]}' has type {tensors[unknown[0]].dtype}; want one of {list(_DTYPES)}")
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in sorted(tensors.items())}
    info = ModelInfo(
        family=family,
        dimensions=dimensions,
        digest=_digest(family, dimensions, space, tensors, files),
        source=source,
        space=space,
        files={name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
        format_version=FORMAT_VERSION,
        pooling_layer=default_pooling_layer(family, dimensions, space),
    )
    if format == "arrow":
        _write_arrow(directory / ARROW_NAME, tensors, _to_metadata(info))
    else:
        _write_parquet(directory / PARQUET_NAME, tensors, _to_metadata(info))
    for name, data in files.items():
        (directory / name).write_bytes(data)
    shown = ("family", "source", "space", "digest", "pooling_layer", "dimensions")
    config = json.dumps({name: getattr(info, name) for name in shown}, indent=2)
    (directory / CONFIG_NAME).write_text(config + "\n", encoding="utf-8")
    return info


def open_weights(model_path: ModelPath, family: str) -> WeightLoader:
    """Open the weights of a model of one family; a ``WeightLoader`` is only checked.

    Raises:
        ModelLoadError: as ``WeightLoader``, or the directory holds a model of another family.
    """
    loader = model_path if isinstance(model_path, WeightLoader) else WeightLoader(model_path)
    if loader.info.family != family:
        raise ModelLoadError(
            f"{loader.path} holds a {loader.info.family} model, but a {family} model is needed; "
            f"point to a directory made by 'arrowlens convert {family_named(family).command}'"
        )
    return loader


# --- header and identity ----------------------------------------------------------------------------------------------


def _to_metadata(info: ModelInfo) -> dict[str, str]:
    fields = {
        "format_version": str(info.format_version),
        "family": info.family,
        "dimensions": json.dumps(info.dimensions, sort_keys=True),
        "source": info.source,
        "space": info.space or "",
        "files": json.dumps(info.files, sort_keys=True),
        "sha256": info.digest,
        "pooling_layer": json.dumps(info.pooling_layer),
    }
    return {METADATA_PREFIX + key: value for key, value in fields.items()}


def _digest(
    family: str,
    dimensions: dict[str, Any],
    space: str | None,
    tensors: Mapping[str, torch.Tensor],
    files: Mapping[str, bytes],
) -> str:
    digest = hashlib.sha256(json.dumps([family, dimensions, space], sort_keys=True).encode())
    _add_tensors(digest, tensors)
    for name, data in sorted(files.items()):
        digest.update(json.dumps([name, len(data)]).encode())
        digest.update(data)
    return digest.hexdigest()


def _hash(tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    _add_tensors(digest, tensors)
    return digest.hexdigest()


def _add_tensors(digest: hashlib._Hash, tensors: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, _NAMES[tensor.dtype], list(tensor.shape)]).encode())
        digest.update(_bytes_of(tensor))


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    flat: np.ndarray = tensor.reshape(-1).view(torch.uint8).numpy()
    return flat.data


# --- Arrow IPC: mapped at run time ------------------------------------------------------------------------------------


def _write_arrow(path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str]) -> None:
    # The data buffer is the last of the body, so its start does not depend on its content: a small trial file shows how
    # long the filler must be.
    trial = pa.BufferOutputStream()
    _write_ipc(trial, tensors, metadata, [b"\0" * ALIGNMENT] + [b""] * len(tensors))
    buffer = trial.getvalue()
    column = pa.ipc.open_file(buffer).get_batch(0).column("data")
    filler = -(column.buffers()[2].address - buffer.address) % ALIGNMENT
    rows = [b"\0" * filler]
    rows += [bytes(_bytes_of(t)) + b"\0" * (-t.nbytes % ALIGNMENT) for t in tensors.values()]
    with pa.OSFile(str(path), "wb") as sink:
        _write_ipc(sink, tensors, metadata, rows)


def _write_ipc(sink: Any, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str], rows: list[bytes]) -> None:  # noqa: ANN401 - pyarrow is untyped
    batch = pa.record_batch(
        [
            pa.array([_FILLER, *tensors], pa.utf8()),
            pa.array([[], *(list(t.shape) for t in tensors.values())], pa.list_(pa.int64())),
            pa.array(["uint8", *(_NAMES[t.dtype] for t in tensors.values())], pa.utf8()),
            pa.array(rows, pa.large_binary()),
        ],
        schema=_ARROW_SCHEMA.with_metadata(metadata),
    )
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def _map_arrow(path: Path, cure: str = CURE) -> tuple[dict[str, torch.Tensor], Mapping[bytes, bytes]]:
    try:
        with path.open("rb") as file:
            # Copy-on-write, since torch refuses read-only memory; nothing writes, so processes share the pages.
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        buffer = pa.py_buffer(mapping)
        reader = pa.ipc.open_file(buffer)
        if reader.schema.remove_metadata() != _ARROW_SCHEMA:
            return {}, {}  # foreign: the missing metadata says so
        if reader.num_record_batches != 1:
            raise ValueError(f"{reader.num_record_batches} record batches where one is expected")
        batch = reader.get_batch(0)
        batch.validate(full=True)
        if any(column.null_count for column in (*batch.columns, batch.column("shape").flatten())):
            raise ValueError("a value is missing")
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        raise unreadable(path, error, cure) from error
    data = batch.column("data")
    _, offsets, values = data.buffers()
    starts = np.frombuffer(offsets, np.int64, len(data) + 1)
    base = values.address - buffer.address
    rows = zip(*(batch.column(i).to_pylist() for i in range(3)), starts[:-1], starts[1:], strict=True)
    tensors = {
        name: _view(mapping, _Span(path, name, tuple(shape), dtype, base + int(start), int(end - start)), cure)
        for name, shape, dtype, start, end in rows
        if name != _FILLER
    }
    return tensors, cast(Mapping[bytes, bytes], reader.schema.metadata or {})


class _Span(NamedTuple):
    """Where a tensor lies in the file: ``offset`` and ``length`` in bytes, padding included."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    length: int


def _view(mapping: mmap.mmap, span: _Span, cure: str) -> torch.Tensor:
    dtype = _DTYPES.get(span.dtype)
    if dtype is None or any(n < 0 for n in span.shape):
        raise ModelLoadError(f"{span.path}: tensor '{span.name}' has type {span.dtype}, shape {span.shape}; {cure}")
    count = math.prod(span.shape)
    need = count * dtype.itemsize
    if span.length < need or span.offset + need > len(mapping) or span.offset % ALIGNMENT:
        raise ModelLoadError(
            f"{span.path}: tensor '{span.name}' of shape {span.shape} needs {need} bytes, "
            f"the file holds {span.length} at offset {span.offset}; {cure}"
        )
    if count == 0:
        return torch.empty(span.shape, dtype=dtype)
    return torch.frombuffer(mapping, dtype=dtype, count=count, offset=span.offset).view(span.shape)


# --- Parquet: for exchange, decoded -----------------------------------------------------------------------------------


def _write_parquet(path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str]) -> None:
    # A column has one type; float32 holds the half types exactly, and zstd over split bytes drops the zeros again.
    narrow = all(t.dtype == torch.float16 for t in tensors.values())
    element = pa.float16() if narrow else pa.float32()
    flat = [t.reshape(-1).to(torch.float16 if narrow else torch.float32).numpy() for t in tensors.values()]
    table = pa.table(
        {
            "layer_name": pa.array(list(tensors), pa.utf8()),
            "weights": pa.array(flat, pa.list_(element)),
            "shape": pa.array([str(tuple(t.shape)) for t in tensors.values()], pa.utf8()),
            "dtype": pa.array([_NAMES[t.dtype] for t in tensors.values()], pa.utf8()),
        }
    ).replace_schema_metadata(metadata)
    encoding = {"weights.list.element": "BYTE_STREAM_SPLIT"}
    pq.write_table(table, path, compression="zstd", use_dictionary=False, column_encoding=encoding)


def _read_parquet(path: Path) -> tuple[dict[str, torch.Tensor], Mapping[bytes, bytes]]:
    try:
        table = pq.read_table(path, columns=["layer_name", "weights", "shape", "dtype"], memory_map=True)
        names, shapes, dtypes = (table[c].to_pylist() for c in ("layer_name", "shape", "dtype"))
        values: Iterable[np.ndarray] = (row.values.to_numpy(zero_copy_only=False) for row in table["weights"])
        tensors = {
            name: torch.from_numpy(flat.copy()).to(_DTYPES[dtype]).view(_parse_shape(shape))
            for name, shape, dtype, flat in zip(names, shapes, dtypes, values, strict=True)
        }
    except (pa.ArrowException, *_MALFORMED) as error:
        raise unreadable(path, error) from error
    return tensors, cast(Mapping[bytes, bytes], table.schema.metadata or {})


def _parse_shape(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.strip("()").split(",") if n.strip())
