"""For all tests: how many threads the test processes have, and an S3 server for those that ask for it."""

from __future__ import annotations

import os

import pytest
import torch
from threadpoolctl import threadpool_limits

from arrowlens.store import MultimodalStorage
from tests.support.object_store import running_object_store, running_proxy

# Files of tests run side by side, a process a core. There several threads a process only wait for each other: two
# files of encoder tests took 72 seconds with one, 194 with two. Commands that tests start keep the usual number, and
# let those that wait sleep in place of spinning.
threadpool_limits(1)
torch.set_num_threads(1)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def object_store():
    """An S3 server, started by the first test of the process that asks for it."""
    with running_object_store() as store:
        yield store


@pytest.fixture
def bucket(object_store, monkeypatch):
    """The address of an empty prefix on the S3 server; the environment says how to reach it."""
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    return object_store.new_prefix()


PLACES = ["folder", "bucket", pytest.param("slow bucket", marks=pytest.mark.soak)]


@pytest.fixture(params=PLACES)
def empty_address(request, tmp_path):
    """Where a library may be made: in a folder and in a bucket, in make soak also in one that is 30 ms away."""
    return place_of(request, tmp_path)


@pytest.fixture(params=[*PLACES, pytest.param("shards", marks=pytest.mark.soak)])
def address(request, tmp_path):
    """Where a test opens a library, which it makes where there is none; in make soak also one of four shards."""
    if request.param == "shards":
        MultimodalStorage(tmp_path / "library", n_shards=4)
        return tmp_path / "library"
    return place_of(request, tmp_path)


def place_of(request, tmp_path):
    if request.param == "folder":
        return tmp_path / "library"
    address = request.getfixturevalue("bucket")
    if request.param == "slow bucket":
        request.getfixturevalue("proxy").delay_s = 0.03
    return address


@pytest.fixture
def proxy(object_store, bucket, monkeypatch):
    """A proxy before the S3 server, through which this test's processes reach ``bucket``."""
    with running_proxy(object_store.port) as proxy:
        for name, value in proxy.environment.items():
            monkeypatch.setenv(name, value)
        yield proxy
