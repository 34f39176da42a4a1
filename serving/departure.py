"""Clients that go away: whatever is done for them ends, and the models' slots are free."""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from starlette.types import Receive

T = TypeVar("T")


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


class Departure:
    """Notices when the client of one request goes; from when its body has been read.

    One listener for the whole request: a server may tell only once.

    Args:
        receive: of ASGI.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._listener: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Departure":
        self._listener = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._listener is not None, "used outside of its block"
        await _ended(self._listener)

    async def before(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of some work; it is cancelled, and has ended, where the client goes first.

        Raises:
            ClientGoneError: they have gone.
        """
        assert self._listener is not None, "used outside of its block"
        task = asyncio.create_task(work)
        try:
            await asyncio.wait({task, self._listener}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ClientGoneError
            return task.result()
        finally:
            await _ended(task)

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def _ended(task: "asyncio.Task[Any]") -> None:
    """Cancel a task if need be, and wait until all that it must close is closed."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        # Whoever wanted to know has asked; else the loop complains that nobody did.
        task.exception()
