"""A SigLIP or an OpenCLIP checkpoint of true width, converted, and compared with transformers from files on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from PIL import Image, ImageOps

from arrowlens.conversion import convert_clip_model, convert_siglip_model
from arrowlens.encoders import CLIPEngine, SiglipEngine
from arrowlens.media import decode
from tests.support.checkpoints import TEXT_B, VIT_B16, clip_model, tiny_vocabulary
from tests.support.languages import TEXTS
from tests.support.openclip import openclip_folder
from tests.support.reference import HALF_COSINE, ClipReference, assert_agree, centred_error, cosines
from tests.support.siglip import BASE, SO400M, SiglipReference, siglip_checkpoint

Sizes = dict[str, Any]
SIGLIP: dict[str, tuple[Sizes, Sizes]] = {  # vision tower, text tower
    "SigLIP 2 B/16-224": ({**BASE, "image_size": 224, "patch_size": 16}, BASE),
    "SigLIP 2 B/32-256": ({**BASE, "image_size": 256, "patch_size": 32}, BASE),
    "SigLIP 2 So400m/14-224": ({**SO400M, "image_size": 224, "patch_size": 14}, SO400M),
}
OPENCLIP: dict[str, tuple[Sizes, Sizes]] = {
    "OpenCLIP ViT-B-32-256": ({**VIT_B16, "image_size": 256, "patch_size": 32, "hidden_act": "gelu"}, TEXT_B),
    "OpenCLIP ViT-B-16-quickgelu": ({**VIT_B16, "hidden_act": "quick_gelu"}, TEXT_B),
}
NAMES = (*SIGLIP, *OPENCLIP)


@dataclass(frozen=True)
class Pair:
    """A converted model's engine in any precision, and what transformers makes of pictures and of texts."""

    engine: Callable[[str], CLIPEngine | SiglipEngine]
    images: Callable[[list[Image.Image]], np.ndarray]
    texts: Callable[[list[str]], np.ndarray]


def converted_pair(name: str, folder: Path, *, n_layers: int | None = None, n_tokens: int | None = None) -> Pair:
    """Make a checkpoint and convert it, in float32.

    Args:
        name: one of ``NAMES``.
        folder: gets both.
        n_layers: of each tower; None for all.
        n_tokens: rows of the token table; None for all.
    """
    vision, text = SIGLIP[name] if name in SIGLIP else OPENCLIP[name]
    fewer = {} if n_layers is None else {"num_hidden_layers": n_layers}
    if name in SIGLIP:
        sizes = {**text, **fewer, "vocab_size": n_tokens or 256_000}
        checkpoint = siglip_checkpoint(folder / "checkpoint", {**vision, **fewer}, sizes)
        convert_siglip_model(checkpoint, folder / "model", dtype="float32", verify=False)
        reference = SiglipReference(checkpoint)
        return Pair(
            lambda precision: SiglipEngine(folder / "model", "cpu", precision), reference.images, reference.texts
        )
    ends = {"vocab_size": n_tokens or 49_408, "max_position_embeddings": 77, "eos_token_id": 2}
    sizes = {**text, **fewer, **ends, "hidden_act": vision["hidden_act"]}
    model = clip_model({**vision, **fewer}, sizes, projection_dim=512)
    checkpoint = openclip_folder(model, folder / "checkpoint", preprocessing={"interpolation": "bicubic"})
    transformers.CLIPTokenizer(*tiny_vocabulary()).save_pretrained(checkpoint)
    convert_clip_model(checkpoint, folder / "model", dtype="float32", verify=False)
    original, tokenizer = ClipReference(model), transformers.CLIPTokenizer(*tiny_vocabulary())

    def texts(given: list[str]) -> np.ndarray:
        tokens = tokenizer(given, padding=True, truncation=True, max_length=77, return_tensors="pt")
        return original.texts(tokens["input_ids"], tokens["attention_mask"])

    return Pair(lambda precision: CLIPEngine(folder / "model", "cpu", precision), original.images, texts)


def agree(pair: Pair, paths: list[Path]) -> str:
    """Compare pictures from their files on, and texts, in float32 and in bfloat16; return the figures, for people.

    Raises:
        AssertionError: they differ by more than the bounds of ``reference``.
    """
    engine, half = pair.engine("float32"), pair.engine("bfloat16")
    prepared, originals = [], []
    for path in paths:
        decoded = decode(path)
        assert decoded.pixels is not None, decoded.reason
        prepared.append(engine.image_processor(decoded.pixels, normalize=False))
        with Image.open(path) as image:
            originals.append(ImageOps.exif_transpose(image).convert("RGB"))
    pixels = np.stack(prepared)
    figures = []
    for kind, ours, reference, rounded in (
        ("pictures", engine.encode_image(pixels), pair.images(originals), half.encode_image(pixels[:2])),
        ("texts", engine.encode_text(QUESTIONS), pair.texts(QUESTIONS), half.encode_text(QUESTIONS[:4])),
    ):
        unit = reference / np.linalg.norm(reference, axis=1, keepdims=True)
        assert_agree(ours, unit)
        cosine = float(cosines(rounded, unit[: len(rounded)]).min())
        assert cosine > HALF_COSINE
        figures.append(f"{kind} {centred_error(ours, unit):.1e}, {cosines(ours, unit).min():.7f}, half {cosine:.6f}")
    return "; ".join(figures)


QUESTIONS = [*TEXTS[:8], "a cat", "long " * 100]
