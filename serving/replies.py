"""An outcome -> what the client is told: OpenAI's usage, our report, our headers."""

import math
import time
from collections.abc import Mapping
from typing import cast

import numpy as np

from pipeline.handover import Rate
from serving.asks import Ask
from serving.completions import (
    CompletionDetails,
    CompletionUsage,
    CostReport,
    GridReport,
    ImportanceReport,
    PairUsage,
    PruningReport,
    Scores,
    SglReport,
    Spent,
    Timing,
    TokenDetails,
)
from serving.models import Part
from serving.pieces import Outcome
from serving.surroundings import Prices
from sgl.types import Certainty, Criterion, Guidance, Route, Usage

_DIGITS = 9
"""So many tell two float32 numbers apart: a client finds the same order as we."""


def report_of(outcome: Outcome, ask: Ask, criterion: Criterion, prices: Prices) -> SglReport:
    """How an answer came about.

    Args:
        outcome: of the request.
        ask: what it asked for.
        criterion: of the small model.
        prices: of device time.
    """
    guidance, decision = outcome.guidance, outcome.decision
    return SglReport(
        route="small" if decision.route is Route.SMALL else "large",
        reason=decision.reason,
        criterion=criterion.value,
        exit_score=guidance.exit_score if guidance else None,
        threshold=_threshold(ask),
        policy=ask.choice.policy if ask.choice.part is Part.PAIR else None,
        scores=_scores(guidance.certainty) if guidance else None,
        small_answer=guidance.answer if guidance else None,
        degraded=decision.degraded,
        pruning=_pruning(outcome),
        cost=cost_of(outcome, prices),
        timing_ms=_timing(outcome, ask),
        accepted_draft_tokens=_accepted(outcome),
        importance=_importance(guidance) if guidance and ask.explain else None,
    )


def usage_of(outcome: Outcome, prices: Prices) -> CompletionUsage:
    """What the model that answered has read and written, and both of them.

    Args:
        outcome: of the request.
        prices: of device time.
    """
    small, large = _usages(outcome)
    answered = cast("Usage", large or small)
    return CompletionUsage(
        prompt_tokens=answered.prompt_tokens,
        completion_tokens=answered.completion_tokens,
        total_tokens=answered.prompt_tokens + answered.completion_tokens,
        prompt_tokens_details=TokenDetails(image_tokens=answered.visual_tokens),
        completion_tokens_details=CompletionDetails(accepted_prediction_tokens=_accepted(outcome)),
        sgl=PairUsage(small=_spent(small, prices.small), large=_spent(large, prices.large)),
    )


def tokens_of(outcome: Outcome) -> int:
    """Of prompts and answers, of both models."""
    return sum(one.prompt_tokens + one.completion_tokens for one in _usages(outcome) if one)


def cost_of(outcome: Outcome, prices: Prices) -> CostReport:
    """Device-seconds of both models, at these prices."""
    small, large = _usages(outcome)
    spent = [(u, rate) for u, rate in ((small, prices.small), (large, prices.large)) if u]
    parts = [rate.usd(usage) for usage, rate in spent]
    known = [part for part in parts if part is not None]
    return CostReport(
        small_device_s=prices.small.device_seconds(small) if small else 0.0,
        large_device_s=prices.large.device_seconds(large) if large else 0.0,
        usd=sum(known) if known and len(known) == len(parts) else None,
        flops=sum(one.flops for one in _usages(outcome) if one),
    )


def headers_of(outcome: Outcome, ask: Ask, prices: Prices, *, whole: bool) -> Mapping[str, str]:
    """The same, as far as it is known when an answer begins.

    Args:
        outcome: of the request; without the large model's part where that is still to come.
        ask: what it asked for.
        prices: of device time.
        whole: whether nothing is still to come.
    """
    guidance, answer = outcome.guidance, outcome.answer
    pruning = answer.pruning if answer else None
    found = {
        "x-sgl-exit-score": guidance.exit_score if guidance else None,
        "x-sgl-threshold": _threshold(ask),
        "x-sgl-average-retention": pruning.average_retention if pruning else None,
        "x-sgl-cost-usd": cost_of(outcome, prices).usd if whole else None,
    }
    told = {
        name: f"{value:.6g}"
        for name, value in found.items()
        if value is not None and math.isfinite(value)
    }
    return {"x-sgl-route": outcome.decision.route.value, **told}


def _threshold(ask: Ask) -> float | None:
    return ask.choice.threshold if ask.choice.part is Part.PAIR else None


def _usages(outcome: Outcome) -> tuple[Usage | None, Usage | None]:
    guidance, answer = outcome.guidance, outcome.answer
    return guidance.usage if guidance else None, answer.usage if answer else None


def _spent(usage: Usage | None, rate: Rate) -> Spent | None:
    if usage is None:
        return None
    return Spent(
        prompt_tokens=usage.prompt_tokens,
        visual_tokens=usage.visual_tokens,
        kept_tokens=usage.kept_tokens,
        completion_tokens=usage.completion_tokens,
        device_s=rate.device_seconds(usage),
    )


def _accepted(outcome: Outcome) -> int:
    return outcome.answer.accepted_draft_tokens if outcome.answer else 0


def _scores(certainty: Certainty) -> Scores:
    return Scores(
        confidence=certainty.confidence,
        consistency=certainty.consistency,
        entropy=certainty.entropy,
        margin=certainty.margin,
        quantile=certainty.quantile,
    )


def _pruning(outcome: Outcome) -> PruningReport | None:
    answer = outcome.answer
    if answer is None or answer.pruning is None:
        return None
    return PruningReport(
        pruner=answer.pruning.pruner,
        prune_layer=answer.pruning.prune_layer,
        keep_ratio=answer.pruning.keep_ratio,
        average_retention=answer.pruning.average_retention,
        visual_tokens=answer.usage.visual_tokens,
        kept_tokens=answer.usage.kept_tokens,
    )


def _timing(outcome: Outcome, ask: Ask) -> Timing:
    small, large = outcome.decision.small, outcome.large
    return Timing(
        small_queued=small.queued_s * 1e3 if small else None,
        small=small.served_s * 1e3 if small else None,
        large_queued=large.queued_s * 1e3 if large else None,
        large=large.served_s * 1e3 if large else None,
        total=(time.monotonic() - ask.begun) * 1e3,
    )


def _importance(guidance: Guidance) -> ImportanceReport:
    values = np.asarray(guidance.importance, dtype=np.float64)
    largest = float(values.max(initial=0.0)) or 1.0
    return ImportanceReport(
        grids=[
            GridReport(
                image=grid.image,
                rows=grid.rows,
                columns=grid.columns,
                box=grid.box,
                thumbnail=grid.thumbnail,
            )
            for grid in guidance.grids
        ],
        values=[float(f"{value / largest:.{_DIGITS}g}") for value in values],
    )
