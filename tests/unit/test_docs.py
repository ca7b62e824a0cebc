"""Every command in the documents is one that the parser takes, every make target exists, every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from arrowlens.cli.parser import build_parser

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[tuple[str, str]]:
    found = []
    for document in DOCUMENTS:
        for block in re.findall(r"```console\n(.*?)```", document.read_text(encoding="utf-8"), re.S):
            found += [(document.name, line[2:]) for line in block.splitlines() if line.startswith("$ ")]
    return found


@pytest.mark.parametrize(("document", "command"), commands())
def test_commands_are_real(document: str, command: str) -> None:
    program, *arguments = shlex.split(command, comments=True)
    if program == "arrowlens":
        assert callable(build_parser().parse_args(arguments).run)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
        assert set(targets) >= {argument for argument in arguments if "=" not in argument}
    else:
        assert command in {
            "python3 -m venv .venv",
            ".venv/bin/pip install --constraint constraints.txt --editable .",
            "uv tool install --torch-backend cpu .",
            'pipx install --pip-args "--extra-index-url ADDRESS" .',
        }, f"{document}: '{command}' is not covered by a test"


def test_every_make_target_has_a_rule() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    promised = set(re.search(r"^\.PHONY: (.*)$", makefile, re.M).group(1).split())  # type: ignore[union-attr]
    for document in DOCUMENTS:
        promised |= set(re.findall(r"`make ([\w-]+)", document.read_text(encoding="utf-8")))
    ruled = set(re.findall(r"^([\w-]+):.*\n(?=\t)", makefile, re.M))
    assert promised <= ruled


def test_there_are_commands_to_test() -> None:
    assert len(commands()) > 20


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_files_that_contributors_are_sent_to_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Where is what?")[2].partition("## ")[0]
    files = re.findall(r"`([\w/]+(?:\.py|/))`", text)
    assert len(files) > 10
    assert [name for name in files if not (ROOT / "arrowlens" / name).exists()] == []


def test_the_table_of_rooms_names_every_module_of_the_package_once():
    table = re.findall(r"^\| (`[^|]*) \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    rooms = [room for row in table for room in re.findall(r"`(\w+)`", row)]
    package = [
        path.stem for path in (ROOT / "arrowlens").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    ]
    assert sorted(rooms) == sorted(set(package) - {"__init__"})


def test_modules_that_comments_and_docstrings_name_are_there() -> None:
    package = ROOT / "arrowlens"
    for source in package.rglob("*.py"):
        for name in re.findall(r"``encoders\.(\w+)", source.read_text(encoding="utf-8")):
            assert (package / "encoders" / f"{name}.py").is_file(), f"{source} names encoders.{name}"
