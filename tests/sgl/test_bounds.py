"""P-values are small for the wrong reason in at most as many cases as they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgl.bounds import (
    BINARY,
    DIFFERENCE,
    SHARE,
    BettingTest,
    DriftTest,
    Floats,
    Kind,
    betting_p,
    binomial_p,
    hoeffding_bentkus_p,
    mean_p,
    proportion_interval,
)

LIMIT, DELTA, RECORDS, TRIALS = 0.1, 0.1, 120, 2000


def coins(random: np.random.Generator) -> Floats:
    return (random.random(RECORDS) < LIMIT).astype(float)


def shares(random: np.random.Generator) -> Floats:
    return random.beta(0.2, 1.8, RECORDS)


def differences(random: np.random.Generator) -> Floats:
    """Mostly nought."""
    return random.choice([-1.0, 0.0, 1.0], RECORDS, p=[0.1, 0.7, 0.2])


@pytest.mark.parametrize(
    ("draw", "kind"), [(coins, BINARY), (coins, SHARE), (shares, SHARE), (differences, DIFFERENCE)]
)
def test_a_mean_at_the_limit_passes_as_seldom_as_is_said(draw, kind: Kind) -> None:  # type: ignore[no-untyped-def]
    random = np.random.default_rng(5)
    p_values = np.array([mean_p(draw(random), LIMIT, kind) for _ in range(TRIALS)])
    for delta in (0.01, 0.05, DELTA, 0.3):
        margin = 3 * np.sqrt(delta * (1 - delta) / TRIALS)
        assert (p_values <= delta).mean() <= delta + margin


def test_the_exact_bound_is_not_wasteful() -> None:
    random = np.random.default_rng(6)
    p_values = np.array([mean_p(coins(random), LIMIT, BINARY) for _ in range(TRIALS)])
    assert (p_values <= 0.3).mean() > 0.15


def test_betting_sees_the_spread() -> None:
    """A difference that is nearly always nought."""
    losses = np.tile(np.array([0.0] * 99 + [-1.0]), 10)
    betting = betting_p(losses, 0.02, DIFFERENCE)
    # The same numbers as shares of their range, of which the mean alone is looked at.
    assert betting < 0.01 < hoeffding_bentkus_p(float((losses.mean() + 1) / 2), 1000, 1.02 / 2)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=60),
    st.floats(0.02, 0.9),
    st.floats(0.005, 0.09),
    st.sampled_from([SHARE, DIFFERENCE, Kind(0.0, 3.0)]),
)
def test_a_higher_limit_is_easier(
    losses: list[float], limit: float, more: float, kind: Kind
) -> None:
    values = np.array(losses)
    assert mean_p(values, limit + more, kind) <= mean_p(values, limit, kind) + 1e-9
    assert 0 <= mean_p(values, limit, kind) <= 1


def test_a_limit_outside_the_range_needs_no_records() -> None:
    nothing = np.zeros(0)
    assert mean_p(nothing, 1.0, BINARY) == 0.0
    assert mean_p(nothing, 0.0, BINARY) == 1.0
    assert mean_p(nothing, 0.5, BINARY) == 1.0
    assert hoeffding_bentkus_p(0.0, 0, 0.5) == betting_p(nothing, 0.5) == 1.0


def test_figures_of_the_textbook() -> None:
    # The rule of three: no failure among n leaves a mean of at most 3 / n, roughly.
    assert binomial_p(0, 59, 0.05) < 0.05 < binomial_p(0, 58, 0.05)
    assert proportion_interval(0, 10) == pytest.approx((0.0, 0.3085), abs=1e-4)
    assert proportion_interval(0, 0) == (0.0, 1.0)


@given(
    st.lists(st.lists(st.floats(0, 1), max_size=9), max_size=9),
    st.floats(0.02, 0.98),
    st.sampled_from([SHARE, DIFFERENCE]),
)
def test_a_bet_in_parts_comes_to_the_same(
    parts: list[list[float]], limit: float, kind: Kind
) -> None:
    test = BettingTest(limit, kind)
    for part in parts:
        test = test.after(np.array(part, dtype=float))
    whole = np.array([loss for part in parts for loss in part], dtype=float)
    assert test == BettingTest(limit, kind).after(whole)
    assert test.p == betting_p(whole, limit, kind)


def test_a_bet_that_was_won_stays_won() -> None:
    won = BettingTest(0.5).after(np.zeros(30))
    assert won.p < 0.001
    assert won.after(np.ones(1000)).p == won.p


@given(
    st.lists(st.lists(st.floats(0, 1), max_size=150), max_size=5),
    st.floats(0.02, 0.98),
    st.sampled_from([SHARE, DIFFERENCE]),
)
def test_a_test_for_drift_in_parts_comes_to_the_same(
    parts: list[list[float]], limit: float, kind: Kind
) -> None:
    test = DriftTest(limit, kind)
    for part in parts:
        test = test.after(np.array(part, dtype=float))
    whole = DriftTest(limit, kind).after(np.array([loss for part in parts for loss in part]))
    assert test.bets == whole.bets
    assert test.p == pytest.approx(whole.p)
    # What is staked and what is kept are one stake.
    begun = len(whole.stakes)
    assert sum(whole.stakes) + 1 / (begun + 1) == pytest.approx(1)


def test_a_test_for_drift_is_wrong_as_seldom_as_is_said() -> None:
    random = np.random.default_rng(8)
    p_values = np.array(
        [DriftTest(LIMIT).after((random.random(600) < LIMIT).astype(float)).p for _ in range(400)]
    )
    for delta in (0.05, DELTA, 0.3):
        assert (p_values <= delta).mean() <= delta + 3 * np.sqrt(delta * (1 - delta) / 400)


def test_a_long_past_does_not_hide_what_has_changed() -> None:
    """After many losses above the limit, as many below it would pass before a single bet won."""
    random = np.random.default_rng(9)
    losses = np.concatenate([random.random(5000) < 0.92, random.random(200) < 0.7]).astype(float)
    drift = DriftTest(0.9).after(losses)
    assert drift.p < 0.01 < betting_p(losses, 0.9)
    assert 150 < drift.leading.records <= 300
    assert drift.leading.mean == pytest.approx(losses[-drift.leading.records :].mean())
    assert len(drift.bets) < 60


def test_a_test_for_drift_holds_some_bets_and_no_more() -> None:
    test = DriftTest(0.5).after(np.tile([0.0, 1.0], 5000))
    assert len(test.bets) == len(test.stakes) == 64
    assert test.bets[0].records == 10_000
    assert test.p > 0.05
