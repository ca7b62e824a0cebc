"""Renames a checkpoint's tensors to the names of our modules, by one table per family."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product

import torch

from arrowlens.conversion.checkpoint import Checkpoint, LazyTensor
from arrowlens.errors import ConversionError

ZEROS = "(zeros)"  # in a stacked row: a bias that the checkpoint's architecture does not have
WEIGHT_AND_BIAS = ("weight", "bias")
_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
DTYPES = tuple(_DTYPES)


@dataclass(frozen=True)
class RenameTable:
    """The tensor names of one family.

    A word in braces stands for a counter's values, the same on both sides: ``{vision}`` for the layers of the vision
    tower, ``{p}`` for weight and bias.

    Attributes:
        names: the checkpoint's names by ours; the tensors of a tuple are stacked along their rows, in order.
        split: names of tensors in the checkpoint that are several of those in ``names``, stacked along their rows.
        reshaped: functions from the checkpoint's tensor to ours, by our names; for example a transposition.
        spellings: regular expressions and replacements, applied in order, that turn variants of the checkpoint's names
            into those of the table.
        ignored: regular expressions of names that a checkpoint may hold and that are not needed.
        full_precision: our names of the tensors that stay float32.
    """

    names: Mapping[str, str | tuple[str, ...]]
    split: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reshaped: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = field(default_factory=dict)
    spellings: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    full_precision: frozenset[str] = frozenset()

    def expand(self, counters: Mapping[str, Iterable[object]]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield our names, each with the checkpoint's names that it is made of."""
        for ours, theirs in self.names.items():
            yield from _filled_in(ours, (theirs,) if isinstance(theirs, str) else theirs, counters)

    def parts(self, counters: Mapping[str, Iterable[object]]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the names of tensors that are several ones, each with the names of those."""
        for whole, parts in self.split.items():
            yield from _filled_in(whole, parts, counters)

    def reshapings(
        self, counters: Mapping[str, Iterable[object]]
    ) -> Iterator[tuple[str, Callable[[torch.Tensor], torch.Tensor]]]:
        """Yield the names of ours that are reshaped, each with its function."""
        for ours, function in self.reshaped.items():
            yield from ((name, function) for name, _ in _filled_in(ours, (), counters))


@dataclass(frozen=True)
class Renamed:
    """Tensors by our names, and the size of the checkpoint's tensors that they were made of."""

    tensors: dict[str, torch.Tensor]
    original_bytes: int


def rename(
    checkpoint: Checkpoint, table: RenameTable, counters: Mapping[str, Iterable[object]], dtype: str = "float32"
) -> Renamed:
    """Read a checkpoint's tensors by our names, in the type in which they are stored.

    Args:
        checkpoint: the folder.
        table: the family's names.
        counters: the values of the words in braces, e.g. ``{"vision": range(12), "p": ("weight", "bias")}``.
        dtype: float16, bfloat16 or float32; tensors that the table keeps in full precision stay float32.

    Raises:
        ConversionError: a tensor is missing, is none of the family's, or exceeds the type; the message names it.
    """
    if dtype not in _DTYPES:
        raise ConversionError(f"dtype {dtype!r} is unknown; use one of {', '.join(DTYPES)}")
    by_name = _canonical(checkpoint, table)
    for whole, names in table.parts(counters):
        if whole in by_name:
            original, tensor = by_name.pop(whole)
            for index, name in enumerate(names):
                by_name[name] = (original, replace(tensor, part=(index, len(names))))
    reshapings = dict(table.reshapings(counters))
    tensors: dict[str, torch.Tensor] = {}
    n_bytes, used = 0, set[str]()
    for ours, sources in table.expand(counters):
        parts = [_load(checkpoint, by_name, name) for name in sources if name != ZEROS]
        used.update(sources)
        n_bytes += sum(part.nbytes for part in parts)
        target = torch.float32 if ours in table.full_precision else _DTYPES[dtype]
        stacked = reshapings.get(ours, _as_it_is)(_stack(checkpoint, sources, parts))
        tensors[ours] = _cast(stacked, target, checkpoint, sources[0])
    _refuse_unknown(checkpoint, table, {name: original for name, (original, _) in by_name.items() if name not in used})
    return Renamed(tensors, n_bytes)


def _filled_in(
    name: str, others: tuple[str, ...], counters: Mapping[str, Iterable[object]]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield names with all values of their words in braces."""
    words = sorted(set(re.findall(r"{(\w+)}", name)))
    for values in product(*(tuple(counters[word]) for word in words)):
        chosen = dict(zip(words, values, strict=True))
        yield name.format(**chosen), tuple(other.format(**chosen) for other in others)


def _as_it_is(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _canonical(checkpoint: Checkpoint, table: RenameTable) -> dict[str, tuple[str, LazyTensor]]:
    by_name: dict[str, tuple[str, LazyTensor]] = {}
    for original, tensor in checkpoint.tensors():
        name = original
        for pattern, replacement in table.spellings:
            name = re.sub(pattern, replacement, name)
        if name in by_name:
            raise ConversionError(
                f"{checkpoint.directory}: tensors '{by_name[name][0]}' and '{original}' are the same one twice; "
                f"save the checkpoint again with save_pretrained"
            )
        by_name[name] = (original, tensor)
    return by_name


def _load(checkpoint: Checkpoint, by_name: Mapping[str, tuple[str, LazyTensor]], name: str) -> torch.Tensor:
    if name not in by_name:
        raise ConversionError(
            f"{checkpoint.directory}: tensor '{name}' is missing; config.json asks for it: "
            f"take a complete checkpoint of the right kind"
        )
    tensor = by_name[name][1].load()
    if not tensor.is_floating_point():
        raise ConversionError(f"{checkpoint.directory}: tensor '{name}' has type {tensor.dtype}; it must be a float")
    return tensor


def _stack(checkpoint: Checkpoint, sources: tuple[str, ...], parts: list[torch.Tensor]) -> torch.Tensor:
    if len(sources) == 1:
        return parts[0]
    if len({part.shape for part in parts}) != 1:
        shapes = [tuple(part.shape) for part in parts]
        raise ConversionError(f"{checkpoint.directory}: '{sources[0]}' and its partners differ in shape: {shapes}")
    given = iter(parts)
    return torch.cat([torch.zeros_like(parts[0]) if name == ZEROS else next(given) for name in sources])


def _cast(tensor: torch.Tensor, dtype: torch.dtype, checkpoint: Checkpoint, name: str) -> torch.Tensor:
    if not torch.isfinite(tensor).all():
        raise ConversionError(
            f"{checkpoint.directory}: tensor '{name}' holds NaN or infinity; the checkpoint is broken"
        )
    stored = tensor.to(dtype)
    if not torch.isfinite(stored).all():
        raise ConversionError(
            f"{checkpoint.directory}: tensor '{name}' reaches {float(tensor.abs().max()):.3g}, "
            f"too large for float16; use --dtype bfloat16 or float32"
        )
    return stored


def _refuse_unknown(checkpoint: Checkpoint, table: RenameTable, left: Mapping[str, str]) -> None:
    ignored = [re.compile(pattern) for pattern in table.ignored]
    unknown = sorted(original for name, original in left.items() if not any(p.fullmatch(name) for p in ignored))
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise ConversionError(
            f"{checkpoint.directory}: tensor '{unknown[0]}'{more} has no place in this kind of model; "
            f"config.json and weights do not belong together, or it is another architecture"
        )
