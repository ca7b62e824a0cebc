"""Filtered searches on a real store: exactly what holds is found, all of it, however little it is."""

from __future__ import annotations

import datetime as dt
import re
import unicodedata

import numpy as np
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from arrowlens.search.values import Moment, moment
from arrowlens.search.where import Condition, parse, to_store_filters
from arrowlens.store import ModelRecord, MultimodalStorage, VectorRow
from arrowlens.store.selection import EXACT

DIGEST, D = "c" * 64, 8

NAMES = [
    "IMG_1.jpg",
    "img_1.JPG",
    "100%.png",
    "IMG-1.jpg",
    'it\'s "it".jpg',
    "été.jpg",
    "e\u0301te\u0301.jpg",
    "a\nb.png",
]
NAMES += ["x'; DROP TABLE media; --.png", r"\xff.jpg", "%.jpg", "_.jpg", "IMGX1.jpg", "İ.gif", "文件.wav"]
FOLDERS = ["", "2024", "2024/summer", "2024/Summer", "2024/été", "it's", "100%"]
TIMES = [dt.datetime(2024, 5, 1), dt.datetime(2024, 5, 31, 23, 59, 59, 999_999), dt.datetime(2024, 6, 1)]
TIMES += [dt.datetime(1820, 1, 1), dt.datetime(2023, 12, 31, 12), None]
CHOICES = {
    "format": ["jpeg", "png", "wav", None],
    "modality": ["image", "audio"],
    "size": [0, 999, 2 * 1024**2, 2**40],
    "width": [1, 999, 1000, 1001, None],
    "duration": [0.5, 90.0, 3600.25, None],
    "taken": TIMES,
    "captured_at": TIMES,
    "modified": [time and time.replace(tzinfo=dt.UTC) for time in TIMES],
    "camera": ["Canon EOS R5", "canon eos r5", "", None],
    "latitude": [-33.9, 0.0, 48.5, None],
    "artist": ["Sigur Rós", "Sigur Ro\u0301s", "Björk & 'friends'", None],
    "trivial": [True, False],
    "channels": [1, 2, None],
}


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    """Rows with everything that is hard to compare, some of them not searchable."""
    rng = np.random.default_rng(5)
    rows = []
    for number in range(400):
        folder, name = FOLDERS[rng.integers(len(FOLDERS))], NAMES[rng.integers(len(NAMES))]
        row = {column: values[rng.integers(len(values))] for column, values in CHOICES.items()}
        row |= {"media_id": f"{number:032x}", "content_hash": f"{number % 300:032x}", "root_id": "r"}
        row |= {"path": f"{folder}/{name}" if folder else name, "metadata": []}
        rows.append(row | {"state": "skipped" if rng.random() < 0.05 else "indexed"})
    storage = MultimodalStorage(tmp_path_factory.mktemp("varied") / "library")
    storage.upsert_media(rows[:250])
    storage.upsert_media(rows[250:])  # two fragments
    yield storage, rows
    storage.close()


def value_of(row, column):
    if column in ("folder", "name"):
        return row["path"].rpartition("/")[0 if column == "folder" else 2]
    return row["modality"] if column == "kind" else row.get(column)


def same(value):
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


def like(value, pattern):
    expression = "".join({"%": ".*", "_": "."}.get(character, re.escape(character)) for character in same(pattern))
    return re.fullmatch(expression, same(value), re.IGNORECASE | re.DOTALL) is not None


def holds(condition, value):
    """What the documentation says, in plain Python."""
    op, wanted = condition.op, condition.value
    if value is None:
        return op == "!="
    if isinstance(wanted, Moment) or (op == "in" and isinstance(wanted[0], Moment)):
        clock = dt.UTC if value.tzinfo else None
        spans = [(span.start.replace(tzinfo=clock), span.end.replace(tzinfo=clock)) for span in np.atleast_1d(wanted)]
        inside, (start, end) = any(start <= value < end for start, end in spans), spans[0]
        meanings = {"=": inside, "in": inside, "!=": not inside, "<": value < start, ">=": value >= start}
        return (meanings | {"<=": value < end, ">": value >= end})[op]
    if op == "in":
        return any(same(value) == same(each) for each in wanted)
    if op == "like":
        return like(value, wanted)
    comparisons = {"=": same(value) == same(wanted), "!=": same(value) != same(wanted)}
    if op in comparisons:
        return comparisons[op]
    return {"<": value < wanted, "<=": value <= wanted, ">": value > wanted, ">=": value >= wanted}[op]


moments = st.sampled_from(["2024", "2024-05", "2024-05-01", "2024-05-31T23:59", "2024-06-01T00:00:00", "1820", "0001"])
patterns = st.lists(st.sampled_from(["%", "_", "IMG", "jpg", ".", "1", "é", "e\u0301", "'", "2024", "/"]), max_size=4)
texts = st.one_of(
    st.sampled_from([*NAMES, *FOLDERS, *(name for name in CHOICES["camera"] + CHOICES["artist"] if name)]),
    st.sampled_from([f"{folder}/{name}" for folder in FOLDERS[1:] for name in NAMES]),
    st.text(max_size=3),
)


