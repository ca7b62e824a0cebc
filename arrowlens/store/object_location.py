"""A library in a bucket: small objects by obstore, replaced on conditions, and a lease in place of a lock."""

from __future__ import annotations

import datetime as dt
import os
import random
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from arrowlens.errors import InputError, LibraryBusyError, LibraryNotFoundError, StorageError
from arrowlens.store.identifiers import is_table_name
from arrowlens.store.lease import LEASE_NAME, Lease, put_if
from arrowlens.store.location import MARKS_NAME, SETTINGS_NAME, table_folder

RETENTION = dt.timedelta(days=1)  # of earlier versions: far longer than any writer is paused and then goes on
RETRY_S = 30.0  # how long a store that does not answer is asked again; obstore and lance give up after two seconds
_MAX_RETRIES = 1_000  # the time counts
_LEASE_RETRY_S = 5.0  # of the lease's own requests: its holder must notice in time that it cannot renew
_PROBE = "writer.probe"
_UPDATES = 20  # attempts to replace an object that others replace, too
_ADDRESS = re.compile(r"s3://[a-z0-9][a-z0-9.-]+(/[^/?#\x00-\x1f]+)*", re.ASCII)
_CLIENT_OPTIONS = {"allow_http", "allow_invalid_certificates", "connect_timeout", "proxy_url", "timeout"}
_SECRETS = re.compile(r"secret|token|password|key|credential", re.IGNORECASE)
_USER = re.compile(r"//[^/@\s]+@")


class StoredObject(NamedTuple):
    """An object as a listing gives it: its bytes and its ETag."""

    size: int
    tag: str


