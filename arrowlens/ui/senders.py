"""Who sends a request, to which host, and from a page of which origin: read from its headers and checked."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

if TYPE_CHECKING:
    from starlette.types import Scope

_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5}))?", re.ASCII)
_ORIGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^\s/?#@\\\[\]]+|\[[0-9A-Fa-f:.]+\](?::\d{1,5})?)", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class RefusedError(Exception):
    """A request is refused.

    Attributes:
        status: of the HTTP response.
        line: its text, without a line break.
    """

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status, self.line = status, line


@dataclasses.dataclass(frozen=True, slots=True)
class Sender:
    """The sender of a request, by headers that can be trusted.

    Attributes:
        client: the address of the browser; of IPv6 its /64 network, which one household has.
        host: name and port in the browser's address bar.
        scheme: "http" or "https" in the browser's address bar.
    """

    client: str
    host: str
    scheme: str


class Hosts:
    """The host names that a server accepts: the address it is bound to, localhost, and those that its owner named.

    Bound to all addresses, it also accepts every IP address: DNS rebinding needs a name.
    """

    def __init__(self, bound: str, names: Iterable[str] = ()) -> None:
        self._names = {name.lower().strip("[].") for name in ("localhost", bound, *names)}
        address = _address(bound)
        self._any_address = address is not None and address.is_unspecified

    def allows(self, header: str | None) -> bool:
        """Return whether the value of a Host header names this server."""
        parts = _name_and_port(header or "")
        if parts is None:
            return False
        address = _address(parts[0])
        return parts[0] in self._names or (address is not None and (self._any_address or address.is_loopback))


class Senders:
    """Reads the sender of each request, and refuses those that a page of another origin sent.

    Args:
        hosts: names of this server.
        behind_proxy: whether a proxy in front of the server writes X-Forwarded-For, -Host and -Proto. Of each the last
            value counts, which is the proxy's own. Else they are ignored.
    """

    def __init__(self, hosts: Hosts, behind_proxy: bool = False) -> None:
        self._hosts, self._behind_proxy = hosts, behind_proxy

    def read(self, scope: Scope) -> Sender:
        """Return the sender of an HTTP request or a websocket handshake.

        Raises:
            RefusedError: 400 for malformed headers, 421 for an unknown host name, 403 for a page of another origin.
        """
        headers = Headers(scope=scope)
        host = self._host(headers)
        forwarded = self._forwarded(headers, "x-forwarded-proto").lower()
        if forwarded not in ("", *_DEFAULT_PORTS):
            raise RefusedError(400, "the header X-Forwarded-Proto is neither http nor https")
        self._check_origin(scope, headers, host, forwarded)
        own = "https" if scope["scheme"] in ("https", "wss") else "http"
        return Sender(self._client(scope, headers), host, forwarded or own)

    def _host(self, headers: Headers) -> str:
        hosts = headers.getlist("host")
        host = self._forwarded(headers, "x-forwarded-host") or (hosts[0] if len(hosts) == 1 else "")
        if _name_and_port(host) is None:
            raise RefusedError(400, "the Host header is missing or malformed")
        if not self._hosts.allows(host):
            raise RefusedError(421, "this server goes by another name; `arrowlens ui --allowed-host NAME` adds one")
        return host

    def _forwarded(self, headers: Headers, name: str) -> str:
        if not self._behind_proxy:
            return ""
        return ",".join(headers.getlist(name)).rpartition(",")[2].strip()

    def _client(self, scope: Scope, headers: Headers) -> str:
        socket = scope.get("client")
        host: str = self._forwarded(headers, "x-forwarded-for") or (socket[0] if socket else "")
        parts = _name_and_port(host)  # some proxies write the port as well
        host = parts[0] if parts else host
        address = _address(host)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((address, 64), strict=False))
        return host[:64]

    def _check_origin(self, scope: Scope, headers: Headers, host: str, scheme: str) -> None:
        origins = headers.getlist("origin")
        if not origins:
            _check_fetch(scope, headers)
            return
        if len(origins) > 1 or (origins[0] != "null" and not _ORIGIN.fullmatch(origins[0])):
            raise RefusedError(400, "the Origin header names no origin")
        if not _is_same(origins[0], host, scheme):
            raise RefusedError(403, "this is not for pages of another origin")


def as_seen_by_browser(scope: Scope, sender: Sender) -> Scope:
    """Return the scope with client, host, origin and scheme as the browser sees them.

    Streamlit compares Origin and Host letter by letter, and looks up this machine's addresses where they differ.
    """
    named = {b"host": sender.host, b"origin": f"{sender.scheme}://{sender.host}"}
    headers = [
        (name, named[name].encode("latin-1") if name in named else value)
        for name, value in scope["headers"]
        if not name.startswith(b"x-forwarded-")
    ]
    scheme = sender.scheme.replace("http", "ws") if scope["type"] == "websocket" else sender.scheme
    return {**scope, "headers": headers, "scheme": scheme, "client": (sender.client, 0)}


def _check_fetch(scope: Scope, headers: Headers) -> None:
    """Check a request without an Origin: browsers send one with every websocket, and Sec-Fetch-Site with the rest."""
    if scope["type"] == "websocket":
        raise RefusedError(403, "a websocket needs the Origin of this server's own page")
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return
    is_link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    if not (is_link and scope["method"] in ("GET", "HEAD")):
        raise RefusedError(403, "this is not for pages of another origin")


def _is_same(origin: str, host: str, scheme: str) -> bool:
    """Return whether an origin is that of this server's page; ``scheme`` is "" where the server cannot know it."""
    match = _ORIGIN.fullmatch(origin)
    default = _DEFAULT_PORTS.get(match[1].lower()) if match else None
    theirs, ours = _name_and_port(match[2]) if match else None, _name_and_port(host)
    if match is None or default is None or theirs is None or ours is None:
        return False
    is_scheme = match[1].lower() == scheme or not scheme
    return is_scheme and (theirs[0], theirs[1] or default) == (ours[0], ours[1] or default)


def _name_and_port(host: str) -> tuple[str, int | None] | None:
    match = _HOST.fullmatch(host)
    name = match[1].lower().strip("[]").rstrip(".") if match else ""
    if match is None or not name:
        return None
    return name, int(match[2]) if match[2] else None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
