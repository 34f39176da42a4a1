"""Every answer has an id, and no error tells more than that."""

import logging
import re
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api_errors import ApiError
from serving.security_headers import on_start

logger = logging.getLogger(__name__)
HEADER = "x-request-id"
_SANE = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def request_id_of(scope: Scope) -> str:
    """The id of a request; its own client's, where that is short and plain."""
    state = scope.setdefault("state", {})
    if "request_id" not in state:
        wished = Headers(scope=scope).get(HEADER, "")
        state["request_id"] = wished if _SANE.fullmatch(wished) else f"req-{uuid4().hex}"
    found: str = state["request_id"]
    return found


def unforeseen(error: Exception, request_id: str) -> ApiError:
    """What a client is told of a fault of ours; the log has the rest."""
    logger.error("request %s failed", request_id, exc_info=error)
    told = f"something went wrong here; the log knows more of request {request_id}"
    return ApiError(500, told, kind="server_error", code="internal_error")


class RequestIds:
    """Puts one id on every request and answer, and answers where nothing else does any more.

    Whatever is behind sees that id in place of what the client has sent: Ray Serve's proxy would
    put any on the answer once more, and cannot read all.

    Args:
        app: all the rest.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(scope)
        scope = {**scope, "headers": list(scope["headers"])}
        MutableHeaders(scope=scope)[HEADER] = request_id
        started = False

        def begun(headers: MutableHeaders) -> None:
            nonlocal started
            started = True
            headers[HEADER] = request_id

        send_with_id = on_start(send, begun)
        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            answer = unforeseen(error, request_id)
            if started:
                # Half an answer must not look whole: the server cuts the connection.
                raise
            await answer.response()(scope, receive, send_with_id)
