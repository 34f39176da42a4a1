"""Laws of the exit score."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy
from scipy.stats import kstest

from sgl.early_exit import (
    certainty_by_entropy,
    confidence,
    consistency,
    exit_score,
    exits,
    margin,
    mean,
    needs_consistency,
    quantile,
    random,
)
from sgl.types import Certainty, ConsistencyForm, Criterion
from sgl.uncertainty import entropy_and_margin

log_probs = st.lists(st.floats(-30, 0), min_size=1, max_size=300)
logits = st.integers(2, 9).flatmap(
    lambda size: st.lists(
        st.lists(st.floats(-50, 50), min_size=size, max_size=size), min_size=1, max_size=5
    )
)


@given(log_probs)
def test_scores_are_probabilities(values: list[float]) -> None:
    assert 0 <= quantile(values) <= 1
    for form in ConsistencyForm:
        assert 0 <= mean(confidence(values), consistency(values, form)) <= 1


@given(logits)
def test_entropy_and_margin_of_any_distribution(values: list[list[float]]) -> None:
    logits_RN = torch.tensor(values)
    entropy_R, margin_R = entropy_and_margin(logits_RN.log_softmax(dim=-1))
    assert 0 <= certainty_by_entropy(entropy_R.tolist(), logits_RN.shape[1]) <= 1
    assert 0 <= margin(margin_R.tolist()) <= 1


@given(logits, st.floats(1.1, 5))
def test_a_sharper_distribution_is_surer_by_every_measure(
    values: list[list[float]], factor: float
) -> None:
    flat_RN = torch.tensor(values, dtype=torch.float64)
    flat, sharp = (one.log_softmax(dim=-1) for one in (flat_RN, factor * flat_RN))
    before, after = entropy_and_margin(flat), entropy_and_margin(sharp)
    assert (after[0] <= before[0] + 1e-9).all()
    assert (after[1] >= before[1] - 1e-9).all()
    tops = [one.amax(dim=-1).tolist() for one in (flat, sharp)]
    for score in (confidence, quantile):
        assert score(tops[1]) >= score(tops[0]) - 1e-9


def test_entropy_is_scipys_and_barred_tokens_count_as_nothing() -> None:
    logits_RN = torch.tensor([[2.0, 1.0, -1.0, 0.5], [0.0, 0.0, 0.0, 0.0], [9.0, -9.0, 3.0, 1.0]])
    barred_RN = logits_RN.clone()
    barred_RN[:, 1] = float("-inf")
    for given_RN, columns in ((logits_RN, [0, 1, 2, 3]), (barred_RN, [0, 2, 3])):
        probability_RN = logits_RN[:, columns].softmax(dim=-1).numpy()
        entropy_R, margin_R = entropy_and_margin(given_RN.log_softmax(dim=-1))
        np.testing.assert_allclose(entropy_R, scipy_entropy(probability_RN, axis=1), rtol=1e-5)
        second_R, first_R = np.sort(probability_RN, axis=1)[:, -2:].T
        np.testing.assert_allclose(margin_R, first_R - second_R, atol=1e-6)


def test_a_certain_token_and_a_guess() -> None:
    certain_RN = torch.tensor([[0.0, float("-inf"), float("-inf")]])
    guess_RN = torch.full((1, 3), -math.log(3))
    for log_prob_RN, expected in ((certain_RN, 1.0), (guess_RN, 0.0)):
        entropy_R, margin_R = entropy_and_margin(log_prob_RN)
        assert certainty_by_entropy(entropy_R.tolist(), 3) == pytest.approx(expected, abs=1e-6)
        assert margin_R.item() == expected


def test_the_quantile_lies_near_the_least_probable_token() -> None:
    values = [math.log(p) for p in (0.9, 0.5, 0.8)]
    assert quantile(values, 0) == pytest.approx(0.5)
    assert quantile(values, 0.5) == pytest.approx(0.8)
    # A fifth of the way from the lowest to the next, in logarithms.
    assert quantile(values) == pytest.approx(0.5**0.8 * 0.8**0.2)
    assert quantile(values[:1]) == pytest.approx(0.9)


def test_chance_is_uniform_and_the_same_for_the_same_record() -> None:
    scores = np.array([random(f"r{number}") for number in range(2000)])
    assert random("r7") == scores[7]
    assert kstest(scores, "uniform").pvalue > 0.01


def test_every_criterion_has_its_score() -> None:
    sure = Certainty(0.9, 0.5, 0.8, 0.7, 0.6)
    scores = {one.value: exit_score(one, sure, "r") for one in Criterion}
    assert scores == {"mean": 0.7, "random": random("r"), **asdict(sure)}
    skipped = replace(sure, consistency=None)
    for criterion in Criterion:
        if needs_consistency(criterion):
            with pytest.raises(AssertionError, match="was skipped"):
                exit_score(criterion, skipped, "r")
        else:
            assert exit_score(criterion, skipped, "r") == scores[criterion]


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
