"""Whole answers: the decision, what is said of it, and what the models are asked."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest

from actors.config import PruningConfig
from pipeline.handover import Rate
from serving.backend import Delta, Timed
from serving.config import Degrade
from serving.surroundings import Prices
from sgl.errors import OverloadedError, UnavailableError
from sgl.types import Failure
from tests.serving.endpoint import HELLO, app_of, ask
from tests.serving.fakes import LARGE_TEXT, PICTURE, SMALL_TEXT, FakeBackend


def said(backend: FakeBackend, settings: dict[str, Any] | None = None, **more: Any) -> Any:
    answer = ask(app_of(backend, **(settings or {})), {**HELLO, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def text_of(reply: Any) -> str:
    text: str = reply["choices"][0]["message"]["content"]
    return text


@pytest.mark.parametrize(("score", "route"), [(0.95, "small"), (0.9, "small"), (0.89, "large")])
def test_a_score_that_reaches_the_threshold_keeps_the_small_answer(
    score: float, route: str
) -> None:
    backend = FakeBackend(score=score)
    reply = said(backend)
    assert text_of(reply) == {"small": SMALL_TEXT, "large": LARGE_TEXT}[route]
    assert (reply["sgl"]["route"], reply["sgl"]["exit_score"]) == (route, score)
    assert len(backend.answered) == (route == "large")


def test_a_score_that_is_no_number_never_exits_and_is_told_as_null() -> None:
    app = app_of(FakeBackend(score=float("nan")))
    answer = ask(app, {**HELLO, "sgl": {"threshold": 0}})
    assert "x-sgl-exit-score" not in answer.headers
    reply = answer.json()
    assert reply["sgl"]["route"] == "large"
    assert reply["sgl"]["exit_score"] is reply["sgl"]["scores"]["confidence"] is None


def test_the_large_model_gets_the_guidance_and_its_own_pruning_unless_told_otherwise() -> None:
    backend = FakeBackend(score=0.1)
    said(backend)
    said(backend, sgl={"keep_ratio": 0.5})
    said(backend, sgl={"keep_ratio": 0.2, "prune_layer": 0.19})
    assert [one.pruning for one in backend.answered] == [None, PruningConfig(keep_ratio=0.5), None]
    assert all(one.guidance is not None for one in backend.answered)
    assert all(0 < later < 60 for later in backend.timeouts)


def test_each_part_can_be_asked_alone() -> None:
    backend = FakeBackend(score=0.1)
    small = said(backend, model="pair:small")
    assert (text_of(small), len(backend.answered)) == (SMALL_TEXT, 0)
    assert small["sgl"]["threshold"] is None
    assert small["sgl"]["reason"] == "the small model was asked for"
    large = said(backend, model="pair:large")
    assert (text_of(large), len(backend.guided)) == (LARGE_TEXT, 1)
    assert (backend.answered[0].guidance, backend.answered[0].pruning) == (None, None)
    assert large["sgl"]["scores"] is large["sgl"]["small_answer"] is large["sgl"]["pruning"] is None


def test_pictures_go_to_both_models_in_order() -> None:
    backend = FakeBackend(score=0.1)
    image = {"type": "image_url", "image_url": {"url": PICTURE}}
    said(backend, messages=[{"role": "user", "content": [image, image]}])
    for question in (backend.guided[0], backend.answered[0].record):
        assert [np.asarray(one).max() for one in question.images] == [0, 1]


def test_everything_is_told_of_an_escalation() -> None:
    prices = Prices(Rate(2.0, 18.0), Rate(4.0, 90.0))
    app = app_of(FakeBackend(score=0.4), {"prices": prices})
    answer = ask(app, {**HELLO, "sgl": {"explain": True}})
    reply = answer.json()
    told = reply["sgl"]
    timing = told.pop("timing_ms")
    assert timing.pop("total") > 0
    assert timing == {"small_queued": 1, "small": 2, "large_queued": 3, "large": 4}
    assert told.pop("cost") == {
        "small_device_s": 0.5,
        "large_device_s": 6.0,
        "usd": pytest.approx(0.1525),
        "currency": "USD",
        "flops": 2e6,
    }
    assert told == {
        "route": "large",
        "reason": "exit score 0.40 is below the threshold 0.90",
        "criterion": "mean",
        "exit_score": 0.4,
        "threshold": 0.9,
        "policy": None,
        "scores": {
            "confidence": 0.4,
            "consistency": 0.5,
            "entropy": 0.25,
            "margin": 0.125,
            "quantile": 0.0625,
        },
        "small_answer": SMALL_TEXT,
        "degraded": None,
        "pruning": {
            "pruner": "guided",
            "prune_layer": 0.19,
            "keep_ratio": 0.2,
            "average_retention": 0.352,
            "visual_tokens": 4,
            "kept_tokens": 2,
        },
        "accepted_draft_tokens": 1,
        "importance": {
            "grids": [
                {"image": 0, "rows": 2, "columns": 2, "box": [0, 0, 1, 1], "thumbnail": False}
            ],
            "values": [0.25, 1.0, 0.5, 0.0],
        },
    }
    assert {name: value for name, value in answer.headers.items() if name.startswith("x-sgl")} == {
        "x-sgl-route": "large",
        "x-sgl-exit-score": "0.4",
        "x-sgl-threshold": "0.9",
        "x-sgl-average-retention": "0.352",
        "x-sgl-cost-usd": "0.1525",
    }


def test_usage_is_of_the_model_that_answered_and_of_both() -> None:
    prices = Prices(Rate(devices=2.0), Rate(devices=4.0))
    app = app_of(FakeBackend(score=0.4), {"prices": prices})
    usage = ask(app, HELLO).json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (
        20,
        3,
        23,
    )
    assert usage["prompt_tokens_details"] == {"image_tokens": 4}
    assert usage["sgl"]["small"] == {
        "prompt_tokens": 20,
        "visual_tokens": 4,
        "kept_tokens": 4,
        "completion_tokens": 6,
        "device_s": 0.5,
    }
    assert usage["sgl"]["large"]["kept_tokens"] == 2
    assert usage["sgl"]["large"]["device_s"] == 6.0
    assert said(FakeBackend())["usage"]["sgl"]["large"] is None


def test_half_a_price_is_no_price() -> None:
    prices = Prices(small=Rate(1.0, 36.0))
    backend = FakeBackend()
    app = app_of(backend, {"prices": prices})
    assert ask(app, HELLO).json()["sgl"]["cost"]["usd"] == pytest.approx(0.0025)
    backend.score = 0.1
    answer = ask(app, HELLO)
    assert answer.json()["sgl"]["cost"]["usd"] is None
    assert "x-sgl-cost-usd" not in answer.headers


def test_importance_comes_only_where_it_is_asked_for() -> None:
    assert "importance" not in said(FakeBackend())["sgl"]
    assert "importance" not in said(FakeBackend(), model="pair:large", sgl={"explain": True})["sgl"]


def test_an_answer_that_met_its_limit_says_so() -> None:
    for model in ("pair", "pair:large"):
        cut = said(FakeBackend(ended=False), model=model)
        assert cut["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("score", "threshold", "reason"),
    [
        (0.5, 0.5, "exit score 0.50 reaches the threshold 0.50"),
        (0.49999, 0.5, "exit score 0.49999 is below the threshold 0.50000"),
        (0.5, 1e308, "exit score 0.50 is below the threshold 1e+308"),
    ],
)
def test_the_reason_never_says_that_a_number_is_below_itself(
    score: float, threshold: float, reason: str
) -> None:
    assert said(FakeBackend(score=score), sgl={"threshold": threshold})["sgl"]["reason"] == reason


FAULTS = {
    "large_overloaded": OverloadedError("full", 7.0),
    "large_unavailable": UnavailableError("dead"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("code", FAULTS)
def test_the_small_answer_stands_where_the_endpoint_may_degrade(code: str, stream: bool) -> None:
    backend = FakeBackend(score=0.1, large=FAULTS[code])
    answer = ask(app_of(backend, degrade=Degrade.SMALL), {**HELLO, "stream": stream})
    assert answer.status_code == 200
    assert answer.headers["x-sgl-route"] == "small"
    if not stream:
        told = answer.json()["sgl"]
        assert (told["route"], told["degraded"]) == ("small", code)
        assert told["reason"].startswith("exit score 0.10 is below the threshold 0.90, but")
        assert text_of(answer.json()) == SMALL_TEXT


def assert_refused(answer: httpx.Response, status: int, kind: str, code: str) -> None:
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (status, kind, code)
    assert answer.headers["x-request-id"]


KINDS = {"large_overloaded": "overloaded_error", "large_unavailable": "server_error"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("code", FAULTS)
@pytest.mark.parametrize("model", ["pair", "pair:large"])
def test_else_it_is_refused_and_the_large_model_alone_always_is(
    code: str, stream: bool, model: str
) -> None:
    backend = FakeBackend(score=0.1, large=FAULTS[code])
    degrade = Degrade.SMALL if model == "pair:large" else Degrade.ERROR
    answer = ask(app_of(backend, degrade=degrade), {**HELLO, "model": model, "stream": stream})
    assert_refused(answer, 503, KINDS[code], code)
    assert answer.headers["retry-after"] == {"large_overloaded": "7"}.get(code, "5")


@pytest.mark.parametrize("model", ["pair", "pair:small"])
def test_a_small_pool_that_is_down_is_never_made_up_for_by_the_large_one(model: str) -> None:
    backend = FakeBackend(small=UnavailableError("dead"))
    answer = ask(app_of(backend, degrade=Degrade.SMALL), {**HELLO, "model": model})
    assert_refused(answer, 503, "server_error", "small_unavailable")
    backend.small = OverloadedError("full", 3.0)
    answer = ask(app_of(backend, degrade=Degrade.SMALL), {**HELLO, "model": model})
    assert_refused(answer, 503, "overloaded_error", "small_overloaded")
    assert not backend.answered


@pytest.mark.parametrize("stage", ["small", "large"])
def test_a_record_that_fails_is_the_requests_fault(stage: str) -> None:
    failure = Failure("chatcmpl-1", stage, "PromptTooLongError", "prompt and answer are too long")
    backend = FakeBackend(score=0.1)
    setattr(backend, stage, failure)
    answer = ask(app_of(backend, degrade=Degrade.SMALL), HELLO)
    assert_refused(answer, 400, "invalid_request_error", "PromptTooLongError")
    assert answer.json()["error"]["message"] == failure.message


@pytest.mark.parametrize("kind", ["NumericalError", "OutOfMemoryError", "RuntimeError"])
def test_what_the_models_cannot_do_is_not(kind: str) -> None:
    backend = FakeBackend(small=Failure("chatcmpl-1", "small", kind, "cannot be done"))
    answer = ask(app_of(backend), HELLO)
    assert_refused(answer, 500, "server_error", kind)


def test_a_picture_that_cannot_be_had_is_too() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://a.org/missing.png"}}
    backend = FakeBackend()
    body = {**HELLO, "messages": [{"role": "user", "content": [image]}]}
    assert_refused(ask(app_of(backend), body), 400, "invalid_request_error", "ImageNotFoundError")
    assert not backend.guided


@pytest.mark.parametrize("stream", [False, True])
def test_what_fails_after_the_answer_takes_nothing_of_it_back(stream: bool) -> None:
    class Untidy(FakeBackend):
        async def guide(self, *args: Any, **settings: Any) -> AsyncIterator[Delta | Timed]:
            try:
                async for piece in super().guide(*args, **settings):
                    yield piece
            finally:
                raise RuntimeError("it cannot be closed")

    body = {**HELLO, "model": "pair:small", "stream": stream}
    answer = ask(app_of(Untidy()), body)
    assert answer.status_code == 200
    assert answer.text.endswith("data: [DONE]\n\n" if stream else "}")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["pair", "pair:small"])
def test_a_call_that_ends_without_a_result_is_a_fault_of_ours(model: str, stream: bool) -> None:
    class Mute(FakeBackend):
        async def guide(self, *args: Any, **settings: Any) -> AsyncIterator[Delta | Timed]:
            return
            yield

    answer = ask(app_of(Mute()), {**HELLO, "model": model, "stream": stream})
    assert_refused(answer, 500, "server_error", "internal_error")


def test_a_fault_of_ours_tells_the_request_and_nothing_else() -> None:
    app = app_of(FakeBackend(small=RuntimeError("secret /path")))
    answer = ask(app, HELLO, **{"x-request-id": "mine-1"})
    assert_refused(answer, 500, "server_error", "internal_error")
    assert "mine-1" in answer.text
    assert "secret" not in answer.text
    assert "Traceback" not in json.dumps(dict(answer.headers)) + answer.text
