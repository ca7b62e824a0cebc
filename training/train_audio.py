"""Train the demo's sound encoder: a small Whisper-architecture encoder into the space of the demo's text tower.

Both are trained towards the same fixed directions, one for each kind of sound (`train_clip.anchors`): the text tower
with the words for the kind, this encoder with recordings of it. So neither has to wait for the other. The dimensions
that are left over tell recordings of the same kinds apart: two windows of one recording, cut at different moments,
attract each other, those of different recordings do not.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from catalogue import add_folders, sounds
from make_audio_pool import HOP, MELS, WINDOW
from torch import Tensor, nn
from train_clip import DIMENSION, SPACE, anchors
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForAudioClassification

PER_KIND = 2
SHORTEST, USUAL, LONGEST = 100, 400, 1000  # frames of 10 ms
RECORDINGS = 32  # in a batch of windows of recordings, two windows of each
RECORDINGS_SHARE = 0.6  # of the batches
SCALE = 20.0
MUON_RATE, ADAM_RATE = 6e-3, 1.2e-3


def build(kinds: list[str]) -> WhisperForAudioClassification:
    """An untrained model; of the decoder's settings none is used."""
    config = WhisperConfig(  # type: ignore[call-arg]
        vocab_size=64, num_mel_bins=MELS, d_model=128, encoder_layers=4, encoder_attention_heads=2,
        encoder_ffn_dim=512, decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=128,
        max_source_positions=1500, max_target_positions=8, classifier_proj_size=DIMENSION,
        use_weighted_layer_sum=False, id2label=dict(enumerate(kinds)), label2id={k: i for i, k in enumerate(kinds)},
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, begin_suppress_tokens=None,
        dropout=0.0, attn_implementation="eager",
    )  # fmt: skip
    config.arrowlens_space = SPACE
    return WhisperForAudioClassification(config)


def embed(model: WhisperForAudioClassification, mels: Tensor) -> Tensor:
    """(n, frames, 80) normalised log-mel -> (n, 512) unit vectors, with the positions cut to the frames there are."""
    encoder = model.encoder
    states = F.gelu(encoder.conv1(mels.transpose(1, 2)))
    states = F.gelu(encoder.conv2(states)).transpose(1, 2)
    states = states + encoder.embed_positions.weight[: states.shape[1]]
    for layer in encoder.layers:
        output = layer(states, None)
        states = output[0] if isinstance(output, tuple) else output
    projected = model.projector(encoder.layer_norm(states))
    return F.normalize(projected.float().mean(1), dim=-1)


@dataclasses.dataclass(frozen=True)
class Batch:
    """What one step learns from."""

    mels: Tensor
    """Normalised log-mel, (n, frames, 80)."""
    shares: Tensor
    """How much of each is of which kind, (n, kinds); rows sum to 1."""
    groups: Tensor
    """Those of one group, (n,), shall be alike: of one kind, or windows of one recording."""
    contrast: float
    """The weight of that."""
    scale: float
    """The inverse temperature of that."""


