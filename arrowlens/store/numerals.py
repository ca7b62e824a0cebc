"""Number words from 0 to 100 in English, German, French and Spanish, and the numerals that they stand for."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

# From zero on, without accents, and the tens from twenty on (in Spanish from thirty on).
_ENGLISH = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_ENGLISH_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_GERMAN = (
    "null eins zwei drei vier funf sechs sieben acht neun zehn elf zwolf dreizehn vierzehn funfzehn sechzehn siebzehn "
    "achtzehn neunzehn"
)
_GERMAN_TENS = "zwanzig dreissig vierzig funfzig sechzig siebzig achtzig neunzig"
_FRENCH = (
    "zero un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept dix-huit "
    "dix-neuf"
)
_FRENCH_TENS = "vingt trente quarante cinquante soixante soixante quatre-vingt quatre-vingt"
_SPANISH = (
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciseis diecisiete "
    "dieciocho diecinueve veinte veintiuno veintidos veintitres veinticuatro veinticinco veintiseis veintisiete "
    "veintiocho veintinueve"
)
_SPANISH_TENS = "treinta cuarenta cincuenta sesenta setenta ochenta noventa"
_HUNDREDS = ("hundred", "one hundred", "hundert", "einhundert", "cent", "cien")


def numerals_in(words: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Find the number words in a text, the longest first: of "twenty one" it is 21.

    Args:
        words: of the text in their order, in one case and without accents.

    Yields:
        (start, stop, numeral): ``words[start:stop]`` stand for the numeral, "0" to "100".
    """
    spelled, longest = _spelled()
    start = 0
    while start < len(words):
        for stop in range(min(start + longest, len(words)), start, -1):
            numeral = spelled.get(tuple(words[start:stop]))
            if numeral is not None:
                yield start, stop, numeral
                start = stop - 1
                break
        start += 1


@functools.cache
def _spelled() -> tuple[dict[tuple[str, ...], str], int]:
    """Numerals by their words, and the most words of one."""
    pairs = [*_english(), *_german(), *_french(), *_spanish(), *((words, 100) for words in _HUNDREDS)]
    spelled = {tuple(words.replace("-", " ").split()): str(number) for words, number in pairs}
    return spelled, max(map(len, spelled))


def _english() -> Iterator[tuple[str, int]]:
    yield from _numbered(_ENGLISH)
    for ten, word in enumerate(_ENGLISH_TENS.split(), 2):
        yield word, 10 * ten
        for one in range(1, 10):
            yield f"{word} {_ENGLISH.split()[one]}", 10 * ten + one


def _german() -> Iterator[tuple[str, int]]:
    for words, number in [*_numbered(_GERMAN), *_german_tens()]:
        yield words, number
        yield words.replace("funf", "fuenf").replace("zwolf", "zwoelf"), number  # as people write them without umlauts


def _german_tens() -> Iterator[tuple[str, int]]:
    for ten, word in enumerate(_GERMAN_TENS.split(), 2):
        yield word, 10 * ten
        for one in range(1, 10):
            yield f"{'ein' if one == 1 else _GERMAN.split()[one]}und{word}", 10 * ten + one


def _french() -> Iterator[tuple[str, int]]:
    yield from _numbered(_FRENCH)
    for ten, word in enumerate(_FRENCH_TENS.split(), 2):
        goes_on = ten in (7, 9)  # soixante-dix, quatre-vingt-dix
        if not goes_on:
            yield word, 10 * ten
        for one in range(0 if goes_on else 1, 10):
            rest = _FRENCH.split()[one + 10 * goes_on]
            yield f"{word} {rest}", 10 * ten + one
            if one == 1:
                yield f"{word} et {rest}", 10 * ten + one
    yield "quatre vingts", 80


def _spanish() -> Iterator[tuple[str, int]]:
    yield from _numbered(_SPANISH)
    for ten, word in enumerate(_SPANISH_TENS.split(), 3):
        yield word, 10 * ten
        for one in range(1, 10):
            yield f"{word} y {_SPANISH.split()[one]}", 10 * ten + one


def _numbered(words: str) -> Iterator[tuple[str, int]]:
    """Each word with its position."""
    return ((word, number) for number, word in enumerate(words.split()))
