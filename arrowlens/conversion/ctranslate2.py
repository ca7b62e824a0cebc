"""Whisper in CTranslate2's format, as faster-whisper keeps it: ``model.bin`` becomes a Hugging Face checkpoint.

The file holds little-endian values: the format's version (uint32), the name of the specification, its revision
(uint32) and the number of variables (uint32). A variable is a name, its rank (uint8), its dimensions (uint32 each), its
type (uint8), the number of bytes (uint32) and the bytes. A string is its length with the final zero (uint16), then its
bytes. Aliases, which follow the variables, are not needed. Source: the model loader of OpenNMT/CTranslate2.
"""

from __future__ import annotations

import json
import math
import mmap
import re
import shutil
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from arrowlens.conversion.checkpoint import BIN_NAME, INDEX_SUFFIX, SAFETENSORS_NAME
from arrowlens.errors import ConversionError

MODEL_NAME = "model.bin"
_FORMAT_VERSIONS = (4, 5, 6)  # earlier ones do not name the types of their variables
_SPECIFICATION = "WhisperSpec"
_MAX_RANK = 4
_TYPES = {0: torch.float32, 1: torch.int8, 2: torch.int16, 3: torch.int32, 4: torch.float16, 5: torch.bfloat16}
_QUANTISED = re.compile(r".*/weight_(scale|zero|compensation)")
_NAME = re.compile(rb"[\w./-]{1,256}")
_GELU = 3  # CTranslate2's number for it
_HALVES = {"weight": "gamma", "bias": "beta"}  # CTranslate2's names in a layer norm

# Hugging Face's name -> CTranslate2's. {p} is weight or bias, {n} CTranslate2's gamma or beta for it.
_TOWER = {
    "{tower}.embed_positions.weight": "{tower}/position_encodings/encodings",
    "{tower}.layer_norm.{p}": "{tower}/layer_norm/{n}",
}
_ENCODER = {"encoder.conv1.{p}": "encoder/conv1/{p}", "encoder.conv2.{p}": "encoder/conv2/{p}"}
_DECODER = {"decoder.embed_tokens.weight": "decoder/embeddings/weight"}
_LAYER = {
    "{tower}.layers.{layer}.self_attn_layer_norm.{p}": "{tower}/layer_{layer}/self_attention/layer_norm/{n}",
    "{tower}.layers.{layer}.self_attn.out_proj.{p}": "{tower}/layer_{layer}/self_attention/linear_1/{p}",
    "{tower}.layers.{layer}.final_layer_norm.{p}": "{tower}/layer_{layer}/ffn/layer_norm/{n}",
    "{tower}.layers.{layer}.fc1.{p}": "{tower}/layer_{layer}/ffn/linear_0/{p}",
    "{tower}.layers.{layer}.fc2.{p}": "{tower}/layer_{layer}/ffn/linear_1/{p}",
}
_DECODER_LAYER = {
    "decoder.layers.{layer}.encoder_attn_layer_norm.{p}": "decoder/layer_{layer}/attention/layer_norm/{n}",
    "decoder.layers.{layer}.encoder_attn.q_proj.{p}": "decoder/layer_{layer}/attention/linear_0/{p}",
    "decoder.layers.{layer}.encoder_attn.out_proj.{p}": "decoder/layer_{layer}/attention/linear_2/{p}",
}
# Rows that CTranslate2 stacks. Keys have no bias in Whisper; CTranslate2 stores zeros for it.
_STACKED = {
    "{tower}/layer_{layer}/self_attention/linear_0/{p}": tuple(
        f"{{tower}}.layers.{{layer}}.self_attn.{x}_proj.{{p}}" for x in "qkv"
    ),
    "decoder/layer_{layer}/attention/linear_1/{p}": tuple(
        f"decoder.layers.{{layer}}.encoder_attn.{x}_proj.{{p}}" for x in "kv"
    ),
}


@dataclass(frozen=True)
class _Variable:
    """A variable in the mapped file: its type and dimensions, and the offsets of its bytes."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


def is_ctranslate2(directory: Path) -> bool:
    """Return whether a folder holds a CTranslate2 model and no checkpoint of Hugging Face's."""
    names = (SAFETENSORS_NAME, BIN_NAME, SAFETENSORS_NAME + INDEX_SUFFIX, BIN_NAME + INDEX_SUFFIX)
    return (directory / MODEL_NAME).is_file() and not any((directory / name).is_file() for name in names)


