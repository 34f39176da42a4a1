"""Why a row took its route, in words."""

from collections.abc import Mapping
from typing import Any

from pipeline.config import Mode
from pipeline.fail_safe import Decision
from sgl.early_exit import exits
from sgl.types import Route

_DIGITS = 4
_STANDS = "so the small model's answer stands"
_WENT_ON = "so it went to the large model"
_OUTCOMES = {
    Decision.EXITED: _STANDS,
    Decision.ESCALATED: _WENT_ON,
    Decision.FAIL_SAFE: "and as the run's alarm had been raised, it went to the large model, "
    "unpruned, whatever its score",
    Decision.OVER_BUDGET: "but the budget for the large model was spent, " + _STANDS,
}


def explained(row: Mapping[str, Any], mode: str) -> str:
    """Why a row has the answer of this model, or none.

    Args:
        row: of an output.
        mode: of its job.
    """
    failed = row["route"] == Route.FAILED.value
    if row.get("exit_score") is None or row.get("threshold") is None:
        return _without_score(row, mode)
    told = f"{_against(row)}, {_OUTCOMES[_decision(row)]}"
    return f"{told}, and failed there" if failed else told


def _without_score(row: Mapping[str, Any], mode: str) -> str:
    if row["route"] == Route.FAILED.value:
        error = row.get("error") or {}
        return f"it failed in the {error.get('stage', 'unknown')} stage, before any decision"
    if mode == Mode.CASCADE:
        return "the row has no exit score, so nothing is known of the decision"
    return f"mode {mode}: no decision, every record gets the {mode} model's answer"


def _decision(row: Mapping[str, Any]) -> Decision:
    """Rows from before it was written have it in their score."""
    if told := row.get("decision"):
        return Decision(told)
    return Decision.EXITED if exits(row["exit_score"], row["threshold"]) else Decision.ESCALATED


def _against(row: Mapping[str, Any]) -> str:
    score, threshold = row["exit_score"], row["threshold"]
    criterion = f" (criterion {row['criterion']})" if row.get("criterion") else ""
    side = "reaches" if exits(score, threshold) else "is below"
    one, other = told_apart(score, threshold)
    return f"exit score {one}{criterion} {side} the threshold {other}"


def told_apart(one: float, other: float) -> tuple[str, str]:
    """Two numbers, rounded unless they would then look equal."""
    texts = f"{one:.{_DIGITS}g}", f"{other:.{_DIGITS}g}"
    return texts if one == other or texts[0] != texts[1] else (repr(one), repr(other))
