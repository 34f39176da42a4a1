"""Settings of a request: what is taken and what is refused, of files and of live requests alike."""

import json
from typing import Any

import pytest

from pipeline.chat import ChatError
from pipeline.chat_settings import settings_of
from serving.api_errors import ApiError
from serving.protocol import parsed

BOTH = {"model": "pair", "messages": [{"role": "user", "content": "q"}]}


def live(settings: dict[str, Any]) -> str | None:
    """What the endpoint says against settings."""
    try:
        parsed(json.dumps({**BOTH, **settings}).encode())
    except ApiError as error:
        return str(error)
    return None


def filed(settings: dict[str, Any]) -> str | None:
    """What a batch says against them."""
    try:
        settings_of(json.loads(json.dumps({**BOTH, **settings})))
    except ChatError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("n", 2, "is not supported"),
        ("n", True, "is not supported"),
        ("best_of", 3, "is not supported"),
        ("tools", [{"type": "function"}], "is not supported"),
        ("tool_choice", "required", "is not supported"),
        ("function_call", {"name": "f"}, "is not supported"),
        ("logprobs", 0, "is not supported"),
        ("top_logprobs", 5, "is not supported"),
        ("logit_bias", {"5": 1}, "is not supported"),
        ("presence_penalty", 0.5, "is not supported"),
        ("modalities", ["audio"], "is not supported"),
        ("audio", {}, "is not supported"),
        ("web_search_options", {}, "is not supported"),
        ("response_format", {"type": "json_object"}, "is not supported"),
        ("max_tokens", "12", "input should be a valid integer"),
        ("max_completion_tokens", 0, "input should be greater than or equal to 1"),
        ("temperature", 2.5, "input should be less than or equal to 2"),
        ("temperature", True, "input should be a valid number"),
        ("top_p", -1, "input should be greater than or equal to 0"),
        ("seed", 0.5, "input should be a valid integer"),
        ("seed", True, "input should be a valid integer"),
        ("seed", 2**70, "input should be less than 9223372036854775808"),
        ("stop", "", "string should have at least 1 character"),
        ("stop", "a" * 1001, "string should have at most 1000 characters"),
        ("stop", 5, "input is neither a text nor a list of texts"),
        ("stop", list("abcde"), "list should have at most 4 items after validation, not 5"),
    ],
)
def test_a_batch_refuses_what_a_live_request_does(field: str, value: Any, says: str) -> None:
    assert filed({field: value}) == live({field: value}) == f"{field}: {says}"


@pytest.mark.parametrize("value", [["a", ""], ["a", "b" * 1001], ["a", 5]])
def test_the_text_that_is_none_to_stop_at_is_named(value: list[Any]) -> None:
    found = filed({"stop": value})
    assert found == live({"stop": value})
    assert found is not None
    assert found.startswith("stop.1: ")


@pytest.mark.parametrize(
    "settings",
    [
        {"n": 1, "tools": [], "tool_choice": "auto", "logprobs": False, "top_logprobs": 0},
        {"prediction": {"type": "content", "content": "x"}, "user": "ada"},
        {"temperature": 2, "top_p": 1, "seed": -(2**63), "stop": list("abcd"), "max_tokens": 1},
        dict.fromkeys(("n", "stop", "seed", "temperature", "audio", "response_format")),
    ],
)
def test_a_batch_takes_what_a_live_request_may_say(settings: dict[str, Any]) -> None:
    assert filed(settings) is live(settings) is None


def test_a_long_number_is_not_echoed() -> None:
    assert len(filed({"seed": 10**4000}) or "") < 100
