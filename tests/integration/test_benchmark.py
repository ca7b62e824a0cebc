"""`arrowlens benchmark` with the bundled models, through the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import arrowlens
from arrowlens.benchmark import benchmark
from arrowlens.cli import main
from arrowlens.conversion import convert_whisper_model
from arrowlens.encoders import AudioEncoder, model_info
from arrowlens.errors import InputError
from arrowlens.models import available
from tests.support.checkpoints import whisper_checkpoint

MODELS = Path(arrowlens.__file__).parent / "demo" / "models"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ARROWLENS_CACHE", str(tmp_path / "cache"))


def test_what_is_measured_and_what_follows(capsys):
    assert main(["benchmark", "--seconds", "0.05", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["device"] == "cpu"
    measures = {measure["what"]: measure for measure in found["measures"]}
    assert all(measure["value"] > 0 for measure in found["measures"])
    assert [what for what, measure in measures.items() if measure["share"]] == [
        "pictures in bulk",
        "recordings of 5 s in bulk, spectrum included",
    ]
    rate, outlook = measures["pictures in bulk"]["value"], found["outlook"]
    assert outlook["encoding"] == pytest.approx(found["n_cores"] / rate)
    assert outlook["rate"] == pytest.approx(found["n_cores"] / (outlook["decoding"] + outlook["encoding"]))
    assert outlook["bound"] == max(("decoding", "encoding"), key=lambda name: outlook[name])
    speeds = {model.role: model.ms_per_item for model in available() if model.set_name == "demo"}
    assert speeds == {
        "vision": pytest.approx(1000 / rate),
        "audio": pytest.approx(1000 / measures["recordings of 5 s in bulk, spectrum included"]["value"]),
    }


def test_figures_that_cannot_be_kept_are_printed_all_the_same(capsys, tmp_path):
    (tmp_path / "cache").write_bytes(b"a file, where a folder is needed")
    assert main(["benchmark", "--seconds", "0.05", "--models", f"audio={MODELS / 'audio'}"]) == 0
    printed = capsys.readouterr()
    assert "recordings/s" in printed.out
    assert "`arrowlens models` will not show these figures" in printed.err


def test_in_words(capsys):
    assert (
        main(["benchmark", "--seconds", "0.05", "--models", f"vision={MODELS / 'clip'}", "--precision", "float32"]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("float32: float32 was asked for")
    assert all(model.ms_per_item is None for model in available()), "what users get is measured without options"
    assert any(line.startswith("pictures in bulk") and line.endswith("% of the matrix products") for line in lines)
    assert any(line.startswith("an ingest of such JPEGs: at most ") for line in lines)
    assert not any("recordings" in line for line in lines), "there is no model for them"


def test_models_for_recordings_alone(capsys):
    assert main(["benchmark", "--seconds", "0.05", "--models", f"audio={MODELS / 'audio'}"]) == 0
    printed = capsys.readouterr().out
    assert "recordings of 5 s" in printed
    assert "picture" not in printed


def test_recordings_are_read_in_the_layer_that_libraries_read(tmp_path, monkeypatch):
    checkpoint = whisper_checkpoint(tmp_path / "checkpoint")
    model = convert_whisper_model(checkpoint, tmp_path / "model", verify=False).directory
    layers, encode = set(), AudioEncoder.encode

    def watched(self, *args, **options):
        layers.add(options["layer"])
        return encode(self, *args, **options)

    monkeypatch.setattr(AudioEncoder, "encode", watched)
    found = benchmark(f"audio={model}", seconds=0.05)
    assert found.measures[-1].unit == "recordings/s"
    assert layers == {model_info(model).pooling_layer}
    assert layers != {None}


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_no_time_to_measure_in(seconds):
    with pytest.raises(InputError, match="above 0"):
        benchmark("demo", seconds=seconds)
