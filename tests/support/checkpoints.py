"""Random Hugging Face checkpoints on disk, made by transformers, small or full size.

Every parameter is random and of a size that matters: on freshly initialised weights biases are zero, layer norms do
nothing and activations stay where all of them are linear, so that hardly any mistake shows.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import ByteLevelBPETokenizer
from tokenizers.pre_tokenizers import ByteLevel
from transformers.utils import logging as transformers_logging

TINY_TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
VIT_B16 = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 16,
}
TEXT_B = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8}
HTSAT_TINY = {  # clap-htsat-unfused's
    "patch_embeds_hidden_size": 96,
    "hidden_size": 768,
    "depths": [2, 2, 6, 2],
    "num_attention_heads": [4, 8, 16, 32],
    "patch_size": 4,
    "patch_stride": [4, 4],
    "window_size": 8,
}
ROBERTA_BASE = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "vocab_size": 50265,
    "max_position_embeddings": 514,
}
WHISPER_BASE = {"d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048}
REAL_VOCABULARY = Path(__file__).parents[3] / "shared" / "data" / "clip_bpe_simple_vocab_16e6.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = [
    "the",
    "of",
    "a",
    "and",
    "in",
    "red",
    "blue",
    "cat",
    "dog",
    "circle",
    "square",
    "photo",
    "music",
    "rain",
    "bird",
]


TWENTY_LANGUAGES = [
    "The sound of rain on a tin roof, far away",
    "Das Geräusch von Regen auf einem Blechdach",
    "Le bruit de la pluie sur un toit d’ardoise",
    "El sonido de la lluvia sobre un tejado, ¿verdad?",
    "O som da chuva num telhado de zinco",
    "Il rumore della pioggia su un tetto di lamiera",
    "Het geluid van regen op een golfplaten dak",
    "Ljudet av regn på ett plåttak, långt borta",
    "Dźwięk deszczu na blaszanym dachu",
    "Zvuk deště na plechové střeše",
    "Sac çatıya düşen yağmurun sesi",
    "Sunetul ploii pe un acoperiș de tablă",
    "Tiếng mưa rơi trên mái tôn",
    "Ο ήχος της βροχής σε μια τσίγκινη στέγη",
    "Шум дождя по железной крыше",
    "Звук дощу на бляшаному даху",
    "صوت المطر على سقف من الصفيح",
    "צליל הגשם על גג פח",
    "टिन की छत पर बारिश की आवाज़",
    "トタン屋根に落ちる雨の音 鉄皮屋顶上的雨声 🌧️",
]


def perturb(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give every parameter values that matter: matrices keep their input's scale, the rest is clearly not 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 0:  # the logit scale
                parameter.add_(0.1 * noise)
            elif parameter.ndim == 1:
                if "class_embedding" in name:  # made random by transformers, of no seed
                    parameter.copy_(1.4 * noise)
                else:
                    parameter.add_((0.15 if name.endswith("bias") else 0.3) * noise)
            elif name.endswith("probe"):
                parameter.copy_(noise)
            elif "embed" in name and "patch" not in name:
                # Tokens speak louder than what all inputs share: positions, and the one token type.
                parameter.copy_((1.2 if "token_embedding" in name or "word" in name else 0.4) * noise)
            elif "conv" in name:
                parameter.copy_(3.0 * noise / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(1.3 * noise / parameter[0].numel() ** 0.5)
    return model


def clip_model(
    vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, *, projection_dim: int = 16, seed: int = 0
) -> transformers.CLIPModel:
    """A CLIPModel with perturbed weights; tiny unless told otherwise."""
    vision_config = {**TINY_TOWER, "image_size": 32, "patch_size": 8, **(vision or {})}
    text_config = {**TINY_TOWER, "vocab_size": 1024, "max_position_embeddings": 24, "eos_token_id": 1, **(text or {})}
    config = transformers.CLIPConfig(
        vision_config=vision_config, text_config=text_config, projection_dim=projection_dim
    )
    return perturb(transformers.CLIPModel(config), seed).eval()


def clip_checkpoint(
    directory: Path,
    vision: dict[str, Any] | None = None,
    text: dict[str, Any] | None = None,
    *,
    projection_dim: int = 16,
    seed: int = 0,
    legacy_eos: bool = False,
    tokenizer: str = "json",
    shard_bytes: int | None = None,
    as_bin: bool = False,
) -> Path:
    """A CLIP checkpoint folder: weights, config, tokenizer and preprocessor_config.

    Args:
        vision, text: overrides of the towers' configurations (transformers' names).
        legacy_eos: ``eos_token_id`` 2 in config.json, as OpenAI's checkpoints have it: pooling at the largest id.
        tokenizer: ``json`` saves tokenizer.json, ``vocabulary`` vocab.json and merges.txt only, ``real`` CLIP's own
            49,408 tokens (skips the test where they are not there).
        shard_bytes: split safetensors into shards of this size, with an index.
        as_bin: pytorch_model.bin instead of safetensors.
    """
    vocabulary, merges = real_vocabulary() if tokenizer == "real" else tiny_vocabulary()
    text = {"vocab_size": max(1024, len(vocabulary)), "eos_token_id": vocabulary[END], **(text or {})}
    text |= {"bos_token_id": vocabulary[START], "pad_token_id": vocabulary[END]}
    if legacy_eos:
        text |= {"eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1}
    model = clip_model(vision, text, projection_dim=projection_dim, seed=seed)
    save(model, directory, shard_bytes, as_bin)
    size = model.config.vision_config.image_size
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    )
    processor.save_pretrained(directory)
    _save_clip_tokenizer(directory, vocabulary, merges, with_json=tokenizer != "vocabulary")
    return directory


def whisper_model(kind: str = "WhisperModel", *, seed: int = 0, **config: Any) -> transformers.PreTrainedModel:
    """A Whisper with perturbed weights; tiny unless told otherwise, and its decoder always."""
    sizes = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64, **config}
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16, "vocab_size": 32}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3}
    model_config = transformers.WhisperConfig(
        **{**sizes, **decoder, **tokens, "suppress_tokens": None, "begin_suppress_tokens": None}
    )
    return perturb(getattr(transformers, kind)(model_config), seed).eval()


def whisper_checkpoint(
    directory: Path,
    kind: str = "WhisperModel",
    *,
    seed: int = 0,
    shard_bytes: int | None = None,
    as_bin: bool = False,
    **config: Any,
) -> Path:
    """A Whisper checkpoint folder: weights, config and preprocessor_config.

    Args:
        kind: ``WhisperModel``, ``WhisperForConditionalGeneration`` or ``WhisperForAudioClassification`` (projector).
        config: overrides of the configuration (transformers' names), e.g. ``num_mel_bins=128``.
    """
    model = whisper_model(kind, seed=seed, **config)
    save(model, directory, shard_bytes, as_bin)
    transformers.WhisperFeatureExtractor(feature_size=model.config.num_mel_bins).save_pretrained(directory)
    return directory


def bert_checkpoint(directory: Path, *, seed: int = 0, kind: str = "BertModel", **config: Any) -> Path:
    """A BERT checkpoint folder with a WordPiece tokenizer over ASCII, in sentence-transformers' layout."""
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), *WORDS]
    sizes = {**TINY_TOWER, "vocab_size": 256, "max_position_embeddings": 64, **config}
    model = perturb(getattr(transformers, kind)(transformers.BertConfig(**sizes)), seed).eval()
    save(model, directory, None, as_bin=False)
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    transformers.BertTokenizer(vocabulary).save_pretrained(directory)
    (directory / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48, "do_lower_case": False}))
    kinds = ("Transformer", "Pooling", "Normalize")
    modules = [{"idx": i, "type": f"sentence_transformers.models.{kind}"} for i, kind in enumerate(kinds)]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "1_Pooling").mkdir(exist_ok=True)
    (directory / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": sizes["hidden_size"], "pooling_mode_mean_tokens": True})
    )
    return directory


