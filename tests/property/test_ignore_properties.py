"""Patterns of ``.arrowlensignore`` beside git itself, and the time that hostile ones take."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrowlens.ingest.gitignore import Pattern, verdict

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

NAMES = st.text("ab.-]!# ", min_size=1, max_size=4).filter(lambda name: name.strip(".") and name != ".git")
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
_GLOBS = ("a", "b", ".", "*", "**", "***", "?", "/", "/**/", "**/", "/**", "\\", "!", "#", "-", " ", "]")
_BRACKETS = (
    "[ab]",
    "[!a]",
    "[^b]",
    "[a-b]",
    "[]a]",
    "[b-]",
    "[[:alpha:]]",
    "[![:punct:]]",
    "[\\]]",
    "[[:odd:]]",
    "[",
    "[a",
)
PARTS = st.sampled_from([*_GLOBS, *_BRACKETS])
LINES = st.lists(PARTS, min_size=1, max_size=7).map("".join)


def ignored_by_us(lines: list[str], path: str) -> bool:
    """From the top down, as a walk meets a path: nothing comes back below a folder that is ignored."""
    patterns = [pattern for line in lines if (pattern := Pattern.of(line)) is not None]
    parts = path.split("/")
    for depth in range(1, len(parts) + 1):
        if verdict(patterns, "/".join(parts[:depth]), is_folder=depth < len(parts)):
            return True
    return False


def ignored_by_git(repository: Path, lines: list[str], paths: list[str]) -> set[str]:
    (repository / ".gitignore").write_text("\n".join(lines) + "\n")
    asked = subprocess.run(
        ["git", "-C", repository, "check-ignore", "--no-index", "--stdin", "-z"],
        input="\0".join(paths).encode(),
        capture_output=True,
        check=False,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull},
    )
    assert asked.returncode in (0, 1), asked.stderr
    return {name.decode() for name in asked.stdout.split(b"\0") if name}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    path = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", path], check=True)
    return path


def is_pattern(line: str) -> bool:
    try:
        Pattern.of(line)
    except ValueError:
        return False
    return True


@settings(max_examples=300, deadline=None)
@given(lines=st.lists(LINES.filter(is_pattern), min_size=1, max_size=3), paths=st.lists(PATHS, min_size=1, max_size=30))
def test_patterns_ignore_what_git_ignores(repository, lines, paths):
    expected = ignored_by_git(repository, lines, paths)
    assert {path for path in paths if ignored_by_us(lines, path)} == expected, lines


_HOSTILE = """
import sys
from arrowlens.ingest.gitignore import Pattern

name = "a" * 255
for line in sys.argv[1:]:
    pattern = Pattern.of(line)
    for path in (name, "/".join(["a"] * 2000), f"x/{name}"):
        assert not pattern.matches(path, False), line
"""


def test_no_pattern_takes_more_than_a_moment():
    """Each of these would outlast the universe, were all ways of sharing a name among the stars tried."""
    lines = [
        "*a" * 500 + "b",
        "*" * 1000 + "b",
        "*?" * 500 + "b",
        "**/a/" * 400 + "b",
        "**/*a*a*/" * 100 + "b",
        "*[a]" * 250 + "b",
        "[!b]*" * 500 + "b",
        "/" + "*a*" * 300 + "/b",
    ]
    subprocess.run([sys.executable, "-c", _HOSTILE, *lines], check=True, timeout=60)
