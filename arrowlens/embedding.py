"""The one place where media become vectors: files, uploads, and pictures and recordings in memory.

There are two steps, so that the first can run in a process without models:

    inputs = prepare(decoded, plan)    # what a model takes; picklable, imports no torch
    vectors = embed(inputs, models)    # (n_segments, d)

Ingest, questions by example, the doctor and the evaluation all take these steps, so that the same bytes give the same
vectors everywhere. ``encode`` takes the inputs of many media at once. The batch changes vectors by no more than
rounding does: in half precision their cosine to those encoded alone is above 0.9999.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from arrowlens import media
from arrowlens.errors import AudioValidationError, InputError, MediaError
from arrowlens.media.decoded import Decoded, Limits
from arrowlens.media.windowing import Window, windows, without_silent_ends
from arrowlens.modalities import FIRST_RECIPE, MODALITIES, ROLE_OF, SAMPLE_RATE, TEXT_ROLE, Input, Modality, Recipe
from arrowlens.workers.isolated import Call, directly

if TYPE_CHECKING:
    from PIL import Image

    from arrowlens.encoders import ImageProcessor, MultimodalEmbeddingProvider
    from arrowlens.encoders.tokenizer import TextTokenizer
    from arrowlens.media.acoustic_fingerprint import AcousticFingerprint

_ANY_SIZE = Limits(max_file_bytes=2**62, max_film_bytes=2**62)
_MAX_CHANNELS = 8
MAX_QUERY_WINDOWS = 32  # each costs a search of the store; two hours of recording have 1,440
MOST_TEMPLATE_WORDS = 3  # without an article; templates were published for names of things, not for sentences
_ARTICLE = re.compile(r"^(an?|the)\s+", re.IGNORECASE)


class ImageEncoder(Protocol):
    """What is needed of a vision model; several threads use it at once."""

    @property
    def device(self) -> str:
        """Name of the torch device that it runs on."""

    @property
    def image_processor(self) -> ImageProcessor:
        """Prepares pictures for ``encode_image``."""

    def encode_image(self, images: np.ndarray, normalize: bool = True) -> np.ndarray:
        """(n, S, S, 3) uint8 -> (n, d)."""


class SoundEncoder(Protocol):
    """What is needed of an audio encoder; several threads use it at once."""

    @property
    def device(self) -> str:
        """Name of the torch device that it runs on."""

    def encode(
        self,
        audio: Sequence[np.ndarray],
        normalize: bool = True,
        context: str = "padded",
        layer: int | None = None,
        sample_rate: int | None = None,
    ) -> np.ndarray:
        """n arrays (n_samples,) -> (n, d)."""


class CaptionEncoder(Protocol):
    """What is needed of a text encoder."""

    def encode(self, texts: list[str], normalize: bool = True) -> np.ndarray:
        """n texts -> (n, d)."""


class QuestionEncoder(Protocol):
    """A model of media that encodes texts into the same space."""

    @property
    def tokenizer(self) -> TextTokenizer:
        """Says how much of a text the model reads."""

    def encode_text(self, texts: list[str], normalize: bool = True) -> np.ndarray:
        """n texts -> (n, d)."""


class Provider(Protocol):
    """What is needed of a model set: ``MultimodalEmbeddingProvider`` has it."""

    @property
    def clip_engine(self) -> ImageEncoder:
        """Loaded when first asked for."""

    @property
    def audio_encoder(self) -> SoundEncoder:
        """Loaded when first asked for."""

    @property
    def text_encoder(self) -> CaptionEncoder:
        """Loaded when first asked for."""

    @property
    def recipe(self) -> Recipe:
        """How vectors are made of recordings."""

    def has(self, role: str) -> bool:
        """Whether there is a model for a role."""

    def digest(self, role: str) -> str:
        """64 hex characters."""

    def recipe_digest(self, role: str) -> str:
        """Identity of the role's vectors, 64 hex characters."""

    def dimension(self, role: str) -> int:
        """Length of the role's vectors."""

    def space(self, role: str) -> str | None:
        """Name of the space that the role shares with others."""

    def takes_text(self, role: str) -> bool:
        """Whether the role's model encodes texts, too."""


