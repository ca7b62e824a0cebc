"""Train the demo's picture and text towers: a small CLIP of the usual architecture, on a budget of minutes.

Learning rate, resolution, difficulty and the share of scenes follow the *time* spent, so that the schedule ends when
the budget does, however busy the machine is. A run that is stopped continues from its last checkpoint.

The work is shared by processes of one thread each, which meet once a step to average their gradients: on a machine
that is busy with other things, threads that meet hundreds of times a step would mostly wait for each other.
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
import torch.distributed as dist
import torch.multiprocessing
import torch.nn.functional as F
from captions import CONTEXT, corpus, short_caption, sound_caption, train_tokenizer
from catalogue import add_folders, concepts, sounds
from compose import MEAN, STD, Batch, Composer
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

SPACE = "arrowlens-demo-1"
DIMENSION = 512
SIZES = ((0.0, 40), (0.5, 56))  # from this share of the time on: the pictures' side
BATCH_CONCEPTS, SCENES = 64, 64
NAMES, CAPTIONS, SOUND_CAPTIONS = 64, 96, 24
TEXT_EVERY = 2  # steps; the words are learnt quickly, the pictures slowly
EASY, HARD = 0.15, 0.65  # how far the pictures are varied, at the beginning and later on
SOUND_SCALE = 20.0
MUON_RATE, ADAM_RATE = 3e-3, 1e-3
APART_FROM, APART_SCALE = 0.5, 30.0  # share of the time; steepness of the loss that makes scores comparable
WEIGHTS = {"pictures": 1.0, "names": 0.3, "captions": 0.3, "pairs": 0.5, "apart": 0.4, "sounds": 0.3}


def anchors(kinds: int) -> Tensor:
    """Fixed, mutually orthogonal directions (kinds, 512), where the words for each kind of sound shall lie."""
    generator = torch.Generator().manual_seed(512)
    square: Tensor = torch.linalg.qr(torch.randn(DIMENSION, DIMENSION, generator=generator))[0]
    return square[:kinds]


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
    config = CLIPConfig(  # type: ignore[call-arg]
        text_config=text, vision_config=vision, projection_dim=DIMENSION, attn_implementation="eager"
    )
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

    def __init__(self, options: argparse.Namespace, rank: int = 0) -> None:
        self.options, self.rank = options, rank
        self.rng = random.Random(options.seed)
        torch.manual_seed(options.seed)
        self.concepts, self.kinds = concepts(options.npm), sounds()
        tokenizer = train_tokenizer(corpus(self.concepts, self.kinds), options.work / f"tokenizer{rank}")
        self.model = build(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id)
        for layer in (*self.model.vision_model.encoder.layers, *self.model.text_model.encoder.layers):
            layer.mlp.activation_fn = FusedQuickGelu()
        self.towers = Towers(self.model, tokenizer)
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.anchors = anchors(len(self.kinds))
        # one direction for each concept, learnt along: both towers are drawn to it, which needs no large batches
        self.prototypes = nn.Parameter(0.1 * torch.randn(len(self.concepts), DIMENSION))
        self.optimisers = self._optimisers()
        self.step, self.elapsed = 0, 0.0
        if (options.work / "clip.pt").exists():
            self._resume()
        seed = options.seed + 1000 * (self.step + 1) + rank
        self.composer = Composer(options.work / "sprites.npz", self.concepts, seed)
        self.rng.seed(seed)

    def _optimisers(self) -> list[torch.optim.Optimizer]:
        hidden, others, plain = [], [], [self.prototypes]
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
        return min(1.0, self.elapsed / (60 * float(self.options.minutes)))

    def _set_rate(self) -> None:
        cosine = 0.5 * (1 + math.cos(math.pi * self.share))
        for optimiser, peak in zip(self.optimisers, (MUON_RATE, ADAM_RATE), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = peak * min(1.0, (self.step + 1) / 100) * max(0.01, cosine)
        with torch.no_grad():  # a sharp softmax too early stops the learning
            self.model.logit_scale.clamp_(max=math.log(20 + 60 * self.share))

    def _batch(self) -> Batch:
        """Pictures of one concept each, every concept in two styles, then scenes."""
        share, count, parts = self.share, len(self.concepts), self.options.processes
        strength = min(HARD, EASY + 1.5 * share)
        scenes = 2 * round(SCENES / parts / 2 * min(1.0, max(0.0, (share - 0.3) / 0.2)))
        chosen = self.rng.sample(range(count), BATCH_CONCEPTS // parts - scenes // 2)
        plans = self.composer.singles(chosen, 2, strength)
        for _ in range(scenes):
            plans.append(self.composer.plan_scene(self.rng.sample(range(count), self.rng.choice((2, 2, 3)))))
        size = next(side for start, side in reversed(SIZES) if share >= start)
        return self.composer.draw(plans, size, strength)

    def _towards(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """The softmax loss of vectors over the concepts' directions."""
        bank = F.normalize(self.prototypes, dim=-1)
        return -(targets * F.log_softmax(self.model.logit_scale.exp() * vectors @ bank.T, 1)).sum(1).mean()

    def _loss(self) -> dict[str, Tensor]:
        batch = self._batch()
        pictures = self.towers.pictures(batch.pixels)
        losses = {"pictures": self._towards(pictures, batch.targets)}
        if self.step % TEXT_EVERY == 0:
            losses |= self._text_losses(batch, pictures)
        with torch.no_grad():
            single = batch.targets.amax(1) > 0.99
            best = (pictures @ F.normalize(self.prototypes, dim=-1).T).argmax(1)
            losses["right"] = (best == batch.targets.argmax(1))[single].float().mean()
        return losses

    def _text_losses(self, batch: Batch, pictures: Tensor) -> dict[str, Tensor]:
        """Names and captions to the concepts' directions, sounds' words to theirs, captions to their pictures."""
        parts = self.options.processes
        named = self.rng.sample(range(len(self.concepts)), NAMES // parts)
        names = [short_caption(self.concepts[index], self.rng) for index in named]
        kinds = self.rng.choices(range(len(self.kinds)), k=SOUND_CAPTIONS // parts)
        phrases = list(self.kinds.values())
        heard = [sound_caption(phrases[kind], self.rng) for kind in kinds]
        count = CAPTIONS // parts  # of the last pictures: scenes, as soon as there are any
        captions, shares = batch.captions[-count:], batch.targets[-count:]
        texts = self.towers.texts(names + heard + captions)
        name_texts, heard_texts, caption_texts = texts.split([len(names), len(heard), count])  # type: ignore[no-untyped-call]
        cosines = pictures @ caption_texts.T
        apart = {} if self.share < APART_FROM else {"apart": self._apart(cosines, batch.targets)}
        return apart | {
            "names": self._towards(name_texts, torch.eye(len(self.concepts))[named]),
            "captions": self._towards(caption_texts, shares),
            "pairs": self._contrast(self.model.logit_scale.exp() * cosines[-count:], shares),
            "sounds": F.cross_entropy(SOUND_SCALE * heard_texts @ self.anchors.T, torch.tensor(kinds)),
        }

    @staticmethod
    def _contrast(logits: Tensor, targets: Tensor) -> Tensor:
        """The contrastive loss over the batch; another picture of just the same concepts is no negative."""
        same = (targets[:, None] - targets[None, :]).abs().sum(-1) < 1e-6
        logits = logits.masked_fill(same & ~torch.eye(len(targets), dtype=torch.bool), -1e4)
        diagonal = torch.arange(len(targets))
        return (F.cross_entropy(logits, diagonal) + F.cross_entropy(logits.T, diagonal)) / 2

    @staticmethod
    def _apart(cosines: Tensor, targets: Tensor) -> Tensor:
        """Every matching pair above every other pair of the batch, whichever text or picture that belongs to.

        The contrastive loss compares within one row or column and leaves each text a level of its own; this one makes
        scores of different texts comparable. `cosines` (n, m): the captions are those of the last m pictures. A picture
        that shares a concept with the caption is neither a match nor a counterexample.
        """
        count = cosines.shape[1]
        unrelated = (targets @ targets[-count:].T) == 0
        others = (APART_SCALE * cosines).masked_fill(~unrelated, -1e4).logsumexp((0, 1))
        matching = APART_SCALE * cosines[-count:].diagonal()
        return F.softplus(others - matching).mean()

    def train_step(self) -> dict[str, float]:
        """One step; returns the losses."""
        started = time.monotonic()
        self._set_rate()
        losses = self._loss()
        total = sum((weight * losses[name] for name, weight in WEIGHTS.items() if name in losses), torch.zeros(()))
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        self._meet()
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

    def _meet(self) -> None:
        """Average the gradients and the clocks of the processes."""
        if self.options.processes == 1:
            return
        gradients = [
            parameter.grad for parameter in (self.prototypes, *self.model.parameters()) if parameter.grad is not None
        ]
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), torch.tensor([self.elapsed])])
        dist.all_reduce(flat)
        flat /= self.options.processes
        self.elapsed = flat[-1].item()
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, part in zip(gradients, flat[:-1].split(sizes), strict=True):  # type: ignore[no-untyped-call]
            gradient.copy_(part.view_as(gradient))

    def save(self) -> None:
        """A checkpoint to resume from, and the averaged weights as a Hugging Face checkpoint."""
        state = {
            "model": self.model.state_dict(), "average": self.average, "prototypes": self.prototypes.detach(),
            "step": self.step, "elapsed": self.elapsed,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
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
        self.average = state["average"]
        self.prototypes.data = state["prototypes"]
        self.step, self.elapsed = state["step"], state["elapsed"]
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)

    def run(self) -> None:
        """Train until the time is spent."""
        saved, sums = self.elapsed, dict[str, tuple[float, int]]()
        while self.share < 1:
            for name, value in self.train_step().items():
                total, count = sums.get(name, (0.0, 0))
                sums[name] = (total + value, count + 1)
            if self.rank > 0:
                continue
            if self.step % 50 == 0:
                shown = " ".join(f"{name} {total / count:.3f}" for name, (total, count) in sums.items())
                scale = self.model.logit_scale.exp().item()
                print(f"{self.step} {self.elapsed / 60:.1f} min {shown} scale {scale:.1f}", flush=True)
                sums = {}
            if self.elapsed - saved > 60 * self.options.every:
                self.save()
                saved = self.elapsed
        if self.rank == 0:
            self.save()


def work(rank: int, options: argparse.Namespace) -> None:
    """One of the processes."""
    torch.set_num_threads(1)
    if options.processes > 1:
        meeting = f"file://{(options.work / 'meeting').resolve()}"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=options.processes)
    Trainer(options, rank).run()


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_folders(parser, work=True)
    parser.add_argument("--output", type=Path, required=True, help="folder for the Hugging Face checkpoint")
    parser.add_argument("--minutes", type=float, default=100)
    parser.add_argument("--every", type=float, default=4, help="minutes between checkpoints")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    (options.work / "meeting").unlink(missing_ok=True)
    if options.processes == 1:
        work(0, options)
    else:
        torch.multiprocessing.spawn(work, (options,), nprocs=options.processes)  # type: ignore[attr-defined, no-untyped-call]


if __name__ == "__main__":
    main()
