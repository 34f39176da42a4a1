"""The whole guard, from outside."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from serving.guarded import guarded
from serving.key_file import add_key
from serving.metrics import Metrics
from tests.serving.asgi import ASK, BASE, Application, Wire, browser, config_of, scope_of

SITE = "https://app.example.org"


def call(
    app: Any, method: str, path: str, base: str = BASE, **headers: str
) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of one request."""

    async def run() -> tuple[int, dict[str, str], str]:
        async with browser(app, base=base) as client:
            content = b"{}" if method == "POST" else None
            told = {name.replace("_", "-"): value for name, value in headers.items()}
            kind = {"content-type": "application/json"} if content else {}
            answer = await client.request(method, path, content=content, headers=kind | told)
            return answer.status_code, dict(answer.headers), answer.text

    return asyncio.run(run())


@pytest.fixture
def keyed(tmp_path: Path) -> tuple[Any, str]:
    path = str(tmp_path / "keys.yaml")
    key = add_key(path, "alice")
    return guarded(Application().app(), config_of(keys=path)), key


@pytest.mark.parametrize("path", ["/health", "/ready", "/", "/playground/playground.js"])
def test_probes_and_the_page_need_no_key(path: str, keyed: tuple[Any, str]) -> None:
    assert call(keyed[0], "GET", path)[0] == 200
    status, _, text = call(keyed[0], "POST", path)
    assert (status, "invalid_api_key" in text) == (401, True)


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/models", "/version", "/metrics", "/openapi.json", "/nowhere"),
        *("/health/", "//health", "/health/../metrics", "/Health", "/playground", "/health\0"),
    ],
)
def test_everything_else_needs_one(path: str, keyed: tuple[Any, str]) -> None:
    # Not by a client, which would tidy the path up.
    wire = Wire([b""])
    asyncio.run(keyed[0](scope_of(method="GET", path=path), wire.receive, wire.send))
    assert wire.status == 401
    assert wire.header("www-authenticate") == 'Bearer realm="sgl"'
    assert b"invalid_api_key" in wire.sent[1]["body"]
    let_in, key = Wire([b""]), ("authorization", f"Bearer {keyed[1]}")
    asyncio.run(keyed[0](scope_of(key, method="GET", path=path), let_in.receive, let_in.send))
    assert let_in.status in (200, 404, 307)


def test_without_a_key_nothing_of_a_body_is_read(keyed: tuple[Any, str]) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = scope_of(("content-type", "application/json"), ("content-length", "100"))
    asyncio.run(keyed[0](scope, receive, send))
    assert sent[0]["status"] == 401


def test_the_application_is_told_who_asks(keyed: tuple[Any, str], tmp_path: Path) -> None:
    application = Application()
    path = str(tmp_path / "others.yaml")
    key = add_key(path, "bob")
    app = guarded(application.app(), config_of(keys=path))
    call(app, "POST", ASK, authorization=f"Bearer {key}")
    call(app, "GET", "/health")
    assert [client.name for client in application.clients] == ["bob", "127.0.0.1"]


@pytest.mark.parametrize("path", ["/health", "/nowhere", ASK, "/"])
def test_every_answer_carries_the_headers(path: str, keyed: tuple[Any, str]) -> None:
    _, headers, _ = call(keyed[0], "GET", path)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"
    assert headers["x-request-id"]
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_the_page_says_itself_how_long_it_keeps() -> None:
    def page(_: Request) -> Response:
        return Response("page", headers={"cache-control": "max-age=60"})

    app = guarded(Starlette(routes=[Route("/", page)]), config_of())
    _, headers, _ = call(app, "GET", "/")
    assert headers["cache-control"] == "max-age=60"


