"""Sources: what they list, and that a file is read in exactly the version listed."""

from __future__ import annotations

import dataclasses
import os
import pickle

import pytest

from arrowlens.embedding import EmbeddingPlan
from arrowlens.encoders import ImageProcessor
from arrowlens.errors import MediaError
from arrowlens.ingest.prepare import Preparer
from arrowlens.ingest.source import Fetched, FolderSource
from arrowlens.ingest.walk import ScannedFile, Walk
from arrowlens.media import Limits, decode, hash_file
from arrowlens.media.files import read_regular
from arrowlens.store import Root, Settings
from tests.support.folders import write_picture


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def source(folder, tmp_path):
    return pickle.loads(pickle.dumps(FolderSource((str(folder),), tmp_path / "library")))


def listed(source, folder):
    (file,) = source.walk(Settings().with_root(str(folder))).files
    return file


def test_a_folder_lists_its_files_and_gives_the_version_listed(source, folder):
    path = write_picture(folder / "x.png", 1)
    file = listed(source, folder)
    assert file.path == bytes(path)
    fetched = source.fetch(file)
    assert (fetched.data, fetched.file_id) == (None, file.file_id)
    assert read_regular(fetched.path) == path.read_bytes()
    with source.open(bytes(path)) as stream:
        stream.seek(1)
        assert stream.read(3) == b"PNG"


def test_another_version_is_not_fetched(source, folder):
    path = write_picture(folder / "x.png", 1)
    file = listed(source, folder)
    fetched = source.fetch(file)
    os.utime(path, ns=(1, 1))
    assert source.fetch(file) is None
    now = source.look(file)
    assert now.stamp == (file.size, 1)
    assert source.fetch(now) is not None
    with pytest.raises(MediaError, match="changed"):
        read_regular(fetched.path)


def test_what_is_no_file_any_more_is_said(source, folder):
    path = write_picture(folder / "x.png", 1)
    file = listed(source, folder)
    path.unlink()
    for call in (source.fetch, source.look):
        with pytest.raises(MediaError, match="the file is gone"):
            call(file)
    path.mkdir()
    with pytest.raises(MediaError, match="a folder"):
        source.fetch(file)
    path.rmdir()
    path.symlink_to(write_picture(folder / "other.png", 2))
    with pytest.raises(MediaError, match="changed"):
        source.fetch(file)
    with pytest.raises(MediaError), source.open(bytes(path)):
        pass


def test_a_link_to_nothing_keeps_its_words(source, folder):
    (folder / "x.png").symlink_to("nowhere.png")
    file = listed(source, folder)
    assert decode(source.fetch(file).path).reason == "a link to nothing"


@dataclasses.dataclass
class Bucket:
    """A source whose files are bytes with a number for each version, which takes the place of a time."""

    versions: dict[bytes, list[bytes]]

    def walk(self, settings):
        root = settings.roots[0]
        files = [
            ScannedFile(b"/bucket/" + name, root, name, "image", len(data[-1]), len(data))
            for name, data in sorted(self.versions.items())
        ]
        return Walk((root.path,), files)

    def look(self, file):
        if file.relative not in self.versions:
            raise MediaError("the file is gone")
        data = self.versions[file.relative]
        return dataclasses.replace(file, size=len(data[-1]), modified_ns=len(data))

    def fetch(self, file):
        is_current = self.look(file).stamp == file.stamp
        return Fetched(file.path, self.versions[file.relative][-1]) if is_current else None

    def read_ahead(self, files):
        return iter(files)

    def open(self, path):
        raise MediaError("a bucket without captions")


def test_a_bucket_needs_no_more_than_this_interface(tmp_path):
    path = write_picture(tmp_path / "x.png", 1)
    bucket = Bucket({b"x.png": [path.read_bytes()], b"gone.png": [b"x"], b"replaced.png": [path.read_bytes()[:99]]})
    gone, replaced, file = bucket.walk(Settings(roots=(Root.at("/bucket"),))).files
    preparer = Preparer(bucket, EmbeddingPlan(ImageProcessor(image_size=32)), Limits())
    prepared = preparer(file)
    assert prepared.decoded.reason is None
    assert prepared.inputs.content.shape == (32, 32, 3)
    assert prepared.decoded.content_hash == preparer.content(file) == hash_file(path, Limits())
    del bucket.versions[b"gone.png"]
    assert preparer(gone).unread
    assert preparer(gone).decoded.reason == "the file is gone"
    assert not preparer(replaced).unread, "truncated, and that is that"
    bucket.versions[b"replaced.png"].append(path.read_bytes()[:98])
    assert preparer(replaced).unread, "its version was another one when it was listed"
    assert preparer.content(replaced) is None
