"""A real HTTP server on loopback that behaves as badly as it is told."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any

from pipeline.http_config import HttpConfig
from pipeline.web import Address, Web

Behaviour = Callable[[BaseHTTPRequestHandler], None]


def accept_loopback(address: Address) -> bool:
    """What no configuration can say."""
    return address == ip_address("127.0.0.1")


def web(**settings: Any) -> Web:
    """Fetches plain http from this machine."""
    given = {
        "allow_hosts": ("localhost", "127.0.0.1"),
        "allow_plain_http": True,
        "retries": 0,
        "backoff_s": 0.001,
    }
    return Web(HttpConfig.model_validate(given | settings), accept_loopback)


class Server:
    """Answers by path.

    Attributes:
        url: without a path.
        seen: path and headers of every request.
    """

    def __init__(self, answers: dict[str, Behaviour], context: ssl.SSLContext | None) -> None:
        seen: list[tuple[str, dict[str, str]]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append((self.path, dict(self.headers)))
                self.close_connection = True
                answers[self.path.partition("?")[0]](self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if context is None else "https"
        self.port = self._server.server_address[1]
        self.url = f"{scheme}://localhost:{self.port}"
        self.seen = seen
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def serving(
    answers: dict[str, Behaviour], context: ssl.SSLContext | None = None
) -> Iterator[Server]:
    with Server(answers, context) as server:
        yield server


def body(data: bytes, status: int = 200, length: int | None = None) -> Behaviour:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(data) if length is None else length))
        request.end_headers()
        request.wfile.write(data)

    return answer


def redirect(to: str, status: int = 302) -> Behaviour:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Location", to)
        request.end_headers()

    return answer


def in_turn(*answers: Behaviour) -> Behaviour:
    waiting = iter(answers)

    def answer(request: BaseHTTPRequestHandler) -> None:
        next(waiting)(request)

    return answer


def reset(request: BaseHTTPRequestHandler) -> None:
    """End the connection the rude way, before any answer."""
    linger = b"\1\0\0\0\0\0\0\0"
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    request.connection.close()


def endless(request: BaseHTTPRequestHandler) -> None:
    """A body without length or end."""
    request.send_response(200)
    request.end_headers()
    try:
        while True:
            request.wfile.write(bytes(1 << 16))
    except OSError:
        pass


def silent(stop: threading.Event) -> Behaviour:
    """No answer at all."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        stop.wait()

    return answer


def dripping(stop: threading.Event, headers: bool) -> Behaviour:
    """A byte now and then, which keeps every socket time-out from running out."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        start = b"HTTP/1.1 200 OK\r\n" + (b"X-Long: " if headers else b"\r\n")
        request.wfile.write(start)
        try:
            while not stop.wait(0.02):
                request.wfile.write(b"x")
                request.wfile.flush()
        except OSError:
            pass

    return answer
