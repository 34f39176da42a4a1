"""What is left when everything else has failed."""

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from serving.request_ids import RequestIds


async def _nothing() -> Any:
    raise AssertionError("nothing is read")


def answers_of(app: Any) -> tuple[list[Any], Exception | None]:
    """What an application sends behind the ids, and what it raises."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        headers = [(b"x-request-id", b"mine")]
        await RequestIds(app)({"type": "http", "headers": headers}, _nothing, send)

    try:
        asyncio.run(run())
    except Exception as error:
        return sent, error
    return sent, None


def test_an_application_that_fails_before_its_answer_is_answered_for() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("secret")

    (start, body), error = answers_of(app)
    assert (start["status"], error) == (500, None)
    assert (b"x-request-id", b"mine") in start["headers"]
    assert b"secret" not in body["body"]


def test_half_an_answer_is_not_made_to_look_whole() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("secret")

    sent, error = answers_of(app)
    assert [message["type"] for message in sent] == ["http.response.start"]
    assert isinstance(error, RuntimeError)


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
def test_what_is_no_request_is_passed_on(kind: str) -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def send(message: Any) -> None:
        raise AssertionError("nothing is sent")

    asyncio.run(RequestIds(app)({"type": kind}, _nothing, send))
    assert seen == [kind]
