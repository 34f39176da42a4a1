"""A real S3 server on loopback (moto's), and a proxy before it that injects faults."""

import http.client
import itertools
import logging
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3

SLOW_DOWN = "slow down"
RESET = "reset"
LOST_ANSWER = "lost answer"
CUT = "cut"
STALL = "stall"
STALL_S = 3.0
"""Longer than the time-outs of the tests that use it."""

_SLOW_DOWN_BODY = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)


@dataclass(frozen=True)
class Server:
    """Where the server listens."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bucket(self, name: str) -> str:
        """A new bucket; its URI."""
        boto3.client("s3", endpoint_url=self.url, region_name="us-east-1").create_bucket(
            Bucket=name
        )
        return f"s3://{name}"


@contextmanager
def running_server() -> Iterator[Server]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield Server(server.get_host_and_port()[1])
    finally:
        server.stop()


@dataclass(frozen=True)
class Stop:
    """The request at which everybody dies: no later one is carried out.

    Attributes:
        methods: of the request; a server-side copy is a COPY.
        part: of its path.
        skip: so many of its like are let through first.
        carried_out: whether it is; its answer is lost in any case.
    """

    methods: tuple[str, ...]
    part: str
    skip: int = 0
    carried_out: bool = False


@dataclass
class Faults:
    """What goes wrong next.

    Attributes:
        once: faults for the next requests that a method and a part of the path select; each is
            spent by one request.
        every: each so-many-th request of any kind has the next fault of `kinds`; 0: none.
        met: faults injected so far, by kind.
        requests: all requests so far, by method; a server-side copy is a COPY.
        stop: see there.
        over: set by that request.
    """

    once: deque[tuple[str, str, str]] = field(default_factory=deque)
    every: int = 0
    kinds: Iterator[str] = field(default_factory=lambda: itertools.cycle([SLOW_DOWN, RESET]))
    met: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    stop: Stop | None = None
    over: threading.Event = field(default_factory=threading.Event)
    _skipped: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, method: str, path: str) -> str | None:
        with self._lock:
            self.requests[method] += 1
            if self.over.is_set():
                return RESET
            if self.stop and self._ends(self.stop, method, path):
                self.over.set()
                return LOST_ANSWER if self.stop.carried_out else RESET
            kind = self._chosen(method, path)
            if kind is not None:
                self.met[kind] += 1
            return kind

    def plan(self, kinds: Iterable[str], method: str, part: str = "") -> None:
        self.once.extend((kind, method, part) for kind in kinds)

    def forget(self) -> None:
        """No faults any more, and counts from nothing."""
        with self._lock:
            self.once.clear()
            self.every = 0
            self.met.clear()
            self.requests.clear()
            self.stop = None
            self._skipped = 0
            self.over.clear()

    def _ends(self, stop: Stop, method: str, path: str) -> bool:
        if method not in stop.methods or stop.part not in path:
            return False
        self._skipped += 1
        return self._skipped > stop.skip

    def _chosen(self, method: str, path: str) -> str | None:
        for one in self.once:
            kind, wanted, part = one
            if wanted == method and part in path:
                self.once.remove(one)
                return kind
        if self.every and self.requests.total() % self.every == 0:
            return next(self.kinds)
        return None


@contextmanager
def faulty_proxy(target: Server) -> Iterator[tuple[Server, Faults]]:
    """A proxy before the server; its address, and what it does wrong."""
    faults = Faults()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (ConnectionError, TimeoutError):
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

        def forward(self) -> None:
            body = _body(self)
            copies = "x-amz-copy-source" in self.headers
            fault = faults.next("COPY" if copies else self.command, self.path)
            if fault == SLOW_DOWN:
                self.answer(503, {"Content-Type": "application/xml"}, _SLOW_DOWN_BODY)
                return
            if fault == RESET:
                self.reset()
                return
            if fault == STALL:
                time.sleep(STALL_S)
            status, headers, data = _asked(target, self, body)
            if fault == LOST_ANSWER:
                self.reset()
                return
            self.answer(status, headers, data, fault)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward

        def answer(
            self, status: int, headers: dict[str, str], data: bytes, fault: str | None = None
        ) -> None:
            self.send_response(status)
            length = str(len(data))
            if self.command == "HEAD":
                length = headers.get("Content-Length", "0")
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                half = len(data) // 2
                self.wfile.write(data[:half])
                self.wfile.flush()
                if fault == CUT:
                    self.reset()
                self.wfile.write(data[half:])

        def reset(self) -> None:
            # An immediate RST instead of an orderly end.
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            self.close_connection = True
            raise ConnectionResetError

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield Server(server.server_address[1]), faults
    finally:
        server.shutdown()
        server.server_close()


def _body(request: BaseHTTPRequestHandler) -> bytes:
    if "chunked" in request.headers.get("Transfer-Encoding", ""):
        chunks = []
        while size := int(request.rfile.readline().split(b";")[0], 16):
            chunks.append(request.rfile.read(size))
            request.rfile.readline()
        while request.rfile.readline().strip():
            pass
        return b"".join(chunks)
    return request.rfile.read(int(request.headers.get("Content-Length") or 0))


def _asked(
    target: Server, request: BaseHTTPRequestHandler, body: bytes
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)
    dropped = ("transfer-encoding", "expect", "connection", "content-length")
    headers = {k: v for k, v in request.headers.items() if k.lower() not in dropped}
    try:
        connection.request(request.command, request.path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()
