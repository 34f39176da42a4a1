"""What stands in Ray Serve's own proxy, before the endpoint's guard.

The proxy takes whatever uvicorn finds to parse HTTP with, and httptools bounds no headers; it reads
bodies as fast as they come, whoever waits for them; it does what headers of its own say, and
answers some requests by itself. It calls `middlewares` at its start where the environment of its
node says so: `sgl serve` sets it, on a cluster its operator does.
"""

import asyncio
import logging
import os
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api_errors import ApiError
from serving.body_limit import promises_too_much, too_large
from serving.browsers import host_of, is_loopback
from serving.config import LimitsConfig, ServeConfig
from serving.request_ids import RequestIds
from serving.security_headers import GUARDED, SecurityHeaders

logger = logging.getLogger(__name__)

CALLBACK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
MIDDLEWARES = "serving.proxy:middlewares"
MAX_BODY = "SGL_SERVE_MAX_BODY_BYTES"
TRUSTED = "FORWARDED_ALLOW_IPS"
"""Of uvicorn: whose X-Forwarded-For it believes. Unset it is everybody on this machine."""

_RAYS_PATHS = "/-/"
_RAYS_HEADERS = frozenset(
    {
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        b"x-session-id",
        b"serve-multiplexed-model-id",
    }
)
"""With "-" for "_". They set time limits aside, or choose replicas: no client's business."""
_TOLD = {
    404: ("not_found", "there is nothing here"),
    408: ("request_timeout", "the request took too long"),
    503: ("not_ready", "the endpoint cannot answer now; try again"),
}
_RETRY_AFTER_S = 5.0


def environment(config: ServeConfig) -> Mapping[str, str]:
    """What the environment of nodes with a proxy has to hold."""
    return {
        CALLBACK: MIDDLEWARES,
        MAX_BODY: str(config.limits.max_body_bytes),
        TRUSTED: ",".join(config.listen.trusted_proxies),
    }


def middlewares() -> list[Middleware]:
    """Of Ray Serve, in each proxy's process, before it listens; the last one stands outermost."""
    _parse_with_h11()
    os.environ.setdefault(TRUSTED, "")
    most = int(os.environ.get(MAX_BODY, LimitsConfig().max_body_bytes))
    return [
        Middleware(BoundedBody, max_bytes=most),
        Middleware(OwnShape),
        Middleware(RequestIds),
        Middleware(SecurityHeaders),
    ]


def _parse_with_h11() -> None:
    """h11 ends a connection whose headers do not end; nothing of Ray Serve's chooses a parser."""
    from uvicorn.config import HTTP_PROTOCOLS

    HTTP_PROTOCOLS["auto"] = HTTP_PROTOCOLS["h11"]


class OwnShape:
    """Keeps clients away from what is Ray's own, and its plain-text errors away from clients.

    Ray's paths are for probes on this machine, as KubeRay's are.

    Args:
        app: the proxy.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        if path.startswith(_RAYS_PATHS) and not _is_near(scope):
            await _error(404).response()(scope, receive, send)
            return
        theirs = [pair for pair in scope["headers"] if not _is_rays(pair[0])]
        await self.app({**scope, "headers": theirs}, receive, _in_shape(scope, receive, send))


def _is_rays(name: bytes) -> bool:
    return name.replace(b"_", b"-") in _RAYS_HEADERS


def _is_near(scope: Scope) -> bool:
    """Whether this machine asks: no proxy on it for others, and no page of a rebound name."""
    address, headers = scope.get("client"), Headers(scope=scope)
    if address is None or not is_loopback(address[0]) or "x-forwarded-for" in headers:
        return False
    return all(is_loopback(host_of(host)) for host in headers.getlist("host"))


def _in_shape(scope: Scope, receive: Receive, send: Send) -> Send:
    """A `send` that puts an error of the endpoint's in place of the proxy's own.

    Those are plain text, and have not passed the guard, which marks all that it lets out.
    """
    replaced = False

    async def sending(message: Message) -> None:
        nonlocal replaced
        if message["type"] == "http.response.start" and message["status"] >= 400:
            headers = Headers(raw=message.get("headers", []))
            plain = headers.get("content-type", "").startswith("text/plain")
            replaced = plain and GUARDED not in headers
            if replaced:
                logger.info("the proxy answered by itself: %d", message["status"])
                await _error(message["status"]).response()(scope, receive, send)
        if not replaced:
            await send(message)

    return sending


def _error(status: int) -> ApiError:
    code, told = _TOLD.get(status, ("internal_error", "something went wrong here"))
    kind = "invalid_request_error" if status < 500 else "server_error"
    after = _RETRY_AFTER_S if status == 503 else None
    return ApiError(status, told, kind=kind, code=code, retry_after_s=after)


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
        if promises_too_much(Headers(scope=scope), self._max_bytes):
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
