"""The endpoint with fake models, and its clients, in one process."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import httpx
from fastapi import FastAPI
from openai import AsyncOpenAI

from serving.http_app import create_app
from tests.serving.fakes import FakeBackend, FakePictures, config_of

T = TypeVar("T")
CHAT = "/v1/chat/completions"
HELLO = {"model": "pair", "messages": [{"role": "user", "content": "what is this?"}]}


def app_of(backend: FakeBackend, options: dict[str, Any] | None = None, **settings: Any) -> FastAPI:
    """The application; settings are those of the config."""
    return create_app(config_of(**settings), backend, FakePictures(), **(options or {}))


def http(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


def openai_client(app: FastAPI) -> AsyncOpenAI:
    return AsyncOpenAI(
        api_key="none", base_url="http://test/v1", http_client=http(app), max_retries=0
    )


def ask(app: FastAPI, body: Any, path: str = CHAT, **headers: str) -> httpx.Response:
    """One request; the body may be bytes that are no JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def request() -> httpx.Response:
        async with http(app) as client:
            return await client.post(path, content=data, headers=headers)

    return asyncio.run(request())


def get(app: FastAPI, path: str, **headers: str) -> httpx.Response:
    async def request() -> httpx.Response:
        async with http(app) as client:
            return await client.get(path, headers=headers)

    return asyncio.run(request())


def with_client(app: FastAPI, use: Callable[[AsyncOpenAI], Coroutine[Any, Any, T]]) -> T:
    """What some code gets of OpenAI's own client."""

    async def run() -> T:
        async with openai_client(app) as client:
            return await use(client)

    return asyncio.run(run())


def events(text: str) -> list[Any]:
    """The data of server-sent events, as JSON where it is some."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]
