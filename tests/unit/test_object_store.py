"""The stand-in for a bucket: what the tests of libraries in buckets rely on."""

from __future__ import annotations

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import from_url

from tests.support.object_store import running_proxy


def test_a_write_on_a_condition_that_does_not_hold_is_refused(bucket):
    store = from_url(bucket)
    first = obstore.put(store, "a", b"1", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "a", b"2", mode="create")
    obstore.put(store, "a", b"3", mode={"e_tag": first["e_tag"]})
    with pytest.raises(PreconditionError):
        obstore.put(store, "a", b"4", mode={"e_tag": first["e_tag"]})
    assert bytes(obstore.get(store, "a").bytes()) == b"3"


def test_the_proxy_loses_answers_holds_requests_and_goes_away(object_store, bucket):
    with running_proxy(object_store.port) as proxy:
        store = from_url(bucket, endpoint=proxy.endpoint, retry_config={"max_retries": 0})
        proxy.lose_answers("PUT .*/a$")
        with pytest.raises(BaseError):
            obstore.put(store, "a", b"1")
        assert [request.status for request in proxy.requests] == [None]
        assert bytes(obstore.get(store, "a").bytes()) == b"1", "the write itself was not lost"
        proxy.is_away = True
        with pytest.raises(BaseError):
            obstore.get(store, "a")
        proxy.is_away = False
        assert bytes(obstore.get(store, "a").bytes()) == b"1"
