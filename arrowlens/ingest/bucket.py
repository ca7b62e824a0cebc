"""Media files in buckets: what lies below a prefix, or what a manifest names, read in exactly the version listed.

Credentials come from the environment (``AWS_ACCESS_KEY_ID``, ...), as every client of the store takes them; they are
neither stored nor said. Needs obstore (``pip install 'arrowlens[s3]'``).
"""

from __future__ import annotations

import datetime as dt
import io
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from arrowlens.addresses import BUCKET_SCHEMES, is_bucket, is_manifest, scheme_of
from arrowlens.errors import FileChangedError, FolderError, InputError, MediaError, UnreachableError
from arrowlens.ingest.ignore import IGNORE_NAME, Rules, is_junk
from arrowlens.ingest.source import Fetched, FolderSource
from arrowlens.ingest.walk import ETAG, ScannedFile, Walk, etag_of, folder_of, resolve_folders
from arrowlens.modalities import modality_of
from arrowlens.store import Settings

READS_AT_ONCE = 32  # at 30 ms: 94 files a second against 21 with one
_MOST_AHEAD_BYTES = 256 * 1024**2  # of files that were read and are not decoded yet
_MOST_READ_AHEAD = 64 * 1024**2  # bytes of a file; a larger one is read in parts, by its decoder
_PART = 8 * 1024**2  # bytes of one request for a large object
_RETRY_S = 30.0  # how long a store that does not answer is asked again
_PAGE = 1000
_SECRETS = re.compile(r"(AWS|GOOGLE|AZURE)_.*(secret|token|password|key|credential|connection)", re.IGNORECASE)
_SHORTEST_SECRET = 8  # characters; shorter ones are words of messages
_COLUMNS = ("address", "uri", "url", "path")
_CHANGED = "the object changed since it was listed; the next run reads it"


