"""Steps that clean a text before it is tokenized, as normalizers of a ``tokenizer.json``."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, normalizers

# Python lower-cases a capital sigma at the end of a word to another letter than elsewhere; the library does not.
LOWER_CASE = (normalizers.Replace(Regex(r"(?<=\p{L})Σ(?!\p{L})"), "ς"), normalizers.Lowercase())
UNDERSCORES = (normalizers.Replace("_", " "),)
NO_PUNCTUATION = (normalizers.Replace(Regex("[" + re.escape(string.punctuation) + "]"), ""),)
SINGLE_SPACES = (  # what Python's str.split takes for whitespace
    normalizers.Replace(Regex(r"[\s\x1c-\x1f]+"), " "),
    normalizers.Strip(),
)


def clean_before(tokenizer: Tokenizer, steps: Sequence[normalizers.Normalizer]) -> None:
    """Put steps before the normalizer that a tokenizer has."""
    given = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
    tokenizer.normalizer = normalizers.Sequence([*steps, *given])
