"""Clients that take nothing of their answer."""

import asyncio
import socket
from typing import Any

import pytest
from starlette.types import Message

from serving.departure import ClientGoneError
from serving.guarded import guarded
from serving.writers import Wire
from tests.serving.endpoint import HELLO, app_of
from tests.serving.fakes import FakeBackend, config_of
from tests.serving.server import serving
from tests.serving.test_disconnects import send, until


def test_who_takes_nothing_has_gone() -> None:
    async def stuck(_: Message) -> None:
        await asyncio.Event().wait()

    async def run() -> None:
        await Wire(stuck, 0.01).write(b"x", more=True)

    with pytest.raises(ClientGoneError):
        asyncio.run(run())


def test_readers_that_read_nothing_do_not_keep_their_slots() -> None:
    """Behind a real server, which waits with the next message until there is room."""
    long = " ".join(["x" * 100_000] * 200)
    limits: dict[str, Any] = {"max_in_flight": 2, "send_deadline_s": 1.0}
    app = guarded(app_of(FakeBackend(small_text=long), limits=limits), config_of(limits=limits))
    with serving(app) as port:
        stuck = [send(port, {**HELLO, "stream": True}) for _ in range(2)]
        try:
            until(lambda: _status(port) == b"503")
            until(lambda: _status(port) == b"200")
        finally:
            for one in stuck:
                one.close()


def _status(port: int) -> bytes:
    with send(port, {**HELLO, "stream": True}) as client:
        return client.recv(12, socket.MSG_WAITALL)[9:]
