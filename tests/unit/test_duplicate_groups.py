"""Groups of duplicates over a real store with vectors made by hand."""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from arrowlens.errors import InputError
from arrowlens.media.acoustic_fingerprint import acoustic_fingerprint
from arrowlens.search.duplicates import KINDS, find_duplicates
from arrowlens.store import ModelRecord, MultimodalStorage, VectorRow, media_id_of
from tests.support.duplicate_cases import jpeg, scene

DIMENSION = 16
DIGESTS = {"vision": "c" * 64, "audio": "a" * 64}


@dataclass
class File:
    """What a row of the library holds."""

    name: str
    content: str
    vector: np.ndarray | None = None
    image: Image.Image | None = None
    size: int = 1000
    width: int = 100
    modality: str = "image"
    trivial: bool = False
    reason: str | None = None
    day: int = 1
    sound: np.ndarray | None = None


def filled(folder, files, root="/media", roles=("vision", "audio")):
    storage = MultimodalStorage(folder / "a.lens")
    storage.bind_models({role: ModelRecord(DIGESTS[role], DIMENSION, "test") for role in roles})
    place = storage.add_root(root)
    rows = []
    for file in files:
        path = os.fsencode(file.name)
        media_id, content = media_id_of(place.root_id, path), file.content * 32
        is_image = file.modality == "image"
        rows.append(
            {
                "media_id": media_id,
                "root_id": place.root_id,
                "path": file.name,
                "path_bytes": path,
                "content_hash": content,
                "size": file.size,
                "modality": file.modality,
                "format": "png" if is_image else "wav",
                "width": file.width if is_image else None,
                "height": 100 if is_image else None,
                "duration": None if is_image else 5.0,
                "sample_rate": None if is_image else 16_000,
                "modified_ns": file.day * 10**9,
                "modified": dt.datetime(2020, 1, file.day, tzinfo=dt.UTC),
                "trivial": file.trivial,
                "reason": file.reason,
                "state": "indexed",
            }
        )
        role = "vision" if is_image else "audio"
        if file.vector is not None and role in roles:
            storage.upsert_vectors(role, [VectorRow(media_id, content, file.modality, file.vector)])
        if file.image is not None:
            storage.upsert_thumbnails({content: jpeg(file.image)})
        if file.sound is not None:
            storage.upsert_fingerprints({content: acoustic_fingerprint(file.sound).parts})
    storage.upsert_media(rows)
    return storage


def direction(*seed):
    return np.random.default_rng(seed).standard_normal(DIMENSION)


def shown(groups):
    return [(group.kind, [os.fsdecode(member.path.name) for member in group.files]) for group in groups]


def test_the_three_kinds_lie_over_one_another(tmp_path):
    picture, vector = scene(1), direction(0)
    later = scene(1, moment=1)
    files = [
        File("small.png", "a", vector, picture, size=10, width=50),
        File("large.png", "b", vector + 0.01, picture, size=900, width=200),
        File("large again.png", "b", vector + 0.01, picture, size=900, width=200, day=3),
        File("later.png", "c", vector + 0.1, later, size=700, width=100),
        File("other.png", "d", direction(9), scene(2)),
    ]
    with filled(tmp_path, files) as storage:
        groups = find_duplicates(storage)
        assert shown(groups) == [
            ("identical", ["large.png", "large again.png"]),
            ("copy", ["large.png", "small.png"]),
            ("near", ["large.png", "later.png"]),
        ]
        assert [group.saving for group in groups] == [900, 10, 700]
        assert sum(group.saving for group in groups) == sum(f.size for f in files) - 900 - 1000
        best, near = groups[2].files
        assert best.similarity == 1.0
        assert near.similarity == pytest.approx(cosine(vector + 0.01, vector + 0.1), abs=2e-3)
        assert (best.width, best.height, best.format, best.size) == (200, 100, "png", 900)
        assert groups[0].files[1].similarity == 1.0
        for kind in KINDS:
            assert find_duplicates(storage, [kind]) == [group for group in groups if group.kind == kind]


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_what_shows_nothing_pairs_only_with_equal_bytes(tmp_path):
    black, vector = Image.new("RGB", (320, 240)), direction(1)
    files = [File(f"black {n}.png", name, vector, black, trivial=True) for n, name in enumerate("aabc")]
    files += [File(f"silence {n}.wav", name, vector, modality="audio", trivial=True) for n, name in enumerate("ddef")]
    with filled(tmp_path, files) as storage:
        assert shown(find_duplicates(storage)) == [
            ("identical", ["black 0.png", "black 1.png"]),
            ("identical", ["silence 0.wav", "silence 1.wav"]),
        ]


