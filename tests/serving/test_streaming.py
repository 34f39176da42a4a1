"""Streamed answers: events as OpenAI writes them, and nothing before the decision."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from sgl.errors import ExpiredError, OverloadedError, UnavailableError
from sgl.types import Failure
from tests.serving.endpoint import CHAT, HELLO, app_of, ask, events, http
from tests.serving.fakes import LARGE_TEXT, SMALL_TEXT, FakeBackend

STREAM = {**HELLO, "stream": True}


def streamed(backend: FakeBackend, **more: Any) -> httpx.Response:
    return ask(app_of(backend), {**STREAM, **more})


def contents(chunks: list[Any]) -> list[str]:
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    return [delta["content"] for delta in deltas if delta.get("content")]


@pytest.mark.parametrize(
    ("model", "score", "text"),
    [
        ("pair", 0.95, SMALL_TEXT),
        ("pair", 0.1, LARGE_TEXT),
        ("pair:small", 0.1, SMALL_TEXT),
        ("pair:large", 0.1, LARGE_TEXT),
    ],
)
def test_a_stream_is_the_role_the_text_in_pieces_the_end_and_done(
    model: str, score: float, text: str
) -> None:
    answer = streamed(FakeBackend(score=score), model=model)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *chunks, done = events(answer.text)
    assert done == "[DONE]"
    first, *_, last = chunks
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(contents(chunks)).strip() == text
    assert len(contents(chunks)) == len(text.split())
    finish = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert finish == [None] * (len(chunks) - 1) + ["stop"]
    assert [("sgl" in chunk) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert last["sgl"]["route"] == answer.headers["x-sgl-route"]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


def test_the_headers_of_a_stream_tell_the_decision() -> None:
    headers = streamed(FakeBackend(score=0.1)).headers
    assert headers["x-sgl-route"] == "large"
    assert (headers["x-sgl-exit-score"], headers["x-sgl-threshold"]) == ("0.1", "0.9")


def test_usage_comes_last_and_only_where_it_is_asked_for() -> None:
    assert all(chunk["usage"] is None for chunk in events(streamed(FakeBackend()).text)[:-1])
    wanted = streamed(FakeBackend(), stream_options={"include_usage": True})
    *chunks, last, done = events(wanted.text)
    assert done == "[DONE]"
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 26


def test_an_answer_without_text_is_a_stream_all_the_same() -> None:
    *chunks, done = events(streamed(FakeBackend(small_text="")).text)
    assert (len(chunks), done) == (2, "[DONE]")


def test_a_line_break_in_an_answer_breaks_no_event() -> None:
    text = "a\r\n\r\ndata: [DONE]\n\nb\u2028c"
    for model in ("pair", "pair:small"):
        answer = streamed(FakeBackend(small_text=text), model=model)
        blocks = answer.text.split("\n\n")
        chunks = [json.loads(block.removeprefix("data: ")) for block in blocks[:-2]]
        assert blocks[-2:] == ["data: [DONE]", ""]
        assert "".join(contents(chunks)).strip() == text


def test_nothing_is_sent_before_the_large_model_has_begun() -> None:
    """The small model speaks, the large one is slow: the client must have heard nothing."""

    async def run() -> list[str]:
        backend = FakeBackend(score=0.1, hold_small=asyncio.Event())
        sent: list[str] = []
        await _call(app_of(backend), sent, backend)
        return sent

    async def _call(app: Any, sent: list[str], backend: FakeBackend) -> None:
        messages = [{"type": "http.request", "body": json.dumps(STREAM).encode()}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(str(message.get("body", message["type"])))

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": CHAT,
            "raw_path": CHAT.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [],
        }
        call = asyncio.create_task(app(scope, receive, send))
        while not backend.guided:
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        assert sent == []
        assert backend.hold_small is not None
        backend.hold_small.set()
        await call

    sent = asyncio.run(run())
    assert sent[0] == "http.response.start"
    assert all("six" not in one for one in sent[:-1]), "a word of the small model's answer"
    assert "large" in "".join(sent)


@pytest.mark.parametrize(
    ("fault", "status", "kind", "code"),
    [
        (UnavailableError("dead"), 503, "server_error", "large_unavailable"),
        (OverloadedError("full", 1.0), 503, "overloaded_error", "large_overloaded"),
        (ExpiredError("late"), 504, "timeout_error", "deadline_exceeded"),
        (RuntimeError("secret"), 500, "server_error", "internal_error"),
    ],
)
@pytest.mark.parametrize("model", ["pair", "pair:large"])
def test_an_error_before_the_text_is_one_of_http_and_after_it_an_event(
    fault: Exception, status: int, kind: str, code: str, model: str
) -> None:
    before = streamed(FakeBackend(score=0.1, large=fault), model=model)
    assert (before.status_code, before.json()["error"]["code"]) == (status, code)
    after = streamed(FakeBackend(score=0.1, large_after_text=fault), model=model)
    assert after.status_code == 200
    assert "event: error\n" in after.text
    *chunks, last = events(after.text)
    assert (last["error"]["type"], last["error"]["code"]) == (kind, code)
    assert contents(chunks) == ["the "]
    assert "[DONE]" not in after.text
    assert "secret" not in after.text


def test_a_record_that_fails_does_so_before_the_stream() -> None:
    failure = Failure("chatcmpl-1", "large", "PromptTooLongError", "too long")
    answer = streamed(FakeBackend(score=0.1, large=failure))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "PromptTooLongError")


def test_pieces_arrive_while_the_model_still_speaks() -> None:
    async def run() -> None:
        backend = FakeBackend(score=0.1, hold_large=asyncio.Event())
        app = app_of(backend)
        queue: asyncio.Queue[Any] = asyncio.Queue()
        async with http(app) as client:
            request = client.build_request("POST", CHAT, json=STREAM)
            messages = [{"type": "http.request", "body": request.content}]

            async def receive() -> dict[str, Any]:
                return messages.pop() if messages else await asyncio.Future()

            path = {"path": CHAT, "raw_path": CHAT.encode(), "root_path": "", "query_string": b""}
            base = {"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http"}
            call = asyncio.create_task(app({**base, **path, "headers": []}, receive, queue.put))
            heard = b""
            while b"answer " not in heard:
                message = await asyncio.wait_for(queue.get(), 10)
                heard += message.get("body", b"")
            assert b'finish_reason":"stop' not in heard
            assert backend.hold_large is not None
            backend.hold_large.set()
            await call

    asyncio.run(run())
