"""A fit says what was measured, and nothing of what was not."""

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.plan.costs import fitted, pool_cost
from pipeline.plan.measured import MeasuredPool
from tests.pipeline.plan.jobs import sample


def test_the_fit_finds_both_parts_where_units_differ() -> None:
    rows, passes = np.array([4.0, 16.0, 10.0, 32.0]), np.array([1.0, 1.0, 1.0, 2.0])
    fixed_s, row_s = fitted(rows, passes, 0.5 * passes + 0.1 * rows)
    assert fixed_s == pytest.approx(0.5)
    assert row_s == pytest.approx(0.1)


def test_units_of_one_size_tell_nothing_of_a_fixed_part() -> None:
    rows, passes = np.full(5, 16.0), np.ones(5)
    assert fitted(rows, passes, np.full(5, 3.2)) == (0.0, pytest.approx(0.2))


def test_what_a_fit_says_of_the_sample_is_what_was_measured() -> None:
    for pool in (sample().small, sample().large):
        assert pool is not None
        cost = pool_cost(pool)
        units = zip(pool.rows, pool.passes, strict=True)
        told = sum(cost.fixed_s * passes + cost.row_s * rows for rows, passes in units)
        assert told == pytest.approx(sum(pool.seconds) * (1 + pool.handling))


def test_twice_the_speed_is_half_the_seconds() -> None:
    assert pool_cost(sample().small, 2.0).seconds(100) == pytest.approx(
        pool_cost(sample().small).seconds(100) / 2
    )


@pytest.mark.parametrize("seconds", [(1.0,), (1.0, 0.0)])
def test_a_sample_that_cannot_be_is_refused(seconds: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError):
        MeasuredPool(rows=(1, 1), passes=(1, 1), seconds=seconds, batch_rows=1)
