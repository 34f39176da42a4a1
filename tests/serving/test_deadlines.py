"""No request takes longer than its time, whoever is slow."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from serving.http_app import create_app
from sgl.errors import ExpiredError
from tests.serving.endpoint import CHAT, HELLO, app_of, ask, events, http
from tests.serving.fakes import PICTURE, FakeBackend, FakePictures, config_of

SOON = {"timeout_s": 0.05}


def late(backend: FakeBackend, **more: Any) -> Any:
    """An answer of models that never finish by themselves."""

    async def run() -> Any:
        backend.hold_small = asyncio.Event()
        async with http(app_of(backend)) as client:
            return await client.post(CHAT, json={**HELLO, "sgl": SOON, **more})

    return asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_models_that_hang_end_at_the_deadline_and_are_free_again(stream: bool) -> None:
    backend = FakeBackend()
    answer = late(backend, stream=stream)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (
        504,
        "timeout_error",
        "deadline_exceeded",
    )
    assert backend.running == 0
    assert 0 < backend.timeouts[0] <= 0.05


def test_the_endpoints_own_deadline_holds_too() -> None:
    async def run() -> int:
        backend = FakeBackend(hold_small=asyncio.Event())
        async with http(app_of(backend, limits={"deadline_s": 0.05})) as client:
            return (await client.post(CHAT, json=HELLO)).status_code

    assert asyncio.run(run()) == 504


def test_a_stream_that_has_begun_ends_with_the_error() -> None:
    async def run() -> tuple[str, int]:
        backend = FakeBackend(score=0.1, hold_large=asyncio.Event())
        async with http(app_of(backend)) as client:
            answer = await client.post(CHAT, json={**HELLO, "stream": True, "sgl": SOON})
        return answer.text, backend.running

    text, running = asyncio.run(run())
    assert events(text)[-1]["error"]["type"] == "timeout_error"
    assert running == 0


def test_the_backends_own_word_counts_as_well() -> None:
    answer = ask(app_of(FakeBackend(small=ExpiredError("late"))), HELLO)
    assert answer.json()["error"]["type"] == "timeout_error"


def test_pictures_are_fetched_within_the_time() -> None:
    class Slow(FakePictures):
        async def get(self, references: Sequence[str], hold: Any = None) -> Any:
            await asyncio.Event().wait()

    image = {"type": "image_url", "image_url": {"url": PICTURE}}
    body = {**HELLO, "messages": [{"role": "user", "content": [image]}], "sgl": SOON}
    backend = FakeBackend()
    answer = ask(create_app(config_of(), backend, Slow()), body)
    assert (answer.status_code, len(backend.guided)) == (504, 0)
