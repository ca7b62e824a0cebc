"""Permissions as an ordinary user meets them; as root, through ``setpriv``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import arrowlens
from tests.support.folders import write_picture

USER = "65534"
# A child of the user's, as decoding processes are: the first process is started with the rights of root.
_PROBE = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import arrowlens'], check=True)"
_COMMAND = "import sys; from arrowlens.cli import main; sys.exit(main())"


def as_user(*arguments: str | Path, home: Path, code: str = _COMMAND) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", code, *map(str, arguments)]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is not installed, and the tests run as root")
        program = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--", *program]
    source = str(Path(arrowlens.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(program, capture_output=True, text=True, check=False, cwd=home, env=environment)


@pytest.fixture
def home():
    """A folder of the user's own, with 3 pictures in a folder; those of pytest are root's alone."""
    with tempfile.TemporaryDirectory(prefix="ordinary") as name:
        base = Path(name)
        (base / "in" / "deep").mkdir(parents=True)
        for seed, place in enumerate(("in/a.png", "in/b.png", "in/deep/c.png")):
            write_picture(base / place, seed)
        if os.geteuid() == 0:
            for path in (base, *base.rglob("*")):
                os.chown(path, int(USER), int(USER))
        if as_user(home=base, code=_PROBE).returncode != 0:
            pytest.skip("the interpreter or the package lies where an ordinary user may not go")
        yield base


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.startswith("arrowlens: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_permissions_hold_for_the_files_and_the_library(home):
    ingest = ("ingest", home / "in", "--library", home / "a.lens", "--models", "demo", "--workers", "1")
    assert as_user(*ingest, home=home).returncode == 0
    (home / "in" / "deep").chmod(0)
    (home / "in" / "b.png").chmod(0)
    done = as_user(*ingest, home=home)
    (home / "in" / "deep").chmod(0o755)
    assert (done.returncode, "0 removed" in done.stdout) == (0, True), done
    assert "Permission denied" in done.stderr
    places = [path for path in (home / "a.lens", *(home / "a.lens").rglob("*")) if path.is_dir()]
    (home / "a.lens" / "writer.lock").chmod(0o444)
    for place in places:
        place.chmod(0o500)
    assert "permissions" in one_line(as_user(*ingest, home=home))
    assert as_user("search", "red", "--library", home / "a.lens", home=home).returncode == 0
    (home / "a.lens").chmod(0)
    assert "cannot be read" in one_line(as_user("status", "--library", home / "a.lens", home=home))
    for place in places:
        place.chmod(0o755)


@pytest.mark.parametrize("place", ["file", "file/below", "locked/a.lens", "locked/deep/a.lens", "locked", "lost"])
def test_a_library_path_that_cannot_be_used_is_refused_before_anything_is_made(home, place):
    (home / "file").write_text("x")
    (home / "locked").mkdir(mode=0o555)
    (home / "lost").symlink_to("nowhere/at/all")
    before = sorted(home.rglob("*"))
    one_line(as_user("ingest", home / "in", "--library", home / place, "--models", "demo", home=home))
    assert sorted(path for path in home.rglob("*") if ".cache" not in path.parts) == before
