"""Builds a source distribution, and a wheel from it alone; installs that into a fresh environment and searches with it.

    python -m tests.support.packaging [--constraint FILE] [--python PROGRAM]

Nothing of the source tree is on the installed program's path, and the samples are those within the wheel.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--constraint", type=Path, default=ROOT / "constraints.txt")
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="arrowlens-package-") as folder:
        place = Path(folder)
        wheel, source = build(place / "dist", options.constraint)
        check_wheel(wheel)
        check_source(source)
        installed = Environment(place / "fresh", options)
        installed.pip("install", "--constraint", options.constraint, wheel)
        installed.search(place)
        print(f"{wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB, and {source.name}: built, installed, searched with")


def build(folder: Path, constraint: Path) -> tuple[Path, Path]:
    """The wheel and the source distribution of this tree; build makes the wheel from the other, unpacked elsewhere."""
    environment = os.environ | {"PIP_CONSTRAINT": str(constraint.resolve()), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder.parent, env=environment)
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, source


def contents(wheel: Path) -> dict[str, str]:
    """Name -> hash of the files of a wheel, the list of them left out."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/RECORD")]
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in names}


def check_wheel(wheel: Path) -> None:
    """Every file of the package is in it, with licences and metadata, and nothing else."""
    tracked = [path for path in (ROOT / "arrowlens").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    package = {str(path.relative_to(ROOT)) for path in tracked}
    names = set(contents(wheel))
    metadata = {name for name in names if ".dist-info/" in name}
    assert names - metadata == package, sorted((names - metadata) ^ package)
    for wanted in ("py.typed", "demo/LICENSES.md", "demo/models/clip/weights.arrow", "demo/samples/pairs.csv"):
        assert f"arrowlens/{wanted}" in names, wanted
    assert {name.partition("/licenses/")[2] for name in metadata} > {"LICENSE", "arrowlens/demo/LICENSES.md"}
    with zipfile.ZipFile(wheel) as archive:
        (about,) = (name for name in metadata if name.endswith("/METADATA"))
        headers = HeaderParser().parsestr(archive.read(about).decode())
    places = {line.partition(",")[0] for line in headers.get_all("Project-URL")}
    assert places == {"Homepage", "Documentation", "Repository", "Issues", "Changelog"}
    assert "Programming Language :: Python :: 3.13" in headers.get_all("Classifier")
    assert (headers["Requires-Python"], headers["License-Expression"]) == ("<3.14,>=3.11", "Apache-2.0")


def check_source(source: Path) -> None:
    """What builds the wheel, and what describes it, is in it."""
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for wanted in ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "constraints.txt", "docs/guide.md"):
        assert wanted in names, wanted


class Environment:
    """A virtual environment of its own, whose programs run outside the source tree."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        run(options.python, "-m", "venv", folder, cwd=folder.parent)
        self._bin = folder / "bin"
        self._folder = folder

    def pip(self, command: str, *arguments: object) -> None:
        """Run pip; it says only what goes wrong."""
        quiet = "--quiet", "--disable-pip-version-check"
        run(self._bin / "python", "-I", "-m", "pip", command, *quiet, *arguments, cwd=self._folder)

    def search(self, folder: Path) -> None:
        """Index the samples that were installed with the program, and find some of them."""
        inner = run(self._bin / "python", "-I", "-c", "import arrowlens; print(arrowlens.__file__)", cwd=folder)
        samples = Path(inner.strip()).parent / "demo" / "samples"
        assert samples.is_relative_to(self._folder), samples
        library = folder / "library.lens"
        report = self._command(folder, "ingest", samples, "--models", "demo", "--library", library)
        assert (report["indexed"] > 200, report["skipped"]) == (True, 0), report
        asked = {
            "lion": ("similar", samples / "pictures" / "nature" / "lion-01.png"),
            "dog-": ("similar", samples / "sounds" / "dog-01.ogg"),
            "bicycle": ("search", "a red bicycle"),
        }
        for wanted, question in asked.items():
            hits = self._command(folder, *question, "-k", 5, "--library", library)["hits"]
            assert any(wanted in hit["path"] for hit in hits), (wanted, hits)

    def _command(self, folder: Path, *arguments: object) -> dict:
        """The answer of a command to a user who has set nothing up; no library that it uses warns of anything."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        words = self._bin / "arrowlens", *arguments, "--json"
        return json.loads(run(*words, cwd=folder, env=environment, warnings=False))


def run(*command: object, cwd: Path, env: dict[str, str] | None = None, warnings: bool = True) -> str:
    """A command's output; an error with all that it wrote if it fails, or warns where it must not."""
    cwd.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if not warnings and "warn" in done.stderr.lower():
        sys.exit(f"{' '.join(words)} warns:\n{done.stderr}")
    if done.returncode:
        sys.exit(f"{' '.join(words)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
