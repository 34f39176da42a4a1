import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.config import ServeConfig
from serving.guarded import guarded
from tests.serving.asgi import ASK, JSON_CHUNKED, Application, Wire, browser, config_of, scope_of

LIMIT = 1000
CONFIG = config_of(limits={"max_body_bytes": LIMIT})
HURRIED = config_of(limits={"max_body_bytes": LIMIT, "body_deadline_s": 0.2})


def ask(wire: Wire, *headers: tuple[str, str], config: ServeConfig = CONFIG) -> Application:
    application = Application()
    app = guarded(application.app(), config)
    asyncio.run(app(scope_of(*headers), wire.receive, wire.send))
    return application


@pytest.mark.parametrize("length", [str(LIMIT + 1), "9" * 18, "9" * 5000])
def test_what_promises_too_much_is_refused_before_a_byte_is_read(length: str) -> None:
    wire = Wire([b"x"])
    application = ask(wire, ("content-type", "application/json"), ("content-length", length))
    assert (wire.status, wire.received) == (413, 0)
    assert b"request_too_large" in wire.sent[1]["body"]
    assert wire.header("connection") == "close"
    assert not application.clients


@pytest.mark.parametrize("promised", [(), (("content-length", "10"),)])
def test_what_becomes_too_much_is_refused_where_it_does(promised: Any) -> None:
    """Chunked, or with a length that is a lie."""
    wire = Wire([b"x" * 300] * 1000)
    ask(wire, *JSON_CHUNKED, *promised)
    assert (wire.status, wire.received) == (413, 4)


@given(st.lists(st.binary(max_size=400), min_size=1, max_size=8))
def test_a_body_within_the_limit_arrives_whole(parts: list[bytes]) -> None:
    wire = Wire(list(parts))
    ask(wire, *JSON_CHUNKED)
    size = sum(map(len, parts))
    assert wire.status == (200 if size <= LIMIT else 413)
    if size <= LIMIT:
        assert wire.sent[1]["body"] == f'{{"bytes":{size}}}'.encode()


@pytest.mark.parametrize("pause_s", [0.0, 0.05])
def test_a_body_that_does_not_come_to_an_end_is_not_waited_for(pause_s: float) -> None:
    """One that stops, and one that drips."""
    wire = Wire([b"{"] * (1 if pause_s == 0 else 500), pause_s, more=True)
    application = ask(wire, *JSON_CHUNKED, config=HURRIED)
    assert wire.status == 408
    assert wire.header("connection") == "close"
    assert not application.clients


def test_a_client_that_goes_away_gets_no_answer_and_the_application_no_request() -> None:
    wire = Wire([b"{", None])
    application = ask(wire, *JSON_CHUNKED)
    assert not wire.sent
    assert not application.clients


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/json"}, 200),
        ({"content-type": "Application/JSON; charset=utf-8"}, 200),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-type": ""}, 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
        ({"content-type": "application/json", "content-encoding": "identity"}, 200),
    ],
)
def test_only_json_is_taken_and_only_as_it_is(headers: dict[str, str], status: int) -> None:
    async def run() -> int:
        async with browser(guarded(Application().app(), CONFIG)) as client:
            return (await client.post(ASK, content=b"{}", headers=headers)).status_code

    assert asyncio.run(run()) == status
