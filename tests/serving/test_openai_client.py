"""The official client, unchanged: plain, streamed, sync and async, and its own errors."""

from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from sgl.errors import ExpiredError, OverloadedError
from tests.serving.endpoint import app_of, with_client
from tests.serving.fakes import LARGE_TEXT, PICTURE, SMALL_TEXT, FakeBackend
from tests.serving.server import serving

MESSAGES: Any = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "what is this?"},
            {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
        ],
    }
]


def test_a_plain_answer() -> None:
    async def use(client: AsyncOpenAI) -> Any:
        extra = {"sgl": {"threshold": 0.99, "explain": True}}
        return await client.chat.completions.create(
            model="pair", messages=MESSAGES, max_tokens=9, temperature=0, extra_body=extra
        )

    answer = with_client(app_of(FakeBackend()), use)
    assert answer.choices[0].message.content == LARGE_TEXT
    assert answer.usage.prompt_tokens_details.image_tokens == 4
    assert answer.sgl["route"] == "large"
    assert answer._request_id.startswith("req-")


def test_a_streamed_answer() -> None:
    async def use(client: AsyncOpenAI) -> list[Any]:
        stream = await client.chat.completions.create(
            model="pair", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        return [chunk async for chunk in stream]

    chunks = with_client(app_of(FakeBackend()), use)
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == SMALL_TEXT
    assert chunks[-2].sgl["route"] == "small"
    assert chunks[-1].usage.total_tokens == 26


def test_the_clients_own_gathering_of_a_stream() -> None:
    async def use(client: AsyncOpenAI) -> Any:
        async with client.chat.completions.stream(model="pair", messages=MESSAGES) as stream:
            return await stream.get_final_completion()

    assert with_client(app_of(FakeBackend()), use).choices[0].message.content == SMALL_TEXT


def test_the_synchronous_client_over_a_real_connection() -> None:
    with (
        serving(app_of(FakeBackend(score=0.1))) as port,
        OpenAI(api_key="none", base_url=f"http://127.0.0.1:{port}/v1") as client,
    ):
        assert client.models.list().data[0].id == "pair"
        assert client.models.retrieve("pair:small").owned_by == "sgl"
        raw = client.chat.completions.with_raw_response.create(model="pair", messages=MESSAGES)
        assert raw.headers["x-sgl-route"] == "large"
        assert raw.parse().choices[0].message.content == LARGE_TEXT
        stream = client.chat.completions.create(model="pair", messages=MESSAGES, stream=True)
        texts = [chunk.choices[0].delta.content or "" for chunk in stream]
        assert "".join(texts).strip() == LARGE_TEXT


@pytest.mark.parametrize(
    ("backend", "settings", "error"),
    [
        (FakeBackend(), {"model": "gpt-4o"}, openai.NotFoundError),
        (FakeBackend(), {"n": 2}, openai.BadRequestError),
        (FakeBackend(), {"extra_body": {"sgl": {"treshold": 1}}}, openai.BadRequestError),
        (FakeBackend(small=OverloadedError("full", 1.0)), {}, openai.InternalServerError),
        (FakeBackend(small=ExpiredError("late")), {}, openai.InternalServerError),
        (FakeBackend(small=RuntimeError("bug")), {}, openai.InternalServerError),
    ],
)
def test_errors_are_the_clients_own(
    backend: FakeBackend, settings: dict[str, Any], error: type[openai.APIStatusError]
) -> None:
    async def use(client: AsyncOpenAI) -> None:
        await client.chat.completions.create(**{"model": "pair", "messages": MESSAGES, **settings})

    with pytest.raises(error) as raised:
        with_client(app_of(backend), use)
    assert raised.value.request_id
    assert raised.value.body


def test_a_stream_that_breaks_off_raises_in_the_client() -> None:
    async def use(client: AsyncOpenAI) -> None:
        stream = await client.chat.completions.create(model="pair", messages=MESSAGES, stream=True)
        async for _ in stream:
            pass

    backend = FakeBackend(score=0.1, large_after_text=ExpiredError("late"))
    with pytest.raises(openai.APIError, match="no answer in time") as raised:
        with_client(app_of(backend), use)
    assert raised.value.type == "timeout_error"