class Clips:
    """Batches of augmented log-mel from the pool."""

    def __init__(self, path: Path, seed: int) -> None:
        table = np.load(path)
        self.frames, self.starts, self.kind = table["frames"], table["starts"], table["kind"]
        self.by_kind = [np.nonzero(self.kind == kind)[0] for kind in range(int(self.kind.max()) + 1)]
        self.rng = np.random.default_rng(seed)

    def _cut(self, kind: int, length: int) -> np.ndarray:
        """`length` frames of a kind: a part of one clip, or of several one after the other."""
        pieces, missing = [], length
        while missing > 0:
            index = self.rng.choice(self.by_kind[kind])
            start, stop = self.starts[index], self.starts[index + 1]
            offset = int(self.rng.integers(0, max(1, stop - start - missing + 1)))
            pieces.append(self.frames[start + offset : min(stop, start + offset + missing)])
            missing -= len(pieces[-1])
        return np.concatenate(pieces).astype(np.float32)

    def batch(self) -> Batch:
        """Clips of single kinds, or windows of recordings of several."""
        return self._windows() if self.rng.random() < RECORDINGS_SHARE else self._kinds()

    def _kinds(self) -> Batch:
        """Every kind twice, all of one length."""
        long = self.rng.random() < 0.12
        length = int(self.rng.integers(USUAL, LONGEST) if long else self.rng.integers(SHORTEST, USUAL))
        kinds = np.repeat(np.arange(len(self.by_kind)), 1 if long else PER_KIND)
        if long:
            kinds = np.repeat(self.rng.choice(kinds, len(kinds) // 2, replace=False), 2)
        mels = torch.from_numpy(np.stack([self._cut(int(kind), length) for kind in kinds]))
        groups = torch.from_numpy(kinds)
        return Batch(self._augment(mels), F.one_hot(groups, len(self.by_kind)).float(), groups, 0.3, 10.0)

    def _windows(self) -> Batch:
        """Two windows of every recording, the later one begun 5 to 30 % of a window later; few kinds, so that many
        recordings are alike."""
        length = int(self.rng.integers(SHORTEST * 4, LONGEST))
        later = int(length * self.rng.uniform(0.05, 0.3))
        present = self.rng.choice(len(self.by_kind), int(self.rng.integers(4, len(self.by_kind))), replace=False)
        mels, shares = [], []
        for _ in range(RECORDINGS):
            frames, kinds = self._recording(present, length + later)
            for start in (0, later):
                mels.append(frames[start : start + length])
                shares.append(np.bincount(kinds[start : start + length], minlength=len(self.by_kind)) / length)
        stacked, groups = torch.from_numpy(np.stack(mels)), torch.arange(RECORDINGS).repeat_interleave(2)
        mels_now = self._augment(stacked) if self.rng.random() < 0.3 else _normalised(stacked)
        return Batch(mels_now, torch.from_numpy(np.stack(shares)).float(), groups, 1.0, 30.0)

    def _recording(self, present: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Parts of 1 to 6 s one after another, up to 12 dB apart, over low noise: frames and the kind of each."""
        mels, kinds, missing = [], [], length
        while missing > 0:
            kind, part = int(self.rng.choice(present)), min(missing, int(self.rng.integers(SHORTEST, 6 * SHORTEST)))
            mel = self._cut(kind, part)
            mels.append(mel - mel.max() - self.rng.uniform(0, 1.2))
            kinds.append(np.full(part, kind))
            missing -= part
        noise = self.rng.uniform(-7, -3.5) + 0.25 * self.rng.standard_normal((length, MELS))
        return np.log10(10 ** np.concatenate(mels) + 10**noise).astype(np.float32), np.concatenate(kinds)

    def _augment(self, mels: Tensor) -> Tensor:
        """Mix quietly with another clip, tilt the spectrum, change the level, normalise, hide bands and moments."""
        count, length, bins = mels.shape

        def draw(*shape: int) -> Tensor:
            return torch.from_numpy(self.rng.random(shape).astype(np.float32))

        loudness = mels.amax((1, 2), keepdim=True)
        order = torch.from_numpy(self.rng.permutation(count))
        quiet = mels[order] - loudness[order] + loudness - (1.0 + 2.5 * draw(count, 1, 1))
        mixed = torch.log10(10**mels + 10**quiet)
        mels = torch.where(draw(count, 1, 1) < 0.3, mixed, mels)
        tilt = (draw(count, 1, 1) - 0.5) * torch.linspace(-1, 1, bins) * 1.2
        mels = mels + tilt + (draw(count, 1, 1) - 0.5)
        shift = torch.from_numpy(self.rng.integers(-2, 3, count))
        columns = (torch.arange(bins)[None, :] + shift[:, None]).clamp(0, bins - 1)
        mels = mels.gather(2, columns[:, None, :].expand(-1, length, -1))
        mels = _normalised(mels)
        floor = mels.amin((1, 2), keepdim=True)
        first, width = draw(count, 1) * bins, draw(count, 1) * 14
        hidden = (torch.arange(bins) >= first) & (torch.arange(bins) < first + width)
        start, span = draw(count, 1) * length, draw(count, 1) * length * 0.2
        paused = (torch.arange(length) >= start) & (torch.arange(length) < start + span)
        return torch.where(hidden[:, None, :] | paused[:, :, None], floor, mels)


def _normalised(mels: Tensor) -> Tensor:
    """Whisper's normalisation, each at most 8 below its own maximum."""
    return (torch.maximum(mels, mels.amax((1, 2), keepdim=True) - 8) + 4) / 4


def losses(vectors: Tensor, batch: Batch, targets: Tensor) -> Tensor:
    """Towards the directions of the kinds that are heard, and those of a group together."""
    aligned = F.cross_entropy(SCALE * vectors @ targets.T, batch.shares)
    itself = torch.eye(len(vectors), dtype=torch.bool)
    same = (batch.groups[:, None] == batch.groups[None, :]) & ~itself
    logits = batch.scale * vectors @ vectors.T - 1e4 * itself.float()
    together = -(logits.log_softmax(1) * same).sum(1) / same.sum(1).clamp(min=1)
    return aligned + batch.contrast * together.mean()


class Trainer:
    """Model, optimisers, average of the weights, and the clock."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        torch.manual_seed(options.seed)
        self.clips = Clips(options.work / "sounds.npz", options.seed)
        kinds = list(sounds())
        self.model, self.targets = build(kinds), anchors(len(kinds))
        self.model.encoder.embed_positions.requires_grad_(False)
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        named = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        hidden = [p for n, p in named if ".layers." in n and p.ndim == 2]
        others = [p for n, p in named if not (".layers." in n and p.ndim == 2)]
        self.optimisers = [
            torch.optim.Muon(hidden, lr=MUON_RATE, weight_decay=0.02, adjust_lr_fn="match_rms_adamw", ns_steps=4),
            torch.optim.AdamW(others, lr=ADAM_RATE, weight_decay=0.01, betas=(0.9, 0.98)),
        ]
        self.step, self.elapsed = 0, 0.0
        if self._checkpoint.exists():
            self._resume()
            self.clips.rng = np.random.default_rng([options.seed, self.step])

    @property
    def _checkpoint(self) -> Path:
        return Path(self.options.work) / "audio.pt"

    def train_step(self) -> float:
        """One step; returns the loss."""
        started = time.monotonic()
        share = min(1.0, self.elapsed / (60 * self.options.minutes))
        for optimiser, peak in zip(self.optimisers, (MUON_RATE, ADAM_RATE), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = peak * min(1, (self.step + 1) / 100) * max(0.01, 0.5 * (1 + math.cos(math.pi * share)))
            optimiser.zero_grad(set_to_none=True)
        batch = self.clips.batch()
        with torch.autocast("cpu", torch.bfloat16):
            vectors = embed(self.model, batch.mels)
        loss = losses(vectors, batch, self.targets)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
        for optimiser in self.optimisers:
            optimiser.step()
        keep = min(0.998, (1 + self.step) / (20 + self.step))
        for name, value in self.model.state_dict().items():
            self.average[name].lerp_(value, 1 - keep)
        self.step += 1
        self.elapsed += time.monotonic() - started
        return loss.item()

    def save(self) -> None:
        """A checkpoint to resume from, and the averaged weights as a Hugging Face checkpoint."""
        state = {
            "model": self.model.state_dict(), "average": self.average, "step": self.step, "elapsed": self.elapsed,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }  # fmt: skip
        torch.save(state, self._checkpoint.with_suffix(".tmp"))
        self._checkpoint.with_suffix(".tmp").replace(self._checkpoint)
        self.export()

    def _resume(self) -> None:
        state = torch.load(self._checkpoint, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average, self.step, self.elapsed = state["average"], state["step"], state["elapsed"]
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)

    def export(self) -> None:
        """Write the averaged weights and the preprocessing in Hugging Face's layout."""
        folder = self.options.output
        current = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        self.model.save_pretrained(folder)
        self.model.load_state_dict(current)
        WhisperFeatureExtractor(  # type: ignore[no-untyped-call]
            feature_size=MELS, hop_length=HOP, n_fft=WINDOW
        ).save_pretrained(folder)

    def run(self) -> None:
        """Train until the time is spent."""
        total, saved = 0.0, self.elapsed
        while self.elapsed < 60 * self.options.minutes:
            total += self.train_step()
            if self.step % 50 == 0:
                print(f"{self.step} {self.elapsed / 60:.1f} min loss {total / 50:.3f}", flush=True)
                total = 0.0
            if self.elapsed - saved > 60 * self.options.every:
                self.save()
                saved = self.elapsed
        self.save()


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_folders(parser, work=True)
    parser.add_argument("--output", type=Path, required=True, help="folder for the Hugging Face checkpoint")
    parser.add_argument("--minutes", type=float, default=39)
    parser.add_argument("--every", type=float, default=3, help="minutes between checkpoints")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    Trainer(options).run()


if __name__ == "__main__":
    main()
