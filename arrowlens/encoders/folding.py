"""A model's weights as this machine multiplies with them, in a file beside the original that is mapped as it is.

On a processor that computes in bfloat16 a model stored in float16 has to be cast, whenever a process loads it.
``weights.bfloat16.arrow`` holds what comes of it, with the scales of linear layers in it (see ``transformer.Linear``):
loading copies nothing, and processes share the pages. Vectors are the same to the last bit. A model's identity stays
that of the original; the file can be removed at any time, and costs as much room again.
"""

from __future__ import annotations

from pathlib import Path

import torch

from arrowlens.encoders.onednn import packs_alike, should_fold
from arrowlens.encoders.registry import family_named
from arrowlens.encoders.runtime import choose_runtime
from arrowlens.encoders.transformer import Linear
from arrowlens.encoders.weights import WeightLoader


class _FoldedLinears(WeightLoader):
    """Counts the linear layers of a model that are folded on loading, and places no parameter.

    Attributes:
        count: of the modules that were loaded so far.
    """

    count = 0

    def load_into(
        self,
        module: torch.nn.Module,
        prefix: str = "",
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Add the folded linear layers of a module; arguments as of ``WeightLoader.load_into``."""
        for path, part in module.named_modules(prefix=prefix.removesuffix(".")):
            if isinstance(part, Linear):
                self.count += should_fold(self.tensor(f"{path}.weight").dtype, device, dtype)


def lacks_folded_weights(model_path: str | Path) -> bool:
    """Return whether linear layers of a model are cast on loading here, for want of a file that ``fold_model`` makes.

    Raises:
        ModelLoadError: as ``WeightLoader``.
    """
    runtime = choose_runtime("cpu")
    if runtime.dtype != torch.bfloat16 or not packs_alike(runtime.dtype):
        return False
    loader = _FoldedLinears(model_path)
    if loader.folded_tensors(runtime.device, runtime.dtype) is not None:
        return False
    family_named(loader.info.family).encoder()(loader, device="cpu")
    return loader.count > 0


def fold_model(model_path: str | Path) -> bool:
    """Write the file of folded weights of a model that lacks it; return whether it did.

    Args:
        model_path: a model directory, which must be writable.

    Raises:
        ModelLoadError: as ``WeightLoader``.
        OSError: the disk refused; nothing half-written is left.
    """
    if not lacks_folded_weights(model_path):
        return False
    loader = WeightLoader(model_path)
    family_named(loader.info.family).encoder()(loader, device="cpu")
    loader.write_folded()
    return True
