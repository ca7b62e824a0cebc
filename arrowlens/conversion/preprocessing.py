"""How a checkpoint prepares its inputs; for pictures it becomes ``preprocessor.json``."""

from __future__ import annotations

from typing import Any, NamedTuple

from arrowlens.conversion.checkpoint import Checkpoint
from arrowlens.encoders.image_processor import SHORTEST_SIDE, SQUARE
from arrowlens.errors import ConversionError

PREPROCESSOR_CONFIG, PROCESSOR_CONFIG = "preprocessor_config.json", "processor_config.json"
_PARTS = ("image_processor", "feature_extractor")  # of processor_config.json
_RESAMPLE = {2: "bilinear", 3: "bicubic"}  # PIL's numbers
_BICUBIC = 3


class PreprocessingConfig(NamedTuple):
    """What a checkpoint says of its preprocessing.

    Attributes:
        file: the name of the file that says it.
        values: its settings; None where no file says any.
    """

    file: str
    values: dict[str, Any] | None


def preprocessing_config(checkpoint: Checkpoint) -> PreprocessingConfig:
    """Read the settings of a checkpoint's image processor or feature extractor.

    transformers 5 nests them in ``processor_config.json`` when it saves a whole processor. Where both files are there,
    those count that transformers reads: the nested ones.

    Raises:
        ConversionError: a file is not a JSON object.
    """
    whole = checkpoint.read_json(PROCESSOR_CONFIG) or {}
    for part in _PARTS:
        if isinstance(whole.get(part), dict):
            return PreprocessingConfig(PROCESSOR_CONFIG, whole[part])
    return PreprocessingConfig(PREPROCESSOR_CONFIG, checkpoint.read_json(PREPROCESSOR_CONFIG))


def image_settings(
    checkpoint: Checkpoint, image_size: int, mean: tuple[float, ...], std: tuple[float, ...], *, crops: bool
) -> dict[str, Any]:
    """Return the content of ``preprocessor.json``.

    Args:
        checkpoint: the folder; may say nothing of its preprocessing.
        image_size: of the vision tower.
        mean: where the file names none.
        std: as ``mean``.
        crops: whether the family crops to a square unless the file says otherwise.

    Raises:
        ConversionError: the file leaves out a step, or resizes in another way than ``ImageProcessor`` does.
    """
    file, values = preprocessing_config(checkpoint)
    where, given = f"{checkpoint.directory}: {file}", values or {}
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if given.get(step, True) is not True:
            raise ConversionError(f"{where} turns {step} off; not supported")
    resample = given.get("resample", _BICUBIC)
    if resample not in _RESAMPLE:
        raise ConversionError(f"{where} resamples with {resample!r}; not supported")
    rescale = given.get("rescale_factor", 1 / 255)
    if given.get("do_center_crop", crops):
        _check_crop(where, given, image_size, rescale)
        geometry = {"resize": SHORTEST_SIDE, "crop": "centre"}
    else:
        _check_square(where, given, image_size, rescale)
        geometry = {"resize": SQUARE}
    return {
        "image_size": image_size,
        **geometry,
        "mean": list(given.get("image_mean", mean)),
        "std": list(given.get("image_std", std)),
        "resample": _RESAMPLE[resample],
        "rescale": "1/255",
    }


def square_side(checkpoint: Checkpoint, value: Any) -> int:  # noqa: ANN401 - from JSON
    """Return the side of a square size, one number or two equal ones.

    Raises:
        ConversionError: it is not square.
    """
    sides = {value} if isinstance(value, int) else set(value)
    if len(sides) != 1:
        raise ConversionError(f"{checkpoint.directory}: size {value} is not square; only square ones are supported")
    return int(sides.pop())


def _check_crop(where: str, given: dict[str, Any], image_size: int, rescale: float) -> None:
    shortest, crop = given.get("size", image_size), given.get("crop_size", image_size)
    sizes = {_edge(shortest, {"shortest_edge"}), _edge(crop, {"height", "width"}), image_size}
    if len(sizes) != 1 or _differs(rescale):
        raise ConversionError(
            f"{where} resizes to {shortest}, crops to {crop} and "
            f"scales by {rescale}; supported is the shortest side to {image_size}, a square crop of {image_size}, 1/255"
        )


def _check_square(where: str, given: dict[str, Any], image_size: int, rescale: float) -> None:
    size = given.get("size", {"height": image_size, "width": image_size})
    if not isinstance(size, dict) or set(size) == {"shortest_edge"}:
        raise ConversionError(
            f"{where} turns do_center_crop off and resizes to {size}; "
            f"without a crop, supported is a square of {image_size}"
        )
    if _edge(size, {"height", "width"}) != image_size or _differs(rescale):
        raise ConversionError(
            f"{where} resizes to {size} and scales by {rescale}; supported is a square of {image_size}, 1/255"
        )


def _differs(rescale: float) -> bool:
    return abs(rescale * 255 - 1) > 1e-3


def _edge(size: Any, keys: set[str]) -> int | None:  # noqa: ANN401 - from JSON
    """Return the side of a size in a checkpoint that has exactly these keys; None for another size."""
    if isinstance(size, int):
        return size
    if not isinstance(size, dict) or set(size) != keys or len(set(size.values())) != 1:
        return None
    return int(next(iter(size.values())))
