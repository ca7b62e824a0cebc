"""The encoders of a model set in one object, each loaded on first use."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np

from arrowlens.encoders.audio import AudioEncoder
from arrowlens.encoders.clap import ClapEncoder
from arrowlens.encoders.image_processor import Images
from arrowlens.encoders.image_text import ImageTextEngine
from arrowlens.encoders.model_directory import ModelInfo, model_info
from arrowlens.encoders.registry import ENCODER_ROLES, family_for, family_named
from arrowlens.encoders.runtime import Encoder, Runtime, choose_runtime
from arrowlens.encoders.text import TextEncoder
from arrowlens.encoders.vision import VisionEncoder
from arrowlens.errors import InputError, ModelLoadError
from arrowlens.modalities import FIRST_RECIPE, ROLE_OF, TEXT_ROLE, Modality, Recipe

_T = TypeVar("_T")


@runtime_checkable
class EmbeddingProvider(Protocol):
    """The interface of whatever turns texts into vectors."""

    def encode(self, text: str | list[str], normalize: bool = True) -> np.ndarray:
        """Encode one or n texts: (n, dimension) float32."""


class MultimodalEmbeddingProvider:
    """Text, image and audio encoders of a model set. Each model is loaded once, when it is first needed.

    Args:
        text_model_path: a BERT model directory.
        vision_model_path: a CLIP model directory, for the pooled vision vectors.
        audio_model_path: a Whisper or a CLAP model directory.
        clip_model_path: a CLIP or SigLIP model directory, for the space shared by pictures and texts.
        device: torch device; None takes CUDA when there, else the CPU.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        recipe: how a library makes vectors of recordings; ``ModelInfo.recipe`` is a new library's.

    Attributes:
        device, precision, recipe: as given.

    Raises:
        ModelLoadError: a given directory has no readable header.
    """

    def __init__(
        self,
        text_model_path: str | Path | None = None,
        vision_model_path: str | Path | None = None,
        audio_model_path: str | Path | None = None,
        clip_model_path: str | Path | None = None,
        device: str | None = None,
        precision: str = "auto",
        recipe: Recipe = FIRST_RECIPE,
    ) -> None:
        given = {
            "vision": clip_model_path,
            "audio": audio_model_path,
            "text": text_model_path,
            "pooled_vision": vision_model_path,
        }
        self._paths = {role: Path(path).expanduser() for role, path in given.items() if path is not None}
        self._infos = {role: model_info(path) for role, path in self._paths.items()}
        self.device, self.precision, self.recipe = device, precision, recipe
        self._loaded: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy in another process needs: it loads its models itself."""
        return {**self.__dict__, "_loaded": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what ``__getstate__`` gave."""
        self.__dict__.update(state, _lock=threading.Lock())

    def elsewhere(self, paths: Mapping[str, Path], device: str | None, precision: str) -> MultimodalEmbeddingProvider:
        """Return the same models for another machine, not loaded yet.

        Args:
            paths: their directories there, by role; others stay as they are.
            device, precision: there, as for this class.
        """
        other = copy.copy(self)  # without what is loaded, as a pickled one
        other._paths = {**self._paths, **paths}
        other.device, other.precision = device, precision
        return other

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that have a model: of vision, audio, text and pooled_vision."""
        return tuple(role for role in ENCODER_ROLES if role in self._paths)

    @property
    def runtime(self) -> Runtime:
        """The device and the number format that models run in, and why."""
        return choose_runtime(self.device, self.precision)

    @property
    def clip_engine(self) -> ImageTextEngine:
        """The model of pictures and texts, CLIP or SigLIP.

        Raises:
            ModelLoadError: there is none in this set, or it cannot be loaded.
        """
        return self._load("vision", ImageTextEngine)  # type: ignore[type-abstract]  # a subclass of it is loaded

    @property
    def audio_encoder(self) -> AudioEncoder | ClapEncoder:
        """The model of recordings.

        Raises:
            ModelLoadError: there is none in this set, or it cannot be loaded.
        """
        encoder: AudioEncoder | ClapEncoder = self._load("audio", Encoder)  # type: ignore[assignment]
        return encoder

    @property
    def text_encoder(self) -> TextEncoder:
        """The BERT encoder.

        Raises:
            ModelLoadError: there is none in this set, or it cannot be loaded.
        """
        return self._load("text", TextEncoder)

    @property
    def vision_encoder(self) -> VisionEncoder:
        """The vision tower alone, without CLIP's projection.

        Raises:
            ModelLoadError: there is none in this set, or it cannot be loaded.
        """
        return self._load("pooled_vision", VisionEncoder)

    def has(self, role: str) -> bool:
        """Return whether there is a model for a role: vision, audio, text or pooled_vision."""
        return role in self._paths

    def info(self, role: str) -> ModelInfo:
        """Return the header of a role's model, without loading the model.

        Raises:
            ModelLoadError: there is none for that role.
        """
        if role not in self._infos:
            raise ModelLoadError(
                f"this model set has no {role} model (it has {', '.join(self.roles) or 'none'}); "
                f"name one with --models, for example '{role}=DIR'"
            )
        return self._infos[role]

    def path(self, role: str) -> Path:
        """Return the model directory of a role.

        Raises:
            ModelLoadError: there is none for that role.
        """
        self.info(role)
        return self._paths[role]

    def digest(self, role: str) -> str:
        """Return the identity of a role's model, 64 hex digits."""
        return self.info(role).digest

    def recipe_digest(self, role: str) -> str:
        """Return the identity of the vectors that a library has of a role's model, 64 hex digits."""
        digest = self.digest(role)
        return self.recipe.digest(digest) if role == ROLE_OF["audio"] else digest

    def dimension(self, role: str) -> int:
        """Return the length of the vectors of a role's model."""
        info = self.info(role)
        return int(info.dimensions["vision"]["hidden_size"]) if role == "pooled_vision" else info.dimension

    def space(self, role: str) -> str | None:
        """Return the name of the space that a role's model shares with others, None when it shares none."""
        return self.info(role).space

    def takes_text(self, role: str) -> bool:
        """Return whether a role's model encodes texts, too, into the space of its vectors."""
        return family_named(self.info(role).family).takes_text

    def language(self, role: str) -> str | None:
        """Return the only language that a role's model knows texts in, as far as its family says."""
        return family_named(self.info(role).family).language

    def text_role(self, modality: Modality) -> str | None:
        """Return the role of the model that encodes the texts which find media of a modality.

        It is the modality's own model where that encodes texts, else the vision model where both share a space. None
        where texts do not find such media.
        """
        role = ROLE_OF[modality]
        if self.has(role) and self.takes_text(role):
            return role
        return TEXT_ROLE if self.has_one_space else None

    @property
    def has_one_space(self) -> bool:
        """Whether vectors of pictures and of recordings may be compared."""
        if not (self.has("vision") and self.has("audio")):
            return False
        return self.space("vision") is not None and self.space("vision") == self.space("audio")

    @property
    def text_reaches_audio(self) -> bool:
        """Whether texts find recordings: by the audio model's own vectors of texts, or by the vision model's."""
        return self.text_role("audio") is not None

    def encode(self, text: str | list[str], normalize: bool = True) -> np.ndarray:
        """Encode texts with the text model: (n, dimension) float32.

        Raises:
            ModelLoadError: there is no text model.
            TextValidationError: unusable texts.
        """
        return self.text_encoder.encode(text, normalize=normalize)

    def encode_image(self, images: Images, normalize: bool = True) -> np.ndarray:
        """Encode pictures with the vision tower alone where one was given, else into the space shared with texts.

        ``images`` are arrays, PIL images or paths, as of ``ImageTextEngine.encode_image``.

        Raises:
            ModelLoadError: there is neither.
            ImageValidationError: unusable pictures.
        """
        if self.has("pooled_vision"):
            return self.vision_encoder.encode(images, normalize=normalize)
        return self.clip_engine.encode_image(images, normalize=normalize)

    def encode_audio(
        self,
        audio: np.ndarray,
        normalize: bool = True,
        context: str = "padded",
        layer: int | None = None,
        sample_rate: int | None = None,
    ) -> np.ndarray:
        """Encode recordings: (n, dimension) float32.

        Args:
            audio: at the audio model's rate; as of its ``encode``.
            normalize: scale vectors to length one.
            context: as of ``AudioEncoder.encode``.
            layer: as of ``AudioEncoder.encode``.
            sample_rate: of ``audio``, in Hz, where it is known; another than the model's is refused.

        Raises:
            ModelLoadError: there is no audio model.
            AudioValidationError: unusable recordings, or another rate.
        """
        return self.audio_encoder.encode(
            audio, normalize=normalize, context=context, layer=layer, sample_rate=sample_rate
        )

    def encode_multimodal(
        self,
        text: list[str] | None = None,
        images: Images | None = None,
        audio: np.ndarray | None = None,
        normalize: bool = True,
        sample_rate: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Encode several modalities at once; the result has the keys ``text``, ``image`` and ``audio`` that were given.

        Args:
            text: as of ``encode``.
            images: as of ``encode_image``.
            audio: as of ``encode_audio``.
            normalize: scale vectors to length one.
            sample_rate: of ``audio``, in Hz, where it is known; another than the audio model's is refused.

        Raises:
            InputError: nothing was given, or something unusable.
            ModelLoadError: a model is missing.
        """
        if text is None and images is None and audio is None:
            raise InputError("nothing to encode: give text, images or audio")
        vectors: dict[str, np.ndarray] = {}
        if text is not None:
            vectors["text"] = self.encode(text, normalize=normalize)
        if images is not None:
            vectors["image"] = self.encode_image(images, normalize=normalize)
        if audio is not None:
            vectors["audio"] = self.encode_audio(audio, normalize=normalize, sample_rate=sample_rate)
        return vectors

    def compute_cross_modal_similarity(self, text: list[str], images: Images) -> np.ndarray:
        """Compute the vision model's logits between texts and pictures: (n_texts, n_images) float32.

        Raises:
            ModelLoadError: there is no vision model.
            InputError: unusable texts or pictures.
        """
        engine = self.clip_engine
        return engine.compute_similarity(engine.encode_text(text), engine.encode_image(images))

    def _load(self, role: str, kind: type[_T]) -> _T:
        path = self.path(role)
        with self._lock:
            if role not in self._loaded:
                encoder = family_for(role, self._infos[role].family, path).encoder(role)
                self._loaded[role] = encoder(path, self.device, self.precision)
            return cast(_T, self._loaded[role])
