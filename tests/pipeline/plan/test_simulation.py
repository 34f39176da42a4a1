"""Laws of the simulation: arithmetic where there is no chance, and nothing is lost."""

from dataclasses import asdict, replace
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.plan.costs import Overheads, PoolCost, pool_cost
from pipeline.plan.measured import MeasuredPool
from pipeline.plan.model import Split, seconds
from pipeline.plan.simulation import simulate
from pipeline.pool_config import LargePoolConfig
from tests.pipeline.plan.jobs import FREE, job


def test_one_small_replica_is_arithmetic() -> None:
    """Start-up, 10 blocks of 2 passes each, and the way of the last block."""
    small = PoolCost(fixed_s=0.5, row_s=0.1, batch_rows=32, startup_s=7.0)
    overheads = Overheads(fetch_s=0.01, write_s=0.3, driver_s=0.2)
    one = job(records=640, escalation=0.0, small=small, overheads=overheads, cores=2)
    found = simulate(one, Split(1, 0, 64))
    each = 2 * 0.5 + 64 * 0.1
    assert found.stream_s == pytest.approx(10 * each)
    assert found.seconds == pytest.approx(7.0 + 10 * each + 0.1 + 0.3)
    assert found.busy["small"] == pytest.approx(10 * each / (10 * each + 0.4))


def test_one_replica_of_each_is_arithmetic_where_all_escalates() -> None:
    """The large model is the slower one: it waits for the first block alone."""
    one = job(records=640, escalation=1.0, overheads=FREE)
    found = simulate(one, Split(1, 1, 64))
    first, batches = 2 * 0.1 + 64 * 0.02, 640 / 16
    assert found.large_batches == batches
    assert found.seconds == pytest.approx(first + batches * (0.2 + 16 * 0.1))


@given(
    records=st.integers(1, 3000),
    escalation=st.floats(0, 1),
    small=st.integers(1, 6),
    large=st.integers(1, 6),
    rows=st.sampled_from([1, 16, 64, 100]),
    cores=st.integers(1, 8),
)
def test_every_record_is_written_and_every_escalated_row_answered_once(
    records: int, escalation: float, small: int, large: int, rows: int, cores: int
) -> None:
    one = job(records=records, escalation=escalation, cores=cores)
    split = Split(small, large if escalation else 0, rows)
    found = simulate(one, split)
    assert found.records == records
    assert found.escalated == found.answered
    assert found.large_batches >= ceil(found.answered / one.large_cost().batch_rows)
    assert found.seconds >= found.stream_s
    # All of it one after the other, and each batch waits for company as long as it may.
    batch_s = one.large_cost().seconds(16) + LargePoolConfig().linger_s
    alone = one.blocks(split) * (one.small.seconds(rows) + sum(asdict(Overheads()).values()))
    assert found.seconds <= alone + records * Overheads().fetch_s + found.large_batches * batch_s
    assert all(0 <= share <= 1 + 1e-9 for share in found.busy.values())


@pytest.mark.parametrize(("rate", "share"), [(0.0, 0), (1.0, 1)])
def test_all_or_nothing_escalates_where_the_rate_says_so(rate: float, share: int) -> None:
    found = simulate(job(records=640, escalation=rate), Split(2, 2 if rate else 0, 64))
    assert found.escalated == found.answered == share * 640


def test_work_that_is_drawn_takes_as_long_as_it_was_measured_to() -> None:
    """Whatever sizes the units had: here the small ones are slow for their size."""
    pool = MeasuredPool(rows=(16, 2) * 5, passes=(1,) * 10, seconds=(1.0, 1.5) * 5, batch_rows=16)
    cost = pool_cost(pool)
    one = job(records=64 * 400, escalation=0.0, small=cost, overheads=FREE)
    measured_s = sum(pool.seconds) / sum(cost.weights)
    expected_s = 400 * cost.seconds(64) * measured_s
    assert simulate(one, Split(1, 0, 64)).stream_s == pytest.approx(expected_s, rel=0.03)
    assert measured_s == pytest.approx(1.0)


def test_as_many_escalate_as_the_rate_has_it() -> None:
    found = simulate(job(records=64_000), Split(4, 8, 64))
    assert found.escalated == pytest.approx(0.3 * 64_000, rel=0.03)
    assert found.escalated / found.large_batches > 15


@pytest.mark.parametrize("split", [Split(1, 3, 64), Split(8, 1, 64), Split(8, 24, 64)])
def test_a_long_job_settles_at_what_the_plan_says(split: Split) -> None:
    one = job(records=64 * 100 * split.small)
    found = simulate(one, split)
    assert found.middle_per_s == pytest.approx(one.records / seconds(one, split), rel=0.1)


def test_the_driver_bounds_what_any_number_of_replicas_does() -> None:
    one = job(records=64_000, overheads=Overheads(driver_s=0.2), cores=200)
    found = simulate(one, Split(100, 100, 64))
    assert found.middle_per_s <= 64 / 0.2 * 1.01


def test_uneven_seconds_never_make_the_mean_job_shorter_than_even_ones() -> None:
    even = job(records=640, escalation=0.0, overheads=FREE)
    uneven = replace(
        even, small=replace(even.small, ratios=(0.1, 1.9), weights=(1.0, 1.0), unit_rows=64.0)
    )
    split = Split(4, 0, 64)
    means = [simulate(uneven, split, seed).seconds for seed in range(30)]
    assert sum(means) / len(means) > simulate(even, split).seconds


def test_the_same_seed_is_the_same_run() -> None:
    assert simulate(job(), Split(2, 3, 64), 4) == simulate(job(), Split(2, 3, 64), 4)
