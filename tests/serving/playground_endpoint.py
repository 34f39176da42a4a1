"""An endpoint for the page's tests: the real wire format, answers that a test writes."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from serving.api_errors import ApiError
from serving.playground_files import mount
from serving.security_headers import SecurityHeaders

MODELS = ("pair", "pair:small", "pair:large")
_CUT = 7
"""Bytes of each piece of a stream: every event is cut, and many characters are."""
_LONG = 4001
"""Events of more bytes are cut into pieces of so many, to be done soon."""


@dataclass
class Reply:
    """What the endpoint says to one request.

    Attributes:
        pieces: of the answer.
        sgl: of the last chunk with a choice; its route goes into the headers.
        error: instead of an answer; in the middle of it where there are pieces.
        hold_after: pieces after which it waits for `release`.
        cut: the connection ends before the answer does.
    """

    pieces: tuple[str, ...] = ()
    sgl: dict[str, Any] | None = None
    error: ApiError | None = None
    hold_after: int | None = None
    cut: bool = False
    release: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    """Set when the client has gone away."""


class Endpoint:
    """Its `replies` are given in order; `asked` is what came, below the path `prefix`."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.replies: list[Reply] = []
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.key: str | None = None
        self.address = ""

    def app(self) -> ASGIApp:
        routes = [
            Route("/v1/models", self._models),
            Route("/v1/chat/completions", self._complete, methods=["POST"]),
        ]
        app = Starlette(routes=routes)
        mount(app)
        return SecurityHeaders(Starlette(routes=[Mount(self.prefix, app)]))

    def _refused(self, request: Request) -> Response | None:
        given = request.headers.get("authorization")
        self.keys.append(given)
        if self.key is None or given == f"Bearer {self.key}":
            return None
        return ApiError(401, "There is no such key.", code="invalid_api_key").response()

    async def _models(self, request: Request) -> Response:
        listed = [{"id": name, "object": "model", "owned_by": "sgl"} for name in MODELS]
        return self._refused(request) or JSONResponse({"object": "list", "data": listed})

    async def _complete(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        self.asked.append(await request.json())
        reply = self.replies.pop(0)
        if reply.error is not None and not reply.pieces:
            response = reply.error.response()
            response.headers["x-request-id"] = "req-1"
            return response
        headers = {"x-sgl-route": reply.sgl["route"]} if reply.sgl else {}
        return StreamingResponse(self._cut(reply), 200, headers, "text/event-stream")

    async def _cut(self, reply: Reply) -> AsyncIterator[bytes]:
        try:
            async for event in self._events(reply):
                data = event.encode()
                size = _CUT if len(data) < _LONG else _LONG
                for start in range(0, len(data), size):
                    yield data[start : start + size]
                    await asyncio.sleep(0)
        except asyncio.CancelledError:
            reply.left.set()
            raise

    async def _events(self, reply: Reply) -> AsyncIterator[str]:
        yield ": a comment, as proxies send them\r\n\r\n"
        for number, piece in enumerate(reply.pieces):
            if number == reply.hold_after:
                await _released(reply)
            yield _event(_chunk({"delta": {"content": piece}, "finish_reason": None}))
        if reply.error is not None:
            yield _event(reply.error.body())
        if reply.cut or reply.error is not None:
            return
        last = _chunk({"delta": {}, "finish_reason": "stop"})
        yield _event(last | ({"sgl": reply.sgl} if reply.sgl else {}))
        usage = {"prompt_tokens": 280, "completion_tokens": 3, "total_tokens": 283}
        yield _event({"object": "chat.completion.chunk", "choices": [], "usage": usage})
        yield "data: [DONE]\n\n"


def _chunk(choice: dict[str, Any]) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, **choice}]}


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


async def _released(reply: Reply) -> None:
    while not reply.release.is_set():
        await asyncio.sleep(0.01)


@contextmanager
def running(endpoint: Endpoint) -> Iterator[Endpoint]:
    """The endpoint on a free port of loopback."""
    config = uvicorn.Config(endpoint.app(), port=0, log_level="warning", ws="none", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
            assert thread.is_alive(), "the server did not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        endpoint.address = f"http://127.0.0.1:{port}{endpoint.prefix}/"
        yield endpoint
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join()