def test_no_fault_tells_of_the_insides(caplog: pytest.LogCaptureFixture) -> None:
    def breaks(_: Request) -> Response:
        raise RuntimeError("secret /path/of/the/server")

    def breaks_late(_: Request) -> Response:
        def text() -> Any:
            yield "begun"
            raise RuntimeError("secret")

        return StreamingResponse(text())

    routes = [Route("/", breaks), Route("/late", breaks_late)]

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("secret")

    for app, path in ((Starlette(routes=routes), "/"), (bare, "/")):
        status, headers, text = call(guarded(app, config_of()), "GET", path)
        assert status == 500
        assert "secret" not in text
        assert "Traceback" not in text
    assert '"type":"server_error"' in text.replace(" ", "")
    assert '"code":"internal_error"' in text.replace(" ", "")
    assert "RuntimeError: secret" in caplog.text
    # The client holds the id that the log tells of.
    assert f"request {headers['x-request-id']} failed" in caplog.text
    assert headers["x-frame-options"] == "DENY"
    # Half an answer is cut off; it must not look whole.
    wire, late = Wire([]), scope_of(method="GET", path="/late")
    whole = guarded(Starlette(routes=routes), config_of())(late, wire.receive, wire.send)
    with pytest.raises(RuntimeError):
        asyncio.run(whole)
    assert wire.status == 200
    assert not any(b"secret" in message.get("body", b"") for message in wire.sent)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "localhost", "[::1]:8000"])
def test_on_loopback_it_answers_to_loopbacks_names(host: str) -> None:
    app = guarded(Application().app(), config_of())
    assert call(app, "GET", "/v1/models", host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example"),
        *("0.0.0.0:8000", "192.168.0.2", "[::2]", "", "[", "evil.example@x", "a:b:c"),
    ],
)
def test_on_loopback_a_page_that_gives_its_name_another_address_gains_nothing(host: str) -> None:
    """DNS rebinding: origin and host are the page's own, and alike."""
    application = Application()
    app = guarded(application.app(), config_of())
    status, _, text = call(app, "POST", ASK, host=host, origin=f"http://{host}")
    assert (status, "host_not_allowed" in text) == (403, True)
    assert call(app, "GET", "/v1/models", host=host)[0] == 403
    assert not application.clients


def test_further_names_are_settings() -> None:
    local = guarded(Application().app(), config_of(listen={"allowed_hosts": ("Box.example",)}))
    wide = guarded(Application().app(), config_of(listen={"host": "0.0.0.0"}))
    listen = {"host": "0.0.0.0", "allowed_hosts": ("box.example", "[2001:db8::1]")}
    named = guarded(Application().app(), config_of(listen=listen))
    asked = ("box.example:8000", "other.example", "[2001:db8::1]:8000", "127.0.0.1")
    expected = {0: (200, 403, 403, 200), 1: (200,) * 4, 2: (200, 403, 200, 200)}
    for place, app in enumerate((local, wide, named)):
        given = tuple(call(app, "GET", "/health", host=host)[0] for host in asked)
        assert given == expected[place]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9000", "x"])
def test_a_page_of_another_origin_cannot_ask(origin: str) -> None:
    application = Application()
    app = guarded(application.app(), config_of())
    status, headers, text = call(app, "POST", ASK, origin=origin)
    assert (status, "origin_not_allowed" in text) == (403, True)
    assert not any(name.startswith("access-control") for name in headers)
    assert not application.clients


@pytest.mark.parametrize(
    ("origin", "base"),
    [
        ("http://127.0.0.1:8000", BASE),
        ("http://localhost", "http://localhost:80"),
        ("https://localhost", "http://localhost"),
    ],
)
def test_its_own_page_can(origin: str, base: str) -> None:
    app = guarded(Application().app(), config_of())
    assert call(app, "POST", ASK, base, origin=origin)[0] == 200


def test_cors_is_closed_unless_written() -> None:
    closed = guarded(Application().app(), config_of())
    preflight = {"origin": SITE, "access_control_request_method": "POST"}
    for method, headers in (("GET", {"origin": SITE}), ("OPTIONS", preflight)):
        _, told, _ = call(closed, method, "/v1/models", **headers)
        assert not any(name.startswith("access-control") for name in told)