@dataclasses.dataclass(frozen=True, slots=True)
class EmbeddingPlan:
    """How decoded media are prepared for models. Picklable.

    Attributes:
        image_processor: prepares pictures; None without a model for them.
        recipe: of recordings.
        exact: decode pictures in full, instead of at twice the size that the model takes.
    """

    image_processor: ImageProcessor | None
    recipe: Recipe = FIRST_RECIPE
    exact: bool = False

    @classmethod
    def of(cls, models: Provider, *, exact: bool = False) -> EmbeddingPlan:
        """The plan for a set of models, whose picture model it loads."""
        processor = models.clip_engine.image_processor if models.has(ROLE_OF["image"]) else None
        return cls(processor, models.recipe, exact)

    @property
    def min_side(self) -> int | None:
        """``min_side`` as ``media.decode`` takes it; None keeps every pixel."""
        return None if self.image_processor is None or self.exact else self.image_processor.image_size


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """What a model takes of one medium.

    Attributes:
        modality: "image" for pictures and the shots of films, "audio" for recordings and the sound of films.
        content: a picture, (S, S, 3) uint8, those of shots, (n, S, S, 3), or the samples of a recording, (n,) float32
            mono; None for pictures that there is no model for, and once it is encoded.
        windows: the segments of a recording or a film; empty for a picture, which is one segment without times.
        rate: of samples, in Hz.
    """

    modality: Input
    content: np.ndarray | None = None
    windows: tuple[Window, ...] = ()
    rate: int = SAMPLE_RATE

    @property
    def segments(self) -> tuple[np.ndarray, ...]:
        """An array for each segment: the picture, that of each shot, or a view of each window's samples."""
        if self.content is None:
            return ()
        if self.content.ndim == 4:
            return tuple(self.content)
        return tuple(self.content[window.slice(self.rate)] for window in self.windows) or (self.content,)


def prepare(decoded: Decoded, plan: EmbeddingPlan) -> Inputs:
    """Prepare a picture or a recording for its model.

    Args:
        decoded: a readable medium, with pixels or samples.
        plan: as the library's other media were prepared.

    Raises:
        ImageValidationError: no pixels, or an array that is not (H, W, 3) uint8.
        AudioValidationError: samples of another rate than the plan's.
    """
    if decoded.samples is not None:
        rate = plan.recipe.sample_rate
        if decoded.decoded_rate != rate:
            raise AudioValidationError(f"the recording is at {decoded.decoded_rate} Hz; decode it at {rate} Hz")
        return Inputs("audio", decoded.samples, _audio_windows(decoded.samples, plan.recipe), rate)
    if decoded.pixels is None or plan.image_processor is None:
        return Inputs("image")
    return Inputs("image", plan.image_processor(decoded.pixels, normalize=False, box=decoded.box))


def prepare_each(decoded: Decoded, plan: EmbeddingPlan) -> tuple[Inputs, ...]:
    """Prepare what was decoded for each model that takes something of it: a film's shots and its sound.

    Raises:
        As ``prepare``.
    """
    if decoded.modality != "video":
        return (prepare(decoded, plan),)
    shots = Inputs("image", windows=tuple(Window(shot.start_s, shot.end_s) for shot in decoded.shots))
    if plan.image_processor is not None:
        pictures = [plan.image_processor(frame, normalize=False) for frame in decoded.frames]
        shots = dataclasses.replace(shots, content=np.stack(pictures))
    return (shots,) if decoded.samples is None else (shots, prepare(decoded, plan))


def _audio_windows(samples: np.ndarray, recipe: Recipe) -> tuple[Window, ...]:
    part, cut = without_silent_ends(samples) if recipe.skip_silence else slice(0, len(samples)), recipe.windows
    rate, n_samples = recipe.sample_rate, part.stop - part.start
    before_s = part.start / rate
    return tuple(
        Window(before_s + window.start_s, before_s + window.end_s)
        for window in windows(n_samples, rate, cut.length_s, cut.hop_s, is_maximum=cut.is_maximum)
    )


