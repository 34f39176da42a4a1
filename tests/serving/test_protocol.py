"""What a request may say, and how it is told what it may not."""

import json
from typing import Any

import pytest

from serving.api_errors import ApiError
from serving.protocol import parsed
from tests.serving.endpoint import HELLO


def body(**more: Any) -> bytes:
    return json.dumps({**HELLO, **more}).encode()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("best_of", 3),
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "f"}}),
        ("functions", [{"name": "f"}]),
        ("function_call", {"name": "f"}),
        ("logprobs", True),
        ("top_logprobs", 5),
        ("logit_bias", {"50256": -100}),
        ("frequency_penalty", 0.5),
        ("presence_penalty", -1),
        ("response_format", {"type": "json_object"}),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "a"}}),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("web_search_options", {}),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_name(field: str, value: Any) -> None:
    with pytest.raises(ApiError, match=f"^{field}: is not supported") as refused:
        parsed(body(**{field: value}))
    error = refused.value
    assert (error.status, error.kind) == (400, "invalid_request_error")
    assert (error.code, error.param) == ("unsupported_parameter", field)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 1),
        ("tools", []),
        ("tool_choice", "auto"),
        ("logprobs", False),
        ("top_logprobs", 0),
        ("logit_bias", {}),
        ("frequency_penalty", 0),
        ("presence_penalty", 0.0),
        ("response_format", {"type": "text"}),
        ("modalities", ["text"]),
        ("prediction", {"type": "content", "content": "x"}),
        ("user", "ada"),
        ("metadata", {"a": "b"}),
        ("store", True),
        ("a_field_of_tomorrow", {"x": [1]}),
    ],
)
def test_what_asks_for_nothing_is_taken_and_so_is_what_is_unknown(field: str, value: Any) -> None:
    for given in (value, None):
        assert parsed(body(**{field: given})).model == "pair"


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("model", 5, "model"),
        ("model", None, "model"),
        ("max_tokens", 0, "max_tokens"),
        ("max_tokens", "5", "max_tokens"),
        ("max_completion_tokens", 1.5, "max_completion_tokens"),
        ("temperature", 2.1, "temperature"),
        ("temperature", "0", "temperature"),
        ("top_p", 1.01, "top_p"),
        ("seed", 2**63, "seed"),
        ("stop", ["a", "b", "c", "d", "e"], "stop"),
        ("stop", "", "stop"),
        ("stop", ["a", ""], "stop.1"),
        ("stop", ["a", "b" * 1001], "stop.1"),
        ("stop", "b" * 1001, "stop"),
        ("stop", 5, "stop"),
        ("stream", "yes", "stream"),
        ("stream_options", {"include_usage": 1}, "stream_options.include_usage"),
        ("sgl", {"treshold": 0.5}, "sgl.treshold"),
        ("sgl", {"threshold": -0.1}, "sgl.threshold"),
        ("sgl", {"keep_ratio": 0}, "sgl.keep_ratio"),
        ("sgl", {"prune_layer": 1}, "sgl.prune_layer"),
        ("sgl", {"timeout_s": 0}, "sgl.timeout_s"),
        ("sgl", [], "sgl"),
    ],
)
def test_what_is_malformed_is_told_with_its_place(field: str, value: Any, param: str) -> None:
    with pytest.raises(ApiError) as refused:
        parsed(body(**{field: value}))
    assert (refused.value.status, refused.value.param) == (400, param)
    assert str(refused.value).startswith(f"{param}: ")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"model": "pair", "messages": "\\ud800"}',
        b'{"model": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_what_is_no_json_is_told_without_an_echo(data: bytes) -> None:
    with pytest.raises(ApiError, match=r"^the body is no valid JSON$") as refused:
        parsed(data)
    assert refused.value.code == "invalid_json"


@pytest.mark.parametrize("data", [b"[]", b'"pair"', b"null", b"5"])
def test_a_body_is_an_object(data: bytes) -> None:
    with pytest.raises(ApiError, match="should be an object"):
        parsed(data)


def test_numbers_that_are_none_are_refused() -> None:
    data = body(sgl={"threshold": 0.123}).replace(b"0.123", b"NaN")
    with pytest.raises(ApiError, match=r"sgl\.threshold"):
        parsed(data)
