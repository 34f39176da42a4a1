"""What clients pay for answers that they do not wait for."""

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message

from serving.client import Client
from sgl.errors import UnavailableError
from tests.serving.asgi import scope_of
from tests.serving.endpoint import HELLO, app_of
from tests.serving.fakes import FakeBackend

SMALL, LARGE = 20 + 6, 20 + 3
"""Tokens of the fakes, prompt and answer."""


def charged(backend: FakeBackend, *, leaves_after: int | None = None, **more: Any) -> int:
    """What a request costs; its client may go after so many events of a stream."""
    paid: list[int] = []
    events = 0
    body = json.dumps({**HELLO, **more}).encode()
    requests = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if not requests:
            await asyncio.Event().wait()
        return requests.pop()

    async def send(message: Message) -> None:
        nonlocal events
        if leaves_after is not None and message.get("body", b"").startswith(b"data: "):
            events += 1
            if events > leaves_after:
                raise OSError("gone")

    scope = scope_of(("content-type", "application/json"))
    scope["state"]["client"] = Client("alice", paid.append, lambda _: None)
    asyncio.run(app_of(backend)(scope, receive, send))
    return sum(paid)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "score", "tokens"),
    [
        ("pair", 0.95, SMALL),
        ("pair", 0.1, SMALL + LARGE),
        ("pair:small", 0.1, SMALL),
        ("pair:large", 0.1, LARGE),
    ],
)
def test_an_answer_costs_what_both_models_read_and_wrote(
    model: str, score: float, tokens: int, stream: bool
) -> None:
    assert charged(FakeBackend(score=score), model=model, stream=stream) == tokens


@pytest.mark.parametrize(
    ("model", "score", "tokens"),
    [
        ("pair", 0.95, SMALL),
        # The event of the second piece does not arrive, and the model has said it.
        ("pair", 0.1, SMALL + 2),
        ("pair:small", 0.1, 2),
        ("pair:large", 0.1, 2),
    ],
)
def test_who_leaves_before_the_end_pays_for_what_there_was(
    model: str, score: float, tokens: int
) -> None:
    # The first event is the role.
    found = charged(FakeBackend(score=score), leaves_after=2, model=model, stream=True)
    assert found == tokens


@pytest.mark.parametrize("stream", [False, True])
def test_the_small_models_work_is_paid_where_the_large_one_does_not_answer(stream: bool) -> None:
    late = FakeBackend(score=0.1)

    async def never() -> None:
        await asyncio.Event().wait()

    late.hold_large = type("Never", (), {"wait": staticmethod(never)})()
    late.large = None
    if stream:
        late.large = UnavailableError("no replica")
    found = charged(late, stream=stream, sgl={"timeout_s": 0.05})
    assert found == SMALL
