"""Patterns of gitignore, matched in time that grows at most with the pattern's length times the path's.

A pattern on somebody's disk must not be able to hang a walk. An ordinary regular expression made of a pattern
backtracks: its time grows with a power of the number of stars. Here a star takes the nearest match of what follows and
never tries another one. That is enough, because what follows, up to the next star, has a fixed length. The same holds
for ``**`` among folders.

Source: gitignore(5), and the behaviour of ``git check-ignore``, which the tests compare with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r" \t\n\r\f\v",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
_STAR, _SLASH = "*", "/"  # tokens of their own; any other token is a regular expression of one character
_Segment = re.Pattern[str]


class PatternError(ValueError):
    """Raised for a line that is not a pattern that could ever match."""


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One pattern.

    Attributes:
        ignores: False for a pattern with ``!``, which takes paths back in.
        only_folders: it ended in a slash.
        chunks: runs of names that follow each other; between two of them lie any number of folders.
        from_top: the first chunk begins at the ignore file's folder, instead of anywhere below it.
        to_end: the last chunk ends the path. Otherwise at least one more name follows, as for ``folder/**``.
    """

    ignores: bool
    only_folders: bool
    chunks: tuple[tuple[_Segment, ...], ...]
    from_top: bool
    to_end: bool

    def matches(self, names: list[str]) -> bool:
        """Return whether the pattern matches a path, given as the names of its folders and its own."""
        chunks, start, end = self.chunks, 0, len(names)
        if self.from_top:
            if not _fits(chunks[0], names, 0):
                return False
            start, chunks = len(chunks[0]), chunks[1:]
            if not chunks:
                return start == end if self.to_end else start < end
        if self.to_end:
            end -= len(chunks[-1])
            if end < start or not _fits(chunks[-1], names, end):
                return False
            chunks = chunks[:-1]
        for chunk in chunks:
            last = end - len(chunk)
            start = next((at for at in range(start, last + 1) if _fits(chunk, names, at)), -1)
            if start < 0:
                return False
            start += len(chunk)
        return self.to_end or start < end


