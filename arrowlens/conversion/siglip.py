"""SigLIP and SigLIP 2 checkpoints of fixed resolution (Zhai et al. 2023; transformers' SiglipModel)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import torch
from tokenizers import normalizers

from arrowlens.conversion.checkpoint import Checkpoint
from arrowlens.conversion.cleaning import clean_before
from arrowlens.conversion.family import (
    PREPROCESSOR_NAME,
    TOKENIZER_NAME,
    Prepared,
    Vectors,
    compare_pictures_and_texts,
    load_config,
    load_tokenizer,
    parsed_tokenizer,
    tower_dimensions,
    vision_dimensions,
)
from arrowlens.conversion.preprocessing import (
    PREPROCESSOR_CONFIG,
    PROCESSOR_CONFIG,
    image_settings,
    preprocessing_config,
)
from arrowlens.conversion.renaming import WEIGHT_AND_BIAS, RenameTable, rename
from arrowlens.conversion.sentencepiece import MODEL_NAME, siglip_tokenizer
from arrowlens.encoders.siglip import SiglipEngine
from arrowlens.errors import ConversionError

_VISION, _TEXT = "vision_model.encoder.layers.{vision}", "text_model.encoder.layers.{text}"
_V, _T = "vision.transformer.layers.{vision}", "text.transformer.layers.{text}"
_HEAD, _POOLING = "vision_model.head", "vision.pooling"

TABLE = RenameTable(
    names={
        "vision.patch_embedding.projection.{p}": "vision_model.embeddings.patch_embedding.{p}",
        "vision.position_embedding": "vision_model.embeddings.position_embedding.weight",
        f"{_V}.norm1.{{p}}": f"{_VISION}.layer_norm1.{{p}}",
        f"{_V}.attention.qkv.{{p}}": tuple(f"{_VISION}.self_attn.{x}_proj.{{p}}" for x in "qkv"),
        f"{_V}.attention.out.{{p}}": f"{_VISION}.self_attn.out_proj.{{p}}",
        f"{_V}.norm2.{{p}}": f"{_VISION}.layer_norm2.{{p}}",
        f"{_V}.mlp.fc1.{{p}}": f"{_VISION}.mlp.fc1.{{p}}",
        f"{_V}.mlp.fc2.{{p}}": f"{_VISION}.mlp.fc2.{{p}}",
        "vision.post_layernorm.{p}": "vision_model.post_layernorm.{p}",
        f"{_POOLING}.probe": f"{_HEAD}.probe",
        f"{_POOLING}.query.{{p}}": f"{_HEAD}.attention.q_proj.{{p}}",
        f"{_POOLING}.key_value.{{p}}": tuple(f"{_HEAD}.attention.{x}_proj.{{p}}" for x in "kv"),
        f"{_POOLING}.out.{{p}}": f"{_HEAD}.attention.out_proj.{{p}}",
        f"{_POOLING}.norm.{{p}}": f"{_HEAD}.layernorm.{{p}}",
        f"{_POOLING}.mlp.fc1.{{p}}": f"{_HEAD}.mlp.fc1.{{p}}",
        f"{_POOLING}.mlp.fc2.{{p}}": f"{_HEAD}.mlp.fc2.{{p}}",
        "text.token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "text.position_embedding": "text_model.embeddings.position_embedding.weight",
        f"{_T}.norm1.{{p}}": f"{_TEXT}.layer_norm1.{{p}}",
        f"{_T}.attention.qkv.{{p}}": tuple(f"{_TEXT}.self_attn.{x}_proj.{{p}}" for x in "qkv"),
        f"{_T}.attention.out.{{p}}": f"{_TEXT}.self_attn.out_proj.{{p}}",
        f"{_T}.norm2.{{p}}": f"{_TEXT}.layer_norm2.{{p}}",
        f"{_T}.mlp.fc1.{{p}}": f"{_TEXT}.mlp.fc1.{{p}}",
        f"{_T}.mlp.fc2.{{p}}": f"{_TEXT}.mlp.fc2.{{p}}",
        "text.final_layernorm.{p}": "text_model.final_layer_norm.{p}",
        "text_projection.{p}": "text_model.head.{p}",
        "logit_scale": "logit_scale",
        "logit_bias": "logit_bias",
    },
    split={f"{_HEAD}.attention.in_proj_{{p}}": tuple(f"{_HEAD}.attention.{x}_proj.{{p}}" for x in "qkv")},
    reshaped={f"{_POOLING}.probe": torch.flatten},
    spellings=((r"^siglip\.", ""),),  # SiglipModel inside another model
    ignored=(r"(vision|text)_model\.embeddings\.position_ids",),  # 0, 1, 2, ... in old checkpoints
    full_precision=frozenset({"logit_scale", "logit_bias"}),
)

MEAN = STD = (0.5, 0.5, 0.5)  # RGB, of values in [0, 1]
_NAFLEX = "siglip2"  # transformers' model_type of SigLIP 2 with any resolution and aspect ratio


def prepare(checkpoint: Checkpoint, dtype: str) -> Prepared:
    """Read a SigLIP checkpoint.

    Raises:
        ConversionError: not a SigLIP checkpoint, incomplete, damaged, or of a kind that is not supported.
    """
    config = _checked_config(checkpoint)
    vision, text = config.vision_config, config.text_config
    tokenizer, padding = _tokenizer(checkpoint, text.vocab_size)
    counters = {
        "vision": range(vision.num_hidden_layers),
        "text": range(text.num_hidden_layers),
        "p": WEIGHT_AND_BIAS,
    }
    renamed = rename(checkpoint, TABLE, counters, dtype)
    scale, bias = (_number(checkpoint, renamed.tensors.pop(name), name) for name in ("logit_scale", "logit_bias"))
    dimensions = {
        "vision": vision_dimensions(checkpoint, vision),
        "text": {
            "vocab_size": text.vocab_size,
            "context_length": text.max_position_embeddings,
            **tower_dimensions(checkpoint, text),
            **padding,
        },
        "projection_dim": text.projection_size,
        "logit_scale": scale,
        "logit_bias": bias,
    }
    if preprocessing_config(checkpoint).values is None:  # not a guess: checkpoints differ in the filter
        raise ConversionError(
            f"{checkpoint.directory}: neither {PREPROCESSOR_CONFIG} nor {PROCESSOR_CONFIG} with an image_processor in "
            "it; save the image processor there too: AutoImageProcessor.from_pretrained(NAME).save_pretrained(FOLDER)"
        )
    settings = image_settings(checkpoint, dimensions["vision"]["image_size"], MEAN, STD, crops=False)
    files = {TOKENIZER_NAME: tokenizer, PREPROCESSOR_NAME: json.dumps(settings, indent=2).encode()}
    return Prepared(renamed.tensors, dimensions, files, renamed.original_bytes)


def _checked_config(checkpoint: Checkpoint) -> Any:  # noqa: ANN401 - transformers'
    if checkpoint.config().get("model_type") == _NAFLEX:
        raise ConversionError(
            f"{checkpoint.directory}: a NaFlex model of SigLIP 2 (model_type {_NAFLEX!r}), which is not supported; "
            "take one with a fixed resolution, such as google/siglip2-base-patch16-224"
        )
    config = load_config(checkpoint, "siglip", "SiglipConfig")
    vision, text = config.vision_config, config.text_config
    if not vision.vision_use_head:
        raise ConversionError(
            f"{checkpoint.directory}: vision_use_head is false; only models with a head are supported"
        )
    if text.projection_size != vision.hidden_size:
        raise ConversionError(
            f"{checkpoint.directory}: config.json projects texts to {text.projection_size} dimensions, but pictures "
            f"have {vision.hidden_size}; they must be equal"
        )
    return config


def compare(checkpoint: Checkpoint, engine: SiglipEngine) -> Iterator[Vectors]:
    """Encode built-in pictures and texts with the converted model and with transformers' SiglipModel."""

    def tokens(texts: list[str], most: int) -> dict[str, torch.Tensor]:
        tokenizer = load_tokenizer(checkpoint)
        texts = [text.lower() for text in texts] if _must_lower_case(checkpoint, tokenizer) else texts
        encoded = tokenizer(texts, padding="max_length", truncation=True, max_length=most, return_tensors="pt")
        return {"input_ids": encoded["input_ids"]}  # without the mask: these models attend to padding

    yield from compare_pictures_and_texts(checkpoint, engine, "SiglipModel", _original_processor(checkpoint), tokens)


