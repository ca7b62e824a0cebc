"""Ignore files rule as git's do, and no pattern takes long."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrowlens.ingest.gitignore import PatternError, Patterns

NAMES = ("a", "b", "ab", "a-b", "[", "!a")
PATHS = [  # each name as a file or a folder, down to the third level
    *NAMES[:2],
    *(f"{one}d/{two}" for one, two in itertools.product(("a", "b", "ab"), NAMES)),
    *(f"{one}d/{two}d/{three}" for one, two, three in itertools.product(("a", "b"), ("a", "b", "ab"), NAMES[:4])),
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    for path in PATHS:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def ignored_by_git(repository: Path, lines: list[str]) -> set[str]:
    (repository / ".gitignore").write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = ["git", "-C", repository, "check-ignore", "--stdin", "-z"]
    run = subprocess.run(command, input="\0".join(PATHS), capture_output=True, text=True, check=False)
    assert run.returncode in (0, 1), run.stderr
    return {path for path in run.stdout.split("\0") if path}


def ignored_by_us(lines: list[str]) -> set[str]:
    patterns = Patterns(lines)
    found = set()
    for path in PATHS:
        names = path.split("/")
        folders = ("/".join(names[:count]) for count in range(1, len(names)))
        if any(patterns.ignore(folder, is_folder=True) for folder in folders) or patterns.ignore(path, is_folder=False):
            found.add(path)
    return found


LITERALS = ("a", "b", "ad", "bd", "ab", "-", "x")
WILDCARDS = ("*", "**", "***", "?", "[ab]", "[!a]", "[^b]", "[a-c]", "[c-a]", "[]a]", "[a-]", "[[:alpha:]]", "[\\]a]")
SIGNS = ("/", "/", "/", "\\a", "\\[", "\\!", "!", "#", " ", "\\ ")
lines_of_files = st.lists(
    st.lists(st.sampled_from(LITERALS + WILDCARDS + SIGNS), min_size=1, max_size=7).map("".join), min_size=1, max_size=4
)


def is_pattern(line: str) -> bool:
    try:
        Patterns([line])
    except PatternError:
        return False
    return True


@settings(max_examples=300, deadline=None)
@given(lines=lines_of_files)
def test_the_same_paths_are_ignored_as_by_git(repository: Path, lines: list[str]) -> None:
    kept = [line for line in lines if is_pattern(line)]
    assert ignored_by_us(kept) == ignored_by_git(repository, kept)


@settings(max_examples=200, deadline=None)
@given(lines=lines_of_files)
def test_a_line_that_is_refused_ignores_nothing_in_git(repository: Path, lines: list[str]) -> None:
    refused = [line for line in lines if not is_pattern(line)]
    if refused:
        assert ignored_by_git(repository, refused) == set()


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=40), st.text(max_size=40))
def test_any_text_is_a_pattern_or_refused_in_a_line(line: str, path: str) -> None:
    if is_pattern(line):
        assert Patterns([line]).ignore(path, is_folder=False) in (True, False, None)


@pytest.mark.parametrize(
    "line",
    [
        "*a" * 100 + "*b",
        "/".join(["*a" * 20 + "*b"] * 12),
        "**/a/" * 100 + "b",
        "**/*a*a*a*a*a*/" * 20 + "b",
        "[!b]*" * 100 + "b",
        "?*" * 120 + "b",
    ],
)
@pytest.mark.timeout(60)
def test_no_pattern_hangs(line: str) -> None:
    """Backtracking would take years, so that any limit tells the two apart."""
    path = "/".join(["a" * 250] * 15)
    assert Patterns([line]).ignore(path, is_folder=False) is None