def write_checkpoint(directory: Path, target: Path) -> None:
    """Write the Whisper model of a CTranslate2 folder as a Hugging Face checkpoint, values and types unchanged.

    Args:
        directory: holds ``model.bin`` in float32, float16 or bfloat16.
        target: an existing folder; gets ``config.json``, ``model.safetensors`` and the tokenizer's and preprocessor's
            files that are there.

    Raises:
        ConversionError: not Whisper, quantised, damaged, or of a version that is not supported.
    """
    path = directory / MODEL_NAME
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            model = _Model(path, data, _variables(path, data))
            config = _config(model)
            save_file(dict(_tensors(model, config)), target / SAFETENSORS_NAME, {"format": "pt"})
        (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
        for name in ("tokenizer.json", "preprocessor_config.json", "processor_config.json"):
            if (directory / name).is_file():
                shutil.copyfile(directory / name, target / name)
    except (OSError, ValueError, SafetensorError) as error:  # ValueError: an empty file cannot be mapped
        detail = getattr(error, "strerror", None) or error
        raise ConversionError(f"{path}: cannot be converted ({detail}); check the file and the free space") from error


@dataclass(frozen=True)
class _Model:
    """A mapped ``model.bin``. Missing or unexpected variables raise ConversionError."""

    path: Path
    data: mmap.mmap
    variables: Mapping[str, _Variable]

    def tensor(self, name: str) -> torch.Tensor:
        """Read a variable; the values are copied, since they are not aligned in the file."""
        variable = self.variable(name)
        copy = bytearray(self.data[variable.start : variable.end])
        return torch.frombuffer(copy, dtype=variable.dtype).reshape(variable.shape)

    def variable(self, name: str) -> _Variable:
        if name not in self.variables:
            raise ConversionError(f"{self.path}: '{name}' is missing; take a complete Whisper model")
        return self.variables[name]

    def dimensions(self, name: str, rank: int) -> tuple[int, ...]:
        shape = self.variable(name).shape
        if len(shape) != rank:
            raise ConversionError(f"{self.path}: '{name}' has shape {shape}; it must have {rank} dimensions")
        return shape

    def number(self, name: str) -> int:
        if self.variable(name).shape:
            raise ConversionError(f"{self.path}: '{name}' is no single number; the file is damaged")
        return int(self.tensor(name))


def _variables(path: Path, data: mmap.mmap) -> dict[str, _Variable]:
    """Locate the variables. Nothing is allocated for sizes that the file only claims."""
    reader = _Reader(path, data)
    version = reader.number("I")
    if version not in _FORMAT_VERSIONS:
        raise ConversionError(
            f"{path}: version {version} of CTranslate2's format is not read, only {_FORMAT_VERSIONS[0]} to "
            f"{_FORMAT_VERSIONS[-1]}; if it is a CTranslate2 model, convert it again with a current ct2 converter"
        )
    specification = reader.string()
    if specification != _SPECIFICATION:
        raise ConversionError(f"{path}: holds a {specification!r}, but a Whisper model ({_SPECIFICATION}) is needed")
    reader.number("I")  # the specification's revision: what is needed is looked for by name
    variables = {}
    for _ in range(reader.number("I")):
        name = reader.string()
        variables[name] = reader.variable(name)
    return variables


@dataclass
class _Reader:
    """Reads a mapped file in order, never beyond its end."""

    path: Path
    data: mmap.mmap
    position: int = 0

    def number(self, form: str) -> int:
        (value,) = struct.unpack(f"<{form}", self._take(struct.calcsize(f"<{form}")))
        return int(value)

    def string(self) -> str:
        raw = self._take(self.number("H")).removesuffix(b"\0")
        if not _NAME.fullmatch(raw):
            raise self._damaged(f"{raw[:32]!r} is no name")
        return raw.decode("ascii")

    def variable(self, name: str) -> _Variable:
        rank = self.number("B")
        if rank > _MAX_RANK:
            raise self._damaged(f"'{name}' claims {rank} dimensions")
        shape = tuple(self.number("I") for _ in range(rank))
        code, n_bytes = self.number("B"), self.number("I")
        dtype = _TYPES.get(code)
        if dtype is None or math.prod(shape) * dtype.itemsize != n_bytes:
            raise self._damaged(f"'{name}' of shape {shape} and type {code} claims {n_bytes:,} bytes")
        if _QUANTISED.fullmatch(name) or (dtype == torch.int8 and rank > 1):
            raise ConversionError(
                f"{self.path}: its weights are quantised to integers ('{name}'), and vectors from them would differ "
                "from the original's; take the float16 or float32 model"
            )
        start = self.position
        self._skip(n_bytes)
        return _Variable(dtype, shape, start, self.position)

    def _take(self, n_bytes: int) -> bytes:
        start = self.position
        self._skip(n_bytes)
        return self.data[start : self.position]

    def _skip(self, n_bytes: int) -> None:
        if self.position + n_bytes > len(self.data):
            raise self._damaged(f"it ends after {len(self.data):,} bytes, in the middle of a value")
        self.position += n_bytes

    def _damaged(self, detail: str) -> ConversionError:
        return ConversionError(f"{self.path}: damaged or truncated ({detail}); download the model again")


def _config(model: _Model) -> dict[str, Any]:
    """Build transformers' ``config.json`` from the variables' shapes."""
    d_model, n_mels, _ = model.dimensions("encoder/conv1/weight", 3)
    config: dict[str, Any] = {
        "model_type": "whisper",
        "architectures": ["WhisperModel"],
        "activation_function": "gelu",
        "d_model": d_model,
        "num_mel_bins": n_mels,
        "vocab_size": model.dimensions("decoder/embeddings/weight", 2)[0],
        "max_source_positions": model.dimensions("encoder/position_encodings/encodings", 2)[0],
        "max_target_positions": model.dimensions("decoder/position_encodings/encodings", 2)[0],
    }
    for tower in ("encoder", "decoder"):
        layers = {name.split("/")[1] for name in model.variables if name.startswith(f"{tower}/layer_")} - {"layer_norm"}
        config[f"{tower}_layers"] = len(layers)
        config[f"{tower}_attention_heads"] = model.number(f"{tower}/num_heads")
        config[f"{tower}_ffn_dim"] = model.dimensions(f"{tower}/layer_0/ffn/linear_0/weight", 2)[0]
        activation = f"{tower}/activation"
        if activation in model.variables and model.number(activation) != _GELU:
            raise ConversionError(f"{model.path}: activation {model.number(activation)} is not supported; only GELU")
    # The smallest vocabularies do not have Whisper's usual ids; only generating text needs them.
    last = config["vocab_size"] - 1
    return config | {name: min(50256, last) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}


def _tensors(model: _Model, config: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield all tensors of the model by Hugging Face's names."""
    for theirs, here in _expand((_TOWER | _ENCODER | _DECODER | _LAYER | _DECODER_LAYER).items(), config):
        yield theirs, model.tensor(here)
    for stacked, *parts in _expand(((here, *theirs) for here, theirs in _STACKED.items()), config):
        yield from _unstacked(model, stacked, parts)


def _unstacked(model: _Model, name: str, parts: list[str]) -> Iterator[tuple[str, torch.Tensor]]:
    stacked = model.tensor(name)
    if not stacked.ndim or len(stacked) % len(parts):
        raise ConversionError(f"{model.path}: '{name}' of shape {tuple(stacked.shape)} is not {len(parts)} in one")
    for part, tensor in zip(parts, stacked.chunk(len(parts)), strict=True):
        if not part.endswith("k_proj.bias"):
            yield part, tensor.clone()
        elif tensor.any():
            raise ConversionError(f"{model.path}: '{name}' holds a bias for keys, which Whisper has none of")


def _expand(rows: Iterable[tuple[str, ...]], config: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of a table for each tower, layer, and weight and bias that the words in braces stand for."""
    for row in rows:
        text = " ".join(row)
        towers = ("encoder", "decoder") if "{tower}" in text else (text[: len("encoder")],)
        for tower in towers:
            n_layers = config[f"{tower}_layers"] if "{layer}" in text else 1
            for layer, p in product(range(n_layers), _HALVES if "{p}" in text else ("weight",)):
                yield tuple(each.format(tower=tower, layer=layer, p=p, n=_HALVES[p]) for each in row)
