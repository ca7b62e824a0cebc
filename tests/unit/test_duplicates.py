"""Stars against brute force, fingerprints of real pictures, and what decides over two pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from arrowlens.search import clustering
from arrowlens.search.clustering import products_above, stars
from arrowlens.search.perceptual_hash import Fingerprints
from arrowlens.search.similarity import (
    COPY_BITS,
    COPY_COLOURS,
    LEAST_ORDINARY,
    NEAR_BITS,
    Pictures,
    ordinary_distance,
)
from tests.support.duplicate_cases import jpeg, page, scene

SMALL_BLOCKS = {"_ROWS": 5, "_COLUMNS": 7}


# -- stars --------------------------------------------------------------------------------------------------------


def close_by(matrix):
    """Pairs that a symmetric matrix of truth values says are close."""

    def close(rows, columns):
        left, right = np.nonzero(matrix[np.ix_(rows, columns)])
        return rows[left], columns[right]

    return close


def plain_stars(matrix):
    """The definition: each item joins the first leader that it is close to, or leads."""
    leaders, groups = [], {}
    for item in range(len(matrix)):
        leader = next((leader for leader in leaders if matrix[leader, item]), None)
        if leader is None:
            leaders.append(item)
        else:
            groups.setdefault(leader, [leader]).append(item)
    return [groups[leader] for leader in sorted(groups)]


@given(n=st.integers(0, 40), share=st.floats(0, 1), seed=st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_stars_are_what_their_definition_says_however_the_work_is_cut(n, share, seed):
    upper = np.triu(np.random.default_rng(seed).random((n, n)) < share)
    matrix = upper | upper.T
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL_BLOCKS.items():
            patch.setattr(clustering, name, value)
        found = [group.tolist() for group in stars(np.arange(n), close_by(matrix))]
    assert found == plain_stars(matrix)


def test_a_chain_of_small_steps_does_not_join_its_ends():
    steps = np.abs(np.subtract.outer(np.arange(30), np.arange(30))) <= 1
    groups = [group.tolist() for group in stars(np.arange(30), close_by(steps))]
    assert groups == [[i, i + 1] for i in range(0, 30, 2)]


def test_stars_number_the_items_they_are_given():
    matrix = np.ones((10, 10), dtype=bool)
    assert [group.tolist() for group in stars(np.array([2, 5, 9]), close_by(matrix))] == [[2, 5, 9]]


def test_products_above_finds_every_pair_and_no_other():
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((n, 8)).astype(np.float32) for n in (30, 20))
    rows, columns = products_above(left, right, 1.5)
    expected = {(i, j) for i in range(30) for j in range(20) if left[i] @ right[j] >= 1.5}
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == expected
    assert [part.size for part in products_above(left[:0], right, 0.0)] == [0, 0]


# -- fingerprints and vectors ---------------------------------------------------------------------------------------


def noise(seed, size=(320, 240), around=128, spread=60):
    pixels = np.random.default_rng(seed).normal(around, spread, (size[1], size[0], 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def compared(*images):
    """Bits and colours by which the first differs from each of the others."""
    prints = Fingerprints.of([jpeg(image) for image in images])
    first, others = np.zeros(len(images) - 1, np.int64), np.arange(1, len(images))
    return prints.differing_bits(first, others), prints.colour_distance(first, others)


def test_fingerprints_survive_scaling_and_tell_scenes_apart():
    picture = scene(3)
    bits, colours = compared(picture, picture.resize((160, 213)), picture.resize((1000, 1333)), scene(4), scene(5))
    assert (bits[:2] <= COPY_BITS // 2).all()
    assert (colours[:2] < 0.1).all()
    assert (bits[2:] > NEAR_BITS).all()


def test_the_same_drawing_in_other_colours_is_told_by_them():
    picture = scene(6)
    red, green, blue = picture.split()
    bits, colours = compared(picture, Image.merge("RGB", (green, blue, red)), picture.convert("L"))
    assert colours[0] > COPY_COLOURS
    assert colours[1] == pytest.approx(1.0, abs=0.1)
    assert bits[1] <= 8  # without colours, only they tell


def test_pages_with_other_words_are_no_copies():
    bits, _ = compared(page(1), page(1, words=1), page(2))
    assert (bits > COPY_BITS).all()


def test_noisy_black_frames_do_not_pair():
    frames = [noise(seed, around=3, spread=4) for seed in range(8)]
    prints = Fingerprints.of([jpeg(frame) for frame in frames])
    left, right = np.triu_indices(8, 1)
    assert (prints.differing_bits(left, right) > NEAR_BITS).all()


def test_fingerprints_do_not_depend_on_threads_and_take_any_shape():
    shapes = [(320, 240), (320, 8), (9, 320), (64, 64), (8, 8)]
    jpegs = [jpeg(noise(seed, shape)) for seed, shape in enumerate(shapes)] * 30
    one, many = Fingerprints.of(jpegs, n_threads=1), Fingerprints.of(jpegs, n_threads=4)
    assert np.array_equal(one.signs, many.signs)
    assert np.array_equal(one.colours, many.colours)
    assert Fingerprints.of([]).signs.shape == (0, 256)


def unit(values):
    values = np.asarray(values, dtype=np.float64)
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float16)


def test_the_ordinary_distance_is_that_of_nine_in_ten_pairs_and_never_small():
    rng = np.random.default_rng(0)
    spread, narrow = rng.standard_normal((300, 64)), rng.standard_normal((300, 64)) * 0.05 + 1
    exact = 1 - (unit(spread).astype(np.float64) @ unit(spread).astype(np.float64).T)[np.triu_indices(300, 1)]
    assert ordinary_distance(unit(spread)) == pytest.approx(np.quantile(exact, 0.9), abs=0.01)
    assert ordinary_distance(unit(narrow)) == LEAST_ORDINARY
    assert ordinary_distance(unit(spread)[:1]) == LEAST_ORDINARY


def two_pictures(bits, distance, colours=0, n_others=60):
    """Two pictures that differ by so much, and others that make for an ordinary distance of about 1."""
    rng = np.random.default_rng(1)
    signs = rng.choice([-1, 1], (n_others + 2, 256)).astype(np.int8)
    signs[1] = signs[0]
    signs[1, np.linspace(0, 255, bits).astype(int)] *= -1
    vectors = rng.standard_normal((n_others + 2, 256))
    vectors[:2] = 0
    vectors[0, 0] = 1
    vectors[1, :2] = 1 - distance, np.sqrt(1 - (1 - distance) ** 2)
    shades = np.zeros((n_others + 2, 128), np.int8)
    shades[0], shades[1] = 40, 40 - colours
    return Pictures(Fingerprints(signs, shades), unit(vectors))


def is_pair(close):
    return [part.tolist() for part in close(np.array([0]), np.array([1]))] == [[0], [1]]


@pytest.mark.parametrize(
    ("bits", "distance", "colours", "copy", "near"),
    [
        (10, 0.01, 0, True, True),
        (10, 0.01, 30, False, True),  # recoloured
        (40, 0.1, 0, True, True),
        (60, 0.1, 0, False, True),
        (10, 0.8, 0, False, False),  # equal hashes by chance
        (128, 0.01, 0, False, False),  # alike to the model alone: two pages of text
        (60, 0.5, 0, False, False),
    ],
)
def test_what_decides_over_two_pictures(bits, distance, colours, copy, near):
    pictures = two_pictures(bits, distance, colours)
    assert is_pair(pictures.copies) is copy
    assert is_pair(pictures.near) is near


def test_without_vectors_the_hash_decides_and_nothing_is_near():
    pictures = two_pictures(10, 0.01)
    blind = Pictures(pictures.fingerprints, np.zeros((62, 0), np.float16))
    assert is_pair(blind.copies)
    assert not is_pair(blind.near)
    assert blind.similarities(np.array([0, 1])) == [1.0, pytest.approx(1 - 2 * 10 / 256)]
