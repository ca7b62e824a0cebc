"""Tokenizes texts with the ``tokenizers`` library and the ``tokenizer.json`` of a model directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from arrowlens.errors import ModelLoadError, TextValidationError

TOKENIZER_NAME = "tokenizer.json"
CHUNK = 16  # texts encoded together


@dataclass(frozen=True)
class Tokens:
    """A batch of tokenized texts.

    Attributes:
        ids: (n, longest) int64.
        mask: (n, longest) bool, True where a token may be attended to.
        cut: for each text, whether it was cut.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    cut: tuple[bool, ...]

    def in_chunks(self, run: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Run texts of similar lengths together, so that there is little padding: (n, width), in the texts' order.

        Args:
            run: (texts, tokens) int64 ids and their mask -> (texts, width).
        """
        lengths = self.mask.sum(dim=1)
        order = lengths.argsort(stable=True)
        parts = []
        for rows in torch.split(order, CHUNK):
            longest = int(lengths[rows[-1]])
            parts.append(run(self.ids[rows, :longest], self.mask[rows, :longest]))
        return torch.cat(parts)[order.argsort()]


class TextTokenizer:
    """A tokenizer that adds the model's special tokens, cuts at ``max_length`` and pads.

    Args:
        data: the content of ``tokenizer.json``.
        max_length: tokens, special ones included.
        pad_id: the id of padding.
        vocab_size: the number of ids that the model knows; None turns the check off.
        fixed_length: False pads to the longest text of a batch, and the mask hides padding. True pads every text to
            ``max_length``, and padding is attended to as other tokens are.
        padding_side: ``left`` or ``right``, where padding goes.

    Raises:
        ModelLoadError: the data is not a tokenizer.
    """

    def __init__(
        self,
        data: bytes,
        max_length: int,
        pad_id: int = 0,
        vocab_size: int | None = None,
        *,
        fixed_length: bool = False,
        padding_side: str = "right",
    ) -> None:
        with _readable():
            self._tokenizer = Tokenizer.from_str(data.decode())
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(max_length)
        self._pad_id, self._vocab_size = pad_id, vocab_size
        self._fixed_length = max_length if fixed_length else None
        self._padding_side = padding_side

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokenize a batch.

        Raises:
            TextValidationError: no texts, or an element that is not a text.
            ModelLoadError: the tokenizer is not the model's, or damaged.
        """
        if isinstance(texts, str) or not texts or not all(isinstance(text, str) for text in texts):
            raise TextValidationError(f"want a list of one or more texts, got {texts!r:.80}")
        with _readable():
            encoded = self._tokenizer.encode_batch_fast(list(texts))
            longest = self._fixed_length or max(len(item.ids) for item in encoded)
            largest = max((max(item.ids, default=0) for item in encoded), default=0)
            if longest == 0 or (self._vocab_size is not None and largest >= self._vocab_size):
                raise ValueError(f"it gives no token that the model knows: {largest} of {self._vocab_size}")
        ids = torch.full((len(encoded), longest), self._pad_id, dtype=torch.int64)
        mask = torch.full((len(encoded), longest), self._fixed_length is not None, dtype=torch.bool)
        for row, item in enumerate(encoded):
            part = slice(len(item.ids)) if self._padding_side == "right" else slice(longest - len(item.ids), None)
            ids[row, part] = torch.tensor(item.ids)
            mask[row, part] = True
        return Tokens(ids, mask, tuple(bool(item.overflowing) for item in encoded))

    def part_read(self, text: str) -> str | None:
        """Return the beginning of a text that fits into ``max_length`` tokens; None when the whole text does."""
        encoded = self._tokenizer.encode(text)
        return text[: max(end for _, end in encoded.offsets)] if encoded.overflowing else None


@contextmanager
def _readable() -> Iterator[None]:
    """Translate errors of the tokenizers library: bare ``Exception``, or bare ``BaseException`` when it panics."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        detail = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ModelLoadError(f"{TOKENIZER_NAME} cannot be read ({detail}); convert the model again") from error
