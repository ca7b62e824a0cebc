"""Passwords are kept as hashes, text on one line: Argon2id (RFC 9106); earlier versions wrote scrypt (RFC 7914)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import tempfile
from pathlib import Path

import argon2

from arrowlens.errors import InputError

MIN_LENGTH = 8
MAX_LENGTH = 1024

_MEMORY = 128 << 20  # bytes that a try may take
_SCRYPT = "scrypt"


def hash_password(password: str) -> str:
    """Return ``$argon2id$v=...$m=...,t=...,p=...$salt$key``; another one each time, since the salt is random.

    Raises:
        InputError: the password is shorter than ``MIN_LENGTH`` characters, or longer than ``MAX_LENGTH``.
    """
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise InputError(f"a password has from {MIN_LENGTH} to {MAX_LENGTH} characters, not {len(password)}")
    return argon2.PasswordHasher().hash(_bytes(password))


def is_password(password: str, stored: str) -> bool:
    """Return whether ``stored`` is the hash of a password; takes as long for any wrong one.

    Raises:
        InputError: ``stored`` is no hash.
    """
    stored = checked_hash(stored)
    if stored.startswith(_SCRYPT):
        n, r, p, salt, key = _scrypt_parts(stored)
        made = hashlib.scrypt(_bytes(password), salt=salt, n=n, r=r, p=p, maxmem=_MEMORY)
        return hmac.compare_digest(made, key)
    try:
        return argon2.PasswordHasher().verify(stored, _bytes(password))
    except argon2.exceptions.VerifyMismatchError:
        return False


def checked_hash(stored: str) -> str:
    """Return ``stored`` without blanks around it.

    Raises:
        InputError: it is no hash; it is not repeated in the message, since it may be a password.
    """
    stored = stored.strip()
    try:
        if not _is_argon2(stored):
            _scrypt_parts(stored)
    except ValueError:
        raise InputError("that is no hash of a password; `arrowlens ui --set-password FILE` makes one") from None
    return stored


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
    """Return the hash that ``write_hash`` wrote.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    try:
        return checked_hash(path.read_text("utf-8", "replace"))
    except OSError as error:
        raise InputError(f"cannot read the password file {path} ({error.strerror})") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _is_argon2(stored: str) -> bool:
    try:
        costs = argon2.extract_parameters(stored)
        for part in stored.split("$")[-2:]:  # salt and key, in base64 without padding
            base64.b64decode(part + "=" * (-len(part) % 4), validate=True)
    except (argon2.exceptions.InvalidHashError, ValueError):
        return False
    has_costs = costs.time_cost in range(1, 17) and costs.parallelism in range(1, 17)
    has_memory = 8 * costs.parallelism <= costs.memory_cost <= _MEMORY // 1024
    return has_costs and has_memory and costs.salt_len >= 8 and costs.hash_len >= 16


def _scrypt_parts(stored: str) -> tuple[int, int, int, bytes, bytes]:
    """n, r, p, salt and key of ``scrypt$n$r$p$salt$key``, salt and key in base64 (ValueError: it is none)."""
    kind, n, r, p, salt, key = stored.split("$")
    cost = int(n), int(r), int(p)
    secret = base64.b64decode(salt, validate=True), base64.b64decode(key, validate=True)
    has_costs = cost[0] > 1 and cost[0].bit_count() == 1 and cost[1] > 0 and cost[2] in range(1, 17)
    if kind != _SCRYPT or not has_costs or cost[0] * cost[1] * 128 >= _MEMORY // 2 or len(secret[1]) < 16:
        raise ValueError("a hash that nobody made")
    return *cost, *secret


def _bytes(password: str) -> bytes:
    return password[:MAX_LENGTH].encode("utf-8", "surrogatepass")