def _tokenizer(checkpoint: Checkpoint, vocab_size: int) -> tuple[bytes, dict[str, Any]]:
    """Return the ``tokenizer.json``, which cleans texts as the model was trained, and how texts are padded."""
    settings = checkpoint.read_json("tokenizer_config.json") or {}
    if str(settings.get("tokenizer_class", "")).removesuffix("Fast") == "SiglipTokenizer":
        data, pad_token = _from_sentencepiece(checkpoint, settings)
        padding_side = settings.get("padding_side", "right")
    else:
        if checkpoint.read_bytes(TOKENIZER_NAME) is None:
            raise ConversionError(f"{checkpoint.directory}: no {TOKENIZER_NAME} in it; save the tokenizer there too")
        original = load_tokenizer(checkpoint)
        if _must_lower_case(checkpoint, original):
            clean_before(original.backend_tokenizer, [normalizers.Lowercase()])
        data = original.backend_tokenizer.to_str().encode()
        pad_token, padding_side = original.pad_token, original.padding_side
    pad_id = parsed_tokenizer(checkpoint, data, vocab_size).token_to_id(str(pad_token))
    if pad_id is None or padding_side not in ("left", "right"):
        raise ConversionError(
            f"{checkpoint.directory}: tokenizer_config.json pads on the side {padding_side!r} with {pad_token!r}, "
            "which its tokenizer cannot; download the tokenizer again"
        )
    return data, {"pad_token_id": pad_id, "padding_side": padding_side}