@dataclass(frozen=True, slots=True)
class BucketSource:
    """Objects below prefixes of buckets.

    Attributes:
        scopes: addresses of prefixes, such as ``s3://bucket/photos``, as ``resolve_buckets`` gives them.
        names: addresses of single objects instead, of a manifest. They belong to the roots that contain them, and what
            a manifest does not name stays in the library.
    """

    scopes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def roots(self) -> tuple[str, ...]:
        """What is registered with the library: the prefixes, or the buckets of a manifest."""
        return self.scopes or tuple(sorted({_bucket_of(name) for name in self.names}))

    def walk(self, settings: Settings) -> Walk:
        """List the media files below ``scopes``, or look at each of ``names``.

        A listing that breaks off counts as a folder that could not be read: nothing of it is removed.

        Raises:
            FolderError: a prefix cannot be listed at all.
        """
        seen = Walk(self.scopes)
        for scope in self.scopes:
            _Listing(scope, settings, seen).run()
        if self.names:
            self._look_at_names(settings, seen)
        seen.files.sort(key=lambda file: file.path)
        return seen

    def _look_at_names(self, settings: Settings, seen: Walk) -> None:
        files = []
        for name in self.names:
            modality, root = modality_of(name), settings.root_of(name)
            if modality is None or root is None:
                seen.left_alone["other"] += 1
            elif not seen.leaves_raw(os.fsencode(name)):
                relative = cast(bytes, root.relative(name))
                files.append(ScannedFile(os.fsencode(name), root, relative, modality, None, None))
        with ThreadPoolExecutor(READS_AT_ONCE, "look") as threads:
            seen.files.extend(threads.map(self._looked_at, files))

    def _looked_at(self, file: ScannedFile) -> ScannedFile:
        """Return the file as it is now, with the caption beside it."""
        import obstore

        with suppress(MediaError):  # reading it gives the reason
            file = self.look(file)
        is_unknown = False
        for address in _caption_addresses(os.fsdecode(file.path)):
            store, key = _opened(address)
            try:
                with _failing():
                    meta = obstore.head(store, key)
                return replace(file, sidecar=os.fsencode(address), caption_stamp=_caption_stamp(meta))
            except UnreachableError:
                is_unknown = True
            except MediaError:
                continue
        return replace(file, is_caption_unknown=is_unknown)

    def look(self, file: ScannedFile) -> ScannedFile:
        """Return the file as it is now; errors as of ``Source``."""
        store, key = _opened(os.fsdecode(file.path))
        import obstore  # behind what says how to install it

        with _failing():
            return _with_meta(file, obstore.head(store, key))

    def fetch(self, file: ScannedFile) -> Fetched | None:
        """Get the version listed, a large one to be read in parts; None when another one is there now.

        Errors as of ``Source``.
        """
        address, now = os.fsdecode(file.path), file
        if file.etag is None or (file.size or 0) > _MOST_READ_AHEAD:  # without a version, its size is unknown, too
            now = self.look(file)
            if file.etag is not None and now.stamp != file.stamp:
                return None
        if (now.size or 0) > _MOST_READ_AHEAD:
            return Fetched(file.path, opened=partial(open_object, address, now.etag))
        try:
            data = read_object(address, file.etag)
        except FileChangedError:
            return None
        return Fetched(file.path, data)

    def read_ahead(self, files: Iterable[ScannedFile]) -> Iterator[ScannedFile]:
        """Yield files in their order with their content; ``READS_AT_ONCE`` are read at a time."""
        under_way: deque[tuple[ScannedFile, Future[ScannedFile] | None]] = deque()
        n_bytes = 0
        with ThreadPoolExecutor(READS_AT_ONCE, "read") as threads:
            try:
                for file in files:
                    is_read = file.size is not None and file.size <= _MOST_READ_AHEAD
                    under_way.append((file, threads.submit(self._with_content, file) if is_read else None))
                    n_bytes += file.size or 0
                    while len(under_way) > 2 * READS_AT_ONCE or (n_bytes > _MOST_AHEAD_BYTES and len(under_way) > 1):
                        first, future = under_way.popleft()
                        n_bytes -= first.size or 0
                        yield first if future is None else future.result()
                while under_way:
                    first, future = under_way.popleft()
                    yield first if future is None else future.result()
            finally:
                threads.shutdown(cancel_futures=True)

    def _with_content(self, file: ScannedFile) -> ScannedFile:
        try:
            fetched = self.fetch(file)
        except MediaError:
            return file
        return file if fetched is None else replace(file, content=fetched.data)

    @contextmanager
    def open(self, path: bytes) -> Iterator[BinaryIO]:
        """Open an object as it is now; seekable. Errors as of ``Source``."""
        with open_object(os.fsdecode(path), None) as file:
            yield file


