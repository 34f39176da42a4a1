"""The outermost layer: headers that every answer carries."""

from collections.abc import Callable, Mapping

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Nothing from elsewhere, nothing inline: text that gets into the page cannot run or call out."""
GUARDED = "content-security-policy"
"""A header of every answer that has passed the guard."""
_ALWAYS = {
    GUARDED: CONTENT_SECURITY_POLICY,
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class SecurityHeaders:
    """Wraps an application.

    Args:
        app: any. Where it says nothing of caching, its answers are not to be kept.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await self.app(scope, receive, on_start(send, _complete))


def _complete(headers: MutableHeaders) -> None:
    headers.update(_ALWAYS)
    headers.setdefault("cache-control", "no-store")


def on_start(send: Send, change: Callable[[MutableHeaders], None]) -> Send:
    """A `send` that lets somebody change the headers of the answer."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message.setdefault("headers", [])
            change(MutableHeaders(scope=message))
        await send(message)

    return sending


def with_headers(send: Send, headers: Callable[[], Mapping[str, str]]) -> Send:
    """A `send` that adds headers, as they are when the answer begins."""
    return on_start(send, lambda known: known.update(headers()))
