"""What the converters of all families share: what they prepare from a checkpoint, and how they call transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from tokenizers import Tokenizer

from arrowlens.conversion.checkpoint import Checkpoint
from arrowlens.conversion.preprocessing import square_side
from arrowlens.conversion.samples import TEXTS, pictures
from arrowlens.encoders.image_text import ImageTextEngine
from arrowlens.encoders.transformer import ACTIVATIONS
from arrowlens.errors import ConversionError

TOKENIZER_NAME, PREPROCESSOR_NAME = "tokenizer.json", "preprocessor.json"


@dataclass(frozen=True)
class Prepared:
    """The content of a model directory: tensors by our names, dimensions, and the files beside them.

    ``notices`` are lines for a user.
    """

    tensors: dict[str, torch.Tensor]
    dimensions: dict[str, Any]
    files: dict[str, bytes]
    original_bytes: int
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Vectors:
    """Our vectors and the original's of the same inputs, (n, dimension) float32 each; ``kind`` names the inputs."""

    kind: str
    ours: np.ndarray
    reference: np.ndarray


class Converter(Protocol):
    """A module of this package that converts one family's checkpoints, with its rename table."""

    def prepare(self, checkpoint: Checkpoint, dtype: str) -> Prepared:
        """Read dimensions and tensors."""
        ...

    def compare(self, checkpoint: Checkpoint, encoder: Any) -> Iterator[Vectors]:  # noqa: ANN401 - the family's encoder
        """Encode built-in inputs with the converted model and with the original, both in float32."""
        ...


def compare_pictures_and_texts(
    checkpoint: Checkpoint,
    engine: ImageTextEngine,
    model_class: str,
    processor: Any,  # noqa: ANN401 - untyped library
    tokens: Callable[[list[str], int], Mapping[str, torch.Tensor]],
) -> Iterator[Vectors]:
    """Encode built-in pictures and texts with the converted model and with transformers'.

    Args:
        checkpoint: of the original.
        engine: the converted model.
        model_class: of the original.
        processor: the original's, of pictures.
        tokens: texts, and the most tokens that one may have -> what the original takes.
    """
    model = load_reference(checkpoint, model_class)
    images, texts = pictures(), list(TEXTS)
    ours = engine.encode_image(np.stack([engine.image_processor(image) for image in images]))
    with torch.inference_mode():
        pixels = torch.from_numpy(np.stack(processor(images=images)["pixel_values"]))
        yield Vectors("pictures", ours, model.get_image_features(pixel_values=pixels).pooler_output.numpy())
        reference = model.get_text_features(**tokens(texts, model.config.text_config.max_position_embeddings))
    yield Vectors("texts", engine.encode_text(texts), reference.pooler_output.numpy())


def load_config(checkpoint: Checkpoint, model_type: str, config_class: str) -> Any:  # noqa: ANN401 - untyped library
    """Read the checkpoint's configuration with transformers, which fills in defaults and reads old files.

    Raises:
        ConversionError: ``config.json`` is missing, belongs to another kind of model, or holds impossible values.
    """
    import transformers  # deferred: seconds, and only conversion needs it
    from huggingface_hub.errors import StrictDataclassError

    raw = checkpoint.config()
    if raw.get("model_type") != model_type:
        raise ConversionError(
            f"{checkpoint.directory}: config.json says model_type {raw.get('model_type')!r}, "
            f"but a {model_type!r} checkpoint is needed"
        )
    try:
        with quiet_transformers():
            return getattr(transformers, config_class).from_dict(raw)
    except (StrictDataclassError, TypeError, ValueError, AttributeError) as error:
        detail = " ".join(str(error).split())
        raise ConversionError(f"{checkpoint.directory}: config.json cannot be read: {detail}") from error


def load_reference(checkpoint: Checkpoint, model_class: str, **options: object) -> Any:  # noqa: ANN401 - untyped library
    """Load the original model, in float32 on the CPU.

    Raises:
        ConversionError: transformers cannot load it, or finds no weights for a part of it.
    """
    import transformers  # deferred: seconds, and only conversion needs it

    try:
        with quiet_transformers():
            model, loading = getattr(transformers, model_class).from_pretrained(
                checkpoint.directory, dtype=torch.float32, local_files_only=True, output_loading_info=True, **options
            )
    except (OSError, ValueError, RuntimeError) as error:
        detail = " ".join(str(error).split())
        raise ConversionError(f"{checkpoint.directory}: transformers cannot load it ({detail})") from error
    missing = sorted(loading["missing_keys"])
    if missing:
        raise ConversionError(f"{checkpoint.directory}: transformers finds no weights for '{missing[0]}' in it")
    return model.eval()


