"""The map: places by principal components, groups by direction; the same each time."""

from __future__ import annotations

import numpy as np
import pytest

from arrowlens.search import EmbeddingMap, Point, draw_map
from arrowlens.search.projection import grouped_by_direction, principal_components
from tests.support.small_library import filled_storage


@pytest.fixture
def storage(tmp_path):
    for storage, _ in filled_storage(tmp_path):
        yield storage


def test_components_are_those_of_numpys_svd():
    vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32) * np.arange(1, 9, dtype=np.float32)
    places, explained = principal_components(vectors)
    centred = vectors - vectors.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(places), np.abs(left[:, :2] * sizes[:2]), rtol=1e-3, atol=1e-3)
    assert explained == pytest.approx(float((sizes[:2] ** 2).sum() / (sizes**2).sum()), rel=1e-4)


def test_a_point_and_equal_points_have_a_place():
    for vectors in (np.ones((1, 3), np.float32), np.ones((5, 3), np.float32), np.ones((4, 1), np.float32)):
        places, explained = principal_components(vectors)
        assert np.array_equal(places, np.zeros((len(vectors), 2)))
        assert explained == 0


def test_directions_that_differ_are_groups_the_largest_first():
    rng = np.random.default_rng(1)
    centres = np.eye(3, 6, dtype=np.float32)
    own = np.repeat([0, 1, 2], [10, 30, 20])
    vectors = centres[own] + rng.normal(0, 0.05, (60, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    groups = grouped_by_direction(vectors, 3)
    assert [set(groups[own == which].tolist()) for which in (1, 2, 0)] == [{0}, {1}, {2}]
    assert set(grouped_by_direction(np.ones((4, 1), np.float32), 3).tolist()) == {0}


def test_a_map_has_every_file_and_is_the_same_each_time(storage):
    atlas = draw_map(storage, "image")
    assert (len(atlas.points), atlas.n_files) == (60, 60)
    assert atlas == draw_map(storage, "image")
    assert {point.folder for point in atlas.points} == {"image"}
    assert len(draw_map(storage).points) == 100


def test_a_large_library_is_sampled_the_same_way_each_time(storage):
    whole, part = draw_map(storage, "audio"), draw_map(storage, "audio", most=10)
    assert [point.media_id for point in part.points] == [point.media_id for point in whole.points[:10]]
    assert part.n_files == 40


def test_a_group_is_called_by_the_folder_of_most_of_its_files():
    folders = [(0, "cats"), (0, "dogs"), (0, "dogs"), (1, ""), (2, "sea"), (2, "lake")]
    points = [
        Point(f"{at:032x}", "image", "a.jpg", folder, None, 0, 0, group) for at, (group, folder) in enumerate(folders)
    ]
    assert EmbeddingMap(tuple(points), 6, 1.0).group_folders == ("dogs", "", "lake")
    assert EmbeddingMap((), 0, 0.0).group_folders == ()