def encode(modality: Input, segments: Sequence[np.ndarray], models: Provider) -> np.ndarray:
    """Encode segments of any number of media.

    Args:
        modality: of all of them, as of ``Inputs``. segments: at least one, as ``Inputs.segments`` gives them.
        models: with one for ``ROLE_OF[modality]``.

    Returns:
        (n, d) float32 of length one, in the order of the segments.

    Raises:
        ModelLoadError: the model cannot be loaded. InputError: the model refuses a segment.
        RuntimeError: the model failed, for example because memory ran out.
    """
    if modality == "image":
        return models.clip_engine.encode_image(np.stack(segments))
    recipe = models.recipe
    return models.audio_encoder.encode(segments, context="own", layer=recipe.layer, sample_rate=recipe.sample_rate)


def embed(inputs: Inputs, models: Provider) -> np.ndarray:
    """Encode one medium: (n_segments, d) float32 of length one; errors as ``encode``."""
    return encode(inputs.modality, inputs.segments, models)


def question_encoder(role: str, models: MultimodalEmbeddingProvider) -> QuestionEncoder:
    """Return the model that encodes the texts which media of a role are searched with.

    Args:
        role: as ``MultimodalEmbeddingProvider.text_role`` names it.
        models: with a model for it.

    Raises:
        ModelLoadError: there is none, or it cannot be loaded.
    """
    encoder: Any = models.clip_engine if role == TEXT_ROLE else models.audio_encoder
    asked: QuestionEncoder = encoder
    return asked


def embed_questions(texts: Sequence[str], role: str, models: MultimodalEmbeddingProvider) -> np.ndarray:
    """Encode texts as media of a role are searched with them; ``question_encoder`` says which model does.

    The name of a thing, a text of at most three words, is asked for in each of the model's templates: its vector is
    the mean of theirs. Any other text is encoded as it is.

    Args:
        texts: at least one.
        role: as ``MultimodalEmbeddingProvider.text_role`` names it.
        models: with a model for it.

    Returns:
        (n, d) float32 of length one.

    Raises:
        ModelLoadError: there is none, or it cannot be loaded. TextValidationError: unusable texts.
    """
    templates = models.templates(role)
    prompts = [_prompts(text, templates) for text in texts]
    vectors = question_encoder(role, models).encode_text([prompt for each in prompts for prompt in each])
    if len(vectors) == len(texts):
        return vectors
    starts = np.cumsum([0, *map(len, prompts[:-1])])
    sums: np.ndarray = np.add.reduceat(vectors, starts, axis=0)
    sums /= np.linalg.norm(sums, axis=1, keepdims=True)
    return sums


def _prompts(text: str, templates: Sequence[str]) -> list[str]:
    name = _ARTICLE.sub("", text.strip(), count=1)
    if not 1 <= len(name.split()) <= MOST_TEMPLATE_WORDS:
        return [text]
    return [template.replace("{}", name) for template in templates] or [text]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A picture, a recording or a film to compare with; by its stored vectors where the library holds its content.

    Attributes:
        name: what it is called in messages, and in ``Query.weights``.
        modality: "image", "audio" or "video".
        content_hash: of its bytes, None when they are not known.
        pixels: (H, W, 3) uint8 RGB. box: where the picture lies within them, as ``ImageProcessor`` takes it.
        windows: (n,) float32 each, mono. Without pixels, windows and vectors only stored vectors count.
        rate: of the windows, in Hz: that of the models which they were cut for.
        vectors: (n, d) float32 where they are known already. digest: their ``recipe_digest``.
        thumbnail: of a picture, as a library stores it. fingerprint: of a recording. By these a copy is known.
        shots: of a film, prepared for the vision model: (n, S, S, 3) uint8.
        at_s: seconds of a moment; of a film or a recording that the library holds, only the segments there count, of
            a film the shots.
    """

    name: str
    modality: Modality
    content_hash: str | None = None
    pixels: np.ndarray | None = None
    box: tuple[float, float, float, float] | None = None
    windows: Sequence[np.ndarray] | None = None
    rate: int = SAMPLE_RATE
    vectors: np.ndarray | None = None
    digest: str | None = None
    thumbnail: bytes | None = None
    fingerprint: AcousticFingerprint | None = None
    shots: np.ndarray | None = None
    at_s: float | None = None

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What it may be compared by: a film by its shots and by its sound."""
        return MODALITIES[self.modality].inputs


