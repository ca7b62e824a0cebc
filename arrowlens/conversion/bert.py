"""BERT checkpoints (Devlin et al. 2018) as sentence-transformers uses them, averaged over tokens: MiniLM."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from arrowlens.conversion.checkpoint import Checkpoint
from arrowlens.conversion.family import (
    TOKENIZER_NAME,
    Prepared,
    Vectors,
    checked_activation,
    checked_heads,
    load_config,
    load_reference,
    load_tokenizer,
    parsed_tokenizer,
    tokenizer_file,
)
from arrowlens.conversion.renaming import WEIGHT_AND_BIAS, RenameTable, rename
from arrowlens.conversion.samples import TEXTS
from arrowlens.encoders.text import TextEncoder
from arrowlens.errors import ConversionError

_THEIRS, _OURS = "encoder.layer.{layer}", "transformer.layers.{layer}"
_MEAN = "pooling_mode_mean_tokens"

TABLE = RenameTable(
    names={
        "token_embedding.weight": "embeddings.word_embeddings.weight",
        "position_embedding": "embeddings.position_embeddings.weight",
        "token_type_embedding": "embeddings.token_type_embeddings.weight",
        "embedding_layernorm.{p}": "embeddings.LayerNorm.{p}",
        f"{_OURS}.attention.qkv.{{p}}": tuple(f"{_THEIRS}.attention.self.{x}.{{p}}" for x in ("query", "key", "value")),
        f"{_OURS}.attention.out.{{p}}": f"{_THEIRS}.attention.output.dense.{{p}}",
        f"{_OURS}.norm1.{{p}}": f"{_THEIRS}.attention.output.LayerNorm.{{p}}",  # post-norm: after the attention
        f"{_OURS}.mlp.fc1.{{p}}": f"{_THEIRS}.intermediate.dense.{{p}}",
        f"{_OURS}.mlp.fc2.{{p}}": f"{_THEIRS}.output.dense.{{p}}",
        f"{_OURS}.norm2.{{p}}": f"{_THEIRS}.output.LayerNorm.{{p}}",
    },
    spellings=(
        (r"^bert\.", ""),  # BertForMaskedLM and others with a head
        (r"LayerNorm\.gamma$", "LayerNorm.weight"),  # checkpoints converted from TensorFlow
        (r"LayerNorm\.beta$", "LayerNorm.bias"),
    ),
    ignored=(r"embeddings\.position_ids", r"pooler\..*", r"cls\..*", r"classifier\..*"),
)


def prepare(checkpoint: Checkpoint, dtype: str) -> Prepared:
    """Read a BERT checkpoint.

    Raises:
        ConversionError: not a BERT checkpoint, incomplete, damaged, or pooled otherwise than by the mean.
    """
    config = load_config(checkpoint, "bert", "BertConfig")
    _check(checkpoint, config)
    renamed = rename(checkpoint, TABLE, {"layer": range(config.num_hidden_layers), "p": WEIGHT_AND_BIAS}, dtype)
    dimensions = {
        "vocab_size": config.vocab_size,
        "max_positions": config.max_position_embeddings,
        "type_vocab_size": config.type_vocab_size,
        "hidden_size": config.hidden_size,
        "num_layers": config.num_hidden_layers,
        "num_heads": checked_heads(checkpoint, config.hidden_size, config.num_attention_heads),
        "intermediate_size": config.intermediate_size,
        "activation": checked_activation(checkpoint, config.hidden_act),
        "layer_norm_eps": config.layer_norm_eps,
        "max_length": _max_length(checkpoint, config.max_position_embeddings),
        "pad_token_id": config.pad_token_id or 0,
    }
    tokenizer = tokenizer_file(checkpoint, ("vocab.txt",))
    parsed_tokenizer(checkpoint, tokenizer, config.vocab_size)
    return Prepared(renamed.tensors, dimensions, {TOKENIZER_NAME: tokenizer}, renamed.original_bytes)


def compare(checkpoint: Checkpoint, encoder: TextEncoder) -> Iterator[Vectors]:
    """Encode built-in texts with the converted model and with transformers' BertModel and a masked mean."""
    model, texts = load_reference(checkpoint, "BertModel", add_pooling_layer=False), list(TEXTS)
    max_length = _max_length(checkpoint, model.config.max_position_embeddings)
    tokens = load_tokenizer(checkpoint)(
        texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt"
    )
    with torch.inference_mode():
        states = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    reference = (states * mask).sum(dim=1) / mask.sum(dim=1)
    yield Vectors("texts", encoder.encode(texts), reference.numpy())


def _max_length(checkpoint: Checkpoint, max_positions: int) -> int:
    """Return the length at which sentence-transformers cuts texts, in tokens; by default that of the position table."""
    given = (checkpoint.read_json("sentence_bert_config.json") or {}).get("max_seq_length")
    return min(int(given), max_positions) if given else max_positions


def _check(checkpoint: Checkpoint, config: Any) -> None:  # noqa: ANN401 - transformers'
    where, raw = checkpoint.directory, checkpoint.config()
    positions = raw.get("position_embedding_type", "absolute")
    if positions != "absolute" or config.is_decoder:
        raise ConversionError(
            f"{where}: a decoder, or {positions!r} positions; only BERT encoders with a position table"
        )
    modules = checkpoint.read_json_list("modules.json") or []
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules]
    unknown = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    if unknown:
        raise ConversionError(f"{where}: modules.json adds a module {unknown[0]!r}; not supported")
    pooling = checkpoint.read_json("1_Pooling/config.json") or {}
    others = [key for key, on in pooling.items() if key.startswith("pooling_mode_") and on and key != _MEAN]
    if others or pooling.get(_MEAN) is False or pooling.get("pooling_mode", "mean") != "mean":
        raise ConversionError(f"{where}: 1_Pooling/config.json pools otherwise than by the mean; not supported")
