"""Curves held against cascades that are decided again, row by row."""

from typing import Any

import numpy as np
import pytest

from pipeline.report.bins import Bins, Prices
from pipeline.report.quality import Yardstick, judge
from pipeline.report.thresholds import ABOVE_ALL, Basis, Point, curve, histogram
from sgl.metrics import metric_named
from tests.pipeline.report.made import PRICE, THRESHOLD, chunk, failed, probe, rows

EXACT = metric_named("exact_match")


def bins_of(some: list[dict[str, Any]], yardstick: Yardstick = Yardstick.ACCURACY) -> Bins:
    bins = Bins([THRESHOLD], Prices(PRICE, PRICE))
    for start in range(0, len(some), 150):
        part = chunk(some[start : start + 150])
        bins.add(part, judge(part, yardstick, EXACT))
    return bins


def decided_again(some: list[dict[str, Any]], threshold: float) -> tuple[float, float, float]:
    """Escalated, right and dollars per record with a threshold below the run's."""
    escalated = right = usd = 0.0
    for row in some:
        score = row.get("exit_score")
        exits = score is not None and score >= threshold
        escalated += score is not None and not exits
        right += (row.get("small_answer") if exits else row.get("answer")) == "right"
        large_s = 0.0 if exits else row.get("large_gpu_s", 0.0)
        usd += (row.get("small_gpu_s", 0.0) + large_s) * PRICE / 3600
    return escalated / len(some), right / len(some), usd / len(some)


def test_below_its_own_threshold_a_run_is_decided_again() -> None:
    some = [*rows(400), *(failed(n) for n in range(7))]
    below = [one for one in curve(bins_of(some)) if one.threshold <= THRESHOLD]
    assert THRESHOLD in [one.threshold for one in below]
    for point in below:
        escalated, right, usd = decided_again(some, point.threshold)
        assert point.basis is Basis.MEASURED
        assert point.quality is not None
        assert point.quality.value == pytest.approx(right)
        assert point.quality.low < right < point.quality.high
        assert point.escalated == pytest.approx(escalated)
        assert point.costs["small_usd"] + point.costs["large_usd"] == pytest.approx(usd)
        assert point.modelled == 0


def at(points: list[Point], threshold: float) -> Point:
    return min(points, key=lambda one: abs(one.threshold - threshold))


def test_above_it_nothing_is_made_up() -> None:
    some = rows(400)
    points = curve(bins_of(some))
    above = [one for one in points if one.threshold > 0.65]
    assert above
    assert all(one.quality is None and one.basis is Basis.UNKNOWN for one in above)
    large = [one["large_gpu_s"] for one in some if "large_gpu_s" in one]
    every = at(points, ABOVE_ALL)
    assert every.escalated == 1
    assert every.modelled == pytest.approx(1 - len(large) / len(some))
    assert every.costs["large_s"] == pytest.approx(np.mean(large))


def probed_rows(every: int) -> list[dict[str, Any]]:
    """Every such row probed, and the unpruned large model right in all of them."""
    return [
        one | {"probe": None if number % every else probe("right")}
        for number, one in enumerate(rows(600))
    ]


def test_above_it_the_probe_tells_with_its_own_width() -> None:
    some = probed_rows(3)
    exited = [one for one in some if one["route"] == "small"]
    both = [one for one in some if one["route"] == "large" and one["probe"]]
    # The unpruned model is always right there, and the pruned one is not.
    loss = sum(one["answer"] == "wrong" for one in both) / len(both)
    assert loss > 0.1
    points = curve(bins_of(some))
    every = at(points, ABOVE_ALL)
    known = sum(one["answer"] == "right" for one in some if one["route"] == "large")
    assert every.basis is Basis.PROBED
    assert every.quality is not None
    assert every.quality.value == pytest.approx((known + (1 - loss) * len(exited)) / len(some))
    own = at(points, THRESHOLD)
    assert own.quality is not None
    assert own.basis is Basis.MEASURED
    wide = at(curve(bins_of(probed_rows(20))), ABOVE_ALL)
    assert wide.quality is not None
    assert wide.quality.value - wide.quality.low > every.quality.value - every.quality.low


def test_without_accepted_answers_a_run_is_held_against_itself() -> None:
    some = [one | {"answers": None} for one in rows(200)]
    points = curve(bins_of(some, Yardstick.SAME))
    own, none = at(points, THRESHOLD), at(points, 0.0)
    changed = sum(one["answer"] != one["small_answer"] for one in some)
    assert own.quality is not None
    assert own.quality.value == 1
    assert none.quality is not None
    assert none.quality.value == pytest.approx(1 - changed / 200)


def test_the_histogram_holds_every_record_once() -> None:
    some = [*rows(300), failed(1), failed(2)]
    found = histogram(bins_of(some))
    assert sum(found.rows) == 300
    assert found.without == 2
    assert sum(found.right) == sum(one["small_answer"] == "right" for one in some[:300])
    assert sum(found.right) + sum(found.wrong) == pytest.approx(300)


def test_scores_at_the_edges_count() -> None:
    some = rows(3)
    for one, score in zip(some, (0.0, THRESHOLD, 1.0), strict=True):
        one["exit_score"] = score
    found = bins_of(some)
    assert at(curve(found), THRESHOLD).exits == pytest.approx(2 / 3)
    assert at(curve(found), 1.0).exits == pytest.approx(1 / 3)
    assert at(curve(found), ABOVE_ALL).exits == 0
