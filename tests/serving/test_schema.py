"""The endpoint's description of itself, held against what it answers."""

import json
import subprocess
import sys
from typing import Any

import jsonschema
import pytest

from pipeline.handover import Rate
from serving.surroundings import Prices
from sgl.types import Role, Turn
from tests.serving.endpoint import CHAT, HELLO, app_of, ask, events, get
from tests.serving.fakes import PICTURE, FakeBackend

TEXT = {"type": "text", "text": "what?"}


def description() -> Any:
    return get(app_of(FakeBackend()), "/openapi.json").json()


def check(data: Any, name: str, document: Any) -> None:
    """Against the schema of a component."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(data)


@pytest.mark.parametrize("model", ["pair", "pair:small", "pair:large"])
@pytest.mark.parametrize("score", [0.1, 0.95])
def test_answers_are_as_described(model: str, score: float) -> None:
    app = app_of(FakeBackend(score=score), {"prices": Prices(Rate(1.0, 3600.0), Rate(1.0, 3600.0))})
    for more in ({}, {"sgl": {"explain": True}}):
        check(ask(app, {**HELLO, "model": model, **more}).json(), "Completion", description())
    check(get(app, "/v1/models").json(), "ModelList", description())
    check(get(app, "/ready").json(), "Ready", description())


def test_errors_are_as_described_wherever_they_come_from() -> None:
    app = app_of(FakeBackend(pools={}))
    for answer in (
        ask(app, b"{"),
        ask(app, {}),
        ask(app, {**HELLO, "model": "x"}),
        get(app, "/nothing"),
        get(app, CHAT),
        get(app, "/ready"),
        get(app, "/v1/models/x"),
    ):
        check(answer.json(), "ErrorReply", description())


@pytest.mark.parametrize(
    "part",
    [
        TEXT,
        {"type": "image_url", "image_url": {"url": PICTURE, "detail": "high"}},
        {"type": "image_url", "image_url": PICTURE},
        {"type": "image", "base64": "AAAA", "mime_type": "image/png"},
        {"type": "image", "source_type": "url", "url": "https://a.org/b.png"},
    ],
)
def test_what_is_described_as_a_request_is_answered(part: dict[str, Any]) -> None:
    body = {**HELLO, "messages": [{"role": "user", "content": [part]}]}
    check(body, "ChatRequest", description())
    assert ask(app_of(FakeBackend()), body).status_code == 200


@pytest.mark.parametrize("answer", [{"content": ""}, {"content": []}, {"content": None}, {}])
def test_an_answer_that_is_empty_is_described_and_comes_back(answer: dict[str, Any]) -> None:
    (asked,) = HELLO["messages"]
    body = {**HELLO, "messages": [asked, {"role": "assistant", **answer}, asked]}
    check(body, "ChatRequest", description())
    backend = FakeBackend()
    assert ask(app_of(backend), body).status_code == 200
    assert backend.guided[0].turns[1] == Turn(Role.ASSISTANT, ("",))


@pytest.mark.parametrize(
    "more",
    [
        {"messages": []},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        {"n": 2},
        {"logprobs": True},
        {"temperature": 3},
        {"response_format": {"type": "json_object"}},
        {"sgl": {"treshold": 1}},
        {"stop": ["a"] * 5},
        {"stop": "a" * 1001},
    ],
)
def test_what_is_not_is_refused(more: dict[str, Any]) -> None:
    body = {**HELLO, **more}
    with pytest.raises(jsonschema.ValidationError):
        check(body, "ChatRequest", description())
    assert ask(app_of(FakeBackend()), body).status_code == 400


def test_the_unused_refusals_of_the_framework_are_not_described() -> None:
    text = json.dumps(description())
    assert "HTTPValidationError" not in text
    assert '"422"' not in text


def test_chunks_are_as_described() -> None:
    body = {**HELLO, "stream": True, "stream_options": {"include_usage": True}}
    *chunks, _ = events(ask(app_of(FakeBackend()), body).text)
    for chunk in chunks:
        check(chunk, "Chunk", description())


def test_the_application_needs_neither_ray_nor_torch() -> None:
    code = "import sys, serving.http_app; print({'ray', 'torch'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
