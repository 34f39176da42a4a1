"""Laws of the exit score."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgl.early_exit import confidence, consistency, exit_score, exits
from sgl.types import ConsistencyForm

log_probs = st.lists(st.floats(-30, 0), min_size=1, max_size=300)


@given(log_probs)
def test_scores_are_probabilities(values: list[float]) -> None:
    for form in ConsistencyForm:
        score = exit_score(confidence(values), consistency(values, form))
        assert 0 <= score <= 1


@given(log_probs)
def test_the_product_never_exceeds_the_geometric_mean(values: list[float]) -> None:
    product = consistency(values, ConsistencyForm.PRODUCT)
    assert product <= consistency(values, ConsistencyForm.GEOMETRIC) + 1e-12


def test_definitions() -> None:
    values = [math.log(p) for p in (0.5, 0.25, 1.0)]
    assert confidence(values) == pytest.approx((0.5 * 0.25) ** (1 / 3))
    assert consistency(values, ConsistencyForm.PRODUCT) == pytest.approx(0.125)
    assert consistency(values, ConsistencyForm.GEOMETRIC) == pytest.approx(0.5)


def test_long_answers_do_not_underflow_on_the_way() -> None:
    values = [math.log(1e-3)] * 200
    assert confidence(values) == pytest.approx(1e-3)
    assert consistency(values, ConsistencyForm.PRODUCT) == 0.0


def test_the_threshold_is_inclusive_and_nan_never_exits() -> None:
    assert exits(0.8, 0.8)
    assert not exits(0.79, 0.8)
    assert not exits(math.nan, 0.0)
