"""Checkpoint folders: which files are read, and what is said of damaged, foreign and hostile ones."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from arrowlens.conversion import convert_clip_model
from arrowlens.conversion.checkpoint import Checkpoint
from arrowlens.conversion.renaming import ZEROS, RenameTable, rename
from arrowlens.errors import ConversionError

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.arange(2.0), "b.bias": torch.tensor([5.0, 7.0])}


def checkpoint(directory: Path, tensors: dict[str, torch.Tensor] | None = None) -> Checkpoint:
    save_file(TENSORS if tensors is None else tensors, directory / "model.safetensors")
    return Checkpoint(directory, "test")


def read(found: Checkpoint) -> dict[str, torch.Tensor]:
    return {name: tensor.load() for name, tensor in found.tensors()}


class TestReading:
    def test_safetensors_before_a_pickle(self, tmp_path: Path) -> None:
        torch.save({"other": torch.ones(1)}, tmp_path / "pytorch_model.bin")
        assert sorted(read(checkpoint(tmp_path))) == sorted(TENSORS)

    def test_a_pickle_of_tensors(self, tmp_path: Path) -> None:
        torch.save(TENSORS, tmp_path / "pytorch_model.bin")
        found = read(Checkpoint(tmp_path, "test"))
        assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())

    @pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
    def test_shards(self, tmp_path: Path, name: str) -> None:
        weight_map = {}
        for number, (key, tensor) in enumerate(TENSORS.items()):
            shard = f"part-{number}{Path(name).suffix}"
            weight_map[key] = shard
            if shard.endswith("safetensors"):
                save_file({key: tensor}, tmp_path / shard)
            else:
                torch.save({key: tensor}, tmp_path / shard)
        (tmp_path / f"{name}.index.json").write_text(json.dumps({"weight_map": weight_map}))
        found = read(Checkpoint(tmp_path, "test"))
        assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())

    def test_no_weights(self, tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match=r"neither model.safetensors nor pytorch_model.bin"):
            read(Checkpoint(tmp_path, "test"))

    def test_no_config(self, tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match=r"no config.json in it"):
            Checkpoint(tmp_path, "test").config()

    @pytest.mark.parametrize(("content", "says"), [("{", "not JSON"), ("[]", "not a JSON object"), ("", "not JSON")])
    def test_a_garbled_config(self, tmp_path: Path, content: str, says: str) -> None:
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(ConversionError, match=says):
            Checkpoint(tmp_path, "test").config()


class TestDamagedAndHostile:
    @pytest.mark.parametrize("keep", [0, 5, 40, -1])
    @pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
    def test_truncated(self, tmp_path: Path, name: str, keep: int) -> None:
        if name == "model.safetensors":
            checkpoint(tmp_path)
        else:
            torch.save(TENSORS, tmp_path / name)
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(ConversionError, match=name) as caught:
            read(Checkpoint(tmp_path, "test"))
        assert "\n" not in str(caught.value)

    def test_code_in_a_pickle_is_not_run(self, tmp_path: Path) -> None:
        marker = tmp_path / "was run"

        class Hostile:
            def __reduce__(self) -> tuple[object, tuple[object, ...]]:
                return (Path.touch, (marker,))

        torch.save({"weight": Hostile()}, tmp_path / "pytorch_model.bin")
        with pytest.raises(ConversionError, match="could run code"):
            read(Checkpoint(tmp_path, "test"))
        assert not marker.exists()

    def test_a_plain_pickle_is_not_run_either(self, tmp_path: Path) -> None:
        marker = tmp_path / "was run"

        class Hostile:
            def __reduce__(self) -> tuple[object, tuple[object, ...]]:
                return (Path.touch, (marker,))

        (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile(), protocol=2))
        with pytest.raises(ConversionError):
            read(Checkpoint(tmp_path, "test"))
        assert not marker.exists()

    def test_a_pickle_of_something_else(self, tmp_path: Path) -> None:
        torch.save([1, 2], tmp_path / "pytorch_model.bin")
        with pytest.raises(ConversionError, match="not a dictionary of tensors"):
            read(Checkpoint(tmp_path, "test"))

    @pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/passwd", "sub/part.safetensors", "..\\x", ".."])
    def test_a_shard_outside_the_folder(self, tmp_path: Path, shard: str) -> None:
        index = tmp_path / "inner" / "model.safetensors.index.json"
        index.parent.mkdir()
        save_file(TENSORS, tmp_path / "secret.safetensors")
        index.write_text(json.dumps({"weight_map": {"a": shard}}))
        with pytest.raises(ConversionError, match=r"lies outside the checkpoint folder|is not there"):
            read(Checkpoint(index.parent, "test"))

    @pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": ["a"]}])
    def test_an_index_without_a_map(self, tmp_path: Path, index: object) -> None:
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(ConversionError, match="no weight_map"):
            read(Checkpoint(tmp_path, "test"))

    def test_a_missing_shard_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "part.safetensors"}}')
        with pytest.raises(ConversionError, match=r"shard 'part.safetensors' is not there"):
            read(Checkpoint(tmp_path, "test"))


class TestSources:
    @pytest.mark.parametrize("source", ["no-such-folder", "./no/such", "/no/such/folder", "a/b/c", "", "../x"])
    def test_neither_a_folder_nor_a_hub_id(self, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        name = source or str(tmp_path / "file")
        (tmp_path / "file").touch()
        with pytest.raises(ConversionError, match="neither a checkpoint folder nor a hub id"):
            convert_clip_model(name, tmp_path / "out")


class TestRenaming:
    TABLE = RenameTable(
        names={"ours.{p}": "a.{p}", "packed": ("a.bias", ZEROS, "b.bias")},
        spellings=((r"^model\.", ""),),
        ignored=(r"extra\..*",),
        full_precision=frozenset({"packed"}),
    )
    COUNTERS = {"p": ("weight", "bias")}  # noqa: RUF012 - a constant

    def test_names_packing_and_types(self, tmp_path: Path) -> None:
        tensors = {f"model.{name}": tensor for name, tensor in TENSORS.items()} | {"extra.x": torch.ones(3)}
        renamed = rename(checkpoint(tmp_path, tensors), self.TABLE, self.COUNTERS, "float16")
        assert torch.equal(renamed.tensors["ours.weight"], TENSORS["a.weight"].half())
        assert renamed.tensors["packed"].dtype == torch.float32
        assert renamed.tensors["packed"].tolist() == [0.0, 1.0, 0.0, 0.0, 5.0, 7.0]
        assert renamed.original_bytes == 4 * (6 + 2 + 2 + 2)

    def test_a_name_twice(self, tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match=r"'a.bias' and 'model.a.bias'|'model.a.bias' and 'a.bias'"):
            rename(checkpoint(tmp_path, {**TENSORS, "model.a.bias": torch.ones(2)}), self.TABLE, self.COUNTERS)

    def test_partners_of_other_shapes(self, tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match=r"'a.bias' and its partners differ in shape: \[\(2,\), \(3,\)\]"):
            rename(checkpoint(tmp_path, {**TENSORS, "b.bias": torch.ones(3)}), self.TABLE, self.COUNTERS)

    def test_whole_numbers(self, tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match=r"tensor 'b.bias' has type torch.int64"):
            rename(checkpoint(tmp_path, {**TENSORS, "b.bias": torch.tensor([1, 2])}), self.TABLE, self.COUNTERS)
