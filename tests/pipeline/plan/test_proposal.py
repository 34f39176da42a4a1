"""A proposal: costs that agree with its time, doubt around it, refusals that say what to do."""

from dataclasses import replace

import pytest

from pipeline.plan.costs import pool_cost
from pipeline.plan.proposal import SPLIT_EFFICIENCY, Request, propose, spread
from pipeline.plan.uncertainty import Sampled
from sgl.errors import ConfigurationError
from tests.pipeline.plan.jobs import sample

REQUEST = Request(records=100_000, devices=32, usd_per_hour=3.6)


def test_dollars_are_devices_times_hours_times_price() -> None:
    plan = propose(REQUEST, [sample()])
    for one in (plan.proposed, *plan.alternatives):
        assert one.usd == pytest.approx(one.devices * one.seconds * 3.6 / 3600)


def test_no_alternative_with_as_many_devices_is_faster() -> None:
    plan = propose(REQUEST, [sample()])
    within = [one for one in plan.alternatives if one.devices <= REQUEST.devices]
    assert within
    assert min(one.seconds for one in within) >= plan.proposed.seconds


def test_the_interval_holds_the_plan_and_narrows_with_the_sample() -> None:
    def width(records: int) -> float:
        sampled = Sampled(records * 3 // 10, records)
        found = propose(replace(REQUEST, sampled=sampled), [sample()]).doubt
        assert found.seconds.low <= found.seconds.value <= found.seconds.high
        assert found.escalation.low < 0.3 < found.escalation.high
        return found.escalation.high - found.escalation.low

    assert width(10_000) < width(100) / 5


def test_a_policys_rate_is_planned_for() -> None:
    none = propose(replace(REQUEST, sampled=Sampled(0, 500)), [sample()])
    assert none.proposed.split.large == 0
    assert none.proposed.seconds < propose(REQUEST, [sample()]).proposed.seconds


def test_the_fastest_way_that_was_measured_is_proposed() -> None:
    large = sample().large
    assert large is not None
    slow = large.model_copy(update={"seconds": tuple(3 * s for s in large.seconds)})
    ways = [sample(source="slow", large=slow), sample()]
    plan = propose(REQUEST, ways)
    assert plan.source == "made"
    assert "as measured in slow" in [one.name for one in plan.alternatives]


def test_twice_the_devices_lose_what_is_assumed() -> None:
    cost = pool_cost(sample().small)
    wide = spread(cost, 2 * cost.devices)
    assert wide.seconds(64) == pytest.approx(cost.seconds(64) / (2 * SPLIT_EFFICIENCY))
    assert spread(cost, cost.devices) == cost


def test_a_large_model_that_was_not_measured_is_not_guessed() -> None:
    with pytest.raises(ConfigurationError, match="nothing escalated there"):
        propose(replace(REQUEST, sampled=Sampled(10, 100)), [sample(large=None, escalated=0)])


def test_ways_to_run_are_compared_at_one_escalation_rate() -> None:
    """Else the sample from which less escalated would win, whatever its speed."""
    fast, slow = sample(source="fast"), sample(source="slow", escalated=6)
    large = fast.large
    assert large is not None
    dear = large.model_copy(update={"seconds": tuple(2 * s for s in large.seconds)})
    plan = propose(REQUEST, [fast, slow.model_copy(update={"large": dear})])
    assert plan.source == "fast"
    assert plan.sampled == Sampled(186, 1200)


def test_a_way_that_does_not_fit_is_left_out_and_told() -> None:
    large = sample().large
    assert large is not None
    wide = sample(source="wide", large=large.model_copy(update={"devices": 64.0}))
    plan = propose(REQUEST, [wide, sample()])
    assert plan.source == "made"
    assert "takes 65 devices" in plan.left_out[0]
    with pytest.raises(ConfigurationError, match="takes 65 devices"):
        propose(REQUEST, [wide])
