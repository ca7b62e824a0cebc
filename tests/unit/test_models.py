"""Model sets by name, and what is said of those that are not there (installing ``base``: test_download)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from arrowlens import models
from arrowlens.encoders import write_model
from arrowlens.encoders.registry import FAMILIES
from arrowlens.errors import ModelLoadError
from arrowlens.models import ModelSet, available, resolve


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model directory of each role; headers are all that matters here."""
    folder = tmp_path_factory.mktemp("made, with commas")
    families = {family.role: family for family in reversed(FAMILIES)}  # the first of each role
    for family in families.values():
        (folder / family.role).mkdir()
        tensors, dimensions = {"weight": torch.ones(3)}, {"hidden_size": 3}
        write_model(folder / family.role, tensors, family=family.name, dimensions=dimensions, source="mine")
    return {role: folder / role for role in families}


class TestDirectories:
    def test_all_three(self, made: dict[str, Path]) -> None:
        spec = ",".join(f"{role}={path}" for role, path in made.items())
        found = resolve(spec)
        assert found == ModelSet(spec, made["vision"], made["audio"], made["text"])
        assert found.directories() == made

    @pytest.mark.parametrize("role", ["vision", "audio", "text"])
    def test_each_is_optional(self, made: dict[str, Path], role: str) -> None:
        assert resolve(f"{role}={made[role]}").directories() == {role: made[role]}

    def test_relative_and_home_folders_become_absolute(
        self, made: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(made["vision"].parent)
        assert resolve("vision=vision").vision == made["vision"]
        monkeypatch.setenv("HOME", str(made["vision"].parent))
        assert resolve("vision=~/vision").vision == made["vision"]

    @pytest.mark.parametrize(
        "spec",
        [
            "",
            "dmo",
            "Demo",
            "vision",
            "vision=",
            "vision=a,",
            ",vision=a",
            "visions=a",
            "vision=,audio=b",
            "demo,base",
            "=a",
        ],
    )
    def test_garbled(self, spec: str, made: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(made["vision"].parent)
        with pytest.raises(ModelLoadError) as caught:
            resolve(spec)
        assert "\n" not in str(caught.value)
        assert "vision=DIR,audio=DIR,text=DIR" in str(caught.value) or "no such directory" in str(caught.value)

    def test_a_role_twice(self, made: dict[str, Path]) -> None:
        with pytest.raises(ModelLoadError, match="garbled at 'vision="):
            resolve(f"vision={made['vision']},vision={made['vision']}")

    def test_the_earlier_name_of_the_vision_role(self, made: dict[str, Path]) -> None:
        spec = f"clip={made['vision']},audio={made['audio']}"
        assert resolve(spec).directories() == {"vision": made["vision"], "audio": made["audio"]}
        with pytest.raises(ModelLoadError, match="garbled at 'vision="):
            resolve(f"clip={made['vision']},vision={made['vision']}")
        with pytest.warns(DeprecationWarning, match="vision"):
            assert resolve(spec).clip == made["vision"]

    @pytest.mark.parametrize(
        ("spec", "others", "sources"),
        [
            ("demo,audio={audio}", None, {"vision": "demo", "audio": "{audio}"}),
            ("demo,text={text}", None, {"vision": "demo", "audio": "demo", "text": "{text}"}),
            ("audio=demo", None, {"audio": "demo"}),
            ("clip=demo,text={text}", None, {"vision": "demo", "text": "{text}"}),
            ("audio=demo", "vision={vision},audio={audio}", {"vision": "{vision}", "audio": "demo"}),
            ("text={text}", "demo", {"vision": "demo", "audio": "demo", "text": "{text}"}),
            ("demo", "vision={vision},text={text}", {"vision": "demo", "audio": "demo"}),
        ],
    )
    def test_a_set_with_roles_exchanged(
        self, made: dict[str, Path], spec: str, others: str | None, sources: dict[str, str]
    ) -> None:
        spec, others = spec.format(**made), others and others.format(**made)
        found = resolve(spec, others=others)
        assert found.sources == {role: source.format(**made) for role, source in sources.items()}
        demo = resolve("demo").directories()
        expected = {role: demo[role] if source == "demo" else made[role] for role, source in sources.items()}
        assert found.directories() == expected

    def test_a_folder_with_the_name_of_a_set(self, made: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        folder = made["text"].parent / "links"
        folder.mkdir()
        (folder / "demo").symlink_to(made["text"])
        monkeypatch.chdir(folder)
        assert resolve("text=./demo").text == folder / "demo"
        with pytest.raises(ModelLoadError, match=r"the set demo has no text model .*; sets with one: base.*\./demo"):
            resolve("text=demo")

    def test_directories_are_checked_before_anything_is_downloaded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ARROWLENS_CACHE", str(tmp_path / "cache"))
        with pytest.raises(ModelLoadError, match="no such directory"):
            resolve(f"base,audio={tmp_path / 'nothing'}")
        assert not (tmp_path / "cache").exists()

    def test_a_missing_directory(self, tmp_path: Path) -> None:
        with pytest.raises(ModelLoadError, match=r"nothing: no such directory; make one with 'arrowlens convert"):
            resolve(f"vision={tmp_path / 'nothing'}")

    def test_no_model_in_it(self, tmp_path: Path) -> None:
        with pytest.raises(ModelLoadError, match="convert"):
            resolve(f"audio={tmp_path}")

    def test_a_damaged_model(self, tmp_path: Path) -> None:
        (tmp_path / "weights.arrow").write_bytes(b"ARROW1\0\0 and nothing more")
        with pytest.raises(ModelLoadError, match=r"weights.arrow: truncated, damaged or not a weights file"):
            resolve(f"text={tmp_path}")

    def test_a_model_of_another_kind(self, made: dict[str, Path]) -> None:
        with pytest.raises(
            ModelLoadError, match=r"holds a whisper model; text needs one made by 'arrowlens convert text'"
        ):
            resolve(f"text={made['audio']}")


class TestNamedSets:
    def test_where_base_models_are_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ARROWLENS_CACHE", str(tmp_path))
        assert [(model.role, model.model_id) for model in models.BASE] == [
            ("vision", "openai/clip-vit-base-patch16"),
            ("audio", "openai/whisper-base"),
            ("text", "sentence-transformers/all-MiniLM-L6-v2"),
        ]
        assert models.BASE[0].directory == tmp_path / "models" / "openai--clip-vit-base-patch16"

    def test_what_can_be_downloaded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ARROWLENS_CACHE", str(tmp_path))
        found = [model for model in available() if model.set_name == "base"]
        assert [(model.role, model.state, model.licence) for model in found] == [
            ("vision", "downloadable", "MIT"),
            ("audio", "downloadable", "Apache-2.0"),
            ("text", "downloadable", "Apache-2.0"),
        ]
        assert all(model.n_bytes > 50_000_000 and model.path is None and model.digest is None for model in found)
        assert list(tmp_path.iterdir()) == []

    def test_the_demo_is_bundled(self) -> None:
        found = resolve("demo")
        assert found.directories() == {"vision": models.DEMO / "clip", "audio": models.DEMO / "audio"}
        listed = {model.role: model for model in available() if model.set_name == "demo"}
        assert {role: (model.state, model.path) for role, model in listed.items()} == {
            "vision": ("bundled", models.DEMO / "clip"),
            "audio": ("bundled", models.DEMO / "audio"),
        }

    def test_sets_by_need(self) -> None:
        published = {name: [model.model_id for model in listed] for name, listed in models.PRETRAINED_SETS.items()}
        minilm = "sentence-transformers/all-MiniLM-L6-v2"
        assert published == {
            "base": ["openai/clip-vit-base-patch16", "openai/whisper-base", minilm],
            "standard": ["google/siglip2-base-patch16-224", "laion/clap-htsat-unfused", minilm],
            "fast": ["google/siglip2-base-patch32-256", "laion/clap-htsat-unfused", minilm],
            "best": ["google/siglip2-so400m-patch14-384", "laion/clap-htsat-unfused", minilm],
            "speech": ["google/siglip2-base-patch16-224", "openai/whisper-base"],
        }

    def test_what_a_benchmark_measured_is_shown(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ARROWLENS_CACHE", str(tmp_path))
        digest = next(model.digest for model in available() if model.set_name == "demo" and model.role == "vision")
        assert digest is not None
        assert all(model.ms_per_item is None for model in available())
        models.keep_speeds({digest: 12.5})
        models.keep_speeds({"f" * 64: 1.0})
        shown = {model.role: model.ms_per_item for model in available() if model.set_name == "demo"}
        assert shown == {"vision": 12.5, "audio": None}
        for damaged in (b"", b"[1]", b'{"a": "x"}', b'{"a": -1}', b"\xff", b'{"a": 1' + b"0" * 400 + b"}", b"[" * 5000):
            (tmp_path / "speeds.json").write_bytes(damaged)
            assert all(model.ms_per_item is None for model in available())

    def test_listing_imports_no_torch(self) -> None:
        code = (
            "import sys; from arrowlens import models; models.available()\n"
            "assert not {'torch', 'transformers', 'huggingface_hub', 'librosa'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
