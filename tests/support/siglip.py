"""Random SigLIP checkpoints on disk, made by transformers, with small tokenizers of the kinds that they have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from tests.support.checkpoints import TINY_TOWER, perturb, save
from tests.support.languages import TEXTS

VOCABULARY = 2048  # rows of token tables
BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
BICUBIC, BILINEAR = 3, 2  # PIL's numbers
_GEMMA_SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]


def siglip_model(
    vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, *, seed: int = 0
) -> transformers.SiglipModel:
    """A SiglipModel with perturbed weights; tiny unless told otherwise."""
    vision_config = {**TINY_TOWER, "image_size": 32, "patch_size": 8, **(vision or {})}
    ends = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    sizes = {**TINY_TOWER, "vocab_size": VOCABULARY, "max_position_embeddings": 64}
    text_config = {**sizes, **ends, **(text or {})}
    config = transformers.SiglipConfig(vision_config=vision_config, text_config=text_config)
    return perturb(transformers.SiglipModel(config), seed).eval()


def siglip_checkpoint(
    directory: Path,
    vision: dict[str, Any] | None = None,
    text: dict[str, Any] | None = None,
    *,
    seed: int = 0,
    tokenizer: str = "Siglip2Tokenizer",
    padding_side: str = "right",
    resample: int = BILINEAR,
    as_bin: bool = False,
) -> Path:
    """A SigLIP checkpoint folder: weights, config, tokenizer and preprocessor_config.

    Args:
        vision, text: overrides of the towers' configurations (transformers' names).
        tokenizer: a class of transformers: ``Siglip2Tokenizer``, ``GemmaTokenizer`` or ``SiglipTokenizer``.
        padding_side: as tokenizer_config.json states it.
        resample: PIL's number.
        as_bin: pytorch_model.bin instead of safetensors.
    """
    model = siglip_model(vision, text, seed=seed)
    save(model, directory, None, as_bin)
    side = model.config.vision_config.image_size
    size = {"height": side, "width": side}
    transformers.SiglipImageProcessorPil(size=size, resample=resample).save_pretrained(directory)
    if tokenizer == "SiglipTokenizer":
        sentencepiece_tokenizer(directory, padding_side)
    else:
        gemma_tokenizer(tokenizer, padding_side).save_pretrained(directory)
    return directory


def gemma_tokenizer(
    kind: str = "Siglip2Tokenizer", padding_side: str = "right"
) -> transformers.PreTrainedTokenizerBase:
    """Byte-pair merges with bytes for unknown letters, as Gemma has them, trained on twenty languages."""
    vocabulary, merges = _gemma_vocabulary()
    return getattr(transformers, kind)(
        dict(vocabulary), list(merges), padding_side=padding_side, add_bos_token=False, add_eos_token=True
    )


def sentencepiece_tokenizer(directory: Path, padding_side: str = "right") -> transformers.SiglipTokenizer:
    """A Unigram model of SentencePiece, as SigLIP's is, trained on twenty languages; saved to the folder too."""
    directory.mkdir(parents=True, exist_ok=True)
    corpus, prefix = directory.with_suffix(".txt"), directory / "trained"
    corpus.write_text("\n".join([*TEXTS, *map(str.lower, TEXTS)]), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(prefix),
        model_type="unigram",
        vocab_size=900,
        character_coverage=0.99,  # so that some letters are unknown
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    tokenizer = transformers.SiglipTokenizer(f"{prefix}.model", padding_side=padding_side)
    tokenizer.save_pretrained(directory)
    for made in (corpus, prefix.with_suffix(".model"), prefix.with_suffix(".vocab")):
        made.unlink()
    return tokenizer


class SiglipReference:
    """transformers' SiglipModel with the checkpoint's own preprocessing and tokenizer."""

    def __init__(self, checkpoint: Path) -> None:
        self.model = transformers.SiglipModel.from_pretrained(checkpoint).float().eval()
        self.processor = transformers.SiglipImageProcessorPil.from_pretrained(checkpoint)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)

    def pixels(self, images: Sequence[Image.Image] | np.ndarray) -> torch.Tensor:
        """(n, 3, size, size)."""
        pil = [image if isinstance(image, Image.Image) else Image.fromarray(image) for image in images]
        return self.processor(pil, return_tensors="pt")["pixel_values"]

    def ids(self, texts: Sequence[str]) -> torch.Tensor:
        """(n, 64) int64."""
        length = self.model.config.text_config.max_position_embeddings
        encoded = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        return encoded["input_ids"]

    @torch.inference_mode()
    def images(self, images: Sequence[Image.Image] | np.ndarray) -> np.ndarray:
        """(n, dimension)."""
        return self.model.get_image_features(pixel_values=self.pixels(images)).pooler_output.numpy()

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dimension)."""
        return self.model.get_text_features(input_ids=self.ids(texts)).pooler_output.numpy()


@cache
def _gemma_vocabulary() -> tuple[tuple[tuple[str, int], ...], tuple[tuple[str, str], ...]]:
    tokenizer = Tokenizer(BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    a_byte_each = [f"<0x{value:02X}>" for value in range(256)]
    trainer = BpeTrainer(
        vocab_size=1500, special_tokens=[*_GEMMA_SPECIAL, *a_byte_each], limit_alphabet=300, show_progress=False
    )
    tokenizer.train_from_iterator([*TEXTS, *map(str.lower, TEXTS)], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return tuple(model["vocab"].items()), tuple((left, right) for left, right in model["merges"])
