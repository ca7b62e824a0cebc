"""OpenCLIP's folders: ``open_clip_config.json`` and its weights become a Hugging Face checkpoint.

Supported are CLIP with OpenCLIP's own ViT, and SigLIP with timm's. Source: open_clip's ``model.py``, ``transformer.py``
and ``transform.py``, and timm's ``vision_transformer.py``.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel

from arrowlens.conversion.checkpoint import BIN_NAME, INDEX_SUFFIX, SAFETENSORS_NAME, Checkpoint
from arrowlens.conversion.cleaning import LOWER_CASE, NO_PUNCTUATION, SINGLE_SPACES, UNDERSCORES, clean_before
from arrowlens.conversion.family import TOKENIZER_NAME, load_tokenizer
from arrowlens.conversion.preprocessing import PREPROCESSOR_CONFIG
from arrowlens.conversion.renaming import WEIGHT_AND_BIAS, RenameTable, rename
from arrowlens.encoders.image_processor import CLIP_MEAN, CLIP_STD
from arrowlens.errors import ConversionError

CONFIG_NAME = "open_clip_config.json"
WEIGHT_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_MERGES = "clip_merges.txt.gz"
_CLIP_VOCABULARY = 49408  # tokens
_TOKENIZER_FILES = (
    TOKENIZER_NAME,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
)
_INTERPOLATION = {"bilinear": 2, "bicubic": 3}  # PIL's numbers
_CLEANING = {  # OpenCLIP's names; what ftfy and HTML entities would change is left as it is
    "whitespace": SINGLE_SPACES,
    "lower": (*SINGLE_SPACES, *LOWER_CASE),
    "canonicalize": (*UNDERSCORES, *NO_PUNCTUATION, *LOWER_CASE, *SINGLE_SPACES),
}

# timm's towers of SigLIP by name: heads, and whether GELU is approximated by a tanh.
_SIGLIP_NAME = re.compile(r"vit_(base|large|so400m|giantopt)_patch\d+_siglip_\d+")
_SIGLIP_HEADS = {"base": 12, "large": 16, "so400m": 16, "giantopt": 16}
_TANH = re.compile(
    r"vit_(base_patch32_siglip_256|large_patch16_siglip_512|so400m_patch16_siglip_\d+|giantopt_patch16_siglip_\d+)"
)

# Settings of the configuration that are read here, each with the values that are supported; None stands for any.
# Every other setting must be unset, null, false or 0.
_Allowed = dict[str, tuple[object, ...] | None]
_MODEL: _Allowed = {
    "embed_dim": None,
    "vision_cfg": None,
    "text_cfg": None,
    "quick_gelu": None,
    "custom_text": None,
    "init_logit_scale": None,
    "init_logit_bias": None,
}
_CLIP_VISION: _Allowed = {
    "image_size": None,
    "patch_size": None,
    "width": None,
    "layers": None,
    "head_width": None,
    "mlp_ratio": None,
    "patch_dropout": None,  # in training only
    "norm_kwargs": None,
    "pool_type": ("tok",),
    "pos_embed_type": ("learnable",),
}
_SIGLIP_VISION: _Allowed = {
    "image_size": None,
    "timm_model_name": None,
    "timm_model_pretrained": None,
    "timm_pool": ("map",),
    "timm_proj": ("none",),
}
_TEXT: _Allowed = {
    "context_length": None,
    "vocab_size": None,
    "width": None,
    "heads": None,
    "layers": None,
    "mlp_ratio": None,
    "hf_tokenizer_name": None,
    "tokenizer_kwargs": None,
    "norm_kwargs": None,
}
_CLIP_TEXT: _Allowed = {**_TEXT, "pool_type": ("argmax",), "proj_type": ("linear",), "pad_id": None}
_SIGLIP_TEXT: _Allowed = {
    **_TEXT,
    "pool_type": ("last",),
    "proj_type": ("linear",),
    "no_causal_mask": (True,),
    "proj_bias": (True,),
    "act_kwargs": ({"approximate": "tanh"},),
    "pad_id": None,
}


def _block(tower: str, layer: str, theirs: str, names: Mapping[str, str]) -> dict[str, str]:
    """A Transformer layer: Hugging Face's names, and those of the checkpoint."""
    ours = f"{tower}_model.encoder.layers.{layer}"
    parts = {f"{ours}.self_attn.{x}_proj.{{p}}": f"{theirs}.attn.{x}.{{p}}" for x in "qkv"}
    return parts | {f"{ours}.{part}.{{p}}": f"{theirs}.{name}.{{p}}" for part, name in names.items()}