def test_groups_come_in_one_order_whatever_the_order_of_writing(tmp_path):
    files = [
        File(f"{n} of {group}.png", f"{group}{n}"[:2], direction(group) + 0.01 * n, scene(group), width=100 + n)
        for group in range(6)
        for n in range(3)
    ]
    for number, file in enumerate(files):
        file.content = "0123456789abcdefgh"[number]
        file.size = 100 * (number // 3)
    with filled(tmp_path / "1", files) as first, filled(tmp_path / "2", files[::-1]) as second:
        groups = find_duplicates(first)
        assert groups == find_duplicates(second)
        assert [group.saving for group in groups] == sorted((group.saving for group in groups), reverse=True)
        assert shown(groups)[-1] == ("copy", ["2 of 0.png", "1 of 0.png", "0 of 0.png"])


def noise(seed, seconds=2.0):
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * 16_000)).astype(np.float32)


def recordings():
    """A recording in two files, a part of it, and another one; to the model all are the same."""
    vector = direction(5)
    return [
        File("a.wav", "a", vector, modality="audio", size=500, sound=noise(1)),
        File("a.mp3", "b", vector, modality="audio", size=50, sound=0.5 * noise(1)),
        File("part.wav", "c", vector, modality="audio", size=40, sound=noise(1)[:26_000]),
        File("other.wav", "d", vector, modality="audio", sound=noise(2)),
    ]


def test_the_sound_decides_over_recordings_and_no_vector(tmp_path):
    files = recordings()
    with filled(tmp_path / "1", files) as storage:
        groups = find_duplicates(storage)
        assert shown(groups) == [("copy", ["a.wav", "a.mp3"]), ("near", ["a.wav", "part.wav"])]
        assert [member.similarity for member in groups[0].files] == [1.0, pytest.approx(1.0, abs=0.01)]
        assert groups.n_not_compared == 0
    for file in files:
        file.vector = None
    with filled(tmp_path / "2", files) as storage:
        assert find_duplicates(storage) == groups


def test_what_is_near_saves_nothing(tmp_path):
    with filled(tmp_path, recordings()) as storage:
        groups = find_duplicates(storage)
        assert [group.saving for group in groups] == [50, 40]
        assert groups.saving == 50
        assert find_duplicates(storage, ["near"]).saving == 0


def test_recordings_without_a_fingerprint_are_counted_and_only_ever_identical(tmp_path):
    files = recordings()
    files[1].sound = None
    files += [File("a again.wav", "a", modality="audio", size=500, day=2), File("silence.wav", "e", trivial=True)]
    with filled(tmp_path, files) as storage:
        groups = find_duplicates(storage)
        assert shown(groups) == [("identical", ["a.wav", "a again.wav"]), ("near", ["a.wav", "part.wav"])]
        assert groups.n_not_compared == 1
        assert find_duplicates(storage, ["identical"]).n_not_compared == 0


def test_fingerprints_leave_with_their_recordings(tmp_path):
    files = recordings()
    with filled(tmp_path, files) as storage:
        storage.forget(["/media/a.wav"])
        held = storage.fingerprints([file.content * 32 for file in files], "spectrum")
        assert set(held) == {"b" * 32, "c" * 32, "d" * 32}


def test_a_library_without_a_picture_model_compares_hashes(tmp_path):
    files = [File("a.png", "a", None, scene(2), width=300), File("b.png", "b", None, scene(2)), File("c.png", "c")]
    with filled(tmp_path, files, roles=("audio",)) as storage:
        assert shown(find_duplicates(storage)) == [("copy", ["a.png", "b.png"])]


def test_files_that_changed_and_could_not_be_read_are_left_out(tmp_path):
    files = [File("a.png", "a"), File("b.png", "a", reason="truncated"), File("c.png", "c")]
    with filled(tmp_path, files) as storage:
        assert find_duplicates(storage) == []


def test_names_of_one_file_count_once(tmp_path):
    folder = tmp_path / "media"
    folder.mkdir()
    for name in ("real.png", "copy.png"):
        (folder / name).write_bytes(b"the same")
    (folder / "a link.png").symlink_to(folder / "real.png")
    (folder / "hard.png").hardlink_to(folder / "copy.png")
    files = [File(path.name, "a", day=day) for day, path in enumerate(sorted(folder.iterdir()), 1)]
    with filled(tmp_path, files, root=str(folder)) as storage:
        (group,) = find_duplicates(storage)
    assert [member.path.name for member in group.files] == ["copy.png", "real.png"]


def test_an_empty_library_and_one_file_hold_no_duplicates(tmp_path):
    with (
        filled(tmp_path / "1", []) as empty,
        filled(tmp_path / "2", [File("a.png", "a", direction(1), scene(1))]) as one,
    ):
        assert find_duplicates(empty) == []
        assert find_duplicates(one) == []


def test_an_unknown_kind_is_named(tmp_path):
    with filled(tmp_path, []) as storage, pytest.raises(InputError, match="'copies'; there are identical, copy, near"):
        find_duplicates(storage, ["copies"])
