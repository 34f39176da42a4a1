from typing import Any

import pytest

from jobs.explained import explained


def row(**more: Any) -> dict[str, Any]:
    own = {"route": "large", "exit_score": 0.7123, "threshold": 0.78, "criterion": "mean"}
    return own | more


@pytest.mark.parametrize("decision", ["escalated", None])
def test_a_score_below_the_threshold_goes_on(decision: str | None) -> None:
    told = explained(row(decision=decision), "cascade")
    assert told == (
        "exit score 0.7123 (criterion mean) is below the threshold 0.78, so it went to the large "
        "model"
    )


@pytest.mark.parametrize("score", [0.78, 0.9])
def test_a_score_that_reaches_it_stands(score: float) -> None:
    told = explained(row(route="small", exit_score=score), "cascade")
    assert "reaches the threshold 0.78, so the small model's answer stands" in told


def test_numbers_that_differ_never_look_equal() -> None:
    told = explained(row(exit_score=0.77999999), "cascade")
    assert "exit score 0.77999999 (criterion mean) is below the threshold 0.78," in told


def test_an_alarm_and_a_spent_budget_are_told() -> None:
    safe = explained(row(exit_score=0.9, decision="fail_safe"), "cascade")
    assert "reaches the threshold 0.78, and as the run's alarm had been raised" in safe
    spent = explained(row(route="small", decision="over_budget"), "cascade")
    assert "is below the threshold 0.78, but the budget for the large model was spent" in spent


def test_a_failure_is_told_where_it_was() -> None:
    failed = {"route": "failed", "error": {"stage": "fetch", "type": "E", "message": "m"}}
    assert "failed in the fetch stage" in explained(failed | {"threshold": 0.5}, "cascade")
    assert explained(row(route="failed"), "cascade").endswith("large model, and failed there")


def test_without_a_cascade_nothing_was_decided() -> None:
    told = explained({"route": "large", "exit_score": None}, "large")
    assert "every record gets the large model's answer" in told
