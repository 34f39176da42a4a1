"""The endpoint's guard: everything that stands before an application, in its order.

    security headers -> id -> host -> CORS -> origin -> key -> rate -> in flight -> body -> app

What costs an attacker least is refused first, and the guard reads nothing of a body for somebody
without a key. The application finds who asks in `scope["state"]["client"]`.
"""

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api_errors import ApiError
from serving.body_limit import read_body, replayed
from serving.browsers import SAFE_METHODS, check_host, check_origin
from serving.client import Client
from serving.config import ListenConfig, ServeConfig
from serving.in_flight import InFlight
from serving.key_file import KeyEntry
from serving.keys import Keys
from serving.metrics import Metrics
from serving.rate_limits import UNLIMITED, RateLimits, client_at
from serving.request_ids import RequestIds
from serving.security_headers import SecurityHeaders, with_headers

logger = logging.getLogger(__name__)

PROBES = frozenset({"/health", "/ready"})
"""Open to everybody: what asks for them has no key."""
PAGE = "/"
ASSETS = "/playground/"
"""The page and what is below hold nothing of anybody, so that they need no key either."""

_READABLE = (
    *("x-request-id", "retry-after"),
    *("x-sgl-route", "x-sgl-exit-score", "x-sgl-threshold"),
    *("x-sgl-average-retention", "x-sgl-cost-usd"),
    *("x-ratelimit-limit-requests", "x-ratelimit-limit-tokens"),
    *("x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens"),
    *("x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"),
)
"""Headers that pages of allowed origins can read."""


def guarded(
    app: ASGIApp,
    config: ServeConfig,
    clock: Callable[[], float] = time.monotonic,
    metrics: Metrics | None = None,
) -> ASGIApp:
    """An application behind its guard.

    Args:
        app: any of ASGI, without WebSockets.
        config: listen, limits and keys count.
        clock: in seconds, for limits per minute and the keys' file.
        metrics: where refusals are counted.

    Raises:
        ConfigurationError: the keys cannot be read.
    """
    refusals = Refusals(metrics or Metrics())
    inner: ASGIApp = Admission(app, config, clock, refusals)
    if config.listen.cors_origins:
        # Never with credentials: the endpoint knows no cookies, and a key is sent by the page.
        inner = CORSMiddleware(
            inner,
            allow_origins=config.listen.cors_origins,
            allow_methods=("GET", "POST"),
            # OpenAI's clients send a dozen of their own, and more with each version.
            allow_headers=("*",),
            expose_headers=_READABLE,
        )
    return SecurityHeaders(RequestIds(HostCheck(inner, config.listen, refusals)))


class Refusals:
    """Says no, and counts it.

    Args:
        metrics: of this process.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def answer(self, error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
        """Send an error instead of what was asked for."""
        # As ASCII: a path is the client's, and could begin a line of its own in the log.
        path = ascii(scope["path"])
        logger.info("refused %s %s: %d %s", scope["method"], path, error.status, error)
        self._metrics.count("refused", str(error.status), error.code or "none")
        await error.response()(scope, receive, send)


class HostCheck:
    """Refuses names that are not the endpoint's, and WebSockets, which it does not have."""

    def __init__(self, app: ASGIApp, listen: ListenConfig, refusals: Refusals) -> None:
        self.app = app
        self._listen, self._refusals = listen, refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            if scope["type"] == "http":
                check_host(Headers(scope=scope), self._listen)
        except ApiError as error:
            await self._refusals.answer(error, scope, receive, send)
        else:
            await self.app(scope, receive, send)


class Admission:
    """Decides whether a request comes in, and counts it while it lasts."""

    def __init__(
        self, app: ASGIApp, config: ServeConfig, clock: Callable[[], float], refusals: Refusals
    ) -> None:
        self.app = app
        self._refusals = refusals
        self._listen, self._limits = config.listen, config.limits
        self._keys = None if config.keys is None else Keys(config.keys, clock)
        self._rates = RateLimits(config.limits, 1 / config.listen.replicas, clock)
        self.in_flight = InFlight(config.limits.max_in_flight, config.limits.max_in_flight_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asks = scope["method"] not in SAFE_METHODS
        with ExitStack() as stack:
            try:
                check_origin(scope["method"], headers, self._listen)
                owner = self._owner(scope)
                # What costs nothing is not counted, so that nobody has to be remembered for it.
                account = self._rates.of(owner) if asks else UNLIMITED
                send = with_headers(send, account.headers)
                account.admit()
                # A look at the metrics is let in while too many ask for answers.
                stay = stack.enter_context(self.in_flight.stay(counted=asks))
                body = await read_body(headers, receive, self._limits, stay.hold) if asks else b""
            except ApiError as error:
                await self._refusals.answer(error, scope, receive, send)
                return
            if body is None:
                return
            name = owner if isinstance(owner, str) else owner.name
            inside = _told(scope, Client(name, account.charge, stay.hold))
            await self.app(inside, replayed(body, receive) if asks else receive, send)

    def _owner(self, scope: Scope) -> KeyEntry | str:
        """The key of a request, or the address that it comes from where it needs none.

        Raises:
            UnauthorizedError: it needs one.
        """
        if self._keys is not None and not self._is_open(scope):
            return self._keys.owner(scope["headers"])
        address = scope.get("client")
        return client_at(address[0] if address else None)

    def _is_open(self, scope: Scope) -> bool:
        """Whether everybody may have it: only what is named here, and only to read."""
        if scope["method"] not in SAFE_METHODS:
            return False
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        page = self._listen.playground and (path == PAGE or path.startswith(ASSETS))
        return path in PROBES or page


def _told(scope: Scope, client: Client) -> Scope:
    """What the application gets to see: who asks, and no key, so that it cannot give one away."""
    headers = [pair for pair in scope["headers"] if pair[0] != b"authorization"]
    return {**scope, "headers": headers, "state": {**scope.get("state", {}), "client": client}}
