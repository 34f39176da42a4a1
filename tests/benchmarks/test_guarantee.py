"""The benchmark of the guarantee, on a population of its own: that it tells good from bad."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import guarantee
from benchmarks.observations import load

COUNT = 4000


@pytest.fixture
def population(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    scores = random.beta(2, 1, COUNT)
    small = (random.random(COUNT) > scores**0.3).astype(np.int8)
    pruned = (random.random(COUNT) < 0.03).astype(np.int8)
    large = np.stack([np.zeros(COUNT, np.int8), pruned])
    path = tmp_path / "population.npz"
    np.savez_compressed(
        path,
        scores=scores,
        ways=np.array([[0.0, 1.0], [0.4, 0.5]]),
        small_cost=np.ones(COUNT),
        large_cost=np.stack([np.full(COUNT, 10.0), np.full(COUNT, 6.0)]),
        small_disagrees=small,
        large_disagrees=large,
        small_drop=small,
        large_drop=large,
    )
    return path


def test_a_population_is_read_as_it_was_written(population: Path) -> None:
    everybody = load(population)
    assert everybody.sample.prunings[0].keep_ratio == 1
    some = everybody.some(np.array([3, 3, 5]))
    assert some.sample.scores.tolist() == everybody.sample.scores[[3, 3, 5]].tolist()
    assert some.disagreement.large.shape == (2, 3)


def test_the_promise_is_kept_and_a_threshold_by_hand_is_not(
    population: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarantee, "LIMITS", {"agreement": (0.1,)})
    monkeypatch.setattr(guarantee, "SIZES", (400,))
    rows = guarantee.measure(rounds=60, population=population)
    by_way = {row["way"]: row for row in rows}
    assert set(by_way) == {"pareto", "bonferroni", "plug-in"}
    for way in ("pareto", "bonferroni"):
        assert by_way[way]["violated"] <= guarantee.DELTA + 0.12
        assert by_way[way]["found"] > 0.5
    assert by_way["plug-in"]["violated"] > 0.3
    assert by_way["pareto"]["cost_of_large_only"] <= by_way["bonferroni"]["cost_of_large_only"]
    table = guarantee.report(rows)
    assert "plug-in" in table
    assert "delta 0.1" in table
