"""CLIP checkpoints (Radford et al. 2021; transformers' CLIPModel): two pre-norm towers and their projections."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import torch
from tokenizers import Tokenizer

from arrowlens.conversion.checkpoint import Checkpoint
from arrowlens.conversion.family import (
    PREPROCESSOR_NAME,
    TOKENIZER_NAME,
    Prepared,
    Vectors,
    compare_pictures_and_texts,
    load_config,
    load_tokenizer,
    parsed_tokenizer,
    tokenizer_file,
    tower_dimensions,
    vision_dimensions,
)
from arrowlens.conversion.preprocessing import image_settings, preprocessing_config
from arrowlens.conversion.renaming import WEIGHT_AND_BIAS, RenameTable, rename
from arrowlens.encoders.clip import CLIPEngine
from arrowlens.encoders.image_processor import CLIP_MEAN, CLIP_STD
from arrowlens.errors import ConversionError

_VISION, _TEXT = "vision_model.encoder.layers.{vision}", "text_model.encoder.layers.{text}"
_V, _T = "vision.transformer.layers.{vision}", "text.transformer.layers.{text}"

TABLE = RenameTable(
    names={
        "vision.class_embedding": "vision_model.embeddings.class_embedding",
        "vision.patch_embedding.projection.weight": "vision_model.embeddings.patch_embedding.weight",
        "vision.position_embedding": "vision_model.embeddings.position_embedding.weight",
        "vision.pre_layernorm.{p}": "vision_model.pre_layrnorm.{p}",  # sic
        f"{_V}.norm1.{{p}}": f"{_VISION}.layer_norm1.{{p}}",
        f"{_V}.attention.qkv.{{p}}": tuple(f"{_VISION}.self_attn.{x}_proj.{{p}}" for x in "qkv"),
        f"{_V}.attention.out.{{p}}": f"{_VISION}.self_attn.out_proj.{{p}}",
        f"{_V}.norm2.{{p}}": f"{_VISION}.layer_norm2.{{p}}",
        f"{_V}.mlp.fc1.{{p}}": f"{_VISION}.mlp.fc1.{{p}}",
        f"{_V}.mlp.fc2.{{p}}": f"{_VISION}.mlp.fc2.{{p}}",
        "vision.post_layernorm.{p}": "vision_model.post_layernorm.{p}",
        "text.token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "text.position_embedding": "text_model.embeddings.position_embedding.weight",
        f"{_T}.norm1.{{p}}": f"{_TEXT}.layer_norm1.{{p}}",
        f"{_T}.attention.qkv.{{p}}": tuple(f"{_TEXT}.self_attn.{x}_proj.{{p}}" for x in "qkv"),
        f"{_T}.attention.out.{{p}}": f"{_TEXT}.self_attn.out_proj.{{p}}",
        f"{_T}.norm2.{{p}}": f"{_TEXT}.layer_norm2.{{p}}",
        f"{_T}.mlp.fc1.{{p}}": f"{_TEXT}.mlp.fc1.{{p}}",
        f"{_T}.mlp.fc2.{{p}}": f"{_TEXT}.mlp.fc2.{{p}}",
        "text.final_layernorm.{p}": "text_model.final_layer_norm.{p}",
        "vision_projection.weight": "visual_projection.weight",
        "text_projection.weight": "text_projection.weight",
        "logit_scale": "logit_scale",
    },
    spellings=((r"^clip\.", ""),),  # CLIPModel inside another model
    ignored=(r"(vision|text)_model\.embeddings\.position_ids",),  # 0, 1, 2, ... in old checkpoints
    full_precision=frozenset({"logit_scale"}),
)

_LEGACY_EOS = 2  # in configurations before transformers 4.31, which pool where the token id is largest


def prepare(checkpoint: Checkpoint, dtype: str) -> Prepared:
    """Read a CLIP checkpoint.

    Raises:
        ConversionError: not a CLIP checkpoint, incomplete, damaged, or of a kind that is not supported.
    """
    config = load_config(checkpoint, "clip", "CLIPConfig")
    tokenizer = tokenizer_file(checkpoint, ("vocab.json", "merges.txt"))
    dimensions = {
        "vision": vision_dimensions(checkpoint, config.vision_config),
        "text": _text_dimensions(checkpoint, config.text_config, tokenizer),
        "projection_dim": config.projection_dim,
    }
    counters = {
        "vision": range(config.vision_config.num_hidden_layers),
        "text": range(config.text_config.num_hidden_layers),
        "p": WEIGHT_AND_BIAS,
    }
    renamed = rename(checkpoint, TABLE, counters, dtype)
    _check_projections(checkpoint, renamed.tensors, dimensions)
    image_size = dimensions["vision"]["image_size"]
    settings = image_settings(checkpoint, image_size, CLIP_MEAN, CLIP_STD, crops=True)
    files = {TOKENIZER_NAME: tokenizer, PREPROCESSOR_NAME: json.dumps(settings, indent=2).encode()}
    return Prepared(renamed.tensors, dimensions, files, renamed.original_bytes)


def compare(checkpoint: Checkpoint, engine: CLIPEngine) -> Iterator[Vectors]:
    """Encode built-in pictures and texts with the converted model and with transformers' CLIPModel."""
    processor = _original_processor(checkpoint, engine.image_processor.image_size)

    def tokens(texts: list[str], most: int) -> dict[str, torch.Tensor]:
        tokenizer = load_tokenizer(checkpoint)
        encoded = tokenizer(texts, padding=True, truncation=True, max_length=most, return_tensors="pt")
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}

    yield from compare_pictures_and_texts(checkpoint, engine, "CLIPModel", processor, tokens)


