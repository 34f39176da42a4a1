"""Intervals against closed formulas, and against how often they hold the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgl import statistics
from sgl.statistics import Bootstrap, mean_score, unseen, wilson


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Pages of three equal questions: taken for independent ones, intervals would be too narrow."""
    rng = np.random.default_rng(0)
    pages = np.repeat(np.arange(100), 3)
    covered = 0
    for _ in range(200):
        values = np.repeat(rng.random(100) < 0.7, 3)
        estimate = Bootstrap(pages.tolist()).mean(values)
        covered += estimate.low <= 0.7 <= estimate.high
    assert 0.88 <= covered / 200 <= 0.99


def test_wilsons_interval_is_the_one_of_the_textbook() -> None:
    """Newcombe 1998, table I: 81 of 263 and 15 of 148, 0 of 20 and 1 of 29, to four digits."""
    for successes, trials, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = wilson(successes, trials)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
        assert found.value == successes / trials


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 7))
def test_the_mean_is_the_records_and_the_interval_holds_it(right: list[bool], size: int) -> None:
    clusters = np.arange(len(right)) // size
    found = mean_score(right, clusters)
    assert found.value == pytest.approx(np.mean(right), abs=1e-4)
    assert 0 <= found.low <= found.value + 1e-4
    assert found.value - 1e-4 <= found.high <= 1


def test_equal_scores_count_each_cluster_once() -> None:
    alike = mean_score(np.ones(30), np.arange(30) // 3)
    assert alike == wilson(10, 10)
    assert alike.low < mean_score(np.ones(30)).low


def test_clusters_of_like_records_widen_the_interval() -> None:
    right = np.repeat(np.random.default_rng(0).random(80) < 0.5, 5)
    together, apart = mean_score(right, np.arange(400) // 5), mean_score(right)
    assert together.value == pytest.approx(apart.value, abs=1e-4)
    width = together.high - together.low
    # Five records that say the same are one: the standard error grows by the root of five.
    assert width / (apart.high - apart.low) == pytest.approx(5**0.5, rel=0.1)


def test_the_formula_for_many_clusters_agrees_with_resampling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(1)
    scores, clusters = rng.random(6000) ** 3, rng.integers(0, 2000, 6000)
    resampled = mean_score(scores, clusters)
    monkeypatch.setattr(statistics, "MANY_CLUSTERS", 100)
    formula = mean_score(scores, clusters)
    assert formula.value == pytest.approx(resampled.value, abs=1e-4)
    assert formula.low == pytest.approx(resampled.low, abs=1e-3)
    assert formula.high == pytest.approx(resampled.high, abs=1e-3)


def test_resamples_do_not_depend_on_how_many_are_held_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values, clusters = np.random.default_rng(2).random(50), np.arange(50) // 2
    at_once = Bootstrap(clusters).mean(values)
    monkeypatch.setattr(statistics, "_CELLS", 60)
    assert Bootstrap(clusters).mean(values) == at_once
    assert Bootstrap([f"c{one:02d}" for one in clusters]).mean(values) == at_once


@pytest.mark.parametrize("trials", [1, 8, 300])
def test_what_none_of_the_trials_shows_is_unseen_with_five_percent(trials: int) -> None:
    assert (1 - unseen(trials)) ** trials == pytest.approx(0.05)
