"""The lease of a library's one writer: an object in the bucket that is replaced on the condition of its ETag.

It names its holder and counts how often it changed hands (``epoch``). The holder renews it; one that it has not renewed
for ``LENGTH_S`` anybody may take. The taker goes by the store's clock, and the holder counts from the moment before it
sent its last renewal, so that the holder always stops first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from arrowlens.errors import LibraryBusyError, StorageError

LEASE_NAME = "writer.lease"
LENGTH_S = 30.0
_CLOCK_STEP_S = 1.0  # objects carry their times in whole seconds
_RENEWALS = 4  # in the time that a lease lasts
_ATTEMPTS = 3


@dataclasses.dataclass(frozen=True, slots=True)
class _Content:
    """Of the lease's object.

    Attributes:
        holder: host and process, None when it was given back. epoch: how often it was taken.
        key: of this time that it is held. nonce: of this write. written: when, by the store's clock.
    """

    holder: str | None
    epoch: int
    key: str
    nonce: str
    written: dt.datetime


class Lease:
    """Held by one thread of one process at a time; the holding thread may enter again.

    Args:
        uri: of the library, for messages.
        store: obstore's; its requests must end well before ``LENGTH_S``.
        failing: translates its errors into StorageError.
        clock: returns the time by the store's clock.

    Attributes:
        epoch: how often the lease was taken, this time included.
    """

    def __init__(
        self,
        uri: str,
        store: Any,  # noqa: ANN401 - obstore's stores share no public type
        failing: Callable[[str, str], AbstractContextManager[None]],
        clock: Callable[[], dt.datetime],
    ) -> None:
        self._uri, self._store, self._failing, self._clock = uri, store, failing, clock
        self._thread_lock = threading.RLock()
        self._depth = 0
        self._renewing = threading.Lock()
        self._tag: str | None = None
        self._key = ""  # of this time that the lease is held: tells our own writes from others'
        self._ends = 0.0
        self._is_over = threading.Event()
        self.epoch = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lease for a block.

        Raises:
            LibraryBusyError: somebody else holds it, or it has ended meanwhile. StorageError: the store refuses.
        """
        if not self._thread_lock.acquire(blocking=False):
            raise self._busy()
        try:
            if self._depth == 0:
                self._take()
            self._depth += 1
            try:
                self.require()
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self._give_back()
        finally:
            self._thread_lock.release()

    def require(self) -> None:
        """Check that the lease has not ended.

        Raises:
            LibraryBusyError: it has. Another process may write by now, and the caller must not.
        """
        if _now() >= self._ends:
            raise LibraryBusyError(
                f"{self._uri}: this run was paused for {LENGTH_S:.0f} s or could not reach the bucket for so long, and "
                "another one may be writing by now; run it again"
            )

    def _busy(self, detail: str = "wait until it ends") -> LibraryBusyError:
        return LibraryBusyError(f"{self._uri} is being written to by another run; {detail}, then try again")

    def _take(self) -> None:
        found = self._read()
        if found is not None and found.holder is not None:
            age = self._clock() - found.written
            if age.total_seconds() < LENGTH_S + _CLOCK_STEP_S:
                raise self._busy(f"wait until it ends ({found.holder:.100}; if it was killed, {LENGTH_S:.0f} s)")
        self.epoch = 1 if found is None else found.epoch + 1
        self._key = uuid.uuid4().hex
        started = _now()
        if not self._replace(f"{socket.gethostname()}:{os.getpid()}"):
            raise self._busy()
        self._ends = started + LENGTH_S
        self._is_over = threading.Event()
        threading.Thread(target=self._renew, args=(self._is_over,), daemon=True, name="writer lease").start()

    def _renew(self, is_over: threading.Event) -> None:
        """Renew the lease until it is given back or somebody else has it.

        One that has ended is ours again if it is as we left it: then nobody held it in between.
        """
        while not is_over.wait(LENGTH_S / _RENEWALS):
            with self._renewing:
                started = _now()
                if is_over.is_set():
                    return
                with contextlib.suppress(StorageError):  # asked again
                    if not self._replace(f"{socket.gethostname()}:{os.getpid()}"):
                        self._ends = 0.0
                        return
                    self._ends = started + LENGTH_S

    def _give_back(self) -> None:
        """Let the next one have it at once; where that fails, it has to wait until the lease ends."""
        self._is_over.set()
        with self._renewing:
            if _now() < self._ends:
                with contextlib.suppress(StorageError):
                    self._replace(None)
            self._ends = 0.0

    def _replace(self, holder: str | None) -> bool:
        """Write the lease if it is as this process last saw it; return whether that is so."""
        nonce = uuid.uuid4().hex
        content = json.dumps({"holder": holder, "epoch": self.epoch, "key": self._key, "nonce": nonce}).encode()
        for _ in range(_ATTEMPTS):
            with self._failing("written", LEASE_NAME):
                tag = put_if(self._store, LEASE_NAME, content, self._tag)
            if tag is not None:
                self._tag = tag
                return True
            found = self._read()
            if found is None or found.key != self._key:
                return False
            if found.nonce == nonce:  # our own write, of which the answer was lost
                return True
        return False

    def _read(self) -> _Content | None:
        """Return what the lease holds, None when nobody has ever held it; remember its ETag."""
        import obstore

        with self._failing("read", LEASE_NAME):
            try:
                result = obstore.get(self._store, LEASE_NAME)
                content, meta = bytes(result.bytes()), result.meta
            except FileNotFoundError:
                self._tag = None
                return None
        self._tag = str(meta["e_tag"])
        try:
            return _Content(**json.loads(content), written=meta["last_modified"])
        except (ValueError, TypeError) as error:
            raise StorageError(f"{self._uri}/{LEASE_NAME} is damaged; delete it while nobody writes") from error


def put_if(store: Any, name: str, content: bytes, expected_tag: str | None) -> str | None:  # noqa: ANN401 - as above
    """Write an object if its ETag is the expected one, or if there is none; return the new ETag, None when it is not.

    None is also the answer to a write of one's own that was sent again because its first answer was lost.
    """
    import obstore
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    mode: Any = "create" if expected_tag is None else {"e_tag": expected_tag}
    try:
        return str(obstore.put(store, name, content, mode=mode, use_multipart=False)["e_tag"])
    except (AlreadyExistsError, PreconditionError, FileNotFoundError):
        return None


def _now() -> float:
    """Seconds of a clock that nobody sets, and that counts the time that this machine sleeps, where there is one."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