def load_tokenizer(checkpoint: Checkpoint) -> Any:  # noqa: ANN401 - untyped library
    """Load the original tokenizer.

    Raises:
        ConversionError: the checkpoint has none, or transformers cannot load it.
    """
    from transformers import AutoTokenizer  # deferred: seconds, and only conversion needs it

    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(checkpoint.directory, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        detail = " ".join(str(error).split())
        raise ConversionError(f"{checkpoint.directory}: transformers cannot load its tokenizer ({detail})") from error


def tokenizer_file(checkpoint: Checkpoint, vocabulary: tuple[str, ...]) -> bytes:
    """Read the checkpoint's ``tokenizer.json``; without one, transformers makes it from the vocabulary files.

    Raises:
        ConversionError: neither ``tokenizer.json`` nor all ``vocabulary`` files are there.
    """
    raw = checkpoint.read_bytes(TOKENIZER_NAME)
    if raw is not None:
        return raw
    missing = [name for name in vocabulary if checkpoint.read_bytes(name) is None]
    if missing:
        raise ConversionError(
            f"{checkpoint.directory}: neither {TOKENIZER_NAME} nor {missing[0]} in it; save the tokenizer there too"
        )
    text: str = load_tokenizer(checkpoint).backend_tokenizer.to_str()
    return text.encode()


def parsed_tokenizer(checkpoint: Checkpoint, data: bytes, vocab_size: int) -> Tokenizer:
    """Parse a ``tokenizer.json``, whose ids must all be in the model's table.

    Raises:
        ConversionError: it cannot be read, or has more ids than the model.
    """
    try:
        tokenizer = Tokenizer.from_str(data.decode())
    except Exception as error:  # the library raises bare Exception
        raise ConversionError(f"{checkpoint.directory}: {TOKENIZER_NAME} cannot be read ({error})") from error
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest >= vocab_size:
        raise ConversionError(
            f"{checkpoint.directory}: the tokenizer has ids up to {largest}, but vocab_size in config.json is "
            f"{vocab_size}; they belong to different models"
        )
    return tokenizer


def vision_dimensions(checkpoint: Checkpoint, config: Any) -> dict[str, Any]:  # noqa: ANN401 - transformers'
    """Return the dimensions of a vision tower, as ``VisionConfig`` names them.

    Raises:
        ConversionError: the pictures are not square or not RGB, or a dimension is not supported.
    """
    if config.num_channels != 3:
        raise ConversionError(
            f"{checkpoint.directory}: pictures of {config.num_channels} channels; only RGB is supported"
        )
    image_size, patch_size = (square_side(checkpoint, value) for value in (config.image_size, config.patch_size))
    return {"image_size": image_size, "patch_size": patch_size, **tower_dimensions(checkpoint, config)}


def tower_dimensions(checkpoint: Checkpoint, config: Any) -> dict[str, Any]:  # noqa: ANN401 - transformers'
    """Return the dimensions of a tower's Transformer.

    Raises:
        ConversionError: a dimension is not supported.
    """
    return {
        "hidden_size": config.hidden_size,
        "num_layers": config.num_hidden_layers,
        "num_heads": checked_heads(checkpoint, config.hidden_size, config.num_attention_heads),
        "intermediate_size": config.intermediate_size,
        "activation": checked_activation(checkpoint, config.hidden_act),
        "layer_norm_eps": config.layer_norm_eps,
    }


def checked_activation(checkpoint: Checkpoint, name: str) -> str:
    """Return the activation's name.

    Raises:
        ConversionError: it is not supported.
    """
    if name not in ACTIVATIONS:
        raise ConversionError(
            f"{checkpoint.directory}: activation {name!r} is not supported; only {', '.join(ACTIVATIONS)}"
        )
    return name


def checked_heads(checkpoint: Checkpoint, hidden_size: int, num_heads: int) -> int:
    """Return the number of heads.

    Raises:
        ConversionError: they do not divide the width.
    """
    if num_heads < 1 or hidden_size % num_heads:
        raise ConversionError(
            f"{checkpoint.directory}: config.json gives {num_heads} heads, which do not divide the width {hidden_size}"
        )
    return num_heads


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' messages and progress bars, and restore its settings at the end."""
    from transformers.utils import logging as untyped  # deferred: seconds, and only conversion needs it

    logging: Any = untyped
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
