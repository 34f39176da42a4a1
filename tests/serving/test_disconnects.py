"""Clients that go: over a real connection, the models are free soon after."""

import asyncio
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from serving.departure import ClientGoneError, Departure
from serving.guarded import guarded
from serving.metrics import Metrics
from tests.serving.endpoint import CHAT, HELLO, app_of
from tests.serving.fakes import FakeBackend, config_of
from tests.serving.server import serving


class Unending:
    """An event that never comes, without belonging to a loop."""

    async def wait(self) -> None:
        await asyncio.Event().wait()


def until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never came about")


def send(port: int, body: dict[str, Any]) -> socket.socket:
    data = json.dumps(body).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(head.encode() + data)
    return client


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "slow"),
    [("pair", "small"), ("pair", "large"), ("pair:small", "small"), ("pair:large", "large")],
)
def test_a_client_that_goes_frees_the_slot(model: str, slow: str, stream: bool) -> None:
    backend = FakeBackend(score=0.1)
    setattr(backend, f"hold_{slow}", Unending())
    metrics = Metrics()
    asked = backend.guided if slow == "small" else backend.answered
    with serving(app_of(backend, {"metrics": metrics})) as port:
        client = send(port, {**HELLO, "model": model, "stream": stream})
        until(lambda: bool(asked) and backend.running == 1)
        if stream and (model == "pair:small" or slow == "large"):
            assert client.recv(1000).startswith(b"HTTP/1.1 200"), "the answer has begun"
        client.close()
        until(lambda: backend.running == 0)
        until(lambda: metrics.snapshot().values.get(("num_requests_running", ())) == 0)
    ended = [key for key in metrics.snapshot().values if key[0] == "requests"]
    assert [labels[2] for _, labels in ended] == ["499"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_guard_tells_of_it_too(stream: bool) -> None:
    backend = FakeBackend(score=0.1, hold_large=Unending())  # type: ignore[arg-type]
    with serving(guarded(app_of(backend), config_of())) as port:
        client = send(port, {**HELLO, "stream": stream})
        until(lambda: bool(backend.answered))
        client.close()
        until(lambda: backend.running == 0)


def test_a_client_that_goes_before_its_body_is_whole_costs_nothing() -> None:
    backend, metrics = FakeBackend(), Metrics()
    with serving(app_of(backend, {"metrics": metrics})) as port:
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{{".encode())
        until(lambda: metrics.snapshot().values.get(("num_requests_running", ())) == 1)
        client.close()
        until(lambda: metrics.snapshot().values.get(("num_requests_running", ())) == 0)
    assert not backend.guided


def test_work_is_over_when_the_client_is_gone() -> None:
    """Not only told to end: whoever frees something has freed it by then."""
    freed = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            freed.append(True)

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def run() -> None:
        async with Departure(receive) as departure:
            with pytest.raises(ClientGoneError):
                await departure.before(work())
            assert freed

    asyncio.run(run())


def test_what_the_work_raises_is_raised_and_its_result_returned() -> None:
    async def receive() -> dict[str, Any]:
        return await asyncio.Future()

    async def fails() -> None:
        raise LookupError

    async def works() -> int:
        return 5

    async def run() -> int:
        async with Departure(receive) as departure:
            with pytest.raises(LookupError):
                await departure.before(fails())
            return await departure.before(works())

    assert asyncio.run(run()) == 5