def _must_lower_case(checkpoint: Checkpoint, tokenizer: Any) -> bool:  # noqa: ANN401 - transformers'
    """Return whether texts must be lower-cased before the original tokenizer sees them.

    SigLIP 2 was trained on lower-cased texts, but its checkpoints of fixed resolution name Gemma's tokenizer, which
    keeps capitals; transformers' ``Siglip2Tokenizer`` is the same one with lower-casing.
    """
    name = type(tokenizer).__name__.removesuffix("Fast")
    if name == "SiglipTokenizer":  # cleans texts itself
        return False
    settings = checkpoint.read_json("tokenizer_config.json") or {}
    return name == "GemmaTokenizer" or settings.get("do_lower_case") is True


def _from_sentencepiece(checkpoint: Checkpoint, settings: dict[str, Any]) -> tuple[bytes, str]:
    path = checkpoint.directory / MODEL_NAME
    if not path.is_file():
        raise ConversionError(
            f"{checkpoint.directory}: no {MODEL_NAME} in it, which SiglipTokenizer reads; save it there"
        )
    end, pad, unknown = (
        _content(settings.get(name, default))
        for name, default in (("eos_token", "</s>"), ("pad_token", "</s>"), ("unk_token", "<unk>"))
    )
    special = tuple(dict.fromkeys((end, pad, unknown)))
    tokenizer = siglip_tokenizer(path, end, special, lower_case=bool(settings.get("do_lower_case", True)))
    return tokenizer.to_str().encode(), pad


def _content(token: Any) -> str:  # noqa: ANN401 - from JSON
    """Return a special token's text; tokenizer_config.json gives it as a string or with its settings."""
    return str(token["content"] if isinstance(token, dict) else token)


def _number(checkpoint: Checkpoint, tensor: torch.Tensor, name: str) -> float:
    if tensor.numel() != 1 or not math.isfinite(value := float(tensor)):
        raise ConversionError(f"{checkpoint.directory}: tensor '{name}' of shape {tuple(tensor.shape)} is no number")
    return value


def _original_processor(checkpoint: Checkpoint) -> Any:  # noqa: ANN401 - untyped library
    # deferred: seconds, and only conversion needs it; the Pil class, since the other wants torchvision
    from transformers import SiglipImageProcessorPil

    return SiglipImageProcessorPil.from_pretrained(checkpoint.directory, local_files_only=True)
