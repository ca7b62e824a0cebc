"""A conversion leaves a whole model directory or nothing, and never replaces what is not its own."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from arrowlens.conversion import Progress, convert_text_model
from arrowlens.conversion.convert import verify_vectors
from arrowlens.conversion.family import Vectors
from arrowlens.encoders import WeightLoader, model_info
from arrowlens.encoders.weights import FOLDED_NAME
from arrowlens.errors import ConversionError, QualityError
from tests.support.checkpoints import bert_checkpoint, edit_config


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert_checkpoint(tmp_path_factory.mktemp("checkpoints") / "bert")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert_checkpoint(tmp_path_factory.mktemp("checkpoints") / "other", seed=1)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where the output goes; at the end nothing but ``out`` may lie there."""
    place = tmp_path / "place"
    place.mkdir()
    yield place
    assert [path.name for path in place.iterdir()] in ([], ["out"])


class Stop:
    """An ``on_progress`` that interrupts as soon as a step begins."""

    def __init__(self, step: str, error: BaseException) -> None:
        self.step, self.error = step, error

    def __call__(self, progress: Progress) -> None:
        if progress.step == self.step:
            raise self.error


class TestWholeOrNothing:
    def test_whole(self, tiny: Path, place: Path) -> None:
        report = convert_text_model(tiny, place / "out")
        names = {path.name for path in (place / "out").iterdir()}
        # Folded weights are there where this processor computes in bfloat16.
        assert names - {FOLDED_NAME} == {"config.json", "tokenizer.json", "weights.arrow"}
        WeightLoader(place / "out").verify()
        assert report.directory == place / "out"

    @pytest.mark.parametrize("step", ["convert", "verify"])
    @pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), MemoryError()], ids=repr)
    def test_interrupted(self, tiny: Path, place: Path, step: str, error: BaseException) -> None:
        with pytest.raises(type(error)):
            convert_text_model(tiny, place / "out", on_progress=Stop(step, error))
        assert list(place.iterdir()) == []

    def test_refused_checkpoints(self, tiny: Path, place: Path, tmp_path: Path) -> None:
        checkpoint = edit_config(bert_checkpoint(tmp_path / "copy"), vocab_size=3)
        with pytest.raises(ConversionError):
            convert_text_model(checkpoint, place / "out")
        assert list(place.iterdir()) == []

    def test_parents_are_made_and_unmade(self, tiny: Path, place: Path, tmp_path: Path) -> None:
        inner = tmp_path / "new" / "folders" / "out"
        with pytest.raises(KeyboardInterrupt):
            convert_text_model(tiny, inner, on_progress=Stop("verify", KeyboardInterrupt()))
        assert not (tmp_path / "new").exists()
        convert_text_model(tiny, inner, verify=False)
        assert model_info(inner).family == "bert"

    def test_parents_that_were_there_stay(self, tiny: Path, place: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            convert_text_model(tiny, place / "out", on_progress=Stop("verify", KeyboardInterrupt()))
        assert place.is_dir()

    def test_permissions_are_the_user_s(self, tiny: Path, place: Path) -> None:
        mask = os.umask(0o022)
        try:
            convert_text_model(tiny, place / "out", verify=False)
        finally:
            os.umask(mask)
        assert stat.S_IMODE((place / "out").stat().st_mode) == 0o755
        assert {stat.S_IMODE(path.stat().st_mode) for path in (place / "out").iterdir()} == {0o644}

    def test_a_relative_output(self, tiny: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(place)
        report = convert_text_model(tiny, "out", verify=False)
        assert report.directory == place / "out"

    def test_an_output_that_cannot_be_written(self, tiny: Path, place: Path, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConversionError, match="cannot be written"):
            convert_text_model(tiny, tmp_path / "file" / "out")

    def test_a_full_disk(self, tiny: Path, place: Path) -> None:
        """A limit on the size of files stands for it: writing fails in the middle of the weights."""
        code = (
            "import resource, sys\n"
            "from arrowlens.conversion import convert_text_model\n"
            "from arrowlens.errors import ConversionError\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
            "try:\n"
            "    convert_text_model(*sys.argv[1:])\n"
            "except ConversionError as error:\n"
            "    print(error)"
        )
        command = [sys.executable, "-c", code, str(tiny), str(place / "out")]
        run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        assert "cannot be written" in run.stdout
        assert run.stdout.count("\n") == 1
        assert list(place.iterdir()) == []

    def test_an_error_of_the_caller_s_stays_the_caller_s(self, tiny: Path, place: Path) -> None:
        with pytest.raises(BrokenPipeError):
            convert_text_model(tiny, place / "out", on_progress=Stop("convert", BrokenPipeError()))


class TestWhatIsThere:
    def test_an_empty_folder_is_filled(self, tiny: Path, place: Path) -> None:
        (place / "out").mkdir()
        convert_text_model(tiny, place / "out", verify=False)
        assert model_info(place / "out").family == "bert"

    def test_a_model_is_not_replaced(self, tiny: Path, other: Path, place: Path) -> None:
        digest = convert_text_model(tiny, place / "out", verify=False).digest
        with pytest.raises(ConversionError, match="is already there"):
            convert_text_model(other, place / "out", verify=False)
        assert model_info(place / "out").digest == digest

    def test_unless_told_so(self, tiny: Path, other: Path, place: Path) -> None:
        convert_text_model(tiny, place / "out", format="parquet", verify=False)
        report = convert_text_model(other, place / "out", verify=False, overwrite=True)
        assert model_info(place / "out").digest == report.digest
        assert not (place / "out" / "weights.parquet").exists()

    def test_a_failed_replacement_leaves_the_old_one(self, tiny: Path, other: Path, place: Path) -> None:
        digest = convert_text_model(tiny, place / "out", verify=False).digest
        with pytest.raises(KeyboardInterrupt):
            convert_text_model(other, place / "out", overwrite=True, on_progress=Stop("verify", KeyboardInterrupt()))
        assert model_info(place / "out").digest == digest

    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize("kind", ["a folder of something", "a file", "a dangling link"])
    def test_anything_else_never(self, tiny: Path, place: Path, kind: str, overwrite: bool) -> None:
        out = place / "out"
        if kind == "a folder of something":
            out.mkdir()
            (out / "thesis.txt").write_text("years of work")
        elif kind == "a file":
            out.write_text("years of work")
        else:
            out.symlink_to(place / "nowhere")
        with pytest.raises(ConversionError, match=r"is already there|is no model directory"):
            convert_text_model(tiny, out, overwrite=overwrite)
        assert out.is_symlink() or "years of work" in (out / "thesis.txt" if out.is_dir() else out).read_text()


class TestVerifying:
    """The comparison itself, on vectors made up for it."""

    def test_agreement(self) -> None:
        rows = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
        verified = verify_vectors(Vectors("sounds", rows / np.linalg.norm(rows, axis=1, keepdims=True), 3 * rows), "x")
        assert (verified.kind, verified.count) == ("sounds", 5)
        assert verified.average == pytest.approx(1)
        assert verified.contrast == pytest.approx(1)

    def test_other_vectors(self) -> None:
        rows = np.eye(4, 8, dtype=np.float32)
        with pytest.raises(QualityError, match=r"x, texts: average cosine 0.0000"):
            verify_vectors(Vectors("texts", np.roll(rows, 1, axis=0), rows), "x")

    def test_what_all_inputs_share_hides_nothing(self) -> None:
        """Rows in another order: nearly alike as they are, and not at all once their common part is gone."""
        rows = 10 + np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        with pytest.raises(QualityError, match=r"x, differences between texts: average cosine -?0\.\d{4}"):
            verify_vectors(Vectors("texts", np.roll(rows, 1, axis=0), rows), "x")
