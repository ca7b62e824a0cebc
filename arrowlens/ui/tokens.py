"""Values of signed cookies: of sessions that are signed in, and of browsers that were signed in before."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable

from itsdangerous import Signer

SESSION_S = 7 * 24 * 3600
DEVICE_S = 365 * 24 * 3600


class Tokens:
    """Signed texts, each valid for a time.

    Args:
        key: signs them.
        lifetime_s: seconds that one is valid.
        clock: returns seconds since 1970.
    """

    def __init__(self, key: bytes, lifetime_s: int, clock: Callable[[], float] = time.time) -> None:
        self._signer = Signer(key, salt="arrowlens", digest_method=hashlib.sha256)
        self._lifetime_s, self._clock = lifetime_s, clock

    def token(self) -> str:
        """Return a new one: ``expiry.nonce.signature``."""
        return self._signer.sign(f"{int(self._clock()) + self._lifetime_s}.{secrets.token_hex(16)}").decode()

    def holds(self, token: str) -> bool:
        """Return whether a token was signed with this key and has not expired."""
        body = token.rpartition(".")[0].encode("utf-8", "replace")
        # Signed again and compared: ``Signer.unsign`` accepts several spellings of one signature, so that a session
        # that was signed out would live on in another spelling.
        if not hmac.compare_digest(self._signer.sign(body), token.encode("utf-8", "replace")):
            return False
        return int(body.partition(b".")[0]) > self._clock()


class Sessions(Tokens):
    """Tokens of sessions that are signed in. Their key lives as long as the process."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__(secrets.token_bytes(32), SESSION_S, clock)
        self._ended: dict[str, int] = {}  # by token that was signed out, when it expires

    def holds(self, token: str) -> bool:
        """Return whether a token was signed with this key, has not expired, and was not signed out."""
        return super().holds(token) and token not in self._ended

    def end(self, token: str) -> None:
        """Sign out a session; ``token`` is one that ``holds``."""
        now = self._clock()
        self._ended = {each: until for each, until in self._ended.items() if until > now}
        self._ended[token] = int(token.partition(".")[0])


class Devices(Tokens):
    """Tokens of browsers that signed in before. They let nobody in: each has a count of wrong passwords of its own.

    Their key is derived from the password's hash, so that they outlive the process and end with the password.
    """

    def __init__(self, password_hash: str, clock: Callable[[], float] = time.time) -> None:
        super().__init__(hmac.digest(password_hash.encode(), b"arrowlens device", "sha256"), DEVICE_S, clock)
