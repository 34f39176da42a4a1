"""One request for a chat completion, from its body to the last byte of the answer."""

import asyncio
import logging
from contextlib import aclosing
from uuid import uuid4

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.api_errors import ApiError
from serving.asks import Ask, ask_of
from serving.backend import Delta
from serving.departure import ClientGoneError, Departure
from serving.gateway import Decision, Outcome, Piece, expired
from serving.replies import usage_of
from serving.request_ids import request_id_of, unforeseen
from serving.service import Service
from serving.surroundings import Caller
from serving.tally import GONE, Tally
from serving.writers import Wire, break_off, writer_for
from sgl.errors import RecordError

logger = logging.getLogger(__name__)


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
        answering = _Answering(self._service, scope, Wire(send), tally)
        status = GONE
        try:
            body = await Request(scope, receive).body()
            async with Departure(receive) as departure:
                status = await departure.before(answering.run(body))
        except (ClientDisconnect, ClientGoneError):
            logger.info("request %s: the client has gone", request_id_of(scope))
        finally:
            tally.ended(status)


class _Answering:
    def __init__(self, service: Service, scope: Scope, wire: Wire, tally: Tally) -> None:
        self._service = service
        self._scope = scope
        self._wire = wire
        self._tally = tally
        self._caller: Caller | None = scope.get("state", {}).get("client")

    async def run(self, body: bytes) -> str:
        """Answer, with an error if need be.

        Returns:
            The status that it came to, which the first line of a stream cannot tell.

        Raises:
            ClientGoneError: the connection is lost.
        """
        try:
            await self._answer(await self._understand(body))
        except ApiError as error:
            return await self._refuse(error)
        except ClientGoneError:
            raise
        except Exception as error:
            return await self._refuse(unforeseen(error, request_id_of(self._scope)))
        return "200"

    async def _understand(self, body: bytes) -> Ask:
        ask = ask_of(
            body,
            catalogue=self._service.catalogue,
            limits=self._service.limits,
            record_id=f"chatcmpl-{uuid4().hex}",
            request_id=request_id_of(self._scope),
        )
        self._tally.understood(ask)
        self._service.gateway.check(ask)
        return await self._with_pictures(ask) if ask.references else ask

    async def _with_pictures(self, ask: Ask) -> Ask:
        try:
            async with asyncio.timeout(ask.remaining_s()):
                images = await self._service.pictures.get(ask.references)
        except RecordError as error:
            code = type(error).__name__
            raise ApiError(400, str(error), code=code, param="messages") from error
        except TimeoutError as error:
            raise expired() from error
        if self._caller is not None:
            self._caller.hold(sum(image.nbytes for image in images))
        return ask.with_pictures(images)

    async def _answer(self, ask: Ask) -> None:
        writer = writer_for(self._wire, ask, self._service)
        async with aclosing(self._service.gateway.answer(ask)) as pieces:
            async for piece in pieces:
                self._count(piece, ask)
                await writer.tell(piece)

    def _count(self, piece: Piece, ask: Ask) -> None:
        if isinstance(piece, Decision):
            self._tally.decided(piece.route.value)
        elif isinstance(piece, Delta):
            self._tally.text()
        elif isinstance(piece, Outcome):
            self._tally.answered(piece, ask)
            if self._caller is not None:
                self._caller.charge(usage_of(piece).total_tokens)

    async def _refuse(self, error: ApiError) -> str:
        self._tally.refused(error.status, error.code)
        if self._wire.started:
            await break_off(self._wire, error)
        else:
            await error.response()(self._scope, _nothing, self._wire.send)
        return str(error.status)


async def _nothing() -> dict[str, str]:
    """For answers that ask for nothing more of the client."""
    raise AssertionError("an error reads nothing")
