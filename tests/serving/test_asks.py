"""From a body to a question for the models."""

import json
import time
from typing import Any

import pytest

from serving.api_errors import ApiError
from serving.asks import Ask, ask_of
from serving.config import LimitsConfig
from serving.models import Catalogue
from sgl.types import Role, Sampling, Turn
from tests.serving.endpoint import HELLO
from tests.serving.fakes import PICTURE, config_of


def asked(request_id: str = "req-1", limits: LimitsConfig | None = None, **more: Any) -> Ask:
    return ask_of(
        json.dumps({**HELLO, **more}).encode(),
        catalogue=Catalogue(config_of(), {}),
        limits=limits or LimitsConfig(),
        record_id="chatcmpl-1",
        request_id=request_id,
    )


IMAGE = {"type": "image_url", "image_url": PICTURE}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def test_a_question_is_its_conversation() -> None:
    ask = asked(
        messages=[
            {"role": "developer", "content": "be short"},
            user({"type": "text", "text": "this?"}, {"type": "image_url", "image_url": PICTURE}),
        ]
    )
    assert ask.question.turns == (
        Turn(Role.SYSTEM, ("be short",)),
        Turn(Role.USER, (None, "this?")),
    )
    assert list(ask.references) == [PICTURE]
    assert ask.question.id == "chatcmpl-1"
    assert ask.question.max_new_tokens is ask.question.sampling is None
    assert ask.question.stop == ()


def test_messages_that_cannot_be_answered_are_told_with_their_place() -> None:
    with pytest.raises(ApiError) as refused:
        asked(messages=[{"role": "tool", "content": "x"}])
    assert (refused.value.status, refused.value.param) == (400, "messages.0.role")


@pytest.mark.parametrize("file", ["file:///etc/passwd", "/etc/passwd", "s3://bucket/a.png"])
def test_a_client_never_names_a_file(file: str) -> None:
    with pytest.raises(ApiError, match="no address that begins with data:") as refused:
        asked(messages=[user({"type": "image_url", "image_url": {"url": file}})])
    assert file not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_tokens": None}, None),
    ],
)
def test_the_newer_name_of_the_limit_counts(settings: Any, expected: int | None) -> None:
    assert asked(**settings).question.max_new_tokens == expected


def test_stop_is_one_text_or_several() -> None:
    assert asked(stop="\n").question.stop == ("\n",)
    assert asked(stop=["a", "b"]).question.stop == ("a", "b")
    assert asked(stop=[]).question.stop == ()


@pytest.mark.parametrize("settings", [{}, {"temperature": 0, "seed": 3}, {"temperature": 1e-9}])
def test_answers_are_greedy_unless_a_temperature_is_asked_for(settings: Any) -> None:
    assert asked(**settings).question.sampling is None
    assert asked(temperature=1, top_p=0).question.sampling is None


def test_what_is_drawn_goes_by_the_seed_and_else_by_the_request() -> None:
    assert asked(temperature=0.7, top_p=0.9, seed=5).question.sampling == Sampling(0.7, 0.9, 5)
    assert asked(temperature=0.7, seed=-1).question.sampling == Sampling(0.7, 1.0, 2**63 - 1)
    first, again, other = (
        asked(request_id=name, temperature=1).question.sampling for name in ("a", "a", "b")
    )
    assert first == again
    assert first is not None
    assert other is not None
    assert first.seed != other.seed
    assert 0 <= first.seed < 2**63


@pytest.mark.parametrize(
    ("limits", "settings", "param"),
    [
        ({"max_turns": 2}, {"messages": [HELLO["messages"][0]] * 3}, "messages"),
        ({"max_text_chars": 12}, {}, "messages"),
        ({"max_text_chars": 14}, {"stop": "ab"}, "stop"),
        ({"max_images": 1}, {"messages": [user(*[IMAGE] * 2)]}, "messages"),
        ({"max_new_tokens": 9}, {"max_tokens": 10**4000}, "max_tokens"),
        ({}, {"sgl": {"timeout_s": 60.1}}, "sgl.timeout_s"),
        ({}, {"user": [[]] * 200_001}, "messages"),
        ({"max_new_tokens": 9}, {"max_tokens": 10}, "max_tokens"),
        ({"max_new_tokens": 9}, {"max_completion_tokens": 10}, "max_completion_tokens"),
    ],
)
def test_the_limits_hold_and_are_told(limits: Any, settings: Any, param: str) -> None:
    with pytest.raises(ApiError, match="are the most") as refused:
        asked(limits=LimitsConfig(**limits), **settings)
    assert (refused.value.code, refused.value.param) == ("limit_exceeded", param)
    assert len(str(refused.value)) < 100


def test_what_is_far_too_much_is_not_even_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten million objects would take half a gigabyte, and the event loop all the while."""

    def never(_: bytes) -> Any:
        raise AssertionError("parsed")

    monkeypatch.setattr("serving.asks.parsed", never)
    with pytest.raises(ApiError, match="more than 200000 values"):
        asked(messages=[{}] * 200_001)


def test_a_request_has_its_own_time_within_that_of_the_endpoint() -> None:
    for wished, expected in ((None, 60.0), (5.0, 5.0), (60.0, 60.0)):
        ask = asked(sgl={"timeout_s": wished})
        assert ask.deadline - ask.begun == pytest.approx(expected)
        assert 0 < ask.remaining_s() <= expected
    late = asked(sgl={"timeout_s": 1e-6})
    assert late.deadline < time.monotonic() + 1
    assert late.remaining_s() >= 0