@dataclass(frozen=True, slots=True)
class Sources:
    """Folders on this machine and buckets, as one source.

    Attributes:
        folders, buckets: what lies where.
    """

    folders: FolderSource
    buckets: BucketSource

    @classmethod
    def of(
        cls,
        places: Iterable[str | os.PathLike[str]],
        library: Path | None,
        mounts: Sequence[str],
        roots: Iterable[str] = (),
    ) -> Sources:
        """Return the source of folders, files, prefixes of buckets and manifests; asks each prefix for one object.

        Args:
            places: at least one. library, mounts, roots: as of ``resolve_folders``.

        Raises:
            FolderError: as ``resolve_folders``, ``resolve_buckets``, ``require_objects`` and ``read_manifest``.
        """
        places = list(places)
        prefixes = resolve_buckets(place for place in places if scheme_of(place) is not None)
        names = tuple(name for place in places if is_manifest(place) for name in read_manifest(place))
        local = [place for place in places if scheme_of(place) is None and not is_manifest(place)]
        folders = resolve_folders(local, library, mounts, roots) if local or not places else ()
        for prefix in prefixes:
            require_objects(prefix)
        return cls(FolderSource(folders, library), BucketSource(prefixes, names))

    @property
    def roots(self) -> tuple[str, ...]:
        """The folders and prefixes that are registered with the library before the walk."""
        return (*dict.fromkeys(map(folder_of, self.folders.scopes)), *self.buckets.roots)

    def walk(self, settings: Settings) -> Walk:
        """List the files of both; errors as of each."""
        here, there = self.folders.walk(settings), self.buckets.walk(settings)
        return replace(
            here,
            scopes=(*here.scopes, *there.scopes),
            files=sorted([*here.files, *there.files], key=lambda file: file.path),
            ignored=here.ignored | there.ignored,
            unread=here.unread | there.unread,
            left_alone=here.left_alone + there.left_alone,
            raw_files=here.raw_files | there.raw_files,
        )

    def look(self, file: ScannedFile) -> ScannedFile:
        """Return the file as it is now; errors as of ``Source``."""
        return self._of(file.path).look(file)

    def fetch(self, file: ScannedFile) -> Fetched | None:
        """Get the version listed; errors as of ``Source``."""
        return self._of(file.path).fetch(file)

    def read_ahead(self, files: Iterable[ScannedFile]) -> Iterator[ScannedFile]:
        """Yield files, those of folders first."""
        elsewhere = []
        for file in files:
            if is_bucket(os.fsdecode(file.path)):
                elsewhere.append(file)
            else:
                yield file
        yield from self.buckets.read_ahead(elsewhere)

    def open(self, path: bytes) -> AbstractContextManager[BinaryIO]:
        """Open a file as it is now; errors as of ``Source``."""
        return self._of(path).open(path)

    def _of(self, path: bytes) -> FolderSource | BucketSource:
        return self.buckets if is_bucket(os.fsdecode(path)) else self.folders


