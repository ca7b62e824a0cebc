"""Visitors without a browser: they speak to the page's websocket and upload as the page does."""

from __future__ import annotations

import http.client
import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect


def ask(address, path, method="GET", body=None, source=None, timeout=30, **headers):
    """Status, headers and body of an answer; ``source`` is the client's own address."""
    connection = http.client.HTTPConnection(
        urlsplit(address).netloc, timeout=timeout, source_address=(source, 0) if source else None
    )
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def knock(address, *, origin, host=None):
    """The status that a websocket's handshake gets: 101 when it opens."""
    place = urlsplit(address)
    lines = ["GET /_stcore/stream HTTP/1.1", f"Host: {host or place.netloc}", "Upgrade: websocket"]
    lines += ["Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    lines += [f"Origin: {origin}"] if origin is not None else []
    with socket.create_connection((place.hostname, place.port), timeout=30) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return int(connection.recv(100).split()[1])


class Visitor:
    """A session of the page. ``rerun`` runs it at an address; ``upload`` sends a file as its uploader does."""

    def __init__(self, address):
        self.address = address
        _, headers, _ = ask(address, "/_stcore/health")
        self.token = headers["set-cookie"].split(";")[0].partition("=")[2]
        self.session = self.socket = None
        self._stack = ExitStack()

    def __enter__(self):
        url = f"{self.address.replace('http', 'ws', 1)}/_stcore/stream"
        opened = connect(url, origin=self.address, subprotocols=["streamlit", "x"], max_size=None, compression=None)
        self.socket = self._stack.enter_context(opened)
        self.rerun("")
        return self

    def __exit__(self, *_):
        self._stack.close()

    def send(self, query):
        message = BackMsg()
        message.rerun_script.query_string = query
        self.socket.send(message.SerializeToString())

    def rerun(self, query, timeout=120):
        """The page's messages, until its script has ended."""
        self.send(query)
        messages = []
        while not messages or messages[-1].WhichOneof("type") != "script_finished":
            message = ForwardMsg()
            message.ParseFromString(self.socket.recv(timeout))
            messages.append(message)
            if message.WhichOneof("type") == "new_session":
                self.session = message.new_session.initialize.session_id
        return messages

    def upload(self, file_id, content, source=None):
        """The status of the answer."""
        head = '--b\r\nContent-Disposition: form-data; name="f"; filename="a.png"\r\n\r\n'
        body = head.encode() + content + b"\r\n--b--\r\n"
        status, _, _ = ask(
            self.address,
            f"/_stcore/upload_file/{self.session}/{file_id}",
            "PUT",
            body,
            source,
            Content_Type="multipart/form-data; boundary=b",
            X_Xsrftoken=self.token,
            Cookie=f"_streamlit_xsrf={self.token}",
        )
        return status


def errors_in(messages):
    """The texts of the error boxes that a run of the page shows."""
    return [
        message.delta.new_element.alert.body
        for message in messages
        if message.WhichOneof("type") == "delta" and message.delta.new_element.WhichOneof("type") == "alert"
    ]
