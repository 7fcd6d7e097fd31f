"""A TCP proxy that makes trouble: between a client and a real server, on loopback, one fault for each request it is told to spoil."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

REQUEST = re.compile(rb"(GET|PUT|POST|HEAD|DELETE) (\S+) HTTP/1.1\r\n")


class Fault(NamedTuple):
    """What happens to one request."""

    kind: str
    """``cut``: the connection ends when ``amount`` bytes have been sent on. ``cut answer``: the same for the answer. ``answer``: it gets ``data``
    instead of reaching the server. ``lose answer``: the server gets it, the client gets nothing. ``stall``: silence for ``amount`` seconds."""
    amount: float = 0
    data: bytes = b""
    method: bytes = b""
    """Only requests of this method are spoiled; empty: any."""


def error(status: str, code: str) -> bytes:
    """An S3 server's error."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code} it is</Message></Error>".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


class Proxy:
    """Passes on what it does not spoil."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.faults: deque[Fault] = deque()
        self.down = False
        self.requests: list[bytes] = []
        self.spoiled = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            if self.down:
                return
            with socket.create_connection(self.target) as server:
                pair = _Pair(self, client, server)
                back = threading.Thread(target=pair.backward, daemon=True)
                back.start()
                pair.forward()
                back.join(1)


class _Pair:
    """One connection of a client and the one it stands for."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        self.left: float | None = None
        self.answer_left: float | None = None

    def forward(self) -> None:
        with suppress(OSError):
            while data := self.client.recv(1 << 14):
                if self.proxy.down:
                    break
                if found := REQUEST.match(data):
                    self.proxy.requests.append(found[1])
                    if not self._spoil(found[1]):
                        break
                if self.left is not None:
                    self.server.sendall(data[: int(self.left)])
                    self.left -= len(data)
                    if self.left <= 0:
                        break
                    continue
                self.server.sendall(data)
        self._end()

    def backward(self) -> None:
        with suppress(OSError):
            while data := self.server.recv(1 << 14):
                if self.proxy.down:
                    break
                if self.answer_left is not None:
                    self.client.sendall(data[: int(self.answer_left)])
                    self.answer_left -= len(data)
                    if self.answer_left <= 0:
                        break
                    continue
                self.client.sendall(data)
        self._end()

    def _spoil(self, method: bytes) -> bool:
        """Take the next fault; False when the connection is to end."""
        faults = self.proxy.faults
        if not faults or (faults[0].method and faults[0].method != method):
            return True
        fault = faults.popleft()
        self.proxy.spoiled += 1
        if fault.kind == "answer":
            self.client.sendall(fault.data)
            return False
        if fault.kind == "stall":
            time.sleep(fault.amount)
            return False
        if fault.kind == "cut":
            self.left = fault.amount
        if fault.kind == "cut answer":
            self.answer_left = fault.amount
        if fault.kind == "lose answer":
            self.answer_left = 0.5  # not a byte, but the end comes only with the server's answer
        return True

    def _end(self) -> None:
        for one in (self.client, self.server):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy(target: tuple[str, int]) -> Iterator[Proxy]:
    made = Proxy(target)
    try:
        yield made
    finally:
        made.down = True
        made.listener.close()
