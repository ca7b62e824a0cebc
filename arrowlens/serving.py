"""From a model set to what a library works with and remembers of it, and back."""

from __future__ import annotations

import os

from arrowlens.encoders import MultimodalEmbeddingProvider
from arrowlens.models import ModelSet, resolve
from arrowlens.store import ModelRecord, Settings


def provider_of(model_set: ModelSet, device: str | None, precision: str) -> MultimodalEmbeddingProvider:
    """The encoders of a set; none is loaded yet.

    Raises:
        ModelLoadError: a directory has no readable header.
    """
    return MultimodalEmbeddingProvider(
        text_model_path=model_set.text,
        audio_model_path=model_set.audio,
        clip_model_path=model_set.clip,
        device=device,
        precision=precision,
    )


def model_records(model_set: ModelSet, provider: MultimodalEmbeddingProvider) -> dict[str, ModelRecord]:
    """What a library remembers: a set by its name, other models by their directories."""
    named = model_set.name if "=" not in model_set.name else None
    return {
        role: ModelRecord(provider.digest(role), provider.dimension(role), named or str(path), provider.space(role))
        for role, path in model_set.directories().items()
    }


def remembered_models(settings: Settings) -> str | None:
    """The SET that finds a library's models again; None while it has none, or where they came from nowhere."""
    sources = {role: record.source for role, record in settings.models.items()}
    names = set(sources.values())
    if len(names) == 1 and not any(os.sep in name for name in names):
        return names.pop() or None
    sets = {name: resolve(name).directories() for name in names if os.sep not in name}
    directories = {role: sets[source][role] if source in sets else source for role, source in sources.items()}
    return ",".join(f"{role}={directory}" for role, directory in directories.items()) or None
