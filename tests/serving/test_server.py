"""The guard behind a real server: what clients on sockets see, and what is the server's own."""

import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from serving.guarded import guarded
from tests.serving.asgi import ASK, Application, config_of

LIMITS = {"max_body_bytes": 100_000, "body_deadline_s": 1.0}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    app = guarded(Application().app(), config_of(limits=LIMITS))
    # h11 has a limit of its own for headers, which uvicorn's other parser has not.
    config = uvicorn.Config(app, port=0, http="h11", log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(10)


def said(port: int, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """What the server answers to bytes, until it closes the connection."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        try:
            for part in parts:
                client.sendall(part)
                time.sleep(pause_s)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            while part := client.recv(65_536):
                answer += part
        except ConnectionResetError:
            pass
    return answer


def post(*headers: bytes, http: bytes = b"1.1") -> bytes:
    lines = (b"POST " + ASK.encode() + b" HTTP/" + http, b"Host: 127.0.0.1", *headers)
    return b"\r\n".join((*lines, b"", b""))


JSON = b"Content-Type: application/json"


def test_a_question_is_answered(port: int) -> None:
    answer = httpx.post(f"http://127.0.0.1:{port}{ASK}", json={"a": "b"})
    assert (answer.status_code, answer.json()) == (200, {"bytes": 9})


@pytest.mark.parametrize("size", [100_001, 3_000_000])
def test_a_client_that_sends_too_much_is_told_so(port: int, size: int) -> None:
    content = json.dumps("x" * size).encode()
    head = post(JSON, b"Content-Length: " + str(len(content)).encode())
    answer = said(port, head, b"")
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"request_too_large" in answer


def test_a_body_that_drips_is_cut_off(port: int) -> None:
    drops = [post(JSON, b"Content-Length: 1000"), *[b"x"] * 100]
    answer = said(port, *drops, pause_s=0.05)
    assert answer.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(*[b"X-%d: " % number + b"a" * 4000 for number in range(100)]),
        post(b"X: " + b"a" * 1_000_000),
        b"POST /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        post(*[b"X-%d: a" % number for number in range(100_000)]),
    ],
    ids=["long", "one", "path", "many"],
)
def test_headers_are_bounded_by_the_server(port: int, request_bytes: bytes) -> None:
    answer = said(port, request_bytes)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))


@pytest.mark.parametrize(
    "headers",
    [
        (JSON, b"Content-Length: 2", b"Content-Length: 3"),
        (JSON, b"Content-Length: -2"),
        (JSON, b"Content-Length: 2x"),
        (JSON, b"X: a\x00b"),
        (JSON, b"Host: localhost"),
        (JSON, b"Transfer-Encoding: gzip, chunked"),
    ],
)
def test_requests_that_two_parsers_could_read_differently_are_refused(
    port: int, headers: tuple[bytes, ...]
) -> None:
    answer = said(port, post(*headers), b"{}")
    assert answer.split(b" ")[1] in (b"400", b"501")
    assert b"bytes" not in answer


def test_the_server_lives_on_after_all_that(port: int) -> None:
    assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