def test_cors_is_open_to_the_origins_that_are_written(tmp_path: Path) -> None:
    path = str(tmp_path / "keys.yaml")
    key = add_key(path, "alice")
    app = guarded(Application().app(), config_of(keys=path, listen={"cors_origins": (SITE,)}))
    asks = {"access_control_request_method": "POST"}
    wants = {"access_control_request_headers": "authorization, content-type"}
    status, headers, _ = call(app, "OPTIONS", ASK, origin=SITE, **asks, **wants)
    assert status == 200  # without a key, which browsers do not send here
    assert headers["access-control-allow-origin"] == SITE
    status, headers, _ = call(app, "POST", ASK, origin=SITE, authorization=f"Bearer {key}")
    assert (status, headers["access-control-allow-origin"]) == (200, SITE)
    assert "x-sgl-route" in headers["access-control-expose-headers"]
    # A page must be able to read why it is refused.
    status, headers, _ = call(app, "POST", ASK, origin=SITE)
    assert (status, headers["access-control-allow-origin"]) == (401, SITE)
    evil = "https://evil.example"
    for other in (evil, SITE + ".evil.example", SITE.replace("https", "http")):
        status, headers, _ = call(app, "OPTIONS", ASK, origin=other, **asks)
        assert (status, headers.get("access-control-allow-origin")) == (400, None)
        status, headers, _ = call(app, "POST", ASK, origin=other, authorization=f"Bearer {key}")
        assert (status, headers.get("access-control-allow-origin")) == (403, None)


NODE_CLIENT = (
    *("accept", "authorization", "content-type", "idempotency-key", "openai-organization"),
    *("openai-project", "user-agent", "x-stainless-arch", "x-stainless-helper-method"),
    *("x-stainless-lang", "x-stainless-os", "x-stainless-package-version"),
    *("x-stainless-retry-count", "x-stainless-runtime", "x-stainless-runtime-version"),
    "x-stainless-timeout",
)
"""What OpenAI's client for JavaScript sends, of version 5, when a page is allowed to use it."""


def test_the_official_client_can_ask_from_an_allowed_page() -> None:
    app = guarded(Application().app(), config_of(listen={"cors_origins": (SITE,)}))
    wants = {"access_control_request_headers": ",".join(NODE_CLIENT)}
    status, headers, _ = call(
        app, "OPTIONS", ASK, origin=SITE, access_control_request_method="POST", **wants
    )
    assert status == 200
    allowed = {name.strip() for name in headers["access-control-allow-headers"].split(",")}
    assert set(NODE_CLIENT) <= allowed


def test_a_page_can_read_how_its_limits_stand() -> None:
    limits = {"requests_per_minute": 5, "tokens_per_minute": 500}
    config = config_of(listen={"cors_origins": (SITE,)}, limits=limits)
    _, headers, _ = call(guarded(Application().app(), config), "POST", ASK, origin=SITE)
    told = {name for name in headers if name.startswith("x-ratelimit")}
    readable = {name.strip() for name in headers["access-control-expose-headers"].split(",")}
    assert len(told) == 6
    assert told <= readable


def test_refusals_are_counted(tmp_path: Path) -> None:
    path, metrics = str(tmp_path / "keys.yaml"), Metrics()
    key = add_key(path, "alice", requests_per_minute=1)
    app = guarded(Application().app(), config_of(keys=path), metrics=metrics)
    call(app, "GET", "/health")
    call(app, "GET", "/health", host="evil.example")
    for _ in range(3):
        call(app, "POST", ASK)
    for _ in range(2):
        call(app, "POST", ASK, authorization=f"Bearer {key}")
    assert metrics.snapshot().values == {
        ("refused", ("403", "host_not_allowed")): 1,
        ("refused", ("401", "invalid_api_key")): 3,
        ("refused", ("429", "rate_limit_exceeded")): 1,
    }


@pytest.mark.parametrize("origins", [("*",), (SITE,)])
def test_credentials_are_never_allowed(origins: tuple[str, ...]) -> None:
    app = guarded(Application().app(), config_of(listen={"cors_origins": origins}))
    for method in ("OPTIONS", "POST"):
        _, headers, _ = call(app, method, ASK, origin=SITE, access_control_request_method="POST")
        assert headers["access-control-allow-origin"] == origins[0]
        assert "access-control-allow-credentials" not in headers


def test_a_refusal_cannot_forge_a_line_of_the_log(
    keyed: tuple[Any, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    call(keyed[0], "GET", "/x%0AINFO%20forged%1b[2J")
    lines = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert len(lines) == 1
    assert "\n" not in lines[0]
    assert "\x1b" not in lines[0]


def test_there_are_no_websockets() -> None:
    sent: list[Any] = []

    async def nothing() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = scope_of() | {"type": "websocket"}
    asyncio.run(guarded(Application().app(), config_of())(scope, nothing, send))
    assert [message["type"] for message in sent] == ["websocket.close"]
