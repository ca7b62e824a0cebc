"""Train the demo's picture and text towers: a small CLIP of the usual architecture, on a budget of minutes.

Learning rate, resolution, difficulty and the share of scenes follow the *time* spent, so that the schedule ends when
the budget does, however busy the machine is. A run that is stopped continues from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from captions import CONTEXT, corpus, short_caption, sound_caption, train_tokenizer
from catalogue import concepts, sounds
from compose import MEAN, STD, Batch, Composer
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

SPACE = "arrowlens-demo-1"
DIMENSION = 512
SIZES = ((0.0, 40), (0.35, 56))  # from this share of the time on: the pictures' side
BATCH_CONCEPTS, EXTRA_CONCEPTS, SCENES = 64, 48, 64
SOUND_CAPTIONS = 24
SOUND_SCALE = 20.0
MUON_RATE, ADAM_RATE = 6e-3, 1.2e-3


def anchors(kinds: int) -> Tensor:
    """Fixed, mutually orthogonal directions (kinds, 512), where the words for each kind of sound shall lie."""
    generator = torch.Generator().manual_seed(512)
    return torch.linalg.qr(torch.randn(DIMENSION, DIMENSION, generator=generator))[0][:kinds]


def build(vocabulary: int, bos: int, eos: int) -> CLIPModel:
    """An untrained model."""
    text = {
        "vocab_size": vocabulary, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3,
        "num_attention_heads": 2, "max_position_embeddings": CONTEXT, "bos_token_id": bos, "eos_token_id": eos,
        "pad_token_id": eos, "projection_dim": DIMENSION,
    }  # fmt: skip
    vision = {
        "hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 5, "num_attention_heads": 3,
        "image_size": SIZES[-1][1], "patch_size": 8, "projection_dim": DIMENSION,
    }  # fmt: skip
    # eager: on a processor the fused attention's backward pass takes almost twice as long
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=DIMENSION, attn_implementation="eager")
    config.arrowlens_space = SPACE
    return CLIPModel(config)


class FusedQuickGelu(nn.Module):
    """x * sigmoid(1.702 x), written so that its backward pass is one kernel."""

    def forward(self, states: Tensor) -> Tensor:
        """Any shape."""
        return F.silu(1.702 * states) * (1 / 1.702)


class Towers:
    """The two towers' forward passes: unit vectors of pictures and captions."""

    def __init__(self, model: CLIPModel, tokenizer: PreTrainedTokenizerFast) -> None:
        self.model, self.tokenizer = model, tokenizer

    def pictures(self, pixels: Tensor) -> Tensor:
        """(n, 3, S, S) normalised -> (n, 512)."""
        with torch.autocast("cpu", torch.bfloat16):
            pooled = self.model.vision_model(pixels, interpolate_pos_encoding=True).pooler_output
            return F.normalize(self.model.visual_projection(pooled).float(), dim=-1)

    def texts(self, texts: list[str]) -> Tensor:
        """n captions -> (n, 512)."""
        tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=CONTEXT, return_tensors="pt")
        with torch.autocast("cpu", torch.bfloat16):
            pooled = self.model.text_model(tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
            return F.normalize(self.model.text_projection(pooled).float(), dim=-1)


class Trainer:
    """Model, optimisers, average of the weights, and the clock."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.rng = random.Random(options.seed)
        torch.manual_seed(options.seed)
        self.concepts, self.kinds = concepts(options.npm), sounds()
        tokenizer = train_tokenizer(corpus(self.concepts, self.kinds), options.work / "tokenizer")
        self.model = build(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id)
        for layer in (*self.model.vision_model.encoder.layers, *self.model.text_model.encoder.layers):
            layer.mlp.activation_fn = FusedQuickGelu()
        self.towers = Towers(self.model, tokenizer)
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.anchors = anchors(len(self.kinds))
        self.bank = F.normalize(torch.randn(len(self.concepts), DIMENSION), dim=-1)
        self.optimisers = self._optimisers()
        self.step, self.elapsed = 0, 0.0
        if (options.work / "clip.pt").exists():
            self._resume()
        self.composer = Composer(options.work / "sprites.npz", self.concepts, options.seed + 1000 * (self.step + 1))
        self.rng.seed(options.seed + self.step)

    def _optimisers(self) -> list[torch.optim.Optimizer]:
        hidden, others, plain = [], [], []
        for name, parameter in self.model.named_parameters():
            if ".layers." in name and parameter.ndim == 2:
                hidden.append(parameter)
            elif parameter.ndim >= 2:
                others.append(parameter)
            else:
                plain.append(parameter)
        groups = [{"params": others, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
        muon = torch.optim.Muon(hidden, lr=MUON_RATE, weight_decay=0.02, adjust_lr_fn="match_rms_adamw", ns_steps=4)
        return [muon, torch.optim.AdamW(groups, lr=ADAM_RATE, betas=(0.9, 0.98))]

    @property
    def share(self) -> float:
        """How much of the time is spent, 0..1."""
        return min(1.0, self.elapsed / (60 * self.options.minutes))

    def _set_rate(self) -> None:
        cosine = 0.5 * (1 + math.cos(math.pi * self.share))
        for optimiser, peak in zip(self.optimisers, (MUON_RATE, ADAM_RATE), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = peak * min(1.0, (self.step + 1) / 100) * max(0.01, cosine)
        with torch.no_grad():  # a sharp softmax too early stops the learning
            self.model.logit_scale.clamp_(max=math.log(20 + 60 * self.share))

    def _batch(self) -> tuple[Batch, list[int], int]:
        """A batch, the concepts in it, and how many pictures in front show one concept in two styles."""
        share, count = self.share, len(self.concepts)
        strength = min(1.0, 0.3 + 3 * share)
        scenes = round(SCENES * min(1.0, max(0.0, (share - 0.2) / 0.2)))
        chosen = self.rng.sample(range(count), BATCH_CONCEPTS - scenes // 2)
        plans = self.composer.singles(chosen, 2, strength)
        pairs = len(plans)
        for _ in range(scenes):
            plans.append(self.composer.plan_scene(self.rng.sample(range(count), self.rng.choice((2, 2, 3)))))
        seen = sorted({concept for plan in plans for concept in plan.concepts})
        size = next(side for start, side in reversed(SIZES) if share >= start)
        return self.composer.draw(plans, size, strength), seen, pairs

    def _loss(self) -> dict[str, Tensor]:
        batch, seen, pairs = self._batch()
        scale = self.model.logit_scale.exp()
        fresh = self.rng.sample(seen, min(len(seen), BATCH_CONCEPTS))
        fresh += self.rng.sample(range(len(self.concepts)), EXTRA_CONCEPTS)
        fresh = sorted(set(fresh))
        named = [short_caption(self.concepts[index], self.rng) for index in fresh]
        kinds = self.rng.choices(range(len(self.kinds)), k=SOUND_CAPTIONS)
        phrases = list(self.kinds.values())
        heard = [sound_caption(phrases[kind], self.rng) for kind in kinds]
        texts = self.towers.texts(named + heard + batch.captions)
        pictures = self.towers.pictures(batch.pixels)
        names, heard_texts, captions = texts.split([len(named), len(heard), len(batch.captions)])
        # the words of the other concepts are those of earlier steps: negatives need not be fresh
        bank = self.bank.clone()
        bank[fresh] = names
        self.bank[fresh] = names.detach()
        every = scale * pictures @ bank.T
        losses = {"all": -(batch.targets * F.log_softmax(every, 1)).sum(1).mean()}
        back = (scale * names @ pictures.T).log_softmax(1)
        wanted = batch.targets.T[fresh]
        weight = wanted.sum(1)
        present = weight > 0
        losses["back"] = -((wanted * back).sum(1)[present] / weight[present]).mean()
        losses["pairs"] = self._contrast(scale * pictures @ captions.T, batch.targets)
        losses["styles"] = self._styles(pictures[:pairs], batch.targets[:pairs])
        losses["sounds"] = F.cross_entropy(SOUND_SCALE * heard_texts @ self.anchors.T, torch.tensor(kinds))
        return losses

    @staticmethod
    def _contrast(logits: Tensor, targets: Tensor) -> Tensor:
        """The contrastive loss over the batch; another picture of just the same concepts is no negative."""
        same = (targets @ targets.T) >= targets.square().sum(1, keepdim=True) - 1e-6
        same = (same & same.T) & ~torch.eye(len(targets), dtype=torch.bool)
        logits = logits.masked_fill(same, -1e4)
        diagonal = torch.arange(len(targets))
        return (F.cross_entropy(logits, diagonal) + F.cross_entropy(logits.T, diagonal)) / 2

    @staticmethod
    def _styles(pictures: Tensor, targets: Tensor) -> Tensor:
        """Pictures of one concept in two styles belong together."""
        logits = 10 * pictures @ pictures.T - 1e4 * torch.eye(len(pictures))
        partner = torch.arange(len(pictures)) ^ 1
        return F.cross_entropy(logits, partner)

    def train_step(self) -> dict[str, float]:
        """One step; returns the losses."""
        started = time.monotonic()
        self._set_rate()
        losses = self._loss()
        weights = {"all": 1.0, "back": 0.3, "pairs": 0.5, "styles": 0.3, "sounds": 0.4}
        total = sum((weights[name] * value for name, value in losses.items()), torch.zeros(()))
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
        for optimiser in self.optimisers:
            optimiser.step()
        keep = min(0.999, (1 + self.step) / (20 + self.step))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                self.average[name].lerp_(value, 1 - keep) if value.is_floating_point() else None
        self.step += 1
        self.elapsed += time.monotonic() - started
        return {name: value.item() for name, value in losses.items()}

    def save(self) -> None:
        """A checkpoint to resume from, and the averaged weights as a Hugging Face checkpoint."""
        state = {
            "model": self.model.state_dict(), "average": self.average, "bank": self.bank, "step": self.step,
            "elapsed": self.elapsed, "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }  # fmt: skip
        target = self.options.work / "clip.pt"
        torch.save(state, target.with_suffix(".tmp"))
        target.with_suffix(".tmp").replace(target)
        self.export(self.options.output)

    def export(self, folder: Path) -> None:
        """Write the averaged weights, the tokenizer and the preprocessing in Hugging Face's layout."""
        current = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        self.model.save_pretrained(folder)
        self.model.load_state_dict(current)
        self.towers.tokenizer.save_pretrained(folder)
        side = SIZES[-1][1]
        settings: dict[str, Any] = {
            "image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True, "do_resize": True,
            "size": {"shortest_edge": side}, "resample": 3, "do_center_crop": True,
            "crop_size": {"height": side, "width": side}, "do_rescale": True, "rescale_factor": 1 / 255,
            "do_normalize": True, "image_mean": MEAN.flatten().tolist(), "image_std": STD.flatten().tolist(),
        }  # fmt: skip
        (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")

    def _resume(self) -> None:
        state = torch.load(self.options.work / "clip.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average, self.bank = state["average"], state["bank"]
        self.step, self.elapsed = state["step"], state["elapsed"]
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)

    def run(self) -> None:
        """Train until the time is spent."""
        saved, seen, sums = self.elapsed, 0, dict[str, float]()
        while self.share < 1:
            for name, value in self.train_step().items():
                sums[name] = sums.get(name, 0.0) + value
            seen += 1
            if self.step % 50 == 0:
                shown = " ".join(f"{name} {value / seen:.3f}" for name, value in sums.items())
                scale = self.model.logit_scale.exp().item()
                print(f"{self.step} {self.elapsed / 60:.1f} min {shown} scale {scale:.1f}", flush=True)
                seen, sums = 0, {}
            if self.elapsed - saved > 60 * self.options.every:
                self.save()
                saved = self.elapsed
        self.save()


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--npm", type=Path, required=True, help="the node_modules folder with the emoji packages")
    parser.add_argument("--work", type=Path, required=True, help="folder with sprites.npz; the state is kept there")
    parser.add_argument("--output", type=Path, required=True, help="folder for the Hugging Face checkpoint")
    parser.add_argument("--minutes", type=float, default=100)
    parser.add_argument("--every", type=float, default=4, help="minutes between checkpoints")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    Trainer(options).run()


if __name__ == "__main__":
    main()