_RESBLOCK = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_TIMM_BLOCK = {
    "self_attn.out_proj": "attn.proj",
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_TEXT_LAYER, _VISION_LAYER = "transformer.resblocks.{text}", "visual.transformer.resblocks.{vision}"
_TRUNK = "visual.trunk"
_TRUNK_LAYER, _POOL = f"{_TRUNK}.blocks.{{vision}}", f"{_TRUNK}.attn_pool"
_TEXT_NAMES = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    **_block("text", "{text}", _TEXT_LAYER, _RESBLOCK),
    "text_model.final_layer_norm.{p}": "ln_final.{p}",
    "logit_scale": "logit_scale",
}
_TEXT_SPLIT = {f"{_TEXT_LAYER}.attn.in_proj_{{p}}": tuple(f"{_TEXT_LAYER}.attn.{x}.{{p}}" for x in "qkv")}
_SPELLINGS = ((r"^module\.", ""), (r"^text\.", ""))  # the text tower of a CustomTextCLIP has a prefix
_IGNORED = (r"attn_mask", r"input_resolution", r"context_length", r"vocab_size")

CLIP_TABLE = RenameTable(
    names={
        **_TEXT_NAMES,
        "text_projection.weight": "text_projection",
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "vision_model.pre_layrnorm.{p}": "visual.ln_pre.{p}",  # sic
        **_block("vision", "{vision}", _VISION_LAYER, _RESBLOCK),
        "vision_model.post_layernorm.{p}": "visual.ln_post.{p}",
        "visual_projection.weight": "visual.proj",
    },
    split={
        **_TEXT_SPLIT,
        f"{_VISION_LAYER}.attn.in_proj_{{p}}": tuple(f"{_VISION_LAYER}.attn.{x}.{{p}}" for x in "qkv"),
    },
    reshaped={"text_projection.weight": torch.t, "visual_projection.weight": torch.t},
    spellings=_SPELLINGS,
    ignored=_IGNORED,
)
SIGLIP_TABLE = RenameTable(
    names={
        **_TEXT_NAMES,
        "text_model.head.{p}": "text_projection.{p}",
        "logit_bias": "logit_bias",
        "vision_model.embeddings.patch_embedding.{p}": f"{_TRUNK}.patch_embed.proj.{{p}}",
        "vision_model.embeddings.position_embedding.weight": f"{_TRUNK}.pos_embed",
        **_block("vision", "{vision}", _TRUNK_LAYER, _TIMM_BLOCK),
        "vision_model.post_layernorm.{p}": f"{_TRUNK}.norm.{{p}}",
        "vision_model.head.probe": f"{_POOL}.latent",
        "vision_model.head.attention.in_proj_{p}": tuple(f"{_POOL}.{x}.{{p}}" for x in "qkv"),
        "vision_model.head.attention.out_proj.{p}": f"{_POOL}.proj.{{p}}",
        "vision_model.head.layernorm.{p}": f"{_POOL}.norm.{{p}}",
        "vision_model.head.mlp.fc1.{p}": f"{_POOL}.mlp.fc1.{{p}}",
        "vision_model.head.mlp.fc2.{p}": f"{_POOL}.mlp.fc2.{{p}}",
    },
    split={
        **_TEXT_SPLIT,
        f"{_TRUNK_LAYER}.attn.qkv.{{p}}": tuple(f"{_TRUNK_LAYER}.attn.{x}.{{p}}" for x in "qkv"),
        f"{_POOL}.kv.{{p}}": (f"{_POOL}.k.{{p}}", f"{_POOL}.v.{{p}}"),
    },
    reshaped={
        "vision_model.embeddings.position_embedding.weight": lambda positions: positions.squeeze(0),
        "logit_scale": torch.atleast_1d,
        "logit_bias": torch.atleast_1d,
    },
    spellings=_SPELLINGS,
    ignored=_IGNORED,
)


def is_openclip(directory: Path) -> bool:
    """Return whether a folder holds a model of OpenCLIP and no checkpoint of Hugging Face's."""
    names = (SAFETENSORS_NAME, BIN_NAME, SAFETENSORS_NAME + INDEX_SUFFIX, BIN_NAME + INDEX_SUFFIX)
    return (directory / CONFIG_NAME).is_file() and not any((directory / name).is_file() for name in names)