@st.composite
def conditions(draw):
    column = draw(
        st.sampled_from(
            ["path", "name", "folder", "kind", "format", "size", "width", "duration", "taken", "captured_at"]
        )
        | st.sampled_from(["modified", "camera", "latitude", "artist", "trivial", "channels"])
    )
    order = st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "in"])
    if column in ("path", "name", "folder", "camera", "artist"):
        op, value = draw(st.sampled_from(["=", "!=", "in", "like"])), texts
        value = patterns.map("".join) if op == "like" else value
    elif column in ("taken", "captured_at", "modified"):
        op, value = draw(order), moments.map(moment)
    elif column == "format":
        op, value = draw(st.sampled_from(["=", "!=", "in", "like"])), st.sampled_from(["jpeg", "png", "gif"])
    elif column == "trivial":
        op, value = draw(st.sampled_from(["=", "!="])), st.booleans()
    elif column == "kind":
        op, value = draw(st.sampled_from(["=", "!=", "in"])), st.sampled_from(["image", "audio"])
    else:
        op, value = draw(order), st.sampled_from([each for each in CHOICES[column] if each is not None])
        value = value | st.just(2**62 if isinstance(CHOICES[column][0], int) else 1e300)
    return Condition(column, op, draw(st.lists(value, min_size=1, max_size=3) if op == "in" else value))


@settings(max_examples=300, deadline=None)
@given(st.lists(conditions(), min_size=1, max_size=3))
@example([Condition("path", "=", "2024/été/été.jpg")])  # a folder in one form of Unicode, a name in another
def test_exactly_what_holds_is_selected(varied, wanted):
    storage, rows = varied
    expected = [
        row["media_id"]
        for row in rows
        if row["state"] == "indexed" and all(holds(each, value_of(row, each.column)) for each in wanted)
    ]
    event(f"{min(len(expected), 3)}{'+' if len(expected) > 3 else ''} rows")
    event(wanted[0].op)
    selection = storage.select(to_store_filters(wanted))
    assert selection.files["media_id"].to_pylist() == expected
    assert selection.n_files == len(rows)


@pytest.mark.parametrize(
    ("where", "names"),
    [
        (r"name like '100\%%'", {"100%.png"}),
        (r"name like '\_.jpg'", {"_.jpg"}),
        (r"name like '\\xff%'", {r"\xff.jpg"}),
        (r"name like '\xff%'", {r"\xff.jpg"}),
        (r"name like 'a_b.png'", {"a\nb.png"}),
        ('name = "x\'; DROP TABLE media; --.png"', {"x'; DROP TABLE media; --.png"}),
        ("name in ('a', 'b) or (1=1')", set()),
        ("name = ''' or ''1''=''1'", set()),
        ("name like '%'' or 1=1 --%'", set()),
        ("name = ÉTÉ.jpg", set()),
        ("name = été.jpg", {"été.jpg", "e\u0301te\u0301.jpg"}),
        ("name like ÉTÉ%", {"été.jpg", "e\u0301te\u0301.jpg"}),
        ("name like img_1.jpg", {"IMG_1.jpg", "img_1.JPG", "IMG-1.jpg", "IMGX1.jpg"}),
        ("name like _T_.jpg", {"été.jpg", "e\u0301te\u0301.jpg"}),
        ("name like ete%", set()),
        ("name = IMG_1.jpg", {"IMG_1.jpg"}),
    ],
)
def test_names_with_marks_of_every_kind(varied, where, names):
    storage, rows = varied
    names_of = {row["media_id"]: row["path"].rpartition("/")[2] for row in rows}
    found = storage.select(to_store_filters(parse(where))).files["media_id"].to_pylist()
    assert {names_of[media_id] for media_id in found} == names
    assert storage.all_media().num_rows == len(rows)


def test_a_library_without_files_has_nothing_to_select(tmp_path):
    with MultimodalStorage(tmp_path / "library") as storage:
        assert len(storage.select(to_store_filters(parse("width >= 1")))) == 0


def test_columns_that_a_table_of_an_older_layout_lacks_are_without_value(tmp_path):
    with MultimodalStorage(tmp_path / "library") as storage:
        storage.upsert_media([{"media_id": "a", "content_hash": "a", "state": "indexed", "path": "a", "width": 5}])
        storage._tables.shards[0].table("media").drop_columns(["camera", "taken"])
        assert len(storage.select(to_store_filters(parse("width = 5 and camera != Canon and taken != 2024")))) == 1
        for where in ("camera = Canon", "camera like '%'", "taken >= 2024", "taken != 2024 and camera = Canon"):
            assert len(storage.select(to_store_filters(parse(where)))) == 0


