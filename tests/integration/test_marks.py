"""Favourites, saved questions and what is no duplicate: kept by content, and changed while somebody else writes."""

from __future__ import annotations

import dataclasses
import json
import threading

import pytest
from PIL import Image

from arrowlens import Library
from arrowlens.cli import main
from arrowlens.errors import InputError, LibraryBusyError, StorageError
from arrowlens.ingest import run
from arrowlens.store import MultimodalStorage
from arrowlens.store.location import MARKS_NAME, location_at
from arrowlens.store.marks import Marks, MarkStore
from tests.support.cold_library import made_library
from tests.support.folders import write_folder, write_picture
from tests.support.small_models import SmallProvider

ONE, TWO = "1" * 32, "2" * 32


@pytest.fixture
def library(tmp_path):
    storage, provider = MultimodalStorage(tmp_path / "library"), SmallProvider()
    run(storage, provider, [write_folder(tmp_path / "in", 6, 1)])
    with Library(storage, provider) as library:
        yield library


def ingest(library):
    return run(library._storage, library._engine.provider, [library.folders()[0]])


def test_a_favourite_survives_a_rename_and_is_marked_beside_a_writer(library, tmp_path):
    picture = tmp_path / "in" / "picture 001.jpg"
    assert (library.favourites(), (library.path / MARKS_NAME).exists()) == ([], False), "as in any earlier library"
    revision = library.revision
    with MultimodalStorage(library.path).writing():
        with pytest.raises(LibraryBusyError):
            library.remove([picture])
        library.set_favourites([picture, library.file(tmp_path / "in" / "sound 000.wav")])
    assert library.revision != revision
    picture.rename(tmp_path / "in" / "below" / "other name.jpg")
    assert ingest(library).moved == 1
    library.optimize()
    assert [hit.path.name for hit in library.favourites()] == ["other name.jpg", "sound 000.wav"]
    listed = library.newest(20, where="favourite = yes")
    assert {hit.path for hit in listed} == {hit.path for hit in library.favourites()}
    assert len(library.newest(20, where=["favourite = no", "modality = image"])) == 5
    library.set_favourites(library.favourites()[:1], favourite=False)
    assert [hit.path.name for hit in library.favourites()] == ["sound 000.wav"]
    with pytest.raises(InputError, match="the library holds no file at"):
        library.set_favourites([picture])
    made_up = dataclasses.replace(library.favourites()[0], content_hash=ONE)
    for hit in (made_up, dataclasses.replace(made_up, content_hash=None)):
        with pytest.raises(InputError, match=r"the library holds nothing of .*sound 000\.wav as it was found"):
            library.set_favourites([hit])
        with pytest.raises(InputError, match=r"the library holds nothing of .*sound 000\.wav as it was found"):
            library.set_not_duplicates(hit, library.favourites()[0])
    library.set_favourites([made_up], favourite=False)  # of what was forgotten meanwhile a mark can be taken back


