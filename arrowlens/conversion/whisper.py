"""Whisper checkpoints (Radford et al. 2022; transformers' Whisper classes): the encoder, and a projector if any.

A plain checkpoint gives the encoder's states averaged over time. WhisperForAudioClassification has a projector between
the encoder and that mean; then the projected vectors are used. Decoders and classifiers are not converted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from arrowlens.conversion.checkpoint import Checkpoint
from arrowlens.conversion.family import (
    Prepared,
    Vectors,
    checked_heads,
    load_config,
    load_reference,
    quiet_transformers,
)
from arrowlens.conversion.preprocessing import preprocessing_config
from arrowlens.conversion.renaming import WEIGHT_AND_BIAS, ZEROS, RenameTable, rename
from arrowlens.conversion.samples import sounds
from arrowlens.encoders.audio import AudioEncoder
from arrowlens.encoders.audio_processor import HOP_LENGTH, N_FFT
from arrowlens.errors import ConversionError
from arrowlens.modalities import SAMPLE_RATE

MEL_FILTERS = "mel_filters"
_THEIRS, _OURS = "encoder.layers.{layer}", "transformer.layers.{layer}"

TABLE = RenameTable(
    names={
        "conv1.{p}": "encoder.conv1.{p}",
        "conv2.{p}": "encoder.conv2.{p}",
        "position_embedding": "encoder.embed_positions.weight",
        f"{_OURS}.norm1.{{p}}": f"{_THEIRS}.self_attn_layer_norm.{{p}}",
        f"{_OURS}.attention.qkv.weight": tuple(f"{_THEIRS}.self_attn.{x}_proj.weight" for x in "qkv"),
        f"{_OURS}.attention.qkv.bias": (f"{_THEIRS}.self_attn.q_proj.bias", ZEROS, f"{_THEIRS}.self_attn.v_proj.bias"),
        f"{_OURS}.attention.out.{{p}}": f"{_THEIRS}.self_attn.out_proj.{{p}}",
        f"{_OURS}.norm2.{{p}}": f"{_THEIRS}.final_layer_norm.{{p}}",
        f"{_OURS}.mlp.fc1.{{p}}": f"{_THEIRS}.fc1.{{p}}",
        f"{_OURS}.mlp.fc2.{{p}}": f"{_THEIRS}.fc2.{{p}}",
        "layer_norm.{p}": "encoder.layer_norm.{p}",
    },
    spellings=((r"^model\.", ""),),  # WhisperForConditionalGeneration
    ignored=(r"decoder\..*", r"proj_out\.weight", r"classifier\.(weight|bias)"),
)
PROJECTOR = {"projector.{p}": "projector.{p}"}  # WhisperForAudioClassification

_FIXED = {"sampling_rate": SAMPLE_RATE, "n_fft": N_FFT, "hop_length": HOP_LENGTH, "chunk_length": 30}
_POSITIONS = 1500  # of 20 ms each: 30 s


def prepare(checkpoint: Checkpoint, dtype: str) -> Prepared:
    """Read a Whisper checkpoint.

    Raises:
        ConversionError: not a Whisper checkpoint, incomplete, damaged, or of a kind that is not supported.
    """
    config = load_config(checkpoint, "whisper", "WhisperConfig")
    _check(checkpoint, config)
    table = replace(TABLE, names={**TABLE.names, **PROJECTOR}) if _has_projector(checkpoint) else TABLE
    renamed = rename(checkpoint, table, {"layer": range(config.encoder_layers), "p": WEIGHT_AND_BIAS}, dtype)
    projector = renamed.tensors.get("projector.weight")
    dimensions = {
        "n_mels": config.num_mel_bins,
        "hidden_size": config.d_model,
        "num_layers": config.encoder_layers,
        "num_heads": checked_heads(checkpoint, config.d_model, config.encoder_attention_heads),
        "intermediate_size": config.encoder_ffn_dim,
        "activation": config.activation_function,
        "layer_norm_eps": 1e-5,  # fixed in the architecture
        "max_positions": config.max_source_positions,
        "projection_dim": None if projector is None else projector.shape[0],
    }
    filters = {MEL_FILTERS: mel_filters(config.num_mel_bins)}
    return Prepared(renamed.tensors | filters, dimensions, {}, renamed.original_bytes)


def mel_filters(n_mels: int) -> torch.Tensor:
    """Return Slaney's triangular filters for the spectrum of 16 kHz audio, which Whisper was trained with.

    Returns:
        (n_mels, n_fft / 2 + 1) float32.
    """
    import librosa  # deferred: seconds, with numba; encoding reads the stored filters instead

    return torch.from_numpy(librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=n_mels).astype(np.float32))


def compare(checkpoint: Checkpoint, encoder: AudioEncoder) -> Iterator[Vectors]:
    """Encode built-in recordings, padded to 30 s, with the converted model and with transformers' Whisper."""
    has_projector = _has_projector(checkpoint)
    model = load_reference(checkpoint, "WhisperForAudioClassification" if has_projector else "WhisperModel")
    extractor = _original_extractor(checkpoint)
    ours, reference = [], []
    for sound in sounds():  # one at a time: the states of 30 s take much memory in a large model
        features = extractor(sound, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
        with torch.inference_mode():
            states = model.encoder(features).last_hidden_state
            pooled = model.projector(states).mean(dim=1) if has_projector else states.mean(dim=1)
        reference.append(pooled.numpy())
        ours.append(encoder.encode(sound, context="padded"))
    yield Vectors("sounds", np.concatenate(ours), np.concatenate(reference))


def _has_projector(checkpoint: Checkpoint) -> bool:
    return any(name == "projector.weight" for name, _ in checkpoint.tensors())


def _check(checkpoint: Checkpoint, config: Any) -> None:  # noqa: ANN401 - transformers'
    where = checkpoint.directory
    if config.use_weighted_layer_sum:
        raise ConversionError(f"{where}: use_weighted_layer_sum in config.json averages the layers; not supported")
    if config.activation_function != "gelu":
        raise ConversionError(f"{where}: activation {config.activation_function!r} is not supported; only gelu")
    if config.max_source_positions != _POSITIONS:
        raise ConversionError(
            f"{where}: max_source_positions {config.max_source_positions} in config.json; only {_POSITIONS} (30 s)"
        )
    file, values = preprocessing_config(checkpoint)
    given = {"feature_size": config.num_mel_bins} | (values or {})
    for key, value in {**_FIXED, "feature_size": config.num_mel_bins}.items():
        if given.get(key, value) != value:
            raise ConversionError(f"{where}: {key} {given[key]} in {file}; it must be {value}")


def _original_extractor(checkpoint: Checkpoint) -> Any:  # noqa: ANN401 - untyped library
    import transformers  # deferred: seconds, and only conversion needs it

    extractor: Any = transformers.WhisperFeatureExtractor

    with quiet_transformers():
        if preprocessing_config(checkpoint).values is not None:
            return extractor.from_pretrained(checkpoint.directory, local_files_only=True)
        return extractor(feature_size=checkpoint.config().get("num_mel_bins", 80))