def clap_model(
    audio: dict[str, Any] | None = None, text: dict[str, Any] | None = None, *, projection_dim: int = 16, seed: int = 0
) -> transformers.ClapModel:
    """A ClapModel without fusion, with perturbed weights and statistics; tiny unless told otherwise."""
    stages = {"depths": [2, 2], "num_attention_heads": [2, 4], "patch_embeds_hidden_size": 16, "hidden_size": 32}
    audio_config = {**stages, "spec_size": 256, "patch_size": 16, "patch_stride": [16, 16], "window_size": 4}
    text_config = {**TINY_TOWER, "vocab_size": 1024, "max_position_embeddings": 66}
    config = transformers.ClapConfig(
        audio_config={**audio_config, **(audio or {})},
        text_config={**text_config, **(text or {})},
        projection_dim=projection_dim,
    )
    model = perturb(transformers.ClapModel(config), seed)
    norm, generator = model.audio_model.audio_encoder.batch_norm, torch.Generator().manual_seed(seed)
    norm.running_mean.copy_(-25 + 8 * torch.randn(norm.running_mean.shape, generator=generator))
    norm.running_var.copy_(60 + 60 * torch.rand(norm.running_var.shape, generator=generator))  # decibels
    return model.eval()


def clap_checkpoint(
    directory: Path,
    audio: dict[str, Any] | None = None,
    text: dict[str, Any] | None = None,
    *,
    projection_dim: int = 16,
    seed: int = 0,
    as_bin: bool = False,
) -> Path:
    """A CLAP checkpoint folder as laion/clap-htsat-unfused: weights, config, tokenizer and preprocessor_config."""
    model = clap_model(audio, text, projection_dim=projection_dim, seed=seed)
    save(model, directory, None, as_bin)
    roberta_tokenizer(min(2048, model.config.text_config.vocab_size)).save_pretrained(directory)
    transformers.ClapFeatureExtractor(
        truncation="rand_trunc", padding="repeatpad", frequency_min=50, frequency_max=14_000
    ).save_pretrained(directory)
    return directory


