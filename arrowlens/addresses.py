"""Paths on this machine and addresses elsewhere, which must never be mixed up: pathlib makes folders of addresses."""

from __future__ import annotations

import os
import re
from pathlib import Path, PosixPath

from arrowlens.errors import InputError

BUCKET_SCHEMES = ("s3", "gs", "az")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):/", re.IGNORECASE)  # one slash: what pathlib leaves of two


def scheme_of(address: str | os.PathLike[str]) -> str | None:
    """Return the scheme of an address such as ``s3://bucket/prefix``, None for a path."""
    match = _SCHEME.match(os.fsdecode(address))
    return match[1].lower() if match else None


def is_bucket(address: str | os.PathLike[str]) -> bool:
    """Return whether an address is that of a bucket, or of something in one."""
    return scheme_of(address) in BUCKET_SCHEMES


def is_manifest(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is, by its name, that of a list of addresses: ``.csv`` or ``.parquet``."""
    return scheme_of(path) is None and os.fsdecode(path).lower().endswith((".csv", ".parquet"))


def local_path(path: str | os.PathLike[str]) -> Path:
    """Return a path on this machine, with ``~`` expanded.

    Raises:
        InputError: it is the address of something elsewhere.
    """
    if scheme_of(path) is not None:
        raise InputError(f"{os.fsdecode(path)} is not on this machine; name a file or folder here")
    return Path(path).expanduser()


def absolute(address: str | os.PathLike[str]) -> str:
    """Return an address as it is, and a path on this machine as an absolute one."""
    return os.fsdecode(address).rstrip("/") if scheme_of(address) is not None else str(local_path(address).absolute())


class ObjectPath(PosixPath):
    """The address of an object as a path: its text is ``s3://bucket/key``, and there is no such file here."""

    def __str__(self) -> str:
        """Return the address, of whose slashes pathlib leaves one."""
        return super().__str__().replace(":/", "://", 1)


def as_path(address: str | bytes) -> Path:
    """Return an absolute path, or the address of an object, as a path."""
    text = os.fsdecode(address)
    return Path(text) if scheme_of(text) is None else ObjectPath(text)