# -- the nearest among them ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """12,000 files, a tenth of them copies and some of several windows; ``width`` is a permutation of their numbers."""
    rng = np.random.default_rng(6)
    n = 12_000
    storage = MultimodalStorage(tmp_path_factory.mktemp("crowded") / "library")
    storage.bind_models({"audio": ModelRecord(DIGEST, D)})
    contents = np.where(rng.random(n) < 0.1, rng.integers(0, 50, n), np.arange(n))
    centres = np.random.default_rng(0).standard_normal((20, D))
    vectors = centres[rng.integers(0, 20, n)] + 0.5 * rng.standard_normal((n, D))
    widths = rng.permutation(n)
    rows, media = [], []
    for number in range(n):
        content, media_id = int(contents[number]), f"{number:032x}"
        windows = 3 if content % 7 == 0 else 1
        for window in range(windows):
            vector = vectors[content] + 0.3 * window
            rows.append(
                VectorRow(media_id, f"{content:032x}", "audio", vector, window, 5.0 * window, 5.0 * window + 10)
            )
        row = {"media_id": media_id, "content_hash": f"{content:032x}", "modality": "audio", "state": "indexed"}
        media.append(row | {"width": int(widths[number])})
    storage.upsert_vectors("audio", rows)
    storage.upsert_media(media)
    yield storage, rows, {row["media_id"]: row["width"] for row in media}
    storage.close()


def nearest(rows, query, keep, k):
    """(media_id, score) of the best kept files, the first of each content."""
    matrix = np.stack([row.embedding for row in rows]).astype(np.float64)
    matrix = (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float16).astype(np.float64)
    scores = ((matrix @ query) / np.linalg.norm(matrix, axis=1) / np.linalg.norm(query)).astype(np.float32)
    best = {}
    for row, score in zip(rows, scores, strict=True):
        if keep(row.media_id):
            candidate = (-score, row.media_id)
            best[row.content_hash] = min(best.get(row.content_hash, candidate), candidate)
    return [(media_id, -score) for score, media_id in sorted(best.values())[:k]]


@pytest.mark.parametrize("n_selected", [1, 3, 120, EXACT, EXACT + 1, 6_000, 11_999])
@pytest.mark.parametrize("k", [1, 20, 500])
def test_the_nearest_of_the_selected_are_found_and_k_is_filled(crowded, n_selected, k):
    storage, rows, widths = crowded
    selection = storage.select(to_store_filters(parse(f"width < {n_selected}")))
    assert len(selection) == n_selected
    query = np.random.default_rng(n_selected).standard_normal(D)
    found = storage.search("audio", DIGEST, query, k, among=selection)
    expected = nearest(rows, query, lambda media_id: widths[media_id] < n_selected, k)
    assert found["media_id"].to_pylist() == [media_id for media_id, _ in expected]
    np.testing.assert_allclose(found["score"].to_pylist(), [score for _, score in expected], atol=1e-6)


def test_an_empty_selection_finds_nothing(crowded):
    storage, _, _ = crowded
    selection = storage.select(to_store_filters(parse("width < 0")))
    assert storage.search("audio", DIGEST, np.ones(D), 5, among=selection).num_rows == 0


def test_kinds_and_selections_go_together(crowded):
    storage, _, _ = crowded
    for n in (100, 11_000):
        selection = storage.select(to_store_filters(parse(f"width < {n}")))
        assert storage.search("audio", DIGEST, np.ones(D), 5, "audio", selection).num_rows == 5
        assert storage.search("audio", DIGEST, np.ones(D), 5, "image", selection).num_rows == 0


@pytest.mark.parametrize("n_selected", [2, 1_500, 2_500, 6_000, 11_900])
def test_through_an_index_k_is_filled_and_nothing_else_is_found(crowded, n_selected):
    from lancedb.index import IvfRq

    storage, rows, widths = crowded
    table = storage._tables.shards[0].table(f"audio_embeddings__{DIGEST[:8]}")
    if not table.list_indices():
        # Eight bits, as the store has for so few dimensions; thirty partitions, so that some are not asked.
        table.create_index("embedding", config=IvfRq(distance_type="cosine", num_partitions=30, num_bits=8))
    selection = storage.select(to_store_filters(parse(f"width < {n_selected}")))
    common = total = 0
    for seed in range(5):
        query = np.random.default_rng(seed).standard_normal(D)
        expected = [media_id for media_id, _ in nearest(rows, query, lambda each: widths[each] < n_selected, 20)]
        found = storage.search("audio", DIGEST, query, 20, among=selection)["media_id"].to_pylist()
        assert len(found) == len(expected)
        assert all(widths[media_id] < n_selected for media_id in found)
        assert n_selected > EXACT or found == expected
        common += len(set(found) & set(expected))
        total += len(expected)
    assert common / total >= 0.99