@cache
def roberta_tokenizer(vocab_size: int) -> transformers.PreTrainedTokenizerBase:
    """A tokenizer of RoBERTa's kind, with the tokens that it learnt from texts of twenty languages."""
    trained = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(TWENTY_LANGUAGES * 2, vocab_size=vocab_size, min_frequency=2, special_tokens=special)
    learnt = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in learnt["merges"]]
    return transformers.RobertaTokenizer(learnt["vocab"], merges, model_max_length=512)


def tiny_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A CLIP vocabulary with few merges: all bytes, and some whole words. The end token's id is the largest."""
    alphabet = sorted(ByteLevel.alphabet())
    tokens = alphabet + [letter + "</w>" for letter in alphabet]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merge = (parts[0], parts[1])
            if merge not in merges:
                merges.append(merge)
            parts[:2] = ["".join(merge)]
    tokens += ["".join(merge) for merge in merges]
    tokens = [*dict.fromkeys(tokens), START, END]
    return {token: index for index, token in enumerate(tokens)}, merges


def real_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """OpenAI CLIP's vocabulary and merges, from its published file; skips the test where that is not there."""
    if not REAL_VOCABULARY.is_file():
        pytest.skip(f"CLIP's published vocabulary is not at {REAL_VOCABULARY}")
    lines = gzip.decompress(REAL_VOCABULARY.read_bytes()).decode().split("\n")
    merges = [(left, right) for left, right in (line.split() for line in lines[1 : 49152 - 256 - 2 + 1])]
    # The order of OpenAI's bytes_to_unicode: printable bytes first, then the others in the order of their stand-ins.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = [chr(code) for code in printable] + [chr(256 + n) for n in range(256 - len(printable))]
    tokens = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(merge) for merge in merges] + [START, END]
    return {token: index for index, token in enumerate(tokens)}, merges


def edit_config(directory: Path, **changes: Any) -> Path:
    """Change keys of a checkpoint's config.json; ``vision_config__hidden_act="gelu"`` reaches into a part of it."""
    path = directory / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        *parts, last = key.split("__")
        target = config
        for part in parts:
            target = target[part]
        target[last] = value
    path.write_text(json.dumps(config), encoding="utf-8")
    return directory


def _save_clip_tokenizer(
    directory: Path, vocabulary: dict[str, int], merges: list[tuple[str, str]], *, with_json: bool
) -> None:
    if with_json:
        transformers.CLIPTokenizer(vocabulary, merges).save_pretrained(directory)
        return
    (directory / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (directory / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (directory / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))


def save(model: transformers.PreTrainedModel, directory: Path, shard_bytes: int | None, as_bin: bool) -> None:
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if as_bin:
            model.config.architectures = [type(model).__name__]
            model.config.save_pretrained(directory)
            torch.save(model.state_dict(), directory / "pytorch_model.bin")
        elif shard_bytes is not None:
            model.save_pretrained(directory, max_shard_size=shard_bytes)
        else:
            model.save_pretrained(directory)
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def mutated(original: Path, copy: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """A copy of a checkpoint with other tensors: ``change`` edits the dictionary of model.safetensors."""
    shutil.copytree(original, copy)
    tensors = load_file(original / "model.safetensors")
    change(tensors)
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, copy / "model.safetensors", {"format": "pt"}
    )
    return copy


def relative_error(ours: np.ndarray, reference: np.ndarray) -> float:
    """The largest difference of any element, in units of how far the reference's elements spread over the inputs.

    Both are brought to length one first; the spread is taken around the reference's mean vector, so that what all
    inputs have in common hides nothing.
    """
    ours, reference = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (ours, reference))
    spread = np.sqrt(np.mean((reference - reference.mean(axis=0)) ** 2))
    return float(np.abs(ours - reference).max() / spread)


def mutual_cosine(vectors: np.ndarray) -> float:
    """The average cosine between different rows: near one, the inputs are too alike for a comparison to mean much."""
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return float((rows @ rows.T)[~np.eye(len(rows), dtype=bool)].mean())


def ctranslate2_folder(checkpoint: Path, directory: Path, quantization: str) -> Path:
    """A WhisperForConditionalGeneration checkpoint in CTranslate2's format, written by CTranslate2's own converter.

    Args:
        quantization: ``float32``, ``float16``, ``bfloat16``, ``int8``, ... as the converter calls the types.
    """
    from ctranslate2.converters.transformers import WhisperLoader  # deferred: it loads transformers' classes anew

    model = transformers.WhisperForConditionalGeneration.from_pretrained(checkpoint)
    spec = WhisperLoader().get_model_spec(model)
    spec.register_vocabulary([f"<{index}>" for index in range(model.config.vocab_size)])
    spec.validate()
    spec.optimize(quantization=quantization)
    directory.mkdir(parents=True)
    spec.save(str(directory))
    for name in ("preprocessor_config.json", "tokenizer.json"):
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, directory / name)
    return directory
