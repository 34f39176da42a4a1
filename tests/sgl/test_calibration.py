"""The guarantee, on samples drawn from a population of which everything is known."""

from dataclasses import replace

import numpy as np
import pytest

from sgl.bounds import BINARY, DIFFERENCE
from sgl.calibration import (
    LARGE_ONLY,
    NOBODY_EXITS,
    UNPRUNED,
    Candidate,
    Losses,
    Pruned,
    Sample,
    Target,
    calibrate,
    thresholds,
)

HALF, HARD = Pruned(0.19, 0.2), Pruned(0.04, 0.05)
WAYS = (UNPRUNED, HALF, HARD)
SIZE, DELTA = 20_000, 0.1


def population(seed: int = 0) -> tuple[Sample, Losses]:
    """The surer the small model is, the more often it agrees; pruning costs some agreement."""
    random = np.random.default_rng(seed)
    scores = random.beta(2, 1, SIZE)
    small = (random.random(SIZE) > scores**0.3).astype(float)
    large = np.stack([(random.random(SIZE) < loss).astype(float) for loss in (0.0, 0.015, 0.2)])
    cost = np.stack([np.full(SIZE, one) for one in (10.0, 5.0, 3.0)])
    return Sample(scores, WAYS, np.ones(SIZE), cost), Losses(small, large, BINARY)


def some(sample: Sample, losses: Losses, records: np.ndarray) -> tuple[Sample, Losses]:
    return (
        replace(
            sample,
            scores=sample.scores[records],
            small_cost=sample.small_cost[records],
            large_cost=sample.large_cost[:, records],
        ),
        replace(losses, small=losses.small[records], large=losses.large[:, records]),
    )


@pytest.mark.parametrize("limit", [0.02, 0.05, 0.15])
def test_the_target_is_violated_as_seldom_as_is_promised(limit: float) -> None:
    everybody, losses = population()
    random = np.random.default_rng(1)
    trials, violated, found = 150, 0, 0
    for trial in range(trials):
        sample, lost = some(everybody, losses, random.choice(SIZE, 600))
        choice = calibrate(sample, [Target("agreement", limit, lost)], DELTA, seed=trial)
        if choice.candidate:
            found += 1
            violated += losses.of(choice.candidate, everybody).mean() > limit
            assert choice.estimates["agreement"] <= limit
    assert violated / trials <= DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / trials)
    # A test that never chooses anything would violate nothing.
    assert found / trials > (0.3 if limit == 0.02 else 0.95)


def test_a_looser_target_is_cheaper() -> None:
    sample, losses = some(*population(), np.arange(3000))
    costs = []
    for limit in (0.01, 0.03, 0.08, 0.3):
        choice = calibrate(sample, [Target("agreement", limit, losses)], DELTA)
        costs.append(sample.cost(choice.candidate or LARGE_ONLY).mean())
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0] / 2


def test_where_the_small_model_is_as_good_it_answers_everything() -> None:
    sample, losses = some(*population(), np.arange(2000))
    good = replace(losses, small=np.zeros(2000))
    choice = calibrate(sample, [Target("agreement", 0.05, good)], DELTA)
    assert choice.candidate is not None
    assert sample.exits(choice.candidate.threshold).all()


def test_what_cannot_be_shown_is_said_with_the_sample_that_would_do() -> None:
    everybody, losses = population()
    sample, lost = some(everybody, losses, np.arange(60))
    choice = calibrate(sample, [Target("agreement", 0.02, lost)], DELTA)
    assert choice.candidate is None
    assert choice.nearest is not None
    disagreed = choice.estimates["agreement"] * choice.records
    assert disagreed == pytest.approx(round(disagreed)), "a mean over the records of the test"
    assert choice.needed is not None
    assert choice.needed > 60
    larger, lost = some(everybody, losses, np.arange(8 * choice.needed))
    assert calibrate(larger, [Target("agreement", 0.02, lost)], DELTA).candidate is not None