def test_marks_of_several_processes_are_all_kept(address):
    place = location_at(address)
    if place.path is not None:
        place.create()
    stores = [MarkStore(location_at(address)) for _ in range(3)]
    contents = [[f"{number:x}{index:031x}" for index in range(6)] for number in range(3)]

    def mark(store, mine):
        for content in mine:
            store.set_favourites([content], are=True)

    threads = [threading.Thread(target=mark, args=pair) for pair in zip(stores, contents, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    marks = MarkStore(place).current
    assert marks.favourites == {content for mine in contents for content in mine}
    assert Marks.read(marks.written()) == marks


def test_what_cannot_be_marked_says_so_and_a_damaged_document_is_not_replaced(tmp_path):
    store = MarkStore(location_at(tmp_path))
    store.set_distinct(TWO, ONE, are=True)
    assert store.current.distinct == {(ONE, TWO)}
    with pytest.raises(InputError, match="the same bytes"):
        store.set_distinct(ONE, ONE, are=True)
    with pytest.raises(InputError, match="is no content hash"):
        store.set_favourites(["../x"], are=True)
    with pytest.raises(InputError, match="no question is saved as 'dogs'; there are: none is saved"):
        store.save_question("dogs", None)
    with pytest.raises(InputError, match="cannot be saved"):
        store.save_question("dogs", {"text": object()})
    typed = b'{"version": 1, "favourites": [], "distinct": [], "saved": {"a": 3}}'
    parts = (
        b'"favourites": "abc", "distinct": []',
        b'"favourites": [], "distinct": ["ab"]',
        b'"favourites": [5], "distinct": []',
    )
    others = [b'{"version": 1, "saved": {}, ' + part + b"}" for part in parts]
    tags = set()
    for damaged in (b"{", b"[]", b'{"version": 1}', typed, *others, b'{"version": 2}'):
        (tmp_path / MARKS_NAME).write_bytes(damaged)
        tags.add(store.tag)
        cure = "update Arrowlens" if b"2" in damaged else "restore it from a backup"
        with pytest.raises(StorageError, match=rf"marks\.json cannot be read .*; {cure}"):
            store.set_favourites([ONE], are=True)
        with pytest.raises(StorageError):
            _ = store.current
        assert (tmp_path / MARKS_NAME).read_bytes() == damaged
    assert len(tags) == 8
    assert None not in tags, "what only asks whether something has changed goes on"


def test_pairs_that_are_no_duplicates_are_not_listed(library, tmp_path):
    first = write_picture(tmp_path / "in" / "first.png", 99, (640, 480))
    with Image.open(first) as image:
        for name, quality in (("second.jpg", 95), ("third.jpg", 85)):
            image.save(tmp_path / "in" / name, quality=quality)
    ingest(library)
    (group,) = library.duplicates("copy")
    names = [member.path.name for member in group.files]
    assert names == ["first.png", "second.jpg", "third.jpg"]
    library.set_not_duplicates(group.files[0], group.files[2].path)
    (left,) = library.duplicates("copy", "near")
    assert [member.path.name for member in left.files] == ["first.png", "second.jpg"]
    library.set_not_duplicates(*group.files[:2])
    (others,) = library.duplicates("copy", "near")
    assert [member.path.name for member in others.files] == ["second.jpg", "third.jpg"], "still one another's"
    assert len(library.not_duplicates()) == 2
    for other in group.files[1:]:
        library.set_not_duplicates(other, first, are=False)
    assert library.duplicates("copy") == [group]


def test_marks_on_the_command_line(tmp_path, capsys):
    library = ["--library", str(made_library(tmp_path / "library", 40))]

    def out(*arguments):
        assert main([*arguments, *library]) == 0
        return capsys.readouterr().out

    paths = [f"/pictures/{name}" for name in ("07/image 000007.jpg", "09/image 000009.jpg")]
    assert out("favourite", *paths) == "2 favourites in the library\n"
    assert sorted(out("search", "--favourites", "--paths").splitlines()) == paths
    assert out("favourite", "--remove", paths[0], "--json") == '{"favourites": 1}\n'
    asked = ["search", "image", "--mode", "keyword", "--where", "name like '%9%'", "--paths"]
    answer = out(*asked, "--save", "nines")
    assert len(answer.splitlines()) == 4
    assert out("search", "--saved", "nines", "--paths") == answer
    assert out("search", "--saved", "nines", "--favourites", "--paths") == f"{paths[1]}\n"
    question = {"text": "image", "mode": "keyword", "where": ["name like '%9%'"]}
    assert json.loads(out("saved", "--json")) == {"saved": {"nines": question}}
    assert out("saved").splitlines()[1].startswith("nines  image --mode keyword --where 'name like ")
    assert main(["search", "--like", "missing.jpg", "--save", "nines", *library]) == 1
    assert json.loads(out("saved", "--json")) == {"saved": {"nines": question}}, "what cannot be asked replaces nothing"
    with Library.open(library[1]) as opened:
        with pytest.raises(InputError, match="a search has no argument 'txet'; it has text, "):
            opened.save_question("dogs", {"txet": "dog"})
        for wrong in ({"weights": "x"}, {"where": 5}, {"k": "5"}, {"plus": "b"}):
            with pytest.raises(InputError, match=next(iter(wrong)) if "where" not in wrong else "a filter is a text"):
                opened.save_question("dogs", {"text": "image", "mode": "keyword", **wrong})
        opened.save_question("wide", {"text": "image", "mode": "keyword", "where": "name like '%9%'", "k": 1})
    assert out("search", "--saved", "wide", "--paths") == answer
    out("search", "image", "--mode", "keyword", "--in", "name", "--weight", "image=2", "--save", "typed")
    assert "typed  image --mode keyword --in name --weight image=2" in out("saved")
    out("saved", "--forget", "typed")
    out("saved", "--forget", "wide")
    capsys.readouterr()
    assert out("saved", "--forget", "nines") == ""
    assert main(["search", "--saved", "nines", *library]) == 1
    assert "no question is saved as 'nines'" in capsys.readouterr().err
    assert main(["duplicates", "--not-duplicate", paths[0], "/missing.jpg", *library]) == 1
    assert "the library holds no file at /missing.jpg" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["search", "dog", "--saved", "nines", *library])
