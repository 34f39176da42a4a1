"""Drawn tokens follow the distribution that was asked for."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from sgl.sampling import Sampler
from sgl.types import Sampling


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    log_prob_N = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    for temperature in (1.0, 0.5):
        sampler = Sampler(Sampling(temperature, 1.0, seed=0))
        drawn = torch.bincount(
            torch.tensor([sampler.draw(log_prob_N) for _ in range(4000)]), minlength=4
        )
        expected = (log_prob_N / temperature).softmax(dim=-1).double() * 4000
        assert chisquare(drawn.numpy(), expected.numpy()).pvalue > 0.001


def test_top_p_leaves_the_fewest_that_hold_so_much() -> None:
    log_prob_N = torch.tensor([0.15, 0.5, 0.05, 0.3]).log()
    for top_p, allowed in ((0.5, {1}), (0.51, {1, 3}), (0.8, {1, 3}), (0.9, {0, 1, 3})):
        sampler = Sampler(Sampling(1.0, top_p, seed=0))
        assert {sampler.draw(log_prob_N) for _ in range(500)} == allowed


@given(st.lists(st.floats(-50, 0), min_size=2, max_size=30), st.floats(0.01, 2), st.floats(0.01, 1))
def test_what_cannot_be_is_never_drawn(scores: list[float], heat: float, top_p: float) -> None:
    log_prob_N = torch.tensor([float("-inf"), *scores, float("-inf")]).log_softmax(dim=-1)
    sampler = Sampler(Sampling(heat, top_p, seed=1))
    assert all(0 < sampler.draw(log_prob_N) <= len(scores) for _ in range(5))
