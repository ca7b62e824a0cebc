"""Weights on disk: mapped, aligned, strict, and clear about what is wrong."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from arrowlens.conversion import convert_clip_model
from arrowlens.encoders import WeightLoader, load_model_with_validation, model_info, write_model
from arrowlens.encoders.transformer import LazyParameters, Linear
from arrowlens.encoders.weights import ALIGNMENT
from arrowlens.errors import InputError, ModelLoadError
from tests.support.checkpoints import clip_checkpoint

DIMENSIONS = {"hidden_size": 8, "projection_dim": None}


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "a.weight": torch.randn(3, 5, generator=generator).half(),
        "b.weight": torch.randn(768, 129, generator=generator).half(),
        "c.bias": torch.randn(7, generator=generator).bfloat16(),
        "logit_scale": torch.tensor(4.6051702),
    }


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_model(
        tmp_path,
        tensors(),
        family="clip",
        dimensions=DIMENSIONS,
        source="a test",
        space="shared",
        files={"preprocessor.json": b"{}"},
    )
    return tmp_path


def mappings_of(path: Path) -> list[tuple[int, int]]:
    """Address ranges at which the kernel says the file is mapped into this process."""
    ranges = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(str(path)):
            start, end = line.split()[0].split("-")
            ranges.append((int(start, 16), int(end, 16)))
    return ranges


def test_tensors_lie_inside_the_mapping_on_multiples_of_64(directory: Path) -> None:
    loader = WeightLoader(directory)
    ranges = mappings_of(directory / "weights.arrow")
    assert ranges
    for name, tensor in loader.load_weights().items():
        address, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        assert address % ALIGNMENT == 0, name
        assert any(low <= address and end <= high for low, high in ranges), name


def test_a_module_gets_the_mapped_memory_itself(directory: Path) -> None:
    module = LazyParameters(weight=(3, 5))
    loader = WeightLoader(directory)
    loader.load_into(module, "a.")
    assert module.weight.data_ptr() == loader.tensor("a.weight").data_ptr()


@pytest.mark.parametrize("container", ["arrow", "parquet"])
def test_round_trip_keeps_every_bit(tmp_path: Path, container: str) -> None:
    written = write_model(tmp_path, tensors(), family="clip", dimensions=DIMENSIONS, source="a test", format=container)
    loader = WeightLoader(tmp_path)
    loader.verify()
    assert loader.info == written == model_info(tmp_path)
    for name, tensor in loader.load_weights().items():
        assert tensor.dtype == tensors()[name].dtype
        assert torch.equal(tensor, tensors()[name]), name
    assert len(loader.load_weights()) == len(tensors())


def test_the_digest_is_the_content_and_not_the_container(tmp_path: Path) -> None:
    digests = {}
    for kind in ("arrow", "parquet", "changed"):
        (tmp_path / kind).mkdir()
        changed = tensors()
        if kind == "changed":
            changed["a.weight"][0, 0] += 1
        written = write_model(
            tmp_path / kind,
            changed,
            family="clip",
            dimensions=DIMENSIONS,
            source=kind,
            format="parquet" if kind == "parquet" else "arrow",
        )
        digests[kind] = written.digest
    assert digests["arrow"] == digests["parquet"] != digests["changed"]


def test_parquet_has_the_exchange_layout(tmp_path: Path) -> None:
    halves = {name: tensor.half() for name, tensor in tensors().items()}
    write_model(tmp_path, halves, family="clip", dimensions=DIMENSIONS, source="a test", format="parquet")
    table = pq.read_table(tmp_path / "weights.parquet")
    assert table.column_names == ["layer_name", "weights", "shape", "dtype"]
    assert table.schema.field("weights").type.value_type == pa.float16()
    assert table["shape"].to_pylist()[0] == "(3, 5)"


def test_a_missing_tensor_is_named(directory: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"tensor 'b\.bias' is missing.*arrowlens convert"):
        WeightLoader(directory).load_into(Linear(129, 768), "b.")


def test_a_wrong_shape_is_named(directory: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"tensor 'a\.weight' has shape \(3, 5\).*ask for \(4, 5\)"):
        WeightLoader(directory).load_into(Linear(5, 4), "a.")


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=re.escape(str(tmp_path / "nowhere")) + ".*no such directory"):
        WeightLoader(tmp_path / "nowhere")
    with pytest.raises(ModelLoadError, match=r"no weights\.arrow in it"):
        WeightLoader(tmp_path)


@pytest.mark.parametrize("keep", [0, 1, 7, 100, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(directory: Path, keep: float) -> None:
    path = directory / "weights.arrow"
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(ModelLoadError, match=r"weights\.arrow"):
        WeightLoader(directory)
    with pytest.raises(ModelLoadError, match=r"weights\.arrow"):
        model_info(directory)


@pytest.mark.parametrize("content", [b"PAR1 nonsense PAR1", b"\0" * 5000, b"hello\n"])
def test_foreign_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("weights.arrow", "weights.parquet"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelLoadError, match=name):
            WeightLoader(tmp_path / name)


def test_an_arrow_file_of_something_else_is_refused(tmp_path: Path) -> None:
    table = pa.table({"x": [1, 2, 3]})
    with pa.ipc.new_file(str(tmp_path / "weights.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ModelLoadError, match="not a weights file of Arrowlens"):
        WeightLoader(tmp_path)


def test_a_flipped_bit_in_a_tensor_is_found_by_verify(directory: Path) -> None:
    path = directory / "weights.arrow"
    loader = WeightLoader(directory)
    offset = loader.tensor("b.weight").data_ptr() - mappings_of(path)[0][0]
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelLoadError, match="damaged"):
        WeightLoader(directory).verify()


def test_a_shape_that_the_data_cannot_hold_is_refused(directory: Path) -> None:
    path = directory / "weights.arrow"
    data = path.read_bytes()
    shape = (3).to_bytes(8, "little") + (5).to_bytes(8, "little")
    assert data.count(shape) == 1
    path.write_bytes(data.replace(shape, (3000).to_bytes(8, "little") + (5).to_bytes(8, "little")))
    with pytest.raises(ModelLoadError, match=r"tensor 'a\.weight' of shape \(3000, 5\) needs"):
        WeightLoader(directory)


def test_a_changed_preprocessing_file_is_refused(directory: Path) -> None:
    assert WeightLoader(directory).read_file("preprocessor.json") == b"{}"
    (directory / "preprocessor.json").write_bytes(b'{"image_size": 5}')
    with pytest.raises(ModelLoadError, match=r"preprocessor\.json: not the file"):
        WeightLoader(directory).read_file("preprocessor.json")
    (directory / "preprocessor.json").unlink()
    with pytest.raises(ModelLoadError, match=r"preprocessor\.json: No such file"):
        WeightLoader(directory).read_file("preprocessor.json")


def test_a_newer_format_asks_for_an_upgrade(directory: Path) -> None:
    path = directory / "weights.arrow"
    data = path.read_bytes()
    reader = pa.ipc.open_file(pa.py_buffer(data))
    newer = {**reader.schema.metadata, b"arrowlens.format_version": b"99"}
    batch = reader.get_batch(0).replace_schema_metadata(newer)
    with pa.ipc.new_file(str(path), batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(ModelLoadError, match=r"format 99 is newer.*upgrade"):
        WeightLoader(directory)


def test_a_model_of_another_family_is_refused(directory: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"holds a clip model; audio needs one made by .arrowlens convert whisper"):
        load_model_with_validation(directory, "audio")
    with pytest.raises(InputError, match="'image' is unknown"):
        load_model_with_validation(directory, "image")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    convert_clip_model(clip_checkpoint(folder / "checkpoint"), folder / "model", verify=False)
    return folder / "model"


def rewritten(source: Path, target: Path, weights: dict[str, torch.Tensor], **dimensions: object) -> Path:
    """The model directory ``source`` with other tensors or dimensions."""
    loader = WeightLoader(source)
    files = {name: loader.read_file(name) for name in loader.info.files}
    changed = {**loader.info.dimensions, **dimensions}
    write_model(target, weights, family=loader.info.family, dimensions=changed, source="wrong", files=files)
    return target


@pytest.mark.parametrize(
    "name", ["vision.post_layernorm.bias", "text_projection.weight", "vision_projection.weight", "logit_scale"]
)
def test_every_tensor_that_is_needed_is_missed_and_measured(clip: Path, tmp_path: Path, name: str) -> None:
    weights = WeightLoader(clip).load_weights()
    assert set(load_model_with_validation(clip, "clip")) == set(weights)
    without = {key: value for key, value in weights.items() if key != name}
    with pytest.raises(ModelLoadError, match=f"tensor '{re.escape(name)}' is missing"):
        load_model_with_validation(rewritten(clip, tmp_path, without), "clip")
    longer = {**weights, name: torch.cat([weights[name].reshape(-1)] * 2)}
    with pytest.raises(ModelLoadError, match=f"tensor '{re.escape(name)}' has shape"):
        load_model_with_validation(rewritten(clip, tmp_path, longer), "clip")


def test_dimensions_that_do_not_fit_are_said(clip: Path, tmp_path: Path) -> None:
    weights = WeightLoader(clip).load_weights()
    with pytest.raises(ModelLoadError, match=r"dimensions do not fit .*'depth'"):
        load_model_with_validation(rewritten(clip, tmp_path, weights, vision={"depth": 3}), "vision")


def test_writing_leaves_other_mappings_alone(directory: Path) -> None:
    first, second = WeightLoader(directory), WeightLoader(directory)
    ctypes.memset(first.tensor("a.weight").data_ptr(), 0, 4)
    assert not torch.equal(first.tensor("a.weight"), second.tensor("a.weight"))
    assert torch.equal(second.tensor("a.weight"), tensors()["a.weight"])
    WeightLoader(directory).verify()
