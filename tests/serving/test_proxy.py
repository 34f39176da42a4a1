"""Ray Serve's proxy behind our middlewares, applied as it applies them."""

import asyncio
from dataclasses import dataclass, field

import httpx
import pytest
from ray.serve._private.http_util import _apply_middlewares
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import HTTP_PROTOCOLS

from serving.guarded import guarded
from serving.proxy import MAX_BODY, TRUSTED, environment, middlewares
from tests.serving.asgi import ASK, Application, browser, config_of
from tests.serving.server import serving

FAR = "203.0.113.7"


@dataclass
class Proxy:
    """Stands for the proxy itself.

    Attributes:
        answer: what it says by itself; an error is one of its own.
        scopes: of requests that came to it.
    """

    answer: Response | Exception = field(default_factory=lambda: JSONResponse({}))
    scopes: list[Scope] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if isinstance(self.answer, Exception):
            raise self.answer
        await self.answer(scope, receive, send)

    def header(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.scopes[-1]["headers"] if key == name]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(config_of(limits={"max_body_bytes": 1000})).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(HTTP_PROTOCOLS, "auto", HTTP_PROTOCOLS["auto"])


def asked(
    proxy: ASGIApp, path: str = "/ready", address: str = FAR, **headers: str | bytes
) -> httpx.Response:
    app: ASGIApp = _apply_middlewares(proxy, middlewares())  # type: ignore[arg-type]
    told = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]

    async def run() -> httpx.Response:
        async with browser(app, address) as client:
            return await client.get(path, headers=told)  # type: ignore[arg-type]

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("sent", "sane"), [("mine-1", True), ("a b", False), (b"\xff", False), ("x" * 65, False)]
)
def test_a_request_has_one_id_on_its_way_and_on_its_answer(sent: str | bytes, sane: bool) -> None:
    proxy = Proxy()
    (told,) = asked(proxy, x_request_id=sent).headers.get_list("x-request-id")
    assert (told == sent) is sane
    assert proxy.header(b"x-request-id") == [told.encode()]


@pytest.mark.parametrize(
    "name",
    [
        *("x_request_timeout_seconds", "x_request_disconnect_disabled", "x_session_id"),
        "serve_multiplexed_model_id",
    ],
)
def test_headers_of_rays_own_are_no_clients_to_send(name: str) -> None:
    proxy = Proxy()
    for sent in (b"0.0001", b"\xff"):
        assert asked(proxy, **{name: sent, "accept": "x"}).status_code == 200
        assert proxy.header(name.replace("_", "-").encode()) == []
        assert proxy.header(b"accept") == [b"x"]


@pytest.mark.parametrize("path", ["/-/routes", "/-/healthz"])
def test_rays_own_paths_are_for_this_machine(path: str) -> None:
    proxy = Proxy()
    assert asked(proxy, path, "127.0.0.1").status_code == 200
    assert asked(proxy, path, "::1", host="localhost:8000").status_code == 200
    for address, headers in (
        (FAR, {}),
        ("127.0.0.1", {"host": "evil.example"}),
        ("127.0.0.1", {"x_forwarded_for": FAR}),
    ):
        answer = asked(proxy, path, address, **headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert len(proxy.scopes) == 2


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (404, "invalid_request_error", "not_found"),
        (408, "invalid_request_error", "request_timeout"),
        (500, "server_error", "internal_error"),
        (503, "server_error", "not_ready"),
    ],
)
def test_errors_of_the_proxy_have_the_endpoints_shape(status: int, kind: str, code: str) -> None:
    answer = asked(Proxy(PlainTextResponse("secret of Ray", status)))
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == (kind, code)
    assert "secret" not in answer.text
    assert answer.headers["x-frame-options"] == "DENY"
    assert ("retry-after" in answer.headers) is (status == 503)


def test_answers_of_the_endpoint_pass_as_they_are() -> None:
    site = {"listen": {"cors_origins": ("https://app.example.org",)}}
    told = []
    for proxy in (
        Proxy(JSONResponse({"error": "mine"}, 503)),
        Proxy(PlainTextResponse("sgl_serve 1")),
        guarded(Application().app(), config_of(**site)),
    ):
        # To the last one a preflight that is refused, in plain text.
        app: ASGIApp = _apply_middlewares(proxy, middlewares())  # type: ignore[arg-type]

        async def run(app: ASGIApp = app) -> str:
            headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
            async with browser(app) as client:
                return (await client.options(ASK, headers=headers)).text

        told.append(asyncio.run(run()))
    assert told == ['{"error":"mine"}', "sgl_serve 1", "Disallowed CORS origin"]


def test_a_proxy_that_fails_is_answered_for(caplog: pytest.LogCaptureFixture) -> None:
    answer = asked(Proxy(RuntimeError("secret")), x_request_id="mine")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert answer.headers.get_list("x-request-id") == ["mine"]
    assert "request mine failed" in caplog.text


@pytest.mark.parametrize("length", ["1001", "9" * 5000])
def test_its_own_refusals_are_told_like_the_endpoints(length: str) -> None:
    proxy = Proxy()
    answer = asked(proxy, content_length=length)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    assert len(answer.headers.get_list("x-request-id")) == 1
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert proxy.scopes == []


@pytest.mark.parametrize(
    ("trusted", "statuses"), [((), [200, 429]), (("127.0.0.1",), [200, 200]), (None, [200, 429])]
)
def test_only_trusted_proxies_say_whom_they_ask_for(
    trusted: tuple[str, ...] | None, statuses: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind uvicorn as the proxy builds it; None is a node whose environment tells nothing."""
    listen = {"trusted_proxies": trusted or ()}
    config = config_of(listen=listen, limits={"requests_per_minute": 1})
    monkeypatch.setenv(TRUSTED, environment(config)[TRUSTED])
    if trusted is None:
        monkeypatch.delenv(TRUSTED)
    monkeypatch.delenv(MAX_BODY)
    app = _apply_middlewares(guarded(Application().app(), config), middlewares())  # type: ignore[arg-type]
    with serving(app) as port:
        url = f"http://127.0.0.1:{port}{ASK}"
        clients = [{"x-forwarded-for": f"203.0.113.{number}"} for number in (1, 2)]
        found = [httpx.post(url, json={}, headers=one).status_code for one in clients]
    assert found == statuses
