"""The models that a library works with: a set's encoders, what is remembered of it, and how they are replaced."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Event as StopEvent
from typing import TypeVar

import numpy as np
from PIL import Image

from arrowlens.addresses import local_path
from arrowlens.embedding import Example, ExampleReader
from arrowlens.encoders import MultimodalEmbeddingProvider
from arrowlens.encoders.model_directory import cache_directory, model_info
from arrowlens.errors import ArrowlensError, InputError, MediaError, ModelMismatchError
from arrowlens.media import Limits
from arrowlens.media.decoded import large_bytes
from arrowlens.modalities import FIRST_RECIPE, ROLE_OF, ROLES_OF, Input, Modality
from arrowlens.models import SET_ROLES, ModelSet, resolve
from arrowlens.search import Hit, Searcher
from arrowlens.search.relevance.background import Bank
from arrowlens.store import ModelRecord, MultimodalStorage, Settings
from arrowlens.workers.isolated import Call, Isolated, directly

StrPath = str | os.PathLike[str]
ExampleLike = StrPath | bytes | Image.Image | tuple[np.ndarray, int] | Hit | Example
_T = TypeVar("_T")


class QueryEngine:
    """What questions are asked with; replaced as a whole when the library changes its models.

    Attributes:
        provider: the encoders.
        examples: reads files that are asked with.
        searcher: asks the store.
        bank: what relevance is measured by.
    """

    def __init__(
        self, storage: MultimodalStorage, provider: MultimodalEmbeddingProvider, call: Call = directly
    ) -> None:
        self._storage = storage
        self._call = call
        self._lock = threading.Lock()  # held while the models are replaced
        self._use(provider)

    def _use(self, provider: MultimodalEmbeddingProvider) -> None:
        self.provider = provider
        if isinstance(self._call, Isolated):  # recordings at another rate take other memory
            self._call.allow(large_bytes(Limits(), sample_rate=provider.recipe.sample_rate))
        self.examples = ExampleReader(provider, self._call, self._held_modality)
        self.bank = Bank(
            provider,
            ExampleReader(provider, self._call).file,
            cache_directory() / "relevance",
            lambda: self._storage.settings.calibrations,
        )
        self.searcher = Searcher(self._storage, provider, self.bank)

    def _held_modality(self, content_hash: str) -> Modality | None:
        """Return the modality of a content that can be searched with by its stored vectors; None of any other."""
        models = self._storage.settings.models
        for row in self._storage.media_of(content_hash).to_pylist():
            modality: Modality = row["modality"]
            roles = [role for role in ROLES_OF[modality] if role in models]
            if any(self._storage.vector_rows(role, [content_hash]) for role in roles):
                return modality
        return None

    def replace(self, provider: MultimodalEmbeddingProvider) -> None:
        """Ask with other models from now on."""
        with self._lock:
            self._use(provider)

    def retry_on_model_change(self, ask: Callable[[], _T]) -> _T:
        """Return ``ask()``; once more with the library's new models if another process has just changed them.

        Once only: models change in minutes, and an answer takes less, so a second mismatch has another cause.
        """
        try:
            return ask()
        except ModelMismatchError:
            self._follow()
            return ask()

    def example(self, item: ExampleLike) -> Example:
        """Return what is asked with by example: read and cut, not encoded; a hit is asked with by its stored vectors.

        Raises:
            MediaError: a file or its bytes cannot be decoded.
            AudioValidationError: unusable samples or rate.
            InputError: it is nothing of that kind.
        """
        match item:
            case Example():
                return item
            case Hit():
                if item.content_hash is None:
                    cure = "use a hit that this library gave, or similar(path)"
                    raise InputError(f"{item.path} carries no content hash; {cure}")
                return Example(str(item.path), item.modality, item.content_hash)
            case bytes() | str() if not item:
                raise MediaError("the example is empty; give a file's bytes, or its path")
            case bytes():
                return self.examples.upload(item, "the upload")
            case Image.Image():
                return self.examples.picture(item)
            case (samples, rate):
                return self.examples.samples(samples, rate)
            case str() | os.PathLike():
                return self.examples.file(local_path(item))
        raise InputError(
            f"the example is a {type(item).__name__}; "
            "it is a path, bytes, a PIL image, (samples, rate), a Hit or an Example"
        )

    def provider_for(self, model_set: ModelSet) -> MultimodalEmbeddingProvider:
        """The encoders to change the library to, none loaded yet: with the recipe of a new library where its models are
        the very ones that serve, so that the recipe is all there is to change; else an audio model keeps its recipe.

        Raises:
            ModelLoadError: a directory has no readable header.
        """
        settings, serving_now = self._storage.settings, self.provider
        wanted = {role: model_info(path).digest for role, path in model_set.directories().items()}
        serving = {role: record.digest for role, record in settings.models.items()}
        begun = {role: record.digest for role, record in settings.next_models.items()}
        changes_recipe = wanted == serving and begun in ({}, wanted)
        known = {} if changes_recipe else settings.models
        return provider_of(
            model_set,
            serving_now.device,
            serving_now.precision,
            known,
            use_templates=serving_now.use_templates,
        )

    def prepare_bank(
        self,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
        stop: StopEvent | None = None,
    ) -> None:
        """Make what relevance is measured by while the models are warm, so that no search has to.

        Args:
            on_progress: as ``Bank.prepare`` takes it.
            stop: set to end early; the next call goes on.
        """
        status = self._storage.statistics()
        held: dict[Input, int] = {"image": status.images + status.films, "audio": status.audio + status.films}
        is_stopped = stop.is_set if stop is not None else lambda: False
        with suppress(ArrowlensError):  # the search that needs it makes it, or says why it cannot
            self.bank.prepare([kind for kind, n_files in held.items() if n_files], on_progress, is_stopped)

    def _follow(self) -> None:
        with self._lock:
            settings, provider = self._storage.settings, self.provider
            roles = settings.models.items()
            remembered = remembered_models(settings)
            same = all(
                provider.has(role) and provider.recipe_digest(role) == record.recipe_digest for role, record in roles
            )
            if remembered and not same:
                models, known = resolve(remembered), settings.models
                device, precision, use_templates = provider.device, provider.precision, provider.use_templates
                self._use(provider_of(models, device, precision, known, use_templates=use_templates))


def provider_of(
    model_set: ModelSet,
    device: str | None,
    precision: str,
    known: Mapping[str, ModelRecord],
    *,
    use_templates: bool = True,
) -> MultimodalEmbeddingProvider:
    """The encoders of a set; none is loaded yet.

    Args:
        model_set: the models.
        device, precision, use_templates: as ``MultimodalEmbeddingProvider``.
        known: what a library remembers of its models. With the same audio model its recordings keep their recipe.

    Raises:
        ModelLoadError: a directory has no readable header.
    """
    recipe, audio = FIRST_RECIPE, known.get(ROLE_OF["audio"])
    if model_set.audio is not None:
        info = model_info(model_set.audio)
        recipe = audio.recipe if audio is not None and audio.digest == info.digest else info.recipe
    return MultimodalEmbeddingProvider(
        text_model_path=model_set.text,
        audio_model_path=model_set.audio,
        clip_model_path=model_set.vision,
        device=device,
        precision=precision,
        recipe=recipe,
        use_templates=use_templates,
    )


def model_records(model_set: ModelSet, provider: MultimodalEmbeddingProvider) -> dict[str, ModelRecord]:
    """What a library remembers of its models: for each role where it came from, its identity and its recipe."""
    return {role: ModelRecord.of(provider, role, source) for role, source in model_set.sources.items()}


def bind(storage: MultimodalStorage, records: Mapping[str, ModelRecord], *, named: bool) -> None:
    """Have a library remember its models, or check them.

    Where they are not ``named`` but remembered, and the set of that name is another one by now, nothing happens:
    questions and runs say so, and ``Library.migrate`` changes to it.

    Raises:
        ModelMismatchError: it was made with other models than those named. StorageError: the disk refused.
    """
    try:
        storage.bind_models(records)
    except ModelMismatchError:
        if named:
            raise


def remembered_models(settings: Settings) -> str | None:
    """The SET that finds a library's models again; None while it has none, or where they came from nowhere."""
    sources = {role: record.source for role, record in settings.models.items()}
    if not sources or not all(sources.values()):
        return None
    (first, *others) = dict.fromkeys(sources.values())
    if not others and sources.keys() == set(SET_ROLES.get(first, ())):
        return first
    return ",".join(f"{role}={source}" for role, source in sources.items())
