"""A second model set for real processes: the demo models with other weights, and so another space."""

from __future__ import annotations

from pathlib import Path

from arrowlens.encoders import WeightLoader, write_model
from arrowlens.models import DEMO

_PROJECTIONS = {"text_projection.weight", "vision_projection.weight", "projector.weight", "projector.bias"}


def write_other_models(folder: Path, seed: int = 1) -> str:
    """Model directories in a new folder; returns the SET that names them."""
    parts = []
    for role, name in (("vision", "clip"), ("audio", "audio")):
        loader = WeightLoader(DEMO / name)
        tensors = {
            name: tensor.roll(seed, dims=0) if name in _PROJECTIONS else tensor
            for name, tensor in loader.load_weights().items()
        }
        assert tensors.keys() & _PROJECTIONS
        info, directory = loader.info, folder / role
        directory.mkdir(parents=True)
        write_model(
            directory,
            tensors,
            family=info.family,
            dimensions=info.dimensions,
            source=f"demo, rolled by {seed}",
            space=f"other-{seed}",
            files={name: loader.read_file(name) for name in info.files},
        )
        parts.append(f"{role}={directory}")
    return ",".join(parts)
