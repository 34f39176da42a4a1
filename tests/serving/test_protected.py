"""The endpoint behind its guard, with real pictures: what each knows of the other."""

import asyncio
import base64
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import httpx
import numpy as np
import openai
import pytest
from openai import AsyncOpenAI

from serving.guarded import guarded
from serving.http_app import create_app
from serving.pictures import Pictures
from tests.pipeline.inputs import picture, png
from tests.serving.asgi import JSON_CHUNKED, Wire, scope_of
from tests.serving.endpoint import HELLO
from tests.serving.fakes import SMALL_TEXT, FakeBackend, config_of

T = TypeVar("T")
BASE = "http://127.0.0.1:8000"


def asked(
    use: Callable[[AsyncOpenAI], Coroutine[Any, Any, T]],
    backend: FakeBackend,
    pictures: Any = None,
    **settings: Any,
) -> T:
    """What some code gets of the official client, through the guard."""
    config = config_of(**settings)
    app = guarded(create_app(config, backend, pictures or Pictures(config)), config)

    async def run() -> T:
        transport = httpx.ASGITransport(app)
        async with (
            httpx.AsyncClient(transport=transport) as http,
            AsyncOpenAI(
                api_key="x", base_url=f"{BASE}/v1", http_client=http, max_retries=0
            ) as client,
        ):
            return await use(client)

    return asyncio.run(run())


async def hello(client: AsyncOpenAI, **more: Any) -> Any:
    return await client.chat.completions.create(**{**HELLO, **more})


def about(data: bytes) -> dict[str, Any]:
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    image = {"type": "image_url", "image_url": {"url": url}}
    return {"messages": [{"role": "user", "content": [image, {"type": "text", "text": "?"}]}]}


def test_pixels_come_to_the_models_as_they_were_sent() -> None:
    backend = FakeBackend()
    answer = asked(lambda client: hello(client, **about(png(7))), backend)
    assert answer.choices[0].message.content == SMALL_TEXT
    (image,) = backend.guided[0].images
    np.testing.assert_array_equal(image, picture(7))


def test_a_picture_that_is_none_is_told_with_its_class() -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        asked(lambda client: hello(client, **about(b"no picture")), FakeBackend())
    assert (raised.value.code, raised.value.param) == ("ImageError", "messages")


def test_tokens_of_both_models_are_charged() -> None:
    async def twice(client: AsyncOpenAI) -> httpx.Headers:
        await hello(client)
        with pytest.raises(openai.RateLimitError) as raised:
            await hello(client)
        return raised.value.response.headers

    backend = FakeBackend(score=0.1)
    headers = asked(twice, backend, limits={"tokens_per_minute": 45})
    assert int(headers["retry-after"]) >= 1
    assert len(backend.guided) == 1
    # Either model alone has read and written less than the bucket holds.
    one = FakeBackend()
    asked(lambda client: hello(client), one, limits={"tokens_per_minute": 45})


def test_what_the_guard_refuses_has_an_id_too() -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        asked(hello, FakeBackend(), limits={"max_body_bytes": 10})
    assert raised.value.status_code == 413
    assert raised.value.request_id
    assert raised.value.code == "request_too_large"


def test_pictures_that_take_too_much_room_are_refused_for_now() -> None:
    """A body of less than a kilobyte, and 120,000 bytes of pixels."""
    backend, room = FakeBackend(), {"max_in_flight_bytes": 100_000}
    with pytest.raises(openai.InternalServerError) as raised:
        asked(lambda client: hello(client, **about(png(7, 200, 200))), backend, limits=room)
    assert (raised.value.status_code, raised.value.type) == (503, "overloaded_error")
    assert raised.value.response.headers["retry-after"] == "1"
    assert not backend.guided


class Watching(FakeBackend):
    """Also keeps how many bytes Python holds while the small model is asked, at the least."""

    held: tuple[int, ...] = ()

    async def guide(self, *given: Any, **named: Any) -> AsyncIterator[Any]:
        found = []
        # The thread that has decoded a picture may be about to let it go.
        for _ in range(20):
            found.append(tracemalloc.get_traced_memory()[0])
            await asyncio.sleep(0.01)
        self.held += (min(found),)
        async for piece in super().guide(*given, **named):
            yield piece


def test_while_the_models_answer_a_request_holds_its_pixels_alone() -> None:
    """Neither its body, of 8 MiB, nor the picture's address, nor the picture as it was sent."""
    backend, config = Watching(), config_of()
    app = guarded(create_app(config, backend, Pictures(config)), config)
    data = png(7)
    sent = json.dumps({**HELLO, **about(data + bytes(-len(data) % 3))})
    head, mark, tail = sent.partition('"}}')
    pieces = [head.encode(), *[b"A" * 65_536] * 128, (mark + tail).encode()]

    async def run() -> None:
        wire = Wire(pieces)
        await app(scope_of(*JSON_CHUNKED), wire.receive, wire.send)
        assert wire.status == 200

    asyncio.run(run())
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        asyncio.run(run())
    finally:
        tracemalloc.stop()
    assert backend.held[1] - before < 2 << 20
    np.testing.assert_array_equal(backend.guided[1].images[0], picture(7))
