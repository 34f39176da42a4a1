"""A small application, a guard around it, and clients that are not as they should be."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Scope

from actors.config import ModelConfig
from serving.client import Client
from serving.config import LimitsConfig, ListenConfig, PairConfig, ServeConfig

ASK = "/v1/chat/completions"
BASE = "http://127.0.0.1:8000"


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def config_of(**settings: Any) -> ServeConfig:
    """Settings of an endpoint; `listen` and `limits` as plain data."""
    pair = PairConfig(small=ModelConfig(path="small"), large=ModelConfig(path="large"))
    listen = ListenConfig(**settings.pop("listen", {}))
    limits = LimitsConfig(**settings.pop("limits", {}))
    return ServeConfig(models=pair, threshold=0.5, listen=listen, limits=limits, **settings)


@dataclass
class Application:
    """What it saw, and what it does with a question.

    Attributes:
        clients: of the requests that came in.
        headers: likewise.
        does: called with who asks; its answer is the application's.
    """

    does: Callable[[Client], Awaitable[Response]] | None = None
    clients: list[Client] = field(default_factory=list)
    headers: list[list[tuple[bytes, bytes]]] = field(default_factory=list)

    def app(self) -> Starlette:
        paths = ("/health", "/ready", "/version", "/metrics", "/v1/models", "/openapi.json")
        pages = ("/", "/playground/playground.js", "/playground/../v1/models")
        return Starlette(
            routes=[
                Route(ASK, self._ask, methods=["POST"]),
                *(Route(path, self._look) for path in (*paths, *pages)),
            ]
        )

    def _saw(self, request: Request) -> Client:
        self.headers.append(list(request.scope["headers"]))
        self.clients.append(request.state.client)
        return self.clients[-1]

    async def _look(self, request: Request) -> Response:
        self._saw(request)
        return PlainTextResponse("ok")

    async def _ask(self, request: Request) -> Response:
        client = self._saw(request)
        if self.does is not None:
            return await self.does(client)
        return JSONResponse({"bytes": len(await request.body())})


def browser(app: ASGIApp, address: str = "127.0.0.1", base: str = BASE) -> httpx.AsyncClient:
    """An HTTP client of an application in this process."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 50_000))
    return httpx.AsyncClient(transport=transport, base_url=base)


def scope_of(*headers: tuple[str, str], method: str = "POST", path: str = ASK) -> Scope:
    """A request as a server gives it."""
    coded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8000"), *coded],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


JSON_CHUNKED = (("content-type", "application/json"), ("transfer-encoding", "chunked"))


@dataclass
class Wire:
    """The server's side of one request: gives parts of a body and keeps the answer.

    Attributes:
        parts: of the body, in order; None is a client that goes away.
        pause_s: before each of them.
        more: whether the client would go on behind the last part, and then sends nothing.
    """

    parts: list[bytes | None]
    pause_s: float = 0.0
    more: bool = False
    received: int = 0
    sent: list[Message] = field(default_factory=list)

    async def receive(self) -> Message:
        await asyncio.sleep(self.pause_s)
        if self.received >= len(self.parts):
            await asyncio.Event().wait()
        part = self.parts[self.received]
        self.received += 1
        if part is None:
            return {"type": "http.disconnect"}
        last = self.received == len(self.parts) and not self.more
        return {"type": "http.request", "body": part, "more_body": not last}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.sent[0]["headers"] if key == name.encode()]
        return found[0].decode() if found else None