def embed_example(example: Example, models: Provider, modality: Input | None = None) -> np.ndarray:
    """Encode an example: (1, d) of a picture, or (n, d) of at most ``MAX_QUERY_WINDOWS`` windows or shots.

    Args:
        example: with pixels, windows or shots.
        models: encode it.
        modality: "image" for the shots of a film, "audio" for its sound; None takes what there is.

    Raises:
        InputError: a recording without windows. ImageValidationError, AudioValidationError: an unusable example.
        ModelLoadError: there is no model for its modality.
    """
    if example.pixels is not None:
        decoded = Decoded(example.modality, None, pixels=example.pixels, box=example.box)
        return embed(prepare(decoded, EmbeddingPlan(models.clip_engine.image_processor)), models)
    if example.shots is not None and modality != "audio":
        return encode("image", [example.shots[index] for index in evenly_spaced(len(example.shots))], models)
    if not example.windows:
        raise InputError("a recording without samples finds nothing; give at least one window")
    chosen = [example.windows[index] for index in evenly_spaced(len(example.windows))]
    return encode("audio", windows_for(models.recipe, chosen, example.rate), models)


def windows_for(recipe: Recipe, cut: Sequence[np.ndarray], rate: int) -> Sequence[np.ndarray]:
    """Return windows as a recipe's model takes them, where they were cut for a model of another rate or length.

    Args:
        recipe: of the model.
        cut: (n,) float32 each.
        rate: of ``cut``, in Hz.
    """
    if rate != recipe.sample_rate:
        from arrowlens.encoders import AudioProcessor  # deferred: only a change of models needs it

        cut = [AudioProcessor.resample(samples, rate, recipe.sample_rate) for samples in cut]
    most = round(recipe.windows.length_s * recipe.sample_rate) if recipe.windows.is_maximum else None
    return [samples[:most] for samples in cut]


def evenly_spaced(n: int) -> list[int]:
    """At most ``MAX_QUERY_WINDOWS`` of n positions at equal distances, the first and the last included."""
    if n <= MAX_QUERY_WINDOWS:
        return list(range(n))
    return [round(step * (n - 1) / (MAX_QUERY_WINDOWS - 1)) for step in range(MAX_QUERY_WINDOWS)]


def _mono(samples: np.ndarray) -> np.ndarray:
    """Return samples as (n,) float32; errors as of ``ExampleReader.samples``."""
    if not np.issubdtype(samples.dtype, np.floating):
        cure = "numbers of 16 bits, for example, are samples / numpy.float32(32768)"
        raise AudioValidationError(f"samples are {samples.dtype}; give floating-point numbers in [-1, 1]: {cure}")
    if samples.ndim == 2 and 1 <= samples.shape[1] <= _MAX_CHANNELS:
        samples = samples.mean(axis=1)
    if samples.ndim != 1:
        cure = "samples.T turns (channels, n) round"
        raise AudioValidationError(f"samples are {samples.shape}; give (n,) or (n, channels): {cure}")
    return samples.astype(np.float32, copy=False)


