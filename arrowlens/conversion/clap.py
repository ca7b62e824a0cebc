"""CLAP checkpoints (Wu et al. 2023; transformers' ClapModel) without fusion, such as laion/clap-htsat-unfused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
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
    quiet_transformers,
    tokenizer_file,
)
from arrowlens.conversion.preprocessing import PREPROCESSOR_CONFIG, PROCESSOR_CONFIG, preprocessing_config
from arrowlens.conversion.renaming import WEIGHT_AND_BIAS, RenameTable, rename
from arrowlens.conversion.samples import TEXTS, sounds
from arrowlens.encoders.audio_processor import AudioProcessor
from arrowlens.encoders.clap import ClapEncoder
from arrowlens.errors import ConversionError
from arrowlens.modalities import SAMPLE_RATE

_BLOCK, _OUR_BLOCK = "audio.layers.{block}", "audio.swin.stages.{block}"
_LAYER, _OUR_LAYER = "text.encoder.layer.{layer}", "text.transformer.layers.{layer}"
_QKV = ("query", "key", "value")

TABLE = RenameTable(
    names={
        "audio.weight": "audio.patch_embed.proj.weight",
        "audio.bias": "audio.patch_embed.proj.bias",
        "audio.patch_norm.{p}": "audio.patch_embed.norm.{p}",
        f"{_OUR_BLOCK}.norm1.{{p}}": f"{_BLOCK}.layernorm_before.{{p}}",
        f"{_OUR_BLOCK}.attention.qkv.{{p}}": tuple(f"{_BLOCK}.attention.self.{x}.{{p}}" for x in _QKV),
        f"{_OUR_BLOCK}.attention.position_bias.table": f"{_BLOCK}.attention.self.relative_position_bias_table",
        f"{_OUR_BLOCK}.attention.out.{{p}}": f"{_BLOCK}.attention.output.dense.{{p}}",
        f"{_OUR_BLOCK}.norm2.{{p}}": f"{_BLOCK}.layernorm_after.{{p}}",
        f"{_OUR_BLOCK}.mlp.fc1.{{p}}": f"{_BLOCK}.intermediate.dense.{{p}}",
        f"{_OUR_BLOCK}.mlp.fc2.{{p}}": f"{_BLOCK}.output.dense.{{p}}",
        "audio.swin.stages.{merging}.merging.norm.{p}": "audio.layers.{merging}.downsample.norm.{p}",
        "audio.swin.stages.{merging}.merging.weight": "audio.layers.{merging}.downsample.reduction.weight",
        "audio.final_norm.{p}": "audio.norm.{p}",
        "mel_norm.{p}": "audio.batch_norm.{p}",  # folded with the two below
        "mel_norm.mean": "audio.batch_norm.running_mean",
        "mel_norm.variance": "audio.batch_norm.running_var",
        "text.token_embedding.weight": "text.embeddings.word_embeddings.weight",
        "text.position_embedding": "text.embeddings.position_embeddings.weight",
        "text.token_type_embedding": "text.embeddings.token_type_embeddings.weight",
        "text.embedding_layernorm.{p}": "text.embeddings.LayerNorm.{p}",
        f"{_OUR_LAYER}.attention.qkv.{{p}}": tuple(f"{_LAYER}.attention.self.{x}.{{p}}" for x in _QKV),
        f"{_OUR_LAYER}.attention.out.{{p}}": f"{_LAYER}.attention.output.dense.{{p}}",
        f"{_OUR_LAYER}.norm1.{{p}}": f"{_LAYER}.attention.output.LayerNorm.{{p}}",  # post-norm: after the attention
        f"{_OUR_LAYER}.mlp.fc1.{{p}}": f"{_LAYER}.intermediate.dense.{{p}}",
        f"{_OUR_LAYER}.mlp.fc2.{{p}}": f"{_LAYER}.output.dense.{{p}}",
        f"{_OUR_LAYER}.norm2.{{p}}": f"{_LAYER}.output.LayerNorm.{{p}}",
        "text.pooler.{p}": "text.pooler.dense.{p}",
        "audio_projection.linear{n}.{p}": "audio_projection.linear{n}.{p}",
        "text_projection.linear{n}.{p}": "text_projection.linear{n}.{p}",
    },
    spellings=((r"^audio_model\.audio_encoder\.", "audio."), (r"^text_model\.", "text.")),
    ignored=(
        r".*\.relative_position_index",
        r"audio\.batch_norm\.num_batches_tracked",
        r"text\.embeddings\.(position_ids|token_type_ids)",
        r"logit_scale_[at]",
    ),
    # Variances of decibels may exceed float16, and these tensors are small.
    full_precision=frozenset(f"mel_norm.{name}" for name in ("weight", "bias", "mean", "variance")),
)

_RATE, _SECONDS = 48_000, 10  # what the family takes
_BATCH_NORM_EPS = 1e-5  # fixed in the architecture
_BASE_WIDTH = 128  # of HTSAT-base; clap-htsat-unfused's is 96
_CURE = "take laion/clap-htsat-unfused"
_COLLAPSED = "larger_clap_music"  # and larger_clap_music_and_speech


def prepare(checkpoint: Checkpoint, dtype: str) -> Prepared:
    """Read a CLAP checkpoint.

    Raises:
        ConversionError: not a CLAP checkpoint, incomplete, damaged, or of a kind that is not supported.
    """
    config = load_config(checkpoint, "clap", "ClapConfig")
    _check(checkpoint, config)
    extractor = _original_extractor(checkpoint, config)
    audio, text = config.audio_config, config.text_config
    tokenizer = tokenizer_file(checkpoint, ("vocab.json", "merges.txt"))
    parsed_tokenizer(checkpoint, tokenizer, text.vocab_size)
    counters = {
        "block": [f"{stage}.blocks.{block}" for stage, depth in enumerate(audio.depths) for block in range(depth)],
        "merging": range(len(audio.depths) - 1),
        "layer": range(text.num_hidden_layers),
        "n": (1, 2),
        "p": WEIGHT_AND_BIAS,
    }
    renamed = rename(checkpoint, TABLE, counters, dtype)
    tensors = _folded(renamed.tensors)
    tensors["mel_filters"] = torch.from_numpy(np.ascontiguousarray(extractor.mel_filters_slaney.T, np.float32))
    dimensions = {
        "audio": _audio_dimensions(checkpoint, audio, extractor),
        "text": _text_dimensions(checkpoint, text),
        "projection_dim": config.projection_dim,
    }
    notices: tuple[str, ...] = ()
    if audio.patch_embeds_hidden_size == _BASE_WIDTH:
        notices = ("an HTSAT-base model: by published figures words find less than with laion/clap-htsat-unfused",)
    return Prepared(tensors, dimensions, {TOKENIZER_NAME: tokenizer}, renamed.original_bytes, notices)


def compare(checkpoint: Checkpoint, encoder: ClapEncoder) -> Iterator[Vectors]:
    """Encode built-in recordings and texts with the converted model and with transformers' ClapModel."""
    model = load_reference(checkpoint, "ClapModel")
    extractor = _original_extractor(checkpoint, model.config)
    # At most ten seconds of each: the original would draw them at random.
    clips = [AudioProcessor.resample(sound, SAMPLE_RATE, _RATE)[: _SECONDS * _RATE] for sound in sounds()]
    features = extractor(clips, sampling_rate=_RATE, return_tensors="pt")
    with torch.inference_mode():
        reference = torch.cat(
            [
                model.get_audio_features(input_features=feature[None].float()).pooler_output
                for feature in features["input_features"]
            ]
        )
    yield Vectors("sounds", encoder.encode(clips), reference.numpy())
    texts = list(TEXTS)
    max_length = _max_length(checkpoint, model.config.text_config)
    tokens = load_tokenizer(checkpoint)(
        texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt"
    )
    with torch.inference_mode():
        output = model.get_text_features(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
    yield Vectors("texts", encoder.encode_text(texts), output.pooler_output.numpy())


def _folded(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Fold the batch norm over mel bands, whose statistics are fixed, into a scale and a shift of each band."""
    mean, variance = tensors.pop("mel_norm.mean").double(), tensors.pop("mel_norm.variance").double()
    scale = tensors["mel_norm.weight"].double() / (variance + _BATCH_NORM_EPS).sqrt()
    shift = tensors["mel_norm.bias"].double() - mean * scale
    return tensors | {"mel_norm.weight": scale.float(), "mel_norm.bias": shift.float()}


def _audio_dimensions(checkpoint: Checkpoint, config: Any, extractor: Any) -> dict[str, Any]:  # noqa: ANN401 - transformers'
    return {
        "n_mels": config.num_mel_bins,
        "n_fft": extractor.fft_window_size,
        "hop_length": extractor.hop_length,
        "sample_rate": extractor.sampling_rate,
        "max_audio_length": extractor.max_length_s,
        "padding": extractor.padding,
        "image_size": config.spec_size,
        "patch_size": _side(config.patch_size),
        "window_size": config.window_size,
        "hidden_size": config.patch_embeds_hidden_size,
        "depths": list(config.depths),
        "num_heads": checked_heads(checkpoint, config.patch_embeds_hidden_size, config.num_attention_heads[0]),
        "mlp_ratio": int(config.mlp_ratio),
        "layer_norm_eps": config.layer_norm_eps,
        "activation": checked_activation(checkpoint, config.hidden_act),
    }


def _text_dimensions(checkpoint: Checkpoint, config: Any) -> dict[str, Any]:  # noqa: ANN401 - transformers'
    return {
        "vocab_size": config.vocab_size,
        "max_positions": config.max_position_embeddings,
        "type_vocab_size": config.type_vocab_size,
        "hidden_size": config.hidden_size,
        "num_layers": config.num_hidden_layers,
        "num_heads": checked_heads(checkpoint, config.hidden_size, config.num_attention_heads),
        "intermediate_size": config.intermediate_size,
        "layer_norm_eps": config.layer_norm_eps,
        "activation": checked_activation(checkpoint, config.hidden_act),
        "max_length": _max_length(checkpoint, config),
        "pad_token_id": config.pad_token_id,
    }


def _max_length(checkpoint: Checkpoint, config: Any) -> int:  # noqa: ANN401 - transformers'
    """Return the length at which texts are cut, in tokens: RoBERTa's positions begin after the padding's id."""
    longest = int(config.max_position_embeddings - config.pad_token_id - 1)
    given = (checkpoint.read_json("tokenizer_config.json") or {}).get("model_max_length")
    return min(int(given), longest) if given else longest


def _check(checkpoint: Checkpoint, config: Any) -> None:  # noqa: ANN401 - transformers'
    where, audio = checkpoint.directory, config.audio_config
    names = (checkpoint.source, str(checkpoint.config().get("_name_or_path", "")), where.name)
    if any(_COLLAPSED in name for name in names):
        raise ConversionError(
            f"{where}: the text tower of {_COLLAPSED} models gives nearly one vector for all texts, so that words find "
            f"nothing; {_CURE}"
        )
    if audio.enable_fusion:
        raise ConversionError(
            f"{where}: enable_fusion in config.json mixes parts of a long recording, which is cut into windows here; "
            f"{_CURE}"
        )
    stages, heads, width = range(len(audio.depths)), audio.num_attention_heads, audio.patch_embeds_hidden_size
    fixed = {
        "patch_stride": (_side(audio.patch_stride), _side(audio.patch_size)),
        "patch_embed_input_channels": (audio.patch_embed_input_channels, 1),
        "enable_patch_layer_norm": (audio.enable_patch_layer_norm, True),
        "qkv_bias": (audio.qkv_bias, True),
        "projection_hidden_act": (config.projection_hidden_act, "relu"),
        "num_attention_heads": (list(heads), [heads[0] << stage for stage in stages]),
        "hidden_size": (audio.hidden_size, width << stages[-1]),
        "mlp_ratio": (audio.mlp_ratio, int(audio.mlp_ratio)),
        "spec_size": (audio.spec_size % audio.num_mel_bins, 0),
        "window_size": (audio.spec_size // _side(audio.patch_size) % (audio.window_size << stages[-1]), 0),
    }
    for key, (given, needed) in fixed.items():
        if given != needed:
            value = getattr(config if key == "projection_hidden_act" else audio, key)
            raise ConversionError(f"{where}: {key} {value!r} in config.json is not supported; {_CURE}")


def _side(value: Any) -> Any:  # noqa: ANN401 - transformers'
    """Return the one side of a square that is given as a number or as two equal ones; else all of them."""
    sides = set(value) if isinstance(value, list | tuple) else {value}
    return sides.pop() if len(sides) == 1 else tuple(value)


def _original_extractor(checkpoint: Checkpoint, config: Any) -> Any:  # noqa: ANN401 - untyped library
    """Load the original feature extractor.

    Raises:
        ConversionError: the checkpoint has none, or one whose spectrograms are not made here.
    """
    import transformers  # deferred: seconds, and only conversion needs it

    where = checkpoint.directory
    file, values = preprocessing_config(checkpoint)
    if values is None:
        raise ConversionError(
            f"{where}: neither {PREPROCESSOR_CONFIG} nor {PROCESSOR_CONFIG} with a feature_extractor in it; save the "
            "feature extractor there too"
        )
    with quiet_transformers():
        extractor: Any = transformers.ClapFeatureExtractor.from_pretrained(where, local_files_only=True)
    frames = 1 + _RATE * _SECONDS // extractor.hop_length
    most = config.audio_config.spec_size**2 // config.audio_config.num_mel_bins
    needed = {
        "truncation": "rand_trunc",  # the filters of models without fusion
        "sampling_rate": _RATE,
        "max_length_s": _SECONDS,
        "feature_size": config.audio_config.num_mel_bins,
        "top_db": None,
        "padding": extractor.padding if extractor.padding in ("repeatpad", "repeat", "pad") else "repeatpad",
        "hop_length": extractor.hop_length if frames <= most else -(-_RATE * _SECONDS // (most - 1)),
    }
    for key, value in needed.items():
        given = getattr(extractor, key)
        if given != value:
            raise ConversionError(f"{where}: {key} {given!r} in {file}; it must be {value!r}")
    return extractor