def _text_dimensions(checkpoint: Checkpoint, config: Any, tokenizer: bytes) -> dict[str, Any]:  # noqa: ANN401 - transformers'
    if not isinstance(config.eos_token_id, int):
        raise ConversionError(f"{checkpoint.directory}: eos_token_id {config.eos_token_id!r}; one number is needed")
    start, end = _ends_of_text(checkpoint, parsed_tokenizer(checkpoint, tokenizer, config.vocab_size))
    legacy = config.eos_token_id == _LEGACY_EOS
    if not legacy and config.eos_token_id != end:
        raise ConversionError(
            f"{checkpoint.directory}: config.json pools at token {config.eos_token_id}, but the tokenizer ends texts "
            f"with {end}; correct eos_token_id in config.json"
        )
    return {
        "vocab_size": config.vocab_size,
        "context_length": config.max_position_embeddings,
        **tower_dimensions(checkpoint, config),
        "bos_token_id": start,
        "eos_token_id": end,
        "pad_token_id": end,  # any id: the causal mask hides what follows the end
        "pooling": "argmax" if legacy else "eos",
    }


def _ends_of_text(checkpoint: Checkpoint, tokenizer: Tokenizer) -> tuple[int, int]:
    """Return the ids that the tokenizer puts before and after every text."""
    tokenizer.no_padding()
    ids = tokenizer.encode("a").ids
    if len(ids) < 3:
        raise ConversionError(
            f"{checkpoint.directory}: the tokenizer does not put start and end around a text; CLIP pools at the end"
        )
    return ids[0], ids[-1]


def _check_projections(checkpoint: Checkpoint, tensors: dict[str, torch.Tensor], dimensions: dict[str, Any]) -> None:
    for tower in ("vision", "text"):
        expected = (dimensions["projection_dim"], dimensions[tower]["hidden_size"])
        shape = tuple(tensors[f"{tower}_projection.weight"].shape)
        if shape != expected:
            raise ConversionError(
                f"{checkpoint.directory}: tensor '{TABLE.names[f'{tower}_projection.weight']}' has shape {shape}, "
                f"but config.json asks for {expected}"
            )


def _original_processor(checkpoint: Checkpoint, image_size: int) -> Any:  # noqa: ANN401 - untyped library
    # deferred: seconds, and only conversion needs it; the Pil class, since the other wants torchvision
    from transformers import CLIPImageProcessorPil

    if preprocessing_config(checkpoint).values is not None:
        return CLIPImageProcessorPil.from_pretrained(checkpoint.directory, local_files_only=True)
    crop = {"height": image_size, "width": image_size}
    return CLIPImageProcessorPil(size={"shortest_edge": image_size}, crop_size=crop)