def write_checkpoint(directory: Path, target: Path) -> None:
    """Write the model of an OpenCLIP folder as a Hugging Face checkpoint, in float32.

    Args:
        directory: holds ``open_clip_config.json``, ``open_clip_model.safetensors`` or ``open_clip_pytorch_model.bin``
            with plain tensors, and the tokenizer's files. CLIP's tokenizer may be missing.
        target: an existing folder; gets ``config.json``, ``model.safetensors``, ``preprocessor_config.json`` and the
            tokenizer's files.

    Raises:
        ConversionError: another architecture than the two supported ones, a setting that is not supported, a tokenizer
            that is missing, or damaged or incomplete weights. The message names it.
    """
    checkpoint = Checkpoint(directory, directory.name, WEIGHT_NAMES)
    given = checkpoint.read_json(CONFIG_NAME) or {}
    model = _part(directory, given, "model_cfg")
    vision, text = _part(directory, model, "vision_cfg"), _part(directory, model, "text_cfg")
    _check_settings(directory, "model_cfg", model, _MODEL)
    if "image_size" in vision:
        vision["image_size"] = _side(directory, vision["image_size"])
    is_siglip = _is_siglip(directory, vision, text)
    write_tokenizer: Callable[[Path, Path, dict[str, Any]], None]
    try:
        if is_siglip:
            config, table, write_tokenizer = _siglip(checkpoint, model), SIGLIP_TABLE, _write_siglip_tokenizer
        else:
            config, table, write_tokenizer = _clip(checkpoint, model), CLIP_TABLE, _write_clip_tokenizer
        preprocessing = _preprocessing(directory, given.get("preprocess_cfg") or {}, vision, is_siglip=is_siglip)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ConversionError(f"{directory / CONFIG_NAME}: lacks or garbles {error}; download it again") from error
    counters = {
        "vision": range(config["vision_config"]["num_hidden_layers"]),
        "text": range(config["text_config"]["num_hidden_layers"]),
        "p": WEIGHT_AND_BIAS,
    }
    tensors = rename(checkpoint, table, counters).tensors
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, target / SAFETENSORS_NAME)
        (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
        (target / PREPROCESSOR_CONFIG).write_text(json.dumps(preprocessing), encoding="utf-8")
        for name in _TOKENIZER_FILES:
            if (directory / name).is_file():
                shutil.copyfile(directory / name, target / name)
        write_tokenizer(directory, target, text)
    except (OSError, SafetensorError) as error:
        detail = getattr(error, "strerror", None) or error
        raise ConversionError(f"{directory}: cannot be converted ({detail}); check the free space") from error


def _part(directory: Path, settings: dict[str, Any], name: str) -> dict[str, Any]:
    part = settings.get(name)
    if not isinstance(part, dict):
        raise ConversionError(
            f"{directory / CONFIG_NAME}: no {name} in it, which CLIP and SigLIP have; take one of them"
        )
    return part


def _side(directory: Path, size: Any) -> int:  # noqa: ANN401 - from JSON
    """Return the side of a square picture, which OpenCLIP gives as one number or as two equal ones."""
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or sides[0] != sides[1] or type(sides[0]) is not int:
        raise ConversionError(
            f"{directory / CONFIG_NAME}: vision_cfg sets image_size to {size!r:.80}; only square pictures are "
            "supported, so take a model with one number"
        )
    return sides[0]


def _is_siglip(directory: Path, vision: dict[str, Any], text: dict[str, Any]) -> bool:
    """Whether it is SigLIP, else CLIP; other architectures are refused."""
    trunk = vision.get("timm_model_name")
    is_siglip = isinstance(trunk, str) and _SIGLIP_NAME.fullmatch(trunk) is not None
    other = None
    if trunk and not is_siglip:
        other = f"the image tower {trunk!r} of timm"
    elif isinstance(vision.get("layers"), list):
        other = "a ResNet as image tower"
    elif text.get("hf_model_name"):
        other = f"the text tower {text['hf_model_name']!r} of Hugging Face"
    if other:
        raise ConversionError(
            f"{directory}: a model of OpenCLIP with {other}, which is not supported; take one with OpenCLIP's ViT, "
            "or SigLIP with a fixed resolution"
        )
    return is_siglip


def _check_settings(directory: Path, part: str, settings: dict[str, Any], allowed: _Allowed) -> None:
    for name, value in settings.items():
        known = allowed.get(name, ())
        if value and known is not None and value not in known:
            raise ConversionError(f"{directory / CONFIG_NAME}: {part} sets {name} to {value!r:.80}; not supported")


def _clip(checkpoint: Checkpoint, model: dict[str, Any]) -> dict[str, Any]:
    """The ``config.json`` of a CLIPModel."""
    vision, text = model["vision_cfg"], model["text_cfg"]
    _check_settings(checkpoint.directory, "vision_cfg", vision, _CLIP_VISION)
    _check_settings(checkpoint.directory, "text_cfg", text, _CLIP_TEXT)
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    vision_width = vision.get("width", 768)
    return {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": model["embed_dim"],
        "vision_config": {
            "image_size": vision.get("image_size", 224),
            "patch_size": vision.get("patch_size", 16),
            "hidden_size": vision_width,
            "num_hidden_layers": vision.get("layers", 12),
            "num_attention_heads": vision_width // vision.get("head_width", 64),
            "intermediate_size": int(vision_width * vision.get("mlp_ratio", 4.0)),
            "hidden_act": activation,
            "layer_norm_eps": _epsilon(vision),
        },
        "text_config": {
            **_text_config(text, activation),
            # The ids with which transformers reads the state of the largest id, as OpenCLIP does.
            "bos_token_id": 0,
            "pad_token_id": 1,
            "eos_token_id": 2,
        },
    }


def _siglip(checkpoint: Checkpoint, model: dict[str, Any]) -> dict[str, Any]:
    """The ``config.json`` of a SiglipModel. timm's configuration is a name, so sizes are those of the tensors."""
    vision, text = model["vision_cfg"], model["text_cfg"]
    _check_settings(checkpoint.directory, "vision_cfg", vision, _SIGLIP_VISION)
    _check_settings(checkpoint.directory, "text_cfg", text, _SIGLIP_TEXT)
    for name in ("no_causal_mask", "proj_bias"):
        if not text.get(name):
            raise ConversionError(f"{checkpoint.directory / CONFIG_NAME}: text_cfg does not set {name}; SigLIP does")
    trunk = vision["timm_model_name"]
    match = _SIGLIP_NAME.fullmatch(trunk)
    if match is None:
        raise ValueError(f"timm_model_name {trunk!r:.80}")
    shapes = {name: tuple(tensor.load().shape) for name, tensor in checkpoint.tensors() if _is_sized(name)}
    width, _, patch_size, _ = shapes[f"{_TRUNK}.patch_embed.proj.weight"]
    layers = {name.split(".")[3] for name, _ in checkpoint.tensors() if name.startswith(f"{_TRUNK}.blocks.")}
    return {
        "model_type": "siglip",
        "architectures": ["SiglipModel"],
        "vision_config": {
            "image_size": vision["image_size"],
            "patch_size": patch_size,
            "hidden_size": width,
            "num_hidden_layers": len(layers),
            "num_attention_heads": _SIGLIP_HEADS[match[1]],
            "intermediate_size": shapes[f"{_POOL}.mlp.fc1.weight"][0],
            "hidden_act": "gelu_pytorch_tanh" if _TANH.fullmatch(trunk) else "gelu",
            "layer_norm_eps": 1e-6,
        },
        "text_config": {
            **_text_config(text, "gelu_pytorch_tanh" if text.get("act_kwargs") else "gelu"),
            "projection_size": model["embed_dim"],
            "pad_token_id": 0,
            "bos_token_id": None,
            "eos_token_id": None,
        },
    }


def _is_sized(name: str) -> bool:
    return name in (f"{_TRUNK}.patch_embed.proj.weight", f"{_POOL}.mlp.fc1.weight")


def _text_config(text: dict[str, Any], activation: str) -> dict[str, Any]:
    width = text.get("width", 512)
    return {
        "vocab_size": text.get("vocab_size", _CLIP_VOCABULARY),
        "max_position_embeddings": text.get("context_length", 77),
        "hidden_size": width,
        "num_hidden_layers": text.get("layers", 12),
        "num_attention_heads": text.get("heads", 8),
        "intermediate_size": int(width * text.get("mlp_ratio", 4.0)),
        "hidden_act": activation,
        "layer_norm_eps": _epsilon(text),
    }


def _epsilon(tower: dict[str, Any]) -> float:
    return float((tower.get("norm_kwargs") or {}).get("eps", 1e-5))


def _preprocessing(
    directory: Path, given: dict[str, Any], vision: dict[str, Any], *, is_siglip: bool
) -> dict[str, Any]:
    """The ``preprocessor_config.json``, with OpenCLIP's defaults."""
    side, size = vision.get("image_size", 224), given.get("size")
    mode, interpolation = given.get("resize_mode") or "shortest", given.get("interpolation") or "bicubic"
    if mode not in ("shortest", "squash") or interpolation not in _INTERPOLATION:
        raise ConversionError(
            f"{directory / CONFIG_NAME}: preprocess_cfg resizes {mode!r:.80} with {interpolation!r:.80}; "
            f"supported are shortest and squash, with {' or '.join(_INTERPOLATION)}"
        )
    if size not in (None, side, [side, side]):
        raise ConversionError(f"{directory / CONFIG_NAME}: preprocess_cfg gives {size!r:.80}, the model takes {side}")
    crops = mode == "shortest"
    return {
        "image_processor_type": "SiglipImageProcessor" if is_siglip else "CLIPImageProcessor",
        "size": {"shortest_edge": side} if crops else {"height": side, "width": side},
        "do_center_crop": crops,
        "crop_size": {"height": side, "width": side},
        "resample": _INTERPOLATION[interpolation],
        "image_mean": list(given.get("mean") or CLIP_MEAN),
        "image_std": list(given.get("std") or CLIP_STD),
    }


def _write_clip_tokenizer(directory: Path, target: Path, text: dict[str, Any]) -> None:
    """Complete the tokenizer in ``target``: CLIP's own where there is none and the configuration says so."""
    kwargs = text.get("tokenizer_kwargs") or {}
    if kwargs not in ({}, {"clean": "lower"}):
        raise ConversionError(
            f"{directory / CONFIG_NAME}: text_cfg sets tokenizer_kwargs to {kwargs!r:.80}; not supported"
        )
    if (target / TOKENIZER_NAME).is_file() or (target / "vocab.json").is_file():
        return
    name = text.get("hf_tokenizer_name") or ""
    is_clip = not name or name.startswith("openai/clip-")
    if not is_clip or text.get("vocab_size", _CLIP_VOCABULARY) != _CLIP_VOCABULARY:
        raise _no_tokenizer(directory, name)
    with resources.files("arrowlens.conversion").joinpath(_MERGES).open("rb") as file:
        merges = gzip.decompress(file.read()).decode()
    (target / "merges.txt").write_text(f"#version: 0.2\n{merges}", encoding="utf-8")
    (target / "vocab.json").write_text(json.dumps(_clip_vocabulary(merges)), encoding="utf-8")
    (target / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}), encoding="utf-8")


