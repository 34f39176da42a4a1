"""While the endpoint ends it takes nothing new, so that what is under way comes to its end."""

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api_errors import ApiError
from serving.browsers import SAFE_METHODS
from serving.status import Lifecycle

_RETRY_AFTER_S = 5.0


class RefusesAtTheEnd:
    """Answers 503 to whatever asks for work; looks are let in.

    Args:
        app: any of ASGI.
        lifecycle: of the endpoint.
    """

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle) -> None:
        self.app = app
        self._lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        asks = scope["type"] == "http" and scope["method"] not in SAFE_METHODS
        if not (asks and self._lifecycle.draining):
            await self.app(scope, receive, send)
            return
        refusal = ApiError(
            503,
            "the endpoint is ending; try again, elsewhere if there is another one",
            kind="server_error",
            code="not_ready",
            retry_after_s=_RETRY_AFTER_S,
        )
        await refusal.response()(scope, receive, send)
