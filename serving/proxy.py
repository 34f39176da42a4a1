"""What stands in Ray Serve's own proxy, before the endpoint's guard: bounds of headers and bodies.

The proxy takes whatever uvicorn finds to parse HTTP with, and httptools bounds no headers; it reads
bodies as fast as they come, whoever waits for them. It calls `middlewares` at its start where the
environment of its node says so: `sgl serve` sets it, on a cluster its operator does.
"""

import asyncio
import os
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.body_limit import too_large
from serving.config import LimitsConfig

CALLBACK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
MAX_BODY = "SGL_SERVE_MAX_BODY_BYTES"


def environment(limits: LimitsConfig) -> Mapping[str, str]:
    """What the environment of nodes with a proxy has to hold."""
    return {CALLBACK: "serving.proxy:middlewares", MAX_BODY: str(limits.max_body_bytes)}


def middlewares() -> list[Middleware]:
    """Of Ray Serve, in each proxy's process, before it listens."""
    _parse_with_h11()
    most = int(os.environ.get(MAX_BODY, LimitsConfig().max_body_bytes))
    return [Middleware(BoundedBody, max_bytes=most)]


def _parse_with_h11() -> None:
    """h11 ends a connection whose headers do not end; nothing of Ray Serve's chooses a parser."""
    from uvicorn.config import HTTP_PROTOCOLS

    HTTP_PROTOCOLS["auto"] = HTTP_PROTOCOLS["h11"]


class BoundedBody:
    """Refuses bodies that promise too much, and reads no more of others than the guard wants.

    Args:
        app: the proxy.
        max_bytes: of a body.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length) > self._max_bytes:
            await too_large(self._max_bytes).response()(scope, receive, send)
            return
        read = 0

        async def bounded() -> Message:
            nonlocal read
            if read > self._max_bytes:
                # The guard behind has seen enough to refuse it.
                await asyncio.Event().wait()
            message = await receive()
            read += len(message.get("body", b""))
            return message

        await self.app(scope, bounded, send)
