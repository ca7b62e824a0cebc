"""OpenCLIP's folders, made from transformers' models: the names and layouts of open_clip and timm, written anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file

CLIP_PREPROCESSING = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]}
SIGLIP_PREPROCESSING = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
_ENDS = {"weight", "bias"}


def openclip_folder(
    model: transformers.CLIPModel | transformers.SiglipModel,
    directory: Path,
    *,
    custom_text: bool = True,
    preprocessing: dict[str, Any] | None = None,
    as_bin: bool = False,
    timm_name: str = "vit_base_patch16_siglip_224",
    model_cfg: dict[str, Any] | None = None,
    vision_cfg: dict[str, Any] | None = None,
    text_cfg: dict[str, Any] | None = None,
) -> Path:
    """Write a model as OpenCLIP does, without a tokenizer.

    Args:
        custom_text: whether the text tower's names have a prefix.
        preprocessing: the ``preprocess_cfg``.
        as_bin: open_clip_pytorch_model.bin instead of safetensors.
        timm_name: of SigLIP's image tower.
        model_cfg, vision_cfg, text_cfg: settings to add or to replace.
    """
    is_siglip = isinstance(model, transformers.SiglipModel)
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    tensors = dict(_vision(state, is_siglip)) | {
        ("text." if custom_text and not name.startswith("logit") else "") + name: tensor
        for name, tensor in _text(state, is_siglip)
    }
    configuration = _siglip_config(model, timm_name) if is_siglip else _clip_config(model)
    configuration |= {"custom_text": custom_text} | (model_cfg or {})
    configuration["vision_cfg"] |= vision_cfg or {}
    configuration["text_cfg"] |= text_cfg or {}
    directory.mkdir(parents=True)
    preprocessing = preprocessing or (SIGLIP_PREPROCESSING if is_siglip else CLIP_PREPROCESSING)
    (directory / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": configuration, "preprocess_cfg": preprocessing})
    )
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if as_bin:
        torch.save(tensors, directory / "open_clip_pytorch_model.bin")
    else:
        save_file(tensors, directory / "open_clip_model.safetensors", {"format": "pt"})
    return directory


def _text(state: dict[str, torch.Tensor], is_siglip: bool) -> Iterator[tuple[str, torch.Tensor]]:
    yield "token_embedding.weight", state["text_model.embeddings.token_embedding.weight"]
    yield "positional_embedding", state["text_model.embeddings.position_embedding.weight"]
    yield from _resblocks(state, "text_model", "transformer")
    for end in _ENDS:
        yield f"ln_final.{end}", state[f"text_model.final_layer_norm.{end}"]
    if is_siglip:
        for end in _ENDS:
            yield f"text_projection.{end}", state[f"text_model.head.{end}"]
        yield "logit_bias", state["logit_bias"].reshape(())
    else:
        yield "text_projection", state["text_projection.weight"].T
    yield "logit_scale", state["logit_scale"].reshape(())


def _vision(state: dict[str, torch.Tensor], is_siglip: bool) -> Iterator[tuple[str, torch.Tensor]]:
    if is_siglip:
        yield from _timm(state)
        return
    embeddings = "vision_model.embeddings"
    yield "visual.class_embedding", state[f"{embeddings}.class_embedding"]
    yield "visual.conv1.weight", state[f"{embeddings}.patch_embedding.weight"]
    yield "visual.positional_embedding", state[f"{embeddings}.position_embedding.weight"]
    yield from _resblocks(state, "vision_model", "visual.transformer")
    for end in _ENDS:
        yield f"visual.ln_pre.{end}", state[f"vision_model.pre_layrnorm.{end}"]
        yield f"visual.ln_post.{end}", state[f"vision_model.post_layernorm.{end}"]
    yield "visual.proj", state["visual_projection.weight"].T


def _resblocks(state: dict[str, torch.Tensor], tower: str, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    for layer in range(_n_layers(state, tower)):
        theirs, ours = f"{tower}.encoder.layers.{layer}", f"{prefix}.resblocks.{layer}"
        for end in _ENDS:
            yield f"{ours}.attn.in_proj_{end}", torch.cat([state[f"{theirs}.self_attn.{x}_proj.{end}"] for x in "qkv"])
            yield f"{ours}.attn.out_proj.{end}", state[f"{theirs}.self_attn.out_proj.{end}"]
            yield f"{ours}.ln_1.{end}", state[f"{theirs}.layer_norm1.{end}"]
            yield f"{ours}.ln_2.{end}", state[f"{theirs}.layer_norm2.{end}"]
            yield f"{ours}.mlp.c_fc.{end}", state[f"{theirs}.mlp.fc1.{end}"]
            yield f"{ours}.mlp.c_proj.{end}", state[f"{theirs}.mlp.fc2.{end}"]


def _timm(state: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    trunk, head = "visual.trunk", "vision_model.head"
    yield f"{trunk}.pos_embed", state["vision_model.embeddings.position_embedding.weight"][None]
    yield f"{trunk}.attn_pool.latent", state[f"{head}.probe"]
    for end in _ENDS:
        yield f"{trunk}.patch_embed.proj.{end}", state[f"vision_model.embeddings.patch_embedding.{end}"]
        yield f"{trunk}.norm.{end}", state[f"vision_model.post_layernorm.{end}"]
        query, key, value = state[f"{head}.attention.in_proj_{end}"].chunk(3)
        yield f"{trunk}.attn_pool.q.{end}", query
        yield f"{trunk}.attn_pool.kv.{end}", torch.cat([key, value])
        yield f"{trunk}.attn_pool.proj.{end}", state[f"{head}.attention.out_proj.{end}"]
        yield f"{trunk}.attn_pool.norm.{end}", state[f"{head}.layernorm.{end}"]
        yield f"{trunk}.attn_pool.mlp.fc1.{end}", state[f"{head}.mlp.fc1.{end}"]
        yield f"{trunk}.attn_pool.mlp.fc2.{end}", state[f"{head}.mlp.fc2.{end}"]
    for layer in range(_n_layers(state, "vision_model")):
        theirs, ours = f"vision_model.encoder.layers.{layer}", f"{trunk}.blocks.{layer}"
        for end in _ENDS:
            yield f"{ours}.attn.qkv.{end}", torch.cat([state[f"{theirs}.self_attn.{x}_proj.{end}"] for x in "qkv"])
            yield f"{ours}.attn.proj.{end}", state[f"{theirs}.self_attn.out_proj.{end}"]
            yield f"{ours}.norm1.{end}", state[f"{theirs}.layer_norm1.{end}"]
            yield f"{ours}.norm2.{end}", state[f"{theirs}.layer_norm2.{end}"]
            yield f"{ours}.mlp.fc1.{end}", state[f"{theirs}.mlp.fc1.{end}"]
            yield f"{ours}.mlp.fc2.{end}", state[f"{theirs}.mlp.fc2.{end}"]


def _n_layers(state: dict[str, torch.Tensor], tower: str) -> int:
    return len([name for name in state if name.startswith(tower) and name.endswith("layer_norm1.weight")])


def _clip_config(model: transformers.CLIPModel) -> dict[str, Any]:
    vision, text = model.config.vision_config, model.config.text_config
    return {
        "embed_dim": model.config.projection_dim,
        "quick_gelu": vision.hidden_act == "quick_gelu",
        "vision_cfg": {
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "layers": vision.num_hidden_layers,
            "width": vision.hidden_size,
            "head_width": vision.hidden_size // vision.num_attention_heads,
            "mlp_ratio": vision.intermediate_size / vision.hidden_size,
        },
        "text_cfg": {
            "context_length": text.max_position_embeddings,
            "vocab_size": text.vocab_size,
            "width": text.hidden_size,
            "heads": text.num_attention_heads,
            "layers": text.num_hidden_layers,
            "mlp_ratio": text.intermediate_size / text.hidden_size,
        },
    }


def _siglip_config(model: transformers.SiglipModel, timm_name: str) -> dict[str, Any]:
    vision, text = model.config.vision_config, model.config.text_config
    tanh = {"act_kwargs": {"approximate": "tanh"}} if text.hidden_act == "gelu_pytorch_tanh" else {}
    return {
        "embed_dim": text.projection_size,
        "init_logit_bias": -10,
        "vision_cfg": {
            "image_size": vision.image_size,
            "timm_model_name": timm_name,
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            "context_length": text.max_position_embeddings,
            "vocab_size": text.vocab_size,
            "hf_tokenizer_name": "timm/of-this-test",
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "width": text.hidden_size,
            "heads": text.num_attention_heads,
            "layers": text.num_hidden_layers,
            "mlp_ratio": text.intermediate_size / text.hidden_size,
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "norm_kwargs": {"eps": text.layer_norm_eps},
            **tanh,
        },
    }