class ObjectLocation:
    """A library below a prefix of an S3 bucket.

    Args:
        address: ``s3://bucket/prefix``.
        storage_options: over those of the environment (``AWS_...``), by obstore's names: ``endpoint``, ``region``, ...

    Raises:
        InputError: the address or an option is unusable, or obstore is not installed.
    """

    path = None
    is_durable = True

    def __init__(self, address: str, storage_options: Mapping[str, str] | None = None) -> None:
        if not _ADDRESS.fullmatch(address.rstrip("/")) or ".." in address.split("/"):
            raise InputError(f"{_redacted(address)!r} is no address of a library in a bucket; write s3://BUCKET/PREFIX")
        self.uri, self.retention = address.rstrip("/"), RETENTION
        self._options = _normalised(storage_options or {})
        self._store = self._connected(RETRY_S)
        lease_store = self._connected(_LEASE_RETRY_S, timeout=f"{_LEASE_RETRY_S:.0f}s")
        self._lease = Lease(self.uri, lease_store, self.failing, self._measured_now)
        self._clock: tuple[dt.datetime, float] | None = None  # the store's, and when it was asked

    @property
    def storage_options(self) -> Mapping[str, str]:
        """The options for lancedb: those that were given, and how long it asks again."""
        patience = {"client_max_retries": str(_MAX_RETRIES), "client_retry_timeout": f"{RETRY_S:.0f}"}
        return {**patience, **{_name_for_lance(name): value for name, value in self._options.items()}}

    def _connected(self, retry_s: float, **client_options: str) -> Any:  # noqa: ANN401 - obstore's stores share no public type
        try:
            import obstore.store
            from obstore.exceptions import BaseError
        except ImportError:
            raise InputError(
                f"{self.uri} needs obstore, which is not installed; run pip install 'arrowlens[s3]'"
            ) from None
        given = {name: value for name, value in self._options.items() if name in _CLIENT_OPTIONS}
        client: Any = {
            name: value.lower() == "true" if name.startswith("allow_") else value
            for name, value in {**given, **client_options}.items()
        }
        config: Any = {name: value for name, value in self._options.items() if name not in _CLIENT_OPTIONS}
        backoff = {"max_backoff": dt.timedelta(seconds=1)}
        retry: Any = {
            "max_retries": _MAX_RETRIES,
            "retry_timeout": dt.timedelta(seconds=retry_s),
            "backoff": backoff,
        }
        try:
            return obstore.store.from_url(self.uri, config=config, client_options=client or None, retry_config=retry)
        except (BaseError, ValueError, TypeError) as error:
            options = ", ".join(sorted(self._options)) or "the AWS_... variables"
            raise InputError(
                f"{self.uri} cannot be reached with these options ({options}): {self._cause(error)}; correct them"
            ) from None

    # -- the place itself -----------------------------------------------------------------------------------------

    def child(self, name: str) -> ObjectLocation:
        """Return the location of a prefix of the library; its writer is who holds the library's lease."""
        child = ObjectLocation(f"{self.uri}/{name}", self._options)
        child._lease = self._lease
        return child

    def require_usable(self) -> None:
        """Check that nothing but parts of a library lies below the prefix.

        Raises:
            LibraryNotFoundError: something does. StorageError: the store refuses.
        """
        others = [name for name in self.sizes() if not _is_ours(name)]
        if others:
            raise LibraryNotFoundError(
                f"{self.uri} holds other things ({min(others)!r}) and no library; name a new or an empty prefix"
            )

    def create(self) -> None:
        """Check that the store refuses a write whose condition does not hold, on which the writer's lease rests.

        Raises:
            StorageError: it does not, or it cannot be written to.
        """
        with self.failing("written to"), self._probe() as name:
            if put_if(self._store, name, b"again", None) is not None:
                raise StorageError(
                    f"{self.uri}: the store ignores conditions of writes; use one that knows If-None-Match"
                )

    def writer(self) -> AbstractContextManager[None]:
        """Hold the lease for a block; see ``Location``."""
        return self._lease.held()

    def require_writer(self) -> None:
        """Check that the lease has not ended meanwhile; see ``Location``."""
        self._lease.require()

    def now(self) -> dt.datetime:
        """Return the time by the store's clock, which is asked once; a second behind at most."""
        if self._clock is None:
            self._clock = self._measured_now(), time.monotonic()
        return self._clock[0] + dt.timedelta(seconds=time.monotonic() - self._clock[1])

    def _measured_now(self) -> dt.datetime:
        import obstore

        with self.failing("read"), self._probe() as name:
            written: dt.datetime = obstore.head(self._store, name)["last_modified"]
            return written

    # -- small objects --------------------------------------------------------------------------------------------

    def read(self, name: str) -> tuple[bytes, str] | None:
        """Return the content of an object and its ETag, None when there is no such object."""
        import obstore

        with self.failing("read", name):
            try:
                result = obstore.get(self._store, name)
            except FileNotFoundError:
                return None
            return bytes(result.bytes()), str(result.meta["e_tag"])

    def tag(self, name: str) -> str | None:
        """Return the ETag of an object, None when there is no such object."""
        import obstore

        with self.failing("read", name):
            try:
                return str(obstore.head(self._store, name)["e_tag"])
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Replace an object, whatever it is now."""
        import obstore

        self.require_writer()
        with self.failing("written", name):
            obstore.put(self._store, name, content, use_multipart=False)

    def replace(self, name: str, content: bytes, expected_tag: str | None) -> str | None:
        """Replace an object if its ETag is the expected one; see ``Location``."""
        self.require_writer()
        with self.failing("written", name):
            tag = put_if(self._store, name, content, expected_tag)
        if tag is not None:
            return tag
        stored = self.read(name)
        if stored is not None and stored[0] == content:  # our own write, of which the answer was lost
            return stored[1]
        raise LibraryBusyError(f"{self.uri}/{name} was changed by another run; try again")

    def update(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        """Replace an object by what a function makes of it, on the condition of its ETag; see ``Location``."""
        for attempt in range(_UPDATES):
            stored = self.read(name)
            content, tag = change(None if stored is None else stored[0]), None if stored is None else stored[1]
            with self.failing("written", name):
                if put_if(self._store, name, content, tag) is not None:
                    return
            time.sleep(random.uniform(0.0, 0.05 * (attempt + 1)))  # so that two do not meet again
        raise LibraryBusyError(f"{self.uri}/{name} is being changed by others; try again")

    def rename(self, name: str, new_name: str) -> None:
        """Give an object another name."""
        import obstore

        with self.failing("written", name):
            obstore.rename(self._store, name, new_name)

    def remove(self, name: str) -> None:
        """Delete an object."""
        self._delete([name])

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return the bytes of every object below a folder, by name."""
        return {each["path"]: each["size"] for each in self._list(folder)}

    @property
    def endpoint(self) -> str:
        """The server, empty for Amazon's own: the same address may be another library elsewhere."""
        return self._options.get("endpoint") or os.environ.get("AWS_ENDPOINT") or os.environ.get("AWS_ENDPOINT_URL", "")

    def objects(self) -> dict[str, StoredObject]:
        """Return every object below the prefix by name, by one listing."""
        return {each["path"]: StoredObject(each["size"], str(each["e_tag"])) for each in self._list()}

    def download(self, name: str, path: Path) -> None:
        """Copy an object into a file.

        Raises:
            FileNotFoundError: there is no such object. OSError: the disk refuses. StorageError: the bucket does.
        """
        import obstore

        with path.open("wb") as file:
            with self.failing("read", name):
                try:
                    chunks = iter(obstore.get(self._store, name))
                except FileNotFoundError:
                    chunks = None
            if chunks is None:
                raise FileNotFoundError(name)
            while True:
                with self.failing("read", name):
                    chunk = next(chunks, None)
                if chunk is None:
                    return
                file.write(chunk)

    # -- tables ---------------------------------------------------------------------------------------------------

    def tables(self) -> list[str]:
        """Return the names of the tables, sorted; of a dropped one some stores keep an empty prefix."""
        import obstore

        with self.failing("read"):
            prefixes = obstore.list_with_delimiter(self._store)["common_prefixes"]
        names = [prefix.rstrip("/").rpartition("/")[2].removesuffix(".lance") for prefix in prefixes]
        return sorted(name for name in names if is_table_name(name) and self.manifests(name))

    def manifests(self, table: str) -> list[str]:
        """Return the names of the manifests of a table's versions, the newest first."""
        folder = f"{self.folder(table)}/_versions"
        return sorted(name for name in self.sizes(folder) if name.endswith(".manifest"))

    def folder(self, table: str) -> str:
        """Return the name of a table's folder; see ``Location``."""
        return table_folder(self.uri, table)

    def drop(self, table: str) -> None:
        """Delete a table: its manifests first, so that from then on there is none for whoever reads."""
        folder = self.folder(table)
        self.require_writer()
        self._delete(self.manifests(table))
        self._delete(self.sizes(folder))

    def sync(self, table: str) -> None:
        """Do nothing: what was answered is durable."""

    def keep_copy(self, name: str) -> None:
        """Do nothing; see ``Location.is_durable``."""

    def kept_manifest(self, table: str) -> None:
        """Return None; see ``Location.is_durable``."""

    def superseded(self, table: str) -> dict[str, dt.datetime]:
        """Return when each earlier version of a table was written, by the store's clock."""
        written = {each["path"]: each["last_modified"] for each in self._list(f"{self.folder(table)}/_versions")}
        manifests = sorted(name for name in written if name.endswith(".manifest"))
        return {name: written[name] for name in manifests[1:]}

    # -- requests -------------------------------------------------------------------------------------------------

    @contextmanager
    def failing(self, doing: str, name: str = "") -> Iterator[None]:
        """Translate obstore's errors.

        Raises:
            StorageError: one line, without credentials.
        """
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            yield
        except (BaseError, OSError) as error:
            cure = "check the address and the network, then run again"
            if isinstance(error, (PermissionDeniedError, UnauthenticatedError, PermissionError)):
                cure = "check the credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) and what they allow"
            what = f"{self.uri}/{name}" if name else self.uri
            raise StorageError(f"{what} cannot be {doing} ({self._cause(error)}); {cure}") from None

    def _cause(self, error: BaseException) -> str:
        line = (str(error).strip("\"' ").splitlines() or [type(error).__name__])[0]
        secrets = [value for name, value in self._options.items() if _SECRETS.search(name)]
        secrets += [value for name, value in os.environ.items() if name.startswith("AWS_") and _SECRETS.search(name)]
        return _redacted(line, secrets)[:300]

    @contextmanager
    def _probe(self) -> Iterator[str]:
        """A new object for the length of a block."""
        import obstore

        name = f"{_PROBE}-{uuid.uuid4().hex}"
        obstore.put(self._store, name, b"", use_multipart=False)
        try:
            yield name
        finally:
            obstore.delete(self._store, name)

    def _list(self, folder: str = "") -> list[Any]:
        import obstore

        with self.failing("read"):
            return [each for page in obstore.list(self._store, folder or None) for each in page]

    def _delete(self, names: Iterable[str]) -> None:
        import obstore

        if paths := list(names):
            with self.failing("written to"):
                obstore.delete(self._store, paths)


def _is_ours(name: str) -> bool:
    """Whether an interrupted creation, or a table that was dropped, may have left it."""
    folder, _, _ = name.partition("/")
    return (
        name in (SETTINGS_NAME, LEASE_NAME, MARKS_NAME)
        or name.startswith(_PROBE)
        or is_table_name(folder.removesuffix(".lance"))
    )


def _normalised(options: Mapping[str, str]) -> dict[str, str]:
    """Options by obstore's names, which lance knows with ``aws_`` in front."""
    given = {name.lower().removeprefix("aws_"): value for name, value in options.items()}
    if "endpoint_url" in given:
        given["endpoint"] = given.pop("endpoint_url")
    if (allowed := os.environ.get("AWS_ALLOW_HTTP")) is not None:  # obstore forgets it where other options are given
        return {"allow_http": allowed, **given}
    return given


def _name_for_lance(name: str) -> str:
    return name if name in _CLIENT_OPTIONS else f"aws_{name}"


def _redacted(text: str, secrets: Iterable[str] = ()) -> str:
    for secret in secrets:
        text = text.replace(secret, "***") if secret else text
    return _USER.sub("//***@", text)
