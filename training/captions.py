"""Captions for pictures and sounds, and the tokenizer that is trained on them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from catalogue import Concept, plural, with_article
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
CONTEXT = 48
VOCABULARY = 2048
COLOURS = {
    "white": (245, 245, 245), "grey": (150, 150, 150), "black": (25, 25, 25), "red": (215, 45, 45),
    "orange": (240, 145, 40), "yellow": (245, 215, 60), "green": (70, 165, 75), "blue": (60, 105, 215),
    "light blue": (150, 205, 245), "purple": (140, 75, 185), "pink": (245, 155, 190), "brown": (130, 85, 50),
    "turquoise": (65, 190, 185), "beige": (230, 215, 180),
}  # fmt: skip
NUMBERS = {1: "one", 2: "two", 3: "three"}
SINGLE = ("{a}", "{n}", "{a}", "{n}", "a picture of {a}", "a drawing of {a}", "the {n}", "an image of {a}", "{a} {bg}")
SHORT = ("{a}", "{n}", "{a}", "{n}", "a picture of {a}", "a drawing of {a}")
SOUND = ("{s}", "{s}", "{s}", "the sound of {s}", "a recording of {s}", "{s} in the distance", "the noise of {s}")


def word_for(concept: Concept, rng: random.Random) -> str:
    """The concept's name, or now and then another word for it."""
    if concept.words and rng.random() < 0.4:
        return rng.choice(concept.words)
    return concept.name


def short_caption(concept: Concept, rng: random.Random) -> str:
    """A few words for one concept."""
    name = word_for(concept, rng)
    return rng.choice(SHORT).format(a=with_article(name), n=name)


def background_phrase(background: str, rng: random.Random) -> str:
    """`on a blue background`, `against orange`."""
    return rng.choice((f"on {with_article(background)} background", f"on {background}", f"in front of {background}"))


def picture_caption(
    parts: Sequence[tuple[Concept, int, str | None]], background: str | None, rng: random.Random
) -> str:
    """A caption naming concepts, their counts and colours, and the background where one is given.

    Args:
        parts: a concept, how often it is seen (1-3), and the colour it was tinted with.
        background: the name of the background's colour.
        rng: source of randomness.
    """
    names = []
    for concept, count, tint in parts:
        name = word_for(concept, rng)
        coloured = f"{tint} {name}" if tint else name
        names.append(with_article(coloured) if count == 1 else f"{NUMBERS[count]} {plural(coloured)}")
        if tint and count == 1 and with_article(name) == name:
            names[-1] = coloured
    rng.shuffle(names)
    text = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    if len(parts) == 1 and parts[0][1] == 1 and not background and rng.random() < 0.4:
        return short_caption(parts[0][0], rng) if parts[0][2] is None else text
    if rng.random() < 0.2:
        text = rng.choice(("a picture of ", "a drawing of ", "an image of ")) + text
    return f"{text} {background_phrase(background, rng)}" if background else text


def sound_caption(phrases: Sequence[str], rng: random.Random) -> str:
    """A caption for a sound: one of its phrases, with or without its article."""
    phrase = rng.choice(list(phrases))
    if rng.random() < 0.25:
        phrase = phrase.removeprefix("a ").removeprefix("an ")
    return rng.choice(SOUND).format(s=phrase)


def corpus(catalogue: Sequence[Concept], kinds: dict[str, tuple[str, ...]], seed: int = 7) -> Iterator[str]:
    """Captions to train the tokenizer on."""
    rng = random.Random(seed)
    for _ in range(20000):
        count = rng.choice((1, 1, 2, 3))
        chosen = rng.sample(list(catalogue), count)
        tints = [rng.choice((None, *COLOURS)) for _ in chosen]
        parts = [(concept, rng.choice((1, 1, 1, 2, 3)), tint) for concept, tint in zip(chosen, tints, strict=True)]
        yield picture_caption(parts, rng.choice((None, *COLOURS)), rng)
    for phrases in kinds.values():
        for _ in range(20):
            yield sound_caption(phrases, rng)


def train_tokenizer(texts: Iterator[str], path: Path) -> PreTrainedTokenizerFast:
    """A byte-level BPE in CLIP's layout (lower case, `</w>`, bos and eos), saved at `path` as a checkpoint's."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 256, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    merges = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    entries = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(pair) for pair in merges), BOS, EOS]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(entries))}
    tokenizer.model = models.BPE(
        vocab=vocabulary, merges=merges, end_of_word_suffix="</w>", continuing_subword_prefix="", unk_token=EOS
    )
    tokenizer.add_special_tokens([BOS, EOS])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        (EOS, vocabulary[EOS]), (BOS, vocabulary[BOS]), add_prefix_space=False, trim_offsets=False
    )
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, unk_token=EOS, pad_token=EOS, model_max_length=CONTEXT
    )
    fast.save_pretrained(path)
    return fast
