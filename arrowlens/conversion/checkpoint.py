"""A Hugging Face checkpoint folder: its configuration and its tensors, read one at a time."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open

from arrowlens.errors import ConversionError

SAFETENSORS_NAME, BIN_NAME = "model.safetensors", "pytorch_model.bin"
INDEX_SUFFIX = ".index.json"


@dataclass(frozen=True)
class Checkpoint:
    """A local checkpoint folder.

    Safetensors are preferred. ``pytorch_model.bin`` is read only where there are none, and only as plain tensors
    (``torch.load(weights_only=True)``): a pickle that would run code is refused.

    Args:
        directory: the folder; holds ``config.json`` and one weights file, or an index and its shards.
        source: its name for people: a hub id, or the folder's name.
        weight_names: names of the weights file; the first that is there is read.
    """

    directory: Path
    source: str
    weight_names: tuple[str, ...] = (SAFETENSORS_NAME, BIN_NAME)

    def config(self) -> dict[str, Any]:
        """Read ``config.json``.

        Raises:
            ConversionError: there is none, or it is not a JSON object.
        """
        config = self.read_json("config.json")
        if config is None:
            raise ConversionError(f"{self.directory}: no config.json in it; point to a Hugging Face checkpoint folder")
        return config

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Read the JSON object in a file of the folder; None when there is no such file.

        Raises:
            ConversionError: the file is not a JSON object.
        """
        content = self._read_json(name)
        if content is not None and not isinstance(content, dict):
            raise ConversionError(f"{self.directory / name}: not a JSON object; download the checkpoint again")
        return content

    def read_json_list(self, name: str) -> list[Any] | None:
        """Read the JSON array in a file of the folder; None when there is no such file.

        Raises:
            ConversionError: the file is not a JSON array.
        """
        content = self._read_json(name)
        if content is not None and not isinstance(content, list):
            raise ConversionError(f"{self.directory / name}: not a JSON array; download the checkpoint again")
        return content

    def read_bytes(self, name: str) -> bytes | None:
        """Read a file of the folder; None when there is no such file.

        Raises:
            ConversionError: the file cannot be read.
        """
        path = self.directory / name
        try:
            return path.read_bytes() if path.is_file() else None
        except OSError as error:
            raise ConversionError(f"{path}: cannot be read ({error.strerror or error})") from error

    def weight_files(self) -> list[Path]:
        """Return the weights file, or all shards.

        Raises:
            ConversionError: there are none, or an index names a shard that is missing or outside the folder.
        """
        for name in self.weight_names:
            if (self.directory / name).is_file():
                return [self.directory / name]
            index = self.read_json(name + INDEX_SUFFIX)
            if index is not None:
                return self._shards(name + INDEX_SUFFIX, index)
        raise ConversionError(
            f"{self.directory}: neither {' nor '.join(self.weight_names)} in it; point to a checkpoint folder"
        )

    def tensors(self) -> Iterator[tuple[str, LazyTensor]]:
        """Yield names and tensors; a tensor is read by its ``load``.

        Raises:
            ConversionError: as ``weight_files``; or a file is damaged, or holds other things than tensors.
        """
        for path in self.weight_files():
            yield from _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)

    def _read_json(self, name: str) -> object:
        raw = self.read_bytes(name)
        if raw is None:
            return None
        try:
            return cast(object, json.loads(raw))
        except ValueError as error:
            raise ConversionError(
                f"{self.directory / name}: not JSON ({error}); download the checkpoint again"
            ) from error

    def _shards(self, index_name: str, index: dict[str, Any]) -> list[Path]:
        where = self.directory / index_name
        weight_map = index.get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise ConversionError(f"{where}: no weight_map in it; download the checkpoint again")
        shards = []
        for name in sorted(set(map(str, weight_map.values()))):
            if PurePosixPath(name).name != name or "\\" in name:
                raise ConversionError(f"{where}: shard {name!r} lies outside the checkpoint folder; do not use it")
            if not (self.directory / name).is_file():
                raise ConversionError(f"{where}: shard {name!r} is not there; download the checkpoint again")
            shards.append(self.directory / name)
        return shards


@dataclass(frozen=True)
class LazyTensor:
    """A tensor in a file, which each ``load`` reads again.

    ``part`` is (index, count) where it is one of ``count`` tensors of equal size that are stacked along their rows.
    """

    path: Path
    name: str
    value: torch.Tensor | None = None
    part: tuple[int, int] | None = None

    def load(self) -> torch.Tensor:
        """Read the tensor: on the CPU, in its stored type.

        Raises:
            ConversionError: the file is damaged, or the rows are not ``count`` times as many as in a part.
        """
        whole = self._whole()
        if self.part is None:
            return whole
        index, count = self.part
        if not whole.ndim or len(whole) % count:
            raise ConversionError(f"{self.path}: '{self.name}' of shape {tuple(whole.shape)} is not {count} in one")
        return whole.chunk(count)[index]

    def _whole(self) -> torch.Tensor:
        if self.value is not None:
            return self.value
        try:
            with safe_open(self.path, framework="pt", device="cpu") as file:
                return cast(torch.Tensor, file.get_tensor(self.name))
        except (SafetensorError, OSError, RuntimeError) as error:
            raise _damaged(self.path, error) from error


def _safetensors(path: Path) -> Iterator[tuple[str, LazyTensor]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = list(file.keys())
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    for name in names:
        yield name, LazyTensor(path, name)


def _pickled(path: Path) -> Iterator[tuple[str, LazyTensor]]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConversionError(
            f"{path}: a pickle with more than plain tensors in it, which could run code; ask for safetensors"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError) as error:
        raise _damaged(path, error) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ConversionError(f"{path}: not a dictionary of tensors; ask for safetensors")
    for name, value in state.items():
        yield str(name), LazyTensor(path, str(name), value)


def _damaged(path: Path, error: Exception) -> ConversionError:
    detail = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ConversionError(f"{path}: damaged or truncated ({detail}); download the checkpoint again")
