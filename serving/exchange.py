"""One request for a chat completion, from its body to the last byte of the answer."""

import asyncio
from contextlib import aclosing
from functools import partial
from uuid import uuid4

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.api_errors import ApiError
from serving.asks import Ask, ask_of
from serving.backend import Delta
from serving.bill import Bill
from serving.client import Client
from serving.departure import ClientGoneError, Departure
from serving.gateway import expired
from serving.pieces import Decision, Guided, Outcome, Piece
from serving.request_ids import request_id_of, unforeseen
from serving.service import Service
from serving.tally import GONE, Tally
from serving.writers import Wire, break_off, writer_for
from sgl.errors import RecordError

_LARGE_BODY = 256 << 10
"""Bytes; smaller ones are parsed in less time than a thread takes to begin."""


class Exchange(Response):
    """Answers one request as an ASGI application.

    Args:
        service: of this process.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See Response."""
        tally = Tally(self._service.metrics, self._service.prices)
        wire = Wire(send, self._service.limits.send_deadline_s)
        answering = _Answering(self._service, scope, wire, tally)
        status = GONE
        try:
            await answering.read(receive)
            async with Departure(receive) as departure:
                status = await departure.before(answering.run())
        except (ClientDisconnect, ClientGoneError):
            status = GONE
        finally:
            tally.ended(status, request_id_of(scope))


class _Answering:
    def __init__(self, service: Service, scope: Scope, wire: Wire, tally: Tally) -> None:
        self._service = service
        self._scope = scope
        self._wire = wire
        self._tally = tally
        self._client: Client | None = scope.get("state", {}).get("client")
        self._body = b""

    async def read(self, receive: Receive) -> None:
        """Take the body in.

        Raises:
            ClientDisconnect: there is no more of it.
        """
        self._body = await Request(self._scope, receive).body()

    async def run(self) -> str:
        """Answer what was read, with an error if need be.

        Returns:
            The status that it came to, which the first line of a stream cannot tell.

        Raises:
            ClientGoneError: the connection is lost.
        """
        try:
            await self._answer(await self._understand())
        except ApiError as error:
            return await self._refuse(error)
        except ClientGoneError:
            raise
        except Exception as error:
            return await self._refuse(unforeseen(error, request_id_of(self._scope)))
        return "200"

    async def _understand(self) -> Ask:
        ask = await self._parsed()
        self._tally.understood(ask)
        self._service.gateway.check(ask)
        return await self._with_pictures(ask) if ask.references else ask

    async def _parsed(self) -> Ask:
        # Nobody needs it once it is parsed, and what it says may be as large.
        body, self._body = self._body, b""
        parse = partial(
            ask_of,
            body,
            catalogue=self._service.catalogue,
            limits=self._service.limits,
            record_id=f"chatcmpl-{uuid4().hex}",
            request_id=request_id_of(self._scope),
        )
        return await asyncio.to_thread(parse) if len(body) > _LARGE_BODY else parse()

    async def _with_pictures(self, ask: Ask) -> Ask:
        try:
            async with asyncio.timeout(ask.remaining_s()):
                hold = self._client.hold if self._client else None
                images = await self._service.pictures.get(ask.references, hold)
        except RecordError as error:
            code = type(error).__name__
            raise ApiError(400, str(error), code=code, param="messages") from error
        except TimeoutError as error:
            raise expired() from error
        return ask.with_pictures(images)

    async def _answer(self, ask: Ask) -> None:
        writer = writer_for(self._wire, ask, self._service)
        bill = Bill(self._client.charge if self._client else _nobody)
        try:
            async with aclosing(self._service.gateway.answer(ask)) as pieces:
                async for piece in pieces:
                    bill.saw(piece)
                    self._count(piece, ask)
                    if not isinstance(piece, Guided):
                        await writer.tell(piece)
        finally:
            bill.end()

    def _count(self, piece: Piece, ask: Ask) -> None:
        if isinstance(piece, Decision):
            self._tally.decided(piece.route.value)
        elif isinstance(piece, Delta):
            self._tally.text()
        elif isinstance(piece, Outcome):
            self._tally.answered(piece, ask)

    async def _refuse(self, error: ApiError) -> str:
        if self._wire.ended:
            # The client has its answer already; of what failed since, the log knows.
            return "200"
        self._tally.refused(error.status, error.code)
        if self._wire.started:
            await break_off(self._wire, error)
        else:
            await error.response()(self._scope, _nothing, self._wire.send)
        return str(error.status)


def _nobody(_tokens: int) -> None:
    """Pays: there is no guard, and no client."""


async def _nothing() -> dict[str, str]:
    """For answers that ask for nothing more of the client."""
    raise AssertionError("an error reads nothing")
