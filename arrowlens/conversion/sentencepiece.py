"""SentencePiece's ``spiece.model`` of SigLIP becomes a tokenizer of the ``tokenizers`` library.

The file is a protocol buffer. What is needed of it is read here, so that converting needs no further package. Field
numbers: sentencepiece_model.proto of google/sentencepiece. The text's way to tokens is that of transformers'
SiglipTokenizer, quirks included.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, normalizers
from tokenizers.models import Unigram
from tokenizers.processors import TemplateProcessing

from arrowlens.conversion.cleaning import LOWER_CASE, NO_PUNCTUATION, SINGLE_SPACES
from arrowlens.errors import ConversionError

MODEL_NAME = "spiece.model"
_SPACE = "▁"  # SentencePiece's sign for a space
_UNIGRAM = 1
_UNKNOWN, _CONTROL = 2, 3  # types of pieces
_NEVER = -1e9  # the score of a piece that no text may become
# Fields of ModelProto, of SentencePiece, of TrainerSpec and of NormalizerSpec.
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_PIECE, _SCORE, _TYPE = 1, 2, 3
_MODEL_TYPE, _BYTE_FALLBACK = 3, 35
_CHARSMAP, _EXTRA_WHITESPACES = 2, 4


@dataclass(frozen=True)
class _Model:
    """``pieces`` are (text, score, type) by id; ``charsmap`` is the compiled normalisation, empty for none."""

    pieces: tuple[tuple[str, float, int], ...]
    charsmap: bytes
    removes_extra_spaces: bool
    byte_fallback: bool


def siglip_tokenizer(path: Path, end_token: str, special_tokens: tuple[str, ...], *, lower_case: bool) -> Tokenizer:
    """Build the tokenizer that transformers' SiglipTokenizer is.

    Args:
        path: the ``spiece.model``; a Unigram model.
        end_token: put after every text.
        special_tokens: found in a text before anything else is done to it; ``end_token`` is one of them.
        lower_case: whether texts are lower-cased. Punctuation is always removed.

    Raises:
        ConversionError: the file cannot be read, holds another kind of model, or lacks a special token.
    """
    model = _read(path)
    unknown = next((index for index, piece in enumerate(model.pieces) if piece[2] == _UNKNOWN), None)
    vocabulary = [(text, _NEVER if kind == _CONTROL else score) for text, score, kind in model.pieces]
    tokenizer = Tokenizer(Unigram(vocabulary, unk_id=unknown, byte_fallback=model.byte_fallback))
    tokenizer.normalizer = normalizers.Sequence(list(_normalizers(model, lower_case=lower_case)))
    missing = [token for token in special_tokens if tokenizer.token_to_id(token) is None]
    if missing:
        raise ConversionError(f"{path}: the special token {missing[0]!r} is none of its pieces; take the model's own")
    tokenizer.add_special_tokens(
        [AddedToken(token, lstrip=True, rstrip=True, normalized=False) for token in special_tokens]
    )
    end_id = tokenizer.token_to_id(end_token)
    tokenizer.post_processor = TemplateProcessing(single=f"$A {end_token}", special_tokens=[(end_token, end_id)])
    return tokenizer


def _normalizers(model: _Model, *, lower_case: bool) -> Iterator[normalizers.Normalizer]:
    yield normalizers.Replace(_SPACE, " ")
    yield normalizers.Prepend(_SPACE)  # so that spaces at the beginning, which follow it, stay one
    if lower_case:
        yield from LOWER_CASE
    yield from NO_PUNCTUATION
    yield from SINGLE_SPACES
    if model.charsmap:
        yield normalizers.Precompiled(model.charsmap)
    if model.removes_extra_spaces:
        yield normalizers.Replace(Regex(" +"), " ")
        yield normalizers.Replace(Regex(f"[ {_SPACE}]+$"), "")
    yield normalizers.Replace(" ", _SPACE)


def _read(path: Path) -> _Model:
    try:
        fields = list(_fields(path.read_bytes()))
        trainer = dict(_fields(_bytes(dict(fields).get(_TRAINER, b""))))
        normalizer = dict(_fields(_bytes(dict(fields).get(_NORMALIZER, b""))))
        pieces = tuple(_piece(_bytes(value)) for number, value in fields if number == _PIECES)
        charsmap = _bytes(normalizer.get(_CHARSMAP, b""))
    except (OSError, ValueError, IndexError, struct.error) as error:
        detail = getattr(error, "strerror", None) or error
        raise ConversionError(f"{path}: not a SentencePiece model ({detail}); download the checkpoint again") from error
    if not pieces or trainer.get(_MODEL_TYPE, _UNIGRAM) != _UNIGRAM:
        raise ConversionError(f"{path}: not a Unigram model of SentencePiece; SigLIP's is one: take the model's own")
    return _Model(pieces, charsmap, bool(normalizer.get(_EXTRA_WHITESPACES, 1)), bool(trainer.get(_BYTE_FALLBACK, 0)))


def _piece(message: bytes) -> tuple[str, float, int]:
    fields = dict(_fields(message))
    (score,) = struct.unpack("<f", _bytes(fields.get(_SCORE, b"\0\0\0\0")))
    kind = fields.get(_TYPE, 1)
    return _bytes(fields.get(_PIECE, b"")).decode(), score, kind if isinstance(kind, int) else 1


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes are expected")
    return value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a message: their numbers and values, integers or bytes."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire_type == 2:
            size, position = _varint(message, position)
        elif wire_type in (1, 5):
            size = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"wire type {wire_type}")
        if position + size > len(message):
            raise ValueError("it ends in the middle of a value")
        yield number, message[position : position + size]
        position += size


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """Return a number of variable length, and the position after it."""
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
        if shift > 63:
            raise ValueError("a number is too long")