class ExampleReader:
    """Makes examples as ingest reads files: pictures of the model's size, recordings in the library's windows.

    Args:
        models: the library's models.
        call: how files are decoded.
        held_modality: gives the modality of a content, by its hash, whose vectors the library has; None of any other.
    """

    def __init__(
        self,
        models: MultimodalEmbeddingProvider,
        call: Call = directly,
        held_modality: Callable[[str], Modality | None] = lambda _: None,
    ) -> None:
        self._models = models
        self._call = call
        self._held_modality = held_modality

    def file(self, path: str | os.PathLike[str]) -> Example:
        """A file, in the library or not; ``~`` is expanded. What the library holds is not decoded, however long it is.

        Raises:
            MediaError: it is missing or cannot be decoded; says why.
        """
        place, name = Path(path).expanduser(), os.fspath(path)
        if not os.path.lexists(place):
            raise MediaError(f"{name}: there is no such file; check its name")
        with suppress(MediaError):  # decoding it says the same, with its name
            content = media.hash_file(place, _ANY_SIZE)
            modality = self._held_modality(content)
            if modality is not None:
                return Example(name, modality, content)
        return self._decoded(place, None, name)

    def upload(self, data: bytes, name: str) -> Example:
        """A file's bytes; nothing is stored.

        Raises:
            MediaError: they cannot be decoded; says why.
        """
        return self._decoded(name, data, name)

    def picture(self, image: Image.Image) -> Example:
        """A picture in memory, of any mode and size; turned upright, over white.

        Raises:
            InputError: no PIL image. MediaError: pixels that are not finite.
        """
        from PIL import Image, ImageOps  # deferred: a text needs no pictures

        from arrowlens.media.colours import to_rgb  # deferred: decoders, which a text needs none of
        from arrowlens.media.downscale import THUMBNAIL_SIDE, make_thumbnail  # deferred, as above

        if not isinstance(image, Image.Image):
            raise InputError(f"search_by_image takes a PIL image, not {type(image).__name__}; similar() takes a path")
        upright, _ = to_rgb(ImageOps.exif_transpose(image))
        small = upright.reduce(max(1, max(upright.size) // (2 * THUMBNAIL_SIDE)))
        thumbnail = make_thumbnail(np.asarray(small))
        return Example("the picture", "image", pixels=np.asarray(upright), thumbnail=thumbnail)

    def samples(self, samples: np.ndarray, rate: int) -> Example:
        """A recording in memory.

        Args:
            samples: float32 or float64, full scale 1; (n,) mono, or (n, channels), which are mixed down.
            rate: of ``samples``, in Hz.

        Raises:
            AudioValidationError: unusable samples or rate.
        """
        from arrowlens.encoders import AudioProcessor  # deferred, as above
        from arrowlens.media.acoustic_fingerprint import acoustic_fingerprint  # deferred, as above

        if not isinstance(samples, np.ndarray):
            cure = "numpy.asarray(samples, dtype=numpy.float32) makes one"
            raise AudioValidationError(f"search_by_audio takes a numpy array, not {type(samples).__name__}; {cure}")
        samples = _mono(samples)
        wanted = self._models.recipe.sample_rate
        resampled = AudioProcessor.resample(samples, rate, wanted)
        fingerprint = acoustic_fingerprint(AudioProcessor.resample(samples, rate, SAMPLE_RATE))
        decoded = Decoded("audio", None, samples=resampled, decoded_rate=wanted, fingerprint=fingerprint)
        return self._recording("the recording", decoded)

    def _decoded(self, path: str | Path, data: bytes | None, name: str) -> Example:
        plan = self._plan()
        options: dict[str, Any] = {"data": data, "min_side": plan.min_side, "sample_rate": plan.recipe.sample_rate}
        try:
            decoded = self._call(media.decode, path, **options)
            if decoded.modality == "video" and decoded.too_large:  # of a long film, the shots
                decoded = self._call(media.decode, path, **options, sound=False)
        except MediaError as error:
            raise MediaError(f"{name}: {error}") from error
        if decoded.reason is not None:
            raise MediaError(f"{name}: {decoded.reason}")
        if decoded.pixels is not None:
            pixels, box, thumbnail = decoded.pixels, decoded.box, decoded.thumbnail
            return Example(name, "image", decoded.content_hash, pixels=pixels, box=box, thumbnail=thumbnail)
        return self._film(name, decoded) if decoded.modality == "video" else self._recording(name, decoded)

    def _film(self, name: str, decoded: Decoded) -> Example:
        shots, *sound = prepare_each(decoded, self._plan())
        example = Example(name, "video", decoded.content_hash, shots=shots.content)
        return dataclasses.replace(example, windows=sound[0].segments, rate=sound[0].rate) if sound else example

    def _recording(self, name: str, decoded: Decoded) -> Example:
        inputs = prepare(decoded, self._plan())
        return Example(
            name,
            "audio",
            decoded.content_hash,
            windows=inputs.segments,
            rate=inputs.rate,
            fingerprint=decoded.fingerprint,
        )

    def _plan(self) -> EmbeddingPlan:
        """The library's plan, without loading a model: a file that the library holds needs none."""
        from arrowlens.encoders import ImageProcessor  # deferred, as above

        role = ROLE_OF["image"]
        processor = ImageProcessor.from_pretrained(self._models.path(role)) if self._models.has(role) else None
        return EmbeddingPlan(processor, self._models.recipe)