def test_a_target_that_nothing_meets_needs_no_larger_sample() -> None:
    sample, losses = some(*population(), np.arange(500))
    bad = Losses(np.ones(500), np.ones((3, 500)), BINARY)
    choice = calibrate(sample, [Target("agreement", 0.02, bad)], DELTA)
    assert (choice.candidate, choice.needed) == (None, None)
    assert losses.kind == BINARY


def test_several_targets_are_met_at_once() -> None:
    sample, losses = some(*population(), np.arange(4000))
    escalates = Losses(np.zeros(4000), np.ones((3, 4000)), BINARY)
    both = [Target("agreement", 0.1, losses), Target("escalation-rate", 0.4, escalates)]
    choice = calibrate(sample, both, DELTA)
    assert choice.candidate is not None
    assert choice.estimates["agreement"] <= 0.1
    assert choice.estimates["escalation-rate"] <= 0.4


def test_with_another_aim_the_best_within_a_budget_is_chosen() -> None:
    sample, losses = some(*population(), np.arange(4000))
    escalates = Losses(np.zeros(4000), np.ones((3, 4000)), BINARY)
    target = [Target("escalation-rate", 0.5, escalates)]
    cheapest, best = (calibrate(sample, target, DELTA, aim=aim) for aim in (None, losses))
    assert cheapest.candidate is not None
    assert best.candidate is not None
    assert sample.exits(cheapest.candidate.threshold).all()
    lost = [losses.of(one, sample).mean() for one in (best.candidate, cheapest.candidate)]
    assert lost[0] < lost[1]
    assert 0.4 < 1 - sample.exits(best.candidate.threshold).mean() <= 0.5


def test_a_difference_of_scores_is_a_target_too() -> None:
    """Where pruning helps as often as it hurts, nothing is lost."""
    sample, _ = some(*population(), np.arange(3000))
    random = np.random.default_rng(2)
    even = random.choice([-1.0, 0.0, 1.0], (3, 3000), p=[0.02, 0.96, 0.02])
    drop = Losses(np.ones(3000), even, DIFFERENCE)
    choice = calibrate(sample, [Target("max-accuracy-drop", 0.02, drop)], DELTA)
    assert choice.candidate is not None
    assert choice.candidate.pruned == HARD
    assert choice.estimates["max-accuracy-drop"] <= 0.02


def test_nothing_dearer_than_the_large_model_alone_is_a_candidate() -> None:
    sample, losses = some(*population(), np.arange(500))
    dear = replace(sample, small_cost=np.full(500, 100.0))
    choice = calibrate(dear, [Target("agreement", 0.9, losses)], DELTA)
    assert choice.candidate is None
    assert choice.nearest is None
    assert sample.cost(LARGE_ONLY).tolist() == [10.0] * 500
    assert sample.cost(Candidate(NOBODY_EXITS, HALF)).tolist() == [6.0] * 500


def test_what_is_tested_does_not_depend_on_costs_of_the_test() -> None:
    """Only what is chosen among the safe may."""
    sample, losses = some(*population(), np.arange(1000))
    target = [Target("agreement", 0.1, losses)]
    learn = np.random.default_rng(0).permutation(1000)[:300]
    dear = np.full(1000, 100.0)
    dear[learn] = 1.0
    as_learnt = calibrate(sample, target, DELTA)
    dearer = calibrate(replace(sample, small_cost=dear), target, DELTA)
    assert dearer.tested == as_learnt.tested
    assert as_learnt.candidate is not None
    assert dearer.candidate is None


def test_thresholds_reach_from_all_to_none_and_crowd_where_scores_do() -> None:
    grid = thresholds()
    assert (min(grid), max(grid)) == (0.0, NOBODY_EXITS)
    assert len(set(grid)) == len(grid)
    assert sum(0.99 < one < 1 for one in grid) > 20
