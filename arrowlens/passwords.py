"""A password is kept as its hash only: scrypt (RFC 7914) with a salt of its own, as text on one line."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

from arrowlens.errors import InputError

MIN_LENGTH = 8
MAX_LENGTH = 1024

_N, _R, _P = 2**15, 8, 3  # OWASP's advice for 32 MB; 0.3 s a try
_MEMORY = 64 << 20  # bytes that a try may take
_KIND = "scrypt"


def hash_password(password: str) -> str:
    """``scrypt$n$r$p$salt$key``, salt and key in base64; another one each time.

    Raises:
        InputError: the password is shorter than ``MIN_LENGTH`` characters, or longer than ``MAX_LENGTH``.
    """
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise InputError(f"a password has from {MIN_LENGTH} to {MAX_LENGTH} characters, not {len(password)}")
    salt = secrets.token_bytes(16)
    key = _key(password, salt, _N, _R, _P)
    return "$".join([_KIND, *map(str, (_N, _R, _P)), *(base64.b64encode(part).decode() for part in (salt, key))])


def is_password(password: str, stored: str) -> bool:
    """Whether ``stored`` is the hash of a password; takes as long for any wrong one.

    Raises:
        InputError: ``stored`` is no hash.
    """
    n, r, p, salt, key = _parts(stored)
    return hmac.compare_digest(_key(password[:MAX_LENGTH], salt, n, r, p), key)


def checked_hash(stored: str) -> str:
    """``stored`` without blanks around it.

    Raises:
        InputError: it is no hash; it is not repeated in the message, since it may be a password.
    """
    _parts(stored)
    return stored.strip()


def write_hash(path: Path, stored: str) -> None:
    """Write a hash to a file that only its owner may read, in one step; an earlier hash is replaced.

    Raises:
        InputError: there is another file, or it cannot be written.
    """
    try:
        if path.exists():
            checked_hash(path.read_text("utf-8", "replace"))
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".password-")  # readable by its owner only
        with os.fdopen(handle, "w") as file:
            file.write(f"{stored}\n")
        Path(name).replace(path)
    except InputError as error:
        raise InputError(f"{path} is there and holds something else; name another file") from error
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror}); name another file") from error


def read_hash(path: Path) -> str:
    """The hash that ``write_hash`` wrote.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    try:
        return checked_hash(path.read_text("utf-8", "replace"))
    except OSError as error:
        raise InputError(f"cannot read the password file {path} ({error.strerror})") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _parts(stored: str) -> tuple[int, int, int, bytes, bytes]:
    try:
        kind, n, r, p, salt, key = stored.strip().split("$")
        cost = int(n), int(r), int(p)
        secret = base64.b64decode(salt, validate=True), base64.b64decode(key, validate=True)
        is_possible = kind == _KIND and cost[0] * cost[1] * 128 < _MEMORY and cost[2] <= 16 and len(secret[1]) >= 16
    except ValueError:
        is_possible = False
    if not is_possible:
        raise InputError("that is no hash of a password; `arrowlens ui --set-password FILE` makes one")
    return *cost, *secret


def _key(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, n=n, r=r, p=p, maxmem=_MEMORY)
