"""How an answer goes out: whole, or as a stream of events."""

import asyncio
from typing import Protocol, TypeAlias

from starlette.types import Message, Send

from serving.api_errors import ApiError
from serving.asks import Ask
from serving.backend import Delta
from serving.chunks import DONE, Chunks, error_event
from serving.departure import ClientGoneError
from serving.pieces import Decision, Outcome
from serving.replies import headers_of, usage_of
from serving.service import Service, finish_of
from sgl.types import Route

_STREAM = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    # Proxies that collect an answer before they pass it on would undo the stream.
    "x-accel-buffering": "no",
}


class Wire:
    """The connection to the client.

    Args:
        send: of ASGI.
        deadline_s: of each message; servers wait with one until the client takes what is before it.

    Attributes:
        started: some of an answer has gone out.
        ended: all of it has.
    """

    def __init__(self, send: Send, deadline_s: float) -> None:
        self._send = send
        self._deadline_s = deadline_s
        self.started = self.ended = False

    async def start(self, headers: dict[str, str]) -> None:
        """The first line and the headers of an answer that is none of an error.

        Raises:
            ClientGoneError: the connection is lost, or nobody reads; likewise of the others.
        """
        self.started = True
        lines = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": 200, "headers": lines})

    async def write(self, data: bytes, *, more: bool) -> None:
        """Some of its body."""
        self.ended = not more
        await self.send({"type": "http.response.body", "body": data, "more_body": more})

    async def send(self, message: Message) -> None:
        """Anything else."""
        try:
            async with asyncio.timeout(self._deadline_s):
                await self._send(message)
        except OSError as error:  # a TimeoutError is one
            raise ClientGoneError from error


Told: TypeAlias = Decision | Delta | Outcome
"""What a client hears of."""


class Writer(Protocol):
    """Tells a client what the gateway says."""

    async def tell(self, piece: Told) -> None:
        """The next piece."""
        ...


class WholeWriter:
    """Tells all at the end.

    Args:
        wire: to the client.
        ask: what is answered.
        service: of this process.
    """

    def __init__(self, wire: Wire, ask: Ask, service: Service) -> None:
        self._wire = wire
        self._ask = ask
        self._service = service

    async def tell(self, piece: Told) -> None:
        """See Writer."""
        if not isinstance(piece, Outcome):
            return
        completion = self._service.completion(piece, self._ask)
        body = completion.model_dump_json().encode()
        headers = headers_of(piece, self._ask, self._service.prices, whole=True)
        size = {"content-type": "application/json", "content-length": str(len(body))}
        await self._wire.start({**size, **headers})
        await self._wire.write(body, more=False)


class StreamWriter:
    """Tells each piece at once, as events.

    Args:
        wire: to the client.
        ask: what is answered.
        service: of this process.
    """

    def __init__(self, wire: Wire, ask: Ask, service: Service) -> None:
        self._wire = wire
        self._ask = ask
        self._service = service
        self._chunks = Chunks(ask)

    async def tell(self, piece: Told) -> None:
        """See Writer."""
        if isinstance(piece, Decision):
            await self._begin(piece)
        elif isinstance(piece, Delta):
            await self._wire.write(self._chunks.text(piece.text), more=True)
        else:
            await self._end(piece)

    async def _begin(self, decision: Decision) -> None:
        whole = decision.route is Route.SMALL and decision.small is not None
        known = headers_of(Outcome(decision), self._ask, self._service.prices, whole=whole)
        await self._wire.start({**_STREAM, **known})
        await self._wire.write(self._chunks.first(), more=True)

    async def _end(self, outcome: Outcome) -> None:
        report = self._service.report(outcome, self._ask)
        end = self._chunks.last(finish_of(outcome), report)
        if self._ask.include_usage:
            end += self._chunks.usage(usage_of(outcome, self._service.prices))
        await self._wire.write(end + DONE, more=False)


def writer_for(wire: Wire, ask: Ask, service: Service) -> Writer:
    """Which one a request wants."""
    return (StreamWriter if ask.stream else WholeWriter)(wire, ask, service)


async def break_off(wire: Wire, error: ApiError) -> None:
    """End a stream with an error; without the event that says that it is whole."""
    await wire.write(error_event(error), more=False)
