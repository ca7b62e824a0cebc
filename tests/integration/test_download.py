"""Downloads from a stand-in for the hub: only what is needed, resumed, checked; one line when there is no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch

from arrowlens import models
from arrowlens.conversion import Progress, convert_clip_model, convert_text_model
from arrowlens.conversion.hub import downloaded
from arrowlens.encoders.model_directory import cache_directory, model_info
from arrowlens.errors import ConversionError, DownloadError
from tests.support.checkpoints import bert_checkpoint, clip_checkpoint, edit_config, whisper_checkpoint
from tests.support.hub_stand_in import Hub, hub_stand_in

TINY = "someone/tiny-clip"
KEPT = 10 * 1024 * 1024  # bytes; what the hub library writes at a time, so that a cut loses less than this
CLOSED = "http://127.0.0.1:9"  # the discard port: nobody listens


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("ARROWLENS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))  # for other processes; here it was read at the import
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    with hub_stand_in() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_checkpoint(tmp_path_factory.mktemp("checkpoints") / "clip")


@pytest.fixture(scope="module")
def large_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_checkpoint(tmp_path_factory.mktemp("checkpoints") / "large", text={"vocab_size": 100_000})


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # these models are so small that threads only wait for each other
    yield
    torch.set_num_threads(threads)


def assert_says_what_works_offline(error: BaseException) -> None:
    message = str(error)
    assert "\n" not in message
    assert "--models demo" in message
    assert "arrowlens convert" in message


class TestConvertingAHubId:
    def test_converts_and_tells_licence_and_progress(self, hub: Hub, tiny_clip: Path, tmp_path: Path) -> None:
        hub.serve(TINY, tiny_clip, licence="mit")
        told: list[Progress] = []
        report = convert_clip_model(TINY, tmp_path / "out", on_progress=told.append)
        assert model_info(tmp_path / "out").source == TINY
        assert report.licence == "mit"
        assert report.average is not None
        assert report.average > 0.9999
        licence = next(progress for progress in told if progress.step == "licence")
        assert "mit" in licence.detail
        assert TINY in licence.detail
        bytes_done = [progress.done for progress in told if progress.step == "download"]
        total = next(progress.total for progress in told if progress.step == "download")
        assert bytes_done == sorted(bytes_done)
        assert bytes_done[-1] == total > (tiny_clip / "model.safetensors").stat().st_size
        steps = [progress.step for progress in told]
        assert list(dict.fromkeys(steps)) == ["licence", "download", "convert", "verify"]

    def test_the_same_as_from_the_folder(self, hub: Hub, tiny_clip: Path, tmp_path: Path) -> None:
        hub.serve(TINY, tiny_clip)
        here = convert_clip_model(tiny_clip, tmp_path / "here", verify=False)
        there = convert_clip_model(TINY, tmp_path / "there", verify=False)
        assert here.digest == there.digest
        assert (here.licence, there.licence) == (None, None)

    def test_downloads_are_removed_afterwards(self, hub: Hub, tiny_clip: Path, tmp_path: Path) -> None:
        hub.serve(TINY, tiny_clip)
        convert_clip_model(TINY, tmp_path / "out", verify=False)
        left = [path for path in (cache_directory() / "downloads").rglob("*") if path.is_file()]
        assert [path.suffix for path in left if path.stat().st_size] == []

    def test_a_failed_conversion_keeps_the_download(self, hub: Hub, tiny_clip: Path, tmp_path: Path) -> None:
        hub.serve(TINY, tiny_clip)
        with pytest.raises(ConversionError, match="model_type 'clip'"):
            convert_text_model(TINY, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        convert_clip_model(TINY, tmp_path / "out", verify=False)
        assert len(hub.fetched("model.safetensors")) == 1


class TestWhatIsFetched:
    def test_only_what_conversion_reads(self, hub: Hub, tmp_path: Path) -> None:
        checkpoint = bert_checkpoint(tmp_path / "bert")
        for name in ("README.md", "onnx/model.onnx", "tf_model.h5", "pytorch_model.bin", "training_args.bin"):
            (checkpoint / name).parent.mkdir(exist_ok=True)
            (checkpoint / name).write_bytes(b"not needed")
        hub.serve("someone/bert", checkpoint)
        with downloaded("someone/bert", lambda _: None) as source:
            names = {path.relative_to(source.directory).as_posix() for path in source.directory.rglob("*.*")}
        assert names == {
            "1_Pooling/config.json",
            "config.json",
            "model.safetensors",
            "modules.json",
            "sentence_bert_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
        }

    def test_shards_and_their_index(self, hub: Hub, tmp_path: Path) -> None:
        hub.serve(TINY, clip_checkpoint(tmp_path / "sharded", shard_bytes=60_000))
        report = convert_clip_model(TINY, tmp_path / "out")
        assert report.minimum is not None
        assert report.minimum > 0.9999
        assert len({r.path for r in hub.requests if r.path.startswith("/cdn/")}) > 1

    def test_bin_only_where_there_are_no_safetensors(self, hub: Hub, tmp_path: Path) -> None:
        hub.serve(TINY, clip_checkpoint(tmp_path / "bin", as_bin=True))
        convert_clip_model(TINY, tmp_path / "out", verify=False)
        assert len(hub.fetched("pytorch_model.bin")) == 1

    def test_a_token_is_not_sent_to_the_cdn(
        self, hub: Hub, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_not_a_real_token")
        hub.serve(TINY, tiny_clip)
        convert_clip_model(TINY, tmp_path / "out", verify=False)
        assert all(r.authorized for r in hub.requests if "/resolve/" in r.path and r.method == "HEAD")
        assert not any(r.authorized for r in hub.requests if r.path.startswith("/cdn/"))


class TestCutOff:
    def test_goes_on_by_itself_where_it_was_cut(self, hub: Hub, large_clip: Path, tmp_path: Path) -> None:
        hub.serve(TINY, large_clip)
        hub.cut["model.safetensors"] = [KEPT + 50_000]
        convert_clip_model(TINY, tmp_path / "out")
        first, second = hub.fetched("model.safetensors")
        assert (first.range, second.range) == (None, f"bytes={KEPT}-")

    def test_goes_on_in_the_next_run_where_it_gave_up(self, hub: Hub, large_clip: Path, tmp_path: Path) -> None:
        hub.serve(TINY, large_clip)
        hub.cut["model.safetensors"] = [KEPT + 50_000] + 6 * [0]
        with pytest.raises(DownloadError, match="run again to go on") as caught:
            convert_clip_model(TINY, tmp_path / "out")
        assert_says_what_works_offline(caught.value)
        assert not (tmp_path / "out").exists()
        hub.cut.clear()
        asked = {name: len(hub.fetched(name)) for name in ("config.json", "model.safetensors")}
        told: list[Progress] = []
        report = convert_clip_model(TINY, tmp_path / "out", on_progress=told.append)
        assert len(hub.fetched("config.json")) == asked["config.json"] == 1
        assert [r.range for r in hub.fetched("model.safetensors")[asked["model.safetensors"] :]] == [f"bytes={KEPT}-"]
        assert report.minimum is not None
        assert report.minimum > 0.9999
        downloads = [progress for progress in told if progress.step == "download"]
        assert downloads[-1].done == downloads[-1].total

    def test_a_changed_model_is_not_mixed_with_the_old_part(self, hub: Hub, large_clip: Path, tmp_path: Path) -> None:
        hub.serve(TINY, large_clip)
        hub.cut["model.safetensors"] = [KEPT + 50_000] + 6 * [0]
        with pytest.raises(DownloadError):
            convert_clip_model(TINY, tmp_path / "out")
        hub.cut.clear()
        other = clip_checkpoint(tmp_path / "other", text={"vocab_size": 100_000}, seed=1)
        hub.serve(TINY, other)
        report = convert_clip_model(TINY, tmp_path / "out")
        assert hub.fetched("model.safetensors")[-1].range is None
        assert report.digest == convert_clip_model(other, tmp_path / "local", verify=False).digest


class TestFailures:
    def test_no_connection(self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_ENDPOINT", CLOSED)
        with pytest.raises(DownloadError, match=CLOSED) as caught:
            convert_clip_model(output_dir=tmp_path / "out")
        assert_says_what_works_offline(caught.value)
        assert not (tmp_path / "out").exists()

    def test_offline_mode(self, tmp_path: Path) -> None:
        (tmp_path / "pictures").mkdir()
        command = [str(Path(sys.executable).with_name("arrowlens")), "ingest", str(tmp_path / "pictures")]
        options = ["--models", "base", "--library", str(tmp_path / "new.lens")]
        caches = {"ARROWLENS_CACHE": str(tmp_path / "cache"), "HF_HUB_CACHE": str(tmp_path / "hf")}
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", **caches}
        run = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 1
        assert run.stdout == ""
        *progress, last = run.stderr.strip().splitlines()
        assert "Traceback" not in run.stderr
        assert last.startswith("arrowlens: openai/clip-vit-base-patch16 cannot be downloaded"), progress
        assert "--models demo" in last
        assert "arrowlens convert" in last
        assert not (tmp_path / "new.lens").exists()

    def test_unknown_model(self, hub: Hub, tmp_path: Path) -> None:
        with pytest.raises(DownloadError, match="there is no such model") as caught:
            convert_clip_model("nobody/nothing", tmp_path / "out")
        assert_says_what_works_offline(caught.value)

    def test_gated_model(self, hub: Hub, tiny_clip: Path, tmp_path: Path) -> None:
        hub.serve(TINY, tiny_clip)
        hub.gated.add(TINY)
        with pytest.raises(DownloadError, match="accept its licence at"):
            convert_clip_model(TINY, tmp_path / "out")

    def test_unavailable(self, hub: Hub, tmp_path: Path) -> None:
        hub.status = 503
        with pytest.raises(DownloadError, match="answers 503") as caught:
            convert_clip_model(TINY, tmp_path / "out")
        assert_says_what_works_offline(caught.value)

    @pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
    def test_other_content_than_announced(self, hub: Hub, tiny_clip: Path, tmp_path: Path, name: str) -> None:
        hub.serve(TINY, tiny_clip)
        hub.tampered.add(name)
        with pytest.raises(DownloadError, match=rf"{name}.*not what it announced"):
            convert_clip_model(TINY, tmp_path / "out")
        left = [path for path in cache_directory().rglob("*") if path.suffix == ".part" or path.name == name]
        assert left == []
        hub.tampered.clear()
        convert_clip_model(TINY, tmp_path / "out", verify=False)

    def test_no_weights(self, hub: Hub, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / "config.json").write_text("{}")
        hub.serve(TINY, tmp_path / "empty")
        with pytest.raises(DownloadError, match="no PyTorch weights"):
            convert_clip_model(TINY, tmp_path / "out")

    def test_a_cache_folder_that_cannot_be_made(
        self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("ARROWLENS_CACHE", str(tmp_path / "file"))
        with pytest.raises(DownloadError, match="set ARROWLENS_CACHE"):
            convert_clip_model(TINY, tmp_path / "out")


class TestTheHuggingFaceCache:
    @pytest.fixture
    def cached(self, hub: Hub, tiny_clip: Path) -> Path:
        """The cache of a user who has the model; the stand-in forgets that it was asked for it."""
        hub.serve(TINY, tiny_clip, licence="mit")
        for path in hub.files(TINY):
            huggingface_hub.hf_hub_download(TINY, path.name, endpoint=hub.endpoint)
        hub.requests.clear()
        return Path(huggingface_hub.constants.HF_HUB_CACHE)

    def test_nothing_is_downloaded_that_lies_there(self, hub: Hub, cached: Path, tmp_path: Path) -> None:
        before = sorted(cached.rglob("*"))
        told: list[Progress] = []
        report = convert_clip_model(TINY, tmp_path / "out", verify=False, on_progress=told.append)
        assert report.licence == "mit"
        assert [r.path for r in hub.requests if "/api/models/" not in r.path] == []
        downloads = [progress for progress in told if progress.step == "download"]
        assert downloads[-1].done == downloads[-1].total
        assert sorted(cached.rglob("*")) == before

    def test_what_is_damaged_there_is_downloaded(self, hub: Hub, cached: Path, tiny_clip: Path, tmp_path: Path) -> None:
        (damaged,) = cached.rglob("model.safetensors")
        damaged.resolve().write_bytes(bytes(damaged.stat().st_size))
        report = convert_clip_model(TINY, tmp_path / "out", verify=False)
        assert len(hub.fetched("model.safetensors")) == 1
        assert report.digest == convert_clip_model(tiny_clip, tmp_path / "here", verify=False).digest

    def test_what_may_not_be_read_there_is_downloaded(
        self, hub: Hub, cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path_open = Path.open

        def refuse(path: Path, *arguments: object, **options: object) -> object:
            if path.name == "model.safetensors" and cached in path.parents:
                raise PermissionError(13, "Permission denied", str(path))
            return path_open(path, *arguments, **options)  # type: ignore[arg-type, call-overload]

        monkeypatch.setattr(Path, "open", refuse)  # the test may run as root, who may read everything
        convert_clip_model(TINY, tmp_path / "out", verify=False)
        assert len(hub.fetched("model.safetensors")) == 1

    def test_nothing_is_left_there(self, hub: Hub, tiny_clip: Path, tmp_path: Path) -> None:
        hub.serve(TINY, tiny_clip)
        convert_clip_model(TINY, tmp_path / "out", verify=False)
        assert not (tmp_path / "hf").exists()


class TestAHostileHub:
    """Nothing is fetched and nothing written but the lock, where names would lead out of the download folder."""

    @pytest.mark.parametrize(
        "name",
        [
            "../model.safetensors",
            "model-/../../../x-of-1.safetensors",
            "/tmp/arrowlens-was-here",
            "model-\\..\\x-of-1.safetensors",
            "model-\n-of-1.safetensors",
            "model-\x7f-of-1.safetensors",
            "model-\ud800-of-1.safetensors",
            "./config.json",
            "1_Pooling//config.json",
            "..",
            "",
        ],
    )
    def test_file_names(self, hub: Hub, tiny_clip: Path, tmp_path: Path, name: str) -> None:
        hub.serve(TINY, tiny_clip)
        siblings = [{"rfilename": path.name, "size": path.stat().st_size} for path in hub.files(TINY)]
        hub.claims["siblings"] = [*siblings, {"rfilename": name, "size": 1}]
        self.assert_refused(hub, tmp_path)

    @pytest.mark.parametrize(
        "revision", ["../../../../evil", "main", "", "a" * 39, "a" * 41, "A" * 40, "a" * 40 + "\n"]
    )
    def test_revisions(self, hub: Hub, tiny_clip: Path, tmp_path: Path, revision: str) -> None:
        hub.serve(TINY, tiny_clip)
        hub.claims["sha"] = revision
        self.assert_refused(hub, tmp_path)

    @staticmethod
    def assert_refused(hub: Hub, tmp_path: Path) -> None:
        before = {path for path in tmp_path.rglob("*") if path.is_file()}
        with pytest.raises(DownloadError, match="could lead out of the download folder") as caught:
            convert_clip_model(TINY, tmp_path / "out")
        assert_says_what_works_offline(caught.value)
        written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
        assert {path.suffix for path in written} <= {".lock"}
        assert [r.path for r in hub.requests] == [f"/api/models/{TINY}"]

    @pytest.mark.parametrize("etag", ["../../../../../evil", "/tmp/arrowlens-was-here", "x/../../evil"])
    def test_an_etag_is_no_path(self, hub: Hub, tiny_clip: Path, tmp_path: Path, etag: str) -> None:
        hub.serve(TINY, tiny_clip)
        hub.etag = etag
        convert_clip_model(TINY, tmp_path / "out", verify=False)
        outside = [path for path in tmp_path.rglob("*") if "evil" in path.name]
        assert outside == []
        assert not Path("/tmp/arrowlens-was-here").exists()

    @pytest.mark.parametrize("claim", [{"siblings": [1]}, {"siblings": [{"size": 1}]}, {"sha": None}, {"siblings": 5}])
    def test_another_form_of_answer(self, hub: Hub, tiny_clip: Path, tmp_path: Path, claim: dict[str, object]) -> None:
        hub.serve(TINY, tiny_clip)
        hub.claims.update(claim)
        with pytest.raises(DownloadError) as caught:
            convert_clip_model(TINY, tmp_path / "out")
        assert_says_what_works_offline(caught.value)


class TestTheBaseSet:
    @pytest.fixture
    def base(self, hub: Hub, tiny_clip: Path, tmp_path: Path) -> Hub:
        hub.serve("openai/clip-vit-base-patch16", tiny_clip)
        hub.serve("openai/whisper-base", whisper_checkpoint(tmp_path / "w", "WhisperForConditionalGeneration"))
        hub.serve("sentence-transformers/all-MiniLM-L6-v2", bert_checkpoint(tmp_path / "b"), licence="apache-2.0")
        return hub

    def test_installs_on_first_use_and_once(self, base: Hub) -> None:
        assert {model.state for model in models.available() if model.set_name == "base"} == {"downloadable"}
        told: list[Progress] = []
        installed = models.resolve("base", told.append)
        families = {role: model_info(path).family for role, path in installed.directories().items()}
        assert families == {"vision": "clip", "audio": "whisper", "text": "bert"}
        assert {"licence", "download", "convert", "verify"} == {progress.step for progress in told}
        asked, again = len(base.requests), []
        assert models.resolve("base", again.append) == installed
        assert (len(base.requests), again) == (asked, [])
        cached = [model for model in models.available() if model.set_name == "base"]
        assert [(model.state, model.path) for model in cached] == [
            ("cached", path) for path in installed.directories().values()
        ]
        assert all(model.n_bytes > 10_000 and model.digest for model in cached)

    def test_what_was_installed_stays_when_the_next_one_fails(self, base: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        del base.models["openai/whisper-base"]
        with pytest.raises(DownloadError, match="openai/whisper-base"):
            models.resolve("base")
        states = {model.role: model.state for model in models.available() if model.set_name == "base"}
        assert states == {"vision": "cached", "audio": "downloadable", "text": "downloadable"}

    def test_a_bad_conversion_installs_nothing(self, base: Hub, tmp_path: Path) -> None:
        edit_config(tmp_path / "w", max_source_positions=750)
        with pytest.raises(ConversionError, match="max_source_positions"):
            models.resolve("base")
        assert sorted(path.name for path in (cache_directory() / "models").iterdir() if path.is_dir()) == [
            "openai--clip-vit-base-patch16"
        ]

    def test_two_processes_at_once_install_once(self, base: Hub) -> None:
        code = (
            "import json, sys, torch; torch.set_num_threads(1)\n"
            "from arrowlens.models import resolve\n"
            "told = []\n"
            "found = resolve('base', lambda progress: told.append(progress.step))\n"
            "json.dump([str(path) for path in found.directories().values()], sys.stdout)"
        )
        processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
        answers = [process.communicate(timeout=240)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0]
        assert json.loads(answers[0]) == json.loads(answers[1])
        assert len(base.fetched("model.safetensors")) == 3