class Patterns:
    """The patterns of one ignore file, of which the last one that matches decides.

    Raises:
        PatternError: a line can never match; carries its number, from 1, and its text.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._last_first: list[_Pattern] = []
        for number, line in enumerate(lines, 1):
            try:
                pattern = _parsed(line)
            except PatternError as error:
                raise PatternError(f"line {number}: {line!r} {error}") from error
            if pattern is not None:
                self._last_first.insert(0, pattern)

    def ignore(self, path: str, *, is_folder: bool) -> bool | None:
        """Return whether a path is ignored, False when it is taken back in; None when no pattern matches.

        Args:
            path: relative to the folder of the ignore file, with slashes between names.
            is_folder: whether it is a folder. What lies in an ignored folder is for the caller to leave alone.
        """
        names = path.split("/")
        for pattern in self._last_first:
            if (is_folder or not pattern.only_folders) and pattern.matches(names):
                return pattern.ignores
        return None


def _fits(chunk: tuple[_Segment, ...], names: list[str], start: int) -> bool:
    if start + len(chunk) > len(names):
        return False
    return all(segment.match(names[start + index]) for index, segment in enumerate(chunk))


def _parsed(line: str) -> _Pattern | None:
    """Return the pattern of a line; None for an empty line or a comment."""
    line = _without_trailing_blanks(line)
    if not line or line.startswith("#"):
        return None
    ignores = not line.startswith("!")
    text = line if ignores else line[1:]
    only_folders = text.endswith("/") and not text.endswith("\\/")
    text = text[:-1] if only_folders else text
    if not text.strip("/"):
        raise PatternError("matches nothing")
    from_top = "/" in text  # a slash in front or within ties a pattern to the ignore file's folder
    segments = list(_segments(text.removeprefix("/") if from_top else text))
    if not from_top:
        return _Pattern(ignores, only_folders, ((_compiled(segments[0]),),), from_top=False, to_end=True)
    chunks: list[list[_Segment]] = [[]]
    for tokens in segments:
        if len(tokens) > 1 and set(tokens) == {_STAR}:
            chunks.append([])
        else:
            chunks[-1].append(_compiled(tokens))
    to_end = bool(chunks[-1])
    starts_open = not chunks[0]
    kept = tuple(tuple(chunk) for chunk in chunks if chunk)
    return _Pattern(ignores, only_folders, kept, from_top=not starts_open, to_end=to_end)


def _without_trailing_blanks(line: str) -> str:
    """Return the line without blanks at its end, but for those behind a backslash."""
    end = len(line.rstrip(" "))
    n_backslashes = end - len(line[:end].rstrip("\\"))
    return line[: end + 1] if n_backslashes % 2 and end < len(line) else line[:end]


def _segments(text: str) -> Iterator[list[str]]:
    """Yield the tokens of each name of a pattern."""
    tokens: list[str] = []
    for token in _tokens(text):
        if token == _SLASH:
            yield tokens
            tokens = []
        else:
            tokens.append(token)
    yield tokens


def _tokens(text: str) -> Iterator[str]:
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character in (_STAR, _SLASH):
            yield character
        elif character == "?":
            yield "."
        elif character == "[":
            token, position = _bracket(text, position)
            yield token
        elif character == "\\":
            if position == len(text):
                raise PatternError("ends in a backslash with nothing behind it")
            yield _SLASH if text[position] == "/" else re.escape(text[position])
            position += 1
        else:
            yield re.escape(character)


def _bracket(text: str, position: int) -> tuple[str, int]:
    """Return the regular expression of a bracket whose contents begin at ``position``, and where it ends."""
    negated = text[position : position + 1] in ("!", "^")
    position += negated
    first, parts = position, list[str]()
    previous = ""  # a single character before, with which a dash makes a range
    while position < len(text) and (text[position] != "]" or position == first):
        character, position = text[position], position + 1
        if character == "[" and text[position : position + 1] == ":":
            end = text.find("]", position)
            if end < 0:
                break
            if text[end - 1] == ":" and end - 1 > position:
                name = text[position + 1 : end - 1]
                if name not in _CLASSES:
                    raise PatternError(f"has an unknown class of characters [:{name}:]")
                parts.append(_CLASSES[name])
                previous, position = "", end + 1
                continue
        elif character == "-" and previous and text[position : position + 1] not in ("", "]"):
            last, position = _literal(text, position)
            if previous <= last:
                parts.append(f"{re.escape(previous)}-{re.escape(last)}")
            previous = ""
            continue
        elif character == "\\":
            character, position = _literal(text, position - 1)
        parts.append(re.escape(character))
        previous = character
    if position >= len(text):
        raise PatternError("has a [ without its ]")
    contents = "".join(parts)
    return f"[{'^' if negated else ''}{contents}]" if contents else ("." if negated else r"(?!)"), position + 1


def _literal(text: str, position: int) -> tuple[str, int]:
    """Return the character at ``position``, or behind a backslash there, and where the next one is."""
    if text[position] == "\\":
        position += 1
        if position == len(text):
            raise PatternError("has a [ without its ]")
    return text[position], position + 1


def _compiled(tokens: list[str]) -> _Segment:
    """Return a regular expression for a whole name, without backtracking from one star into an earlier one."""
    parts: list[list[str]] = [[]]
    for index, token in enumerate(tokens):
        if token != _STAR:
            parts[-1].append(token)
        elif index == 0 or tokens[index - 1] != _STAR:
            parts.append([])
    first, *rest = ("".join(part) for part in parts)
    middle = "".join(f"(?>.*?{part})" for part in rest[:-1])
    last = f".*{rest[-1]}" if rest else ""
    return re.compile(f"{first}{middle}{last}\\Z", re.DOTALL)
