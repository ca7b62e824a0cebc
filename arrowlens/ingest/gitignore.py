"""Patterns of gitignore as regular expressions that match in time that grows with the pattern times the name, no more.

The usual translations let ``*a*a*a*b`` try each way of sharing a name among its stars. Here each star takes the first
place where what follows it fits, which loses nothing, and an atomic group keeps the matcher from trying another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_STAR, _SLASH = "*", "/"  # of a parsed pattern; its other parts are expressions that match one character each
_ANY_BUT_SLASH = "[^/]"
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": r"\x21-\x7e",
    "lower": "a-z",
    "print": r"\x20-\x7e",
    "punct": r"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    "space": r" \t-\r",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


@dataclass(frozen=True, slots=True)
class Pattern:
    """A line of an ignore file.

    Attributes:
        expression: of a whole path below the file's folder, or of a name where ``is_name``.
        includes: the line ignores what it matches; False where it takes it back in.
        only_folders: it matches folders alone.
    """

    expression: re.Pattern[str]
    includes: bool
    only_folders: bool
    is_name: bool

    @classmethod
    def of(cls, line: str) -> Pattern | None:
        """The pattern in a line, None for a comment, an empty line, and one that can match nothing.

        Raises:
            ValueError: it is no pattern.
        """
        text = _without_blanks_at_the_end(line)
        if not text or text.startswith("#"):
            return None
        includes = not text.startswith("!")
        text = text.removeprefix("!") if not includes else text
        if not text or _ends_in_escape(text):
            raise ValueError("nothing follows the mark")
        only_folders = text.endswith("/")
        text = text[:-1] if only_folders else text
        is_name = "/" not in text
        parts = list(_parts(text.removeprefix("/")))
        if not parts or None in parts:
            return None
        parsed = [part for part in parts if part is not None]
        source = _name(parsed) if is_name else _path(parsed)
        return cls(re.compile(source + r"\Z", re.DOTALL), includes, only_folders, is_name)

    def matches(self, path: str, is_folder: bool) -> bool:
        """Whether it speaks of a file or folder, by its path below the ignore file's folder."""
        if self.only_folders and not is_folder:
            return False
        return self.expression.match(path.rpartition("/")[2] if self.is_name else path) is not None


def verdict(patterns: Sequence[Pattern], path: str, is_folder: bool) -> bool | None:
    """Whether a file or folder is ignored by the last pattern that speaks of it; None where none does."""
    return next((pattern.includes for pattern in reversed(patterns) if pattern.matches(path, is_folder)), None)


def _without_blanks_at_the_end(line: str) -> str:
    """A blank behind a backslash stays."""
    end, position = None, 0
    while position < len(line):
        if line[position] == " ":
            end = position if end is None else end
        else:
            end = None
            position += line[position] == "\\"
        position += 1
    return line[:end]


def _ends_in_escape(text: str) -> bool:
    return (len(text) - len(text.rstrip("\\"))) % 2 == 1


def _parts(text: str) -> Iterator[str | None]:
    """A pattern as expressions of one character each, stars and slashes; None for one that can match nothing."""
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == "\\":
            character = text[position]
            position += 1
            yield _SLASH if character == "/" else re.escape(character)
        elif character == "?":
            yield _ANY_BUT_SLASH
        elif character == "[":
            expression, position = _bracket(text, position)
            yield expression
        elif character in (_STAR, _SLASH):
            yield character
        else:
            yield re.escape(character)


def _bracket(text: str, position: int) -> tuple[str | None, int]:
    """The expression of a bracket whose inside begins at a position, None for a malformed one; and where it ends."""
    is_negated = text[position : position + 1] in ("!", "^")
    position += is_negated
    members: list[str] = []
    previous: str | None = None
    is_first = True
    while is_first or text[position : position + 1] != "]":
        is_first = False
        if position >= len(text):
            return None, position
        character, after = text[position], text[position + 1 : position + 2]
        if character == "-" and previous is not None and after and after != "]":
            position += 1
            last, position = _escaped(text, position)
            if last is None:
                return None, position
            members += [f"{re.escape(previous)}-{re.escape(last)}"] if previous <= last else []
            previous = None
        elif character == "[" and after == ":":
            member, position = _class(text, position)
            if member is None:
                return None, position
            members.append(member)
            previous = "[" if member == re.escape("[") else None
        else:
            previous, position = _escaped(text, position)
            if previous is None:
                return None, position
            members.append(re.escape(previous))
    inside = "".join(members)
    if is_negated:
        return f"[^/{inside}]", position + 1
    return f"(?!/)[{inside}]" if inside else "(?!)", position + 1


def _class(text: str, position: int) -> tuple[str | None, int]:
    """The members of a class such as ``[:digit:]`` at a position, or a bracket; None for an unknown one."""
    end = text.find("]", position + 2)
    if end > position + 2 and text[end - 1] == ":":
        return _CLASSES.get(text[position + 2 : end - 1]), end + 1
    return (re.escape("["), position + 1) if end >= 0 else (None, len(text))


def _escaped(text: str, position: int) -> tuple[str | None, int]:
    """The character at a position, or the one behind a backslash there; and where the next one is."""
    position += text[position] == "\\"
    return (text[position], position + 1) if position < len(text) else (None, position)


def _path(parts: Sequence[str]) -> str:
    """The expression of a path, segment by segment; two stars alone stand for any number of segments."""
    groups: list[list[str]] = [[]]  # of segments, with two stars in between
    for segment in _split(parts, _SLASH):
        if len(segment) > 1 and set(segment) == {_STAR}:
            groups.append([])
        else:
            groups[-1].append(_name(segment))
    first, last = groups[0], groups[-1]
    if len(groups) == 1:
        return "/".join(first)
    source = "".join(f"{segment}/" for segment in first)
    for group in groups[1:-1]:
        if group:
            source += "(?>(?:[^/]++/)*?" + "".join(f"{segment}/" for segment in group) + ")"
    return source + ("(?>(?:[^/]++/)*?" + "/".join(last) + r"\Z)" if last else ".+")


def _name(parts: Sequence[str]) -> str:
    """The expression of a name: what stands between its stars, each at the first place where it fits."""
    chunks = ["".join(chunk) for chunk in _split(parts, _STAR)]
    if len(chunks) == 1:
        return chunks[0]
    middle = "".join(f"(?>[^/]*?{chunk})" for chunk in chunks[1:-1] if chunk)
    last = f"(?>[^/]*?{chunks[-1]}(?=/|\\Z))" if chunks[-1] else "[^/]*+"
    return chunks[0] + middle + last


def _split(parts: Iterable[str], separator: str) -> list[list[str]]:
    split: list[list[str]] = [[]]
    for part in parts:
        if part == separator:
            split.append([])
        else:
            split[-1].append(part)
    return split