def resolve_buckets(addresses: Iterable[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Return the addresses of prefixes, sorted, without those that lie inside another one.

    Raises:
        FolderError: one is not the address of a bucket.
    """
    found = {_checked(os.fsdecode(address)) for address in addresses}
    return tuple(sorted(each for each in found if not any(each.startswith(f"{other}/") for other in found)))


def read_manifest(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the addresses that a manifest names, in order, each once.

    Args:
        path: a Parquet or CSV file with a column ``address``, ``uri``, ``url`` or ``path``.

    Raises:
        FolderError: it cannot be read, has no such column, or names something that is not in a bucket.
    """
    import pyarrow as pa  # deferred, with its readers: manifests are rare
    import pyarrow.csv
    import pyarrow.parquet as pq

    name = os.fsdecode(path)
    try:
        is_parquet = name.lower().endswith(".parquet")
        table = pq.read_table(name) if is_parquet else pyarrow.csv.read_csv(name)
    except (OSError, pa.ArrowException) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FolderError(f"the manifest {name} cannot be read ({cause}); nothing was changed") from error
    column = next((each for each in _COLUMNS if each in table.column_names), None)
    if column is None:
        raise FolderError(f"the manifest {name} has no column {', '.join(_COLUMNS)}; name the one with addresses so")
    return tuple(dict.fromkeys(_checked(str(address)) for address in table[column].to_pylist()))


def require_objects(address: str) -> None:
    """Ask for one object of a prefix.

    Raises:
        FolderError: it cannot be listed, or holds none.
    """
    store = _store(address)
    import obstore  # behind what says how to install it

    try:
        with _failing():
            has_objects = any(iter(obstore.list(store, chunk_size=1)))
    except MediaError as error:
        raise _unlistable(address, error) from error
    if not has_objects:
        raise _empty(address)


def _unlistable(address: str, error: MediaError) -> FolderError:
    cure = "check the address and the credentials; nothing was changed"
    return FolderError(f"{address} cannot be listed ({error}); {cure}")


def _empty(address: str) -> FolderError:
    return FolderError(f"{address} holds no objects; check the address; nothing was changed")


def read_object(address: str, etag: str | None, max_bytes: int | None = None) -> bytes:
    """Return the bytes of an object.

    Args:
        address: such as ``s3://bucket/photos/a.jpg``.
        etag: of the version that is wanted; None takes any.
        max_bytes: refuse more.

    Raises:
        FileChangedError: another version is there now.
        MediaError: it is gone, cannot be read, or is too large.
    """
    import obstore

    store, key = _opened(address)
    with _failing():
        result = obstore.get(store, key, options={"if_match": etag} if etag is not None else {})
        if max_bytes is not None and result.meta["size"] > max_bytes:
            raise MediaError(f"{result.meta['size']:,} bytes is over the limit of {max_bytes:,} bytes")
        content = io.BytesIO()  # its value is no copy; bytes(result.bytes()) would be one
        for part in result.stream():
            content.write(part)
        return content.getvalue()


@contextmanager
def open_object(address: str, etag: str | None) -> Iterator[BinaryIO]:
    """Open an object for reading, seekable; parts are read as they are asked for, all of the same version.

    Raises:
        FileChangedError, MediaError: as ``read_object``, here and while it is read.
    """
    import obstore

    store, key = _opened(address)
    with _failing():
        meta = obstore.head(store, key)
        if etag is not None and meta["e_tag"] != etag:
            raise FileChangedError(_CHANGED)
        reader = _Reader(store, key, meta["size"], meta["e_tag"])
    with io.BufferedReader(reader, _PART if meta["size"] > _MOST_READ_AHEAD else 1 << 20) as file:
        try:
            yield file
        finally:
            if reader.failure is not None:  # decoders take what is missing for the end of the file
                raise reader.failure


@dataclass(frozen=True, slots=True)
class StoredObject:
    """The version of an object that was indexed.

    Attributes:
        address: of the object. etag: of that version; None where the store gives none.
    """

    address: str
    etag: str | None

    @classmethod
    def of_row(cls, address: str, row: Mapping[str, Any]) -> StoredObject:
        """Return the object that was read for a row of ``MultimodalStorage.media``."""
        return cls(address, etag_of(row["file_id"]))

    def read(self, max_bytes: int | None = None) -> bytes:
        """Return its bytes; errors as of ``read_object``."""
        return read_object(self.address, self.etag, max_bytes)

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Open it, seekable; errors as of ``open_object``."""
        return open_object(self.address, self.etag)


class _Reader(io.RawIOBase):
    """The bytes of an object as a file; ``failure`` is why some could not be read."""

    def __init__(self, store: Any, key: str, size: int, etag: str | None) -> None:  # noqa: ANN401 - obstore's
        self._store, self._key, self._size, self._etag = store, key, size, etag
        self._position = 0
        self.failure: MediaError | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position, in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, and return the new position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - a writable buffer
        """Read into a buffer, and return how many bytes; errors as of ``read_object``."""
        import obstore

        end = min(self._size, self._position + min(len(buffer), _PART))
        if self._position >= end:
            return 0
        options: Any = {"range": (self._position, end)}
        if self._etag is not None:
            options["if_match"] = self._etag
        try:
            with _failing():
                data = memoryview(obstore.get(self._store, self._key, options=options).bytes())
        except MediaError as error:
            self.failure = error
            raise
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class _Listing:
    """One listing of a prefix: names first, since a caption or an ignore file may come behind what it is for."""

    def __init__(self, scope: str, settings: Settings, seen: Walk) -> None:
        root = settings.root_of(scope)
        assert root is not None, "roots are registered before the walk"
        self._scope, self._root, self._seen = scope, root, seen
        self._objects: dict[str, Mapping[str, Any]] = {}
        self._rules: dict[str, Rules | None] = {}  # by folder; None for one that is left alone
        self._captions: set[str] = set()
        self._has_broken_off = False

    def run(self) -> None:
        self._list()
        files: list[ScannedFile] = []
        try:
            for name, meta in self._objects.items():
                if (file := self._file(name, meta)) is not None:
                    files.append(file)
        except (FolderError, MediaError) as error:
            self._seen.unread[os.fsencode(self._scope)] = str(error)
            return
        self._seen.files.extend(files)
        self._seen.left_alone["other"] -= len(self._captions)

    def _list(self) -> None:
        import obstore

        pages = iter(obstore.list(_store(self._scope), chunk_size=_PAGE))
        try:
            with _failing():
                for page in pages:
                    self._objects.update((meta["path"], meta) for meta in page)
        except MediaError as error:
            if not self._objects:
                raise _unlistable(self._scope, error) from error
            self._has_broken_off = True
            self._seen.unread[os.fsencode(self._scope)] = f"the listing broke off: {error}"
        if not self._objects:  # a mistyped prefix is no empty one
            raise _empty(self._scope)

    def _file(self, key: str, meta: Mapping[str, Any]) -> ScannedFile | None:
        folder, _, name = key.rpartition("/")
        rules = self._rules_of(folder)
        if rules is None:
            return None
        if is_junk(os.fsencode(name)):
            self._seen.left_alone["hidden"] += name != IGNORE_NAME.decode()
            return None
        modality = modality_of(name)
        if modality is None:
            self._seen.left_alone["other"] += 1
            return None
        address = f"{self._scope}/{key}"
        path = os.fsencode(address)
        if rules.ignore(path, is_folder=False):
            self._ignore(path)
            return None
        if self._seen.leaves_raw(path):
            return None
        sidecar, stamp = self._caption(key, rules)
        relative = cast(bytes, self._root.relative(address))
        return ScannedFile(
            path,
            self._root,
            relative,
            modality,
            meta["size"],
            _modified_ns(meta),
            sidecar,
            stamp,
            file_id=_file_id(meta),
            is_caption_unknown=self._has_broken_off and sidecar is None,  # it may come behind the break
        )

    def _rules_of(self, folder: str) -> Rules | None:
        """Return the ignore files that hold for a folder; None where it is left alone, which is noted once."""
        if folder not in self._rules:
            self._rules[folder] = self._new_rules(folder)
        return self._rules[folder]

    def _new_rules(self, folder: str) -> Rules | None:
        path = os.fsencode(f"{self._scope}/{folder}".rstrip("/"))
        rules: Rules | None = Rules()
        if folder:
            outer, _, name = folder.rpartition("/")
            rules = self._rules_of(outer)
            if rules is None:
                return None
            if is_junk(os.fsencode(name)) or name in ("", ".."):
                self._seen.left_alone["hidden"] += 1
                return None
            if rules.ignore(path, is_folder=True):
                self._ignore(path)
                return None
        name = "/".join(filter(None, (folder, IGNORE_NAME.decode())))
        if rules is None or name not in self._objects:
            return rules
        return rules.with_text(path, read_object(f"{self._scope}/{name}", None))

    def _ignore(self, path: bytes) -> None:
        self._seen.ignored.add(path)
        self._seen.left_alone["ignored"] += 1

    def _caption(self, key: str, rules: Rules) -> tuple[bytes | None, str | None]:
        """Return address and stamp of the text beside an object that is its caption."""
        for wanted in _caption_addresses(key):
            if (meta := self._objects.get(wanted)) is not None:
                address = os.fsencode(f"{self._scope}/{wanted}")
                if not rules.ignore(address, is_folder=False):
                    self._captions.add(wanted)
                    return address, _caption_stamp(meta)
        return None, None


def _caption_addresses(address: str) -> tuple[str, str]:
    """Return where the caption of an object may be, by its address or key."""
    return f"{address}.txt", f"{os.path.splitext(address)[0]}.txt"  # noqa: PTH122 - an address


def _caption_stamp(meta: Mapping[str, Any]) -> str:
    return f"{meta['size']}:{meta['e_tag']}"


def _modified_ns(meta: Mapping[str, Any]) -> int:
    return int(meta["last_modified"].timestamp()) * 10**9  # a single object's time comes in whole seconds


def _file_id(meta: Mapping[str, Any]) -> str | None:
    return None if meta["e_tag"] is None else f"{ETAG}{meta['e_tag']}"


def _with_meta(file: ScannedFile, meta: Mapping[str, Any]) -> ScannedFile:
    return replace(file, size=meta["size"], modified_ns=_modified_ns(meta), file_id=_file_id(meta))


def _checked(address: str) -> str:
    if not is_bucket(address) or not address.partition("://")[2].strip("/") or ".." in address.split("/"):
        forms = ", ".join(f"{scheme}://BUCKET/PREFIX" for scheme in BUCKET_SCHEMES)
        raise FolderError(f"{_redacted(address)!r} is no address in a bucket; write {forms}")
    return address.rstrip("/")


def _bucket_of(address: str) -> str:
    scheme, _, rest = address.partition("://")
    n_parts = 2 if scheme.lower() == "az" else 1  # account and container
    return f"{scheme}://{'/'.join(rest.split('/')[:n_parts])}"


def _opened(address: str) -> tuple[Any, str]:
    bucket = _bucket_of(address)
    return _store(bucket), address[len(bucket) + 1 :]


@cache
def _store(address: str) -> Any:  # noqa: ANN401 - obstore's stores share no public type
    try:
        from obstore.exceptions import BaseError
    except ImportError:
        raise InputError(f"{address} needs obstore, which is not installed; run pip install 'arrowlens[s3]'") from None
    retry: Any = {
        "max_retries": 1000,  # the time counts
        "retry_timeout": dt.timedelta(seconds=_RETRY_S),
        "backoff": {"max_backoff": dt.timedelta(seconds=1)},
    }
    allowed = os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true"  # obstore forgets it where options are given
    client: Any = {"timeout": "60s", "connect_timeout": "5s", "allow_http": allowed}
    try:
        return _new_store(address, client_options=client, retry_config=retry)
    except (BaseError, ValueError, TypeError) as error:
        raise InputError(f"{address} cannot be reached ({_cause(error)}); check the address") from None


def _new_store(address: str, **options: Any) -> Any:  # noqa: ANN401 - as above
    """Make a store of a prefix, which is no URL: it may hold ``#``, ``?`` and ``%``."""
    from obstore.store import AzureStore, GCSStore, S3Store

    scheme, _, rest = address.partition("://")
    if scheme.lower() == "az":
        account, _, rest = rest.partition("/")
        options["account_name"] = account
    name, _, prefix = rest.partition("/")
    store: Any = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[scheme.lower()]
    return store(name, prefix=prefix or None, **options)


@contextmanager
def _failing() -> Iterator[None]:
    """Translate obstore's errors.

    Raises:
        FileChangedError: another version is there now. MediaError: it is gone. UnreachableError: anything else. The
            message is one line, without credentials.
    """
    from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError

    try:
        yield
    except PreconditionError:
        raise FileChangedError(_CHANGED) from None
    except FileNotFoundError:
        raise MediaError("the object is gone") from None
    except (PermissionDeniedError, UnauthenticatedError, PermissionError):
        raise UnreachableError("the store refuses to give it; check the credentials and what they allow") from None
    except (BaseError, OSError) as error:
        raise UnreachableError(f"the store does not give it: {_cause(error)}") from None


def _cause(error: BaseException) -> str:
    return _redacted((str(error).strip("\"' ").splitlines() or [type(error).__name__])[0])


def _redacted(line: str) -> str:
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and _SECRETS.match(name):
            line = line.replace(value, "***")
    return re.sub(r"//[^/@\s]+@", "//***@", line)[:200]