def _clip_vocabulary(merges: str) -> dict[str, int]:
    """CLIP's tokens: a letter for each byte, the same at a word's end, what merges make, start and end of text."""
    # Printable bytes first, then the others in the order of the letters that stand for them.
    letters = sorted(ByteLevel.alphabet(), key=lambda letter: (ord(letter) > 255, ord(letter)))
    merged = [line.replace(" ", "") for line in merges.splitlines()]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *merged, "<|startoftext|>", "<|endoftext|>"]
    return {token: index for index, token in enumerate(tokens)}


def _write_siglip_tokenizer(directory: Path, target: Path, text: dict[str, Any]) -> None:
    """Make the tokenizer in ``target`` clean texts as the configuration says."""
    import transformers as untyped  # deferred: seconds, and only conversion needs it

    transformers: Any = untyped

    if not (target / TOKENIZER_NAME).is_file():
        raise _no_tokenizer(directory, text.get("hf_tokenizer_name") or "")
    kwargs = text.get("tokenizer_kwargs") or {}
    cleaning = kwargs.get("clean", "whitespace")
    if set(kwargs) - {"clean"} or cleaning not in _CLEANING:
        raise ConversionError(
            f"{directory / CONFIG_NAME}: text_cfg sets tokenizer_kwargs to {kwargs!r:.80}; not supported"
        )
    original = load_tokenizer(Checkpoint(target, directory.name))
    backend = original.backend_tokenizer
    clean_before(backend, _CLEANING[cleaning])
    special = {name: str(token) for name, token in original.special_tokens_map.items() if isinstance(token, str)}
    cleaned = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, padding_side=original.padding_side, **special
    )
    cleaned.save_pretrained(target)


def _no_tokenizer(directory: Path, name: str) -> ConversionError:
    return ConversionError(
        f"{directory}: no tokenizer in it, and {CONFIG_NAME} says {name or 'none'!r}, not CLIP's; save it there with "
        "transformers: AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER)"
    )
