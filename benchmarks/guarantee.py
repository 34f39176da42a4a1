"""Whether calibration keeps its promise, and what that costs beside ways without a guarantee.

Many samples are drawn from the testbed's held-out records, of which everything is known
(benchmarks/observations.py), and for each a cascade is chosen. A choice violates its target where
its mean loss over ALL records is above the limit. Compared are

    pareto     sgl.calibration, as `sgl calibrate` does it
    bonferroni every candidate of the grid tested at delta / candidates
    plug-in    the cheapest candidate whose loss on the sample meets the target: a threshold as it
               is set by hand
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.observations import Population, load
from sgl.bounds import mean_p, proportion_interval
from sgl.calibration import (
    LARGE_ONLY,
    Candidate,
    Losses,
    Sample,
    Target,
    calibrate,
    thresholds,
)

Row = dict[str, Any]
Chooser = Callable[[Sample, Target, float, int], Candidate | None]

POPULATION = Path(__file__).parent / "results" / "observations.npz"
DELTA = 0.1
SIZES = (300, 1000)
LIMITS = {"agreement": (0.1, 0.05, 0.02), "max-accuracy-drop": (0.05, 0.02)}


def pareto(sample: Sample, target: Target, delta: float, seed: int) -> Candidate | None:
    """As `sgl calibrate`."""
    return calibrate(sample, [target], delta, seed=seed).candidate


def bonferroni(sample: Sample, target: Target, delta: float, _seed: int) -> Candidate | None:
    """No order: the cheapest of all that pass a stricter test."""
    grid = _grid(sample)
    safe = (
        one
        for one in grid
        if mean_p(target.losses.of(one, sample), target.limit, target.losses.kind)
        <= delta / len(grid)
    )
    return _cheapest(safe, sample)


def plug_in(sample: Sample, target: Target, _delta: float, _seed: int) -> Candidate | None:
    """No test at all."""
    good = (one for one in _grid(sample) if target.losses.of(one, sample).mean() <= target.limit)
    return _cheapest(good, sample)


CHOOSERS: dict[str, Chooser] = {"pareto": pareto, "bonferroni": bonferroni, "plug-in": plug_in}


def measure(rounds: int = 1000, population: Path = POPULATION) -> list[Row]:
    """One row per target, sample size and way to choose.

    Args:
        rounds: samples of each.
        population: file of the records.
    """
    everybody = load(population)
    rows = []
    for name, limits in LIMITS.items():
        for limit in limits:
            for size in SIZES:
                for way, choose in CHOOSERS.items():
                    rows.append(
                        {"target": name, "limit": limit, "records": size, "way": way}
                        | _tried(everybody, name, limit, size, choose, rounds)
                    )
    return rows


def _tried(
    everybody: Population, name: str, limit: float, size: int, choose: Chooser, rounds: int
) -> Row:
    random = np.random.default_rng(size)
    full = everybody.sample.cost(LARGE_ONLY).mean()
    truth = _losses(everybody, name)
    violated, found, costs, lost = 0, 0, [], []
    for seed in range(rounds):
        drawn = everybody.some(random.choice(len(everybody.sample.scores), size))
        target = Target(name, limit, _losses(drawn, name))
        chosen = choose(drawn.sample, target, DELTA, seed)
        if chosen is None:
            costs.append(1.0)  # the large model alone, which needs no proof
            continue
        found += 1
        loss = float(truth.of(chosen, everybody.sample).mean())
        violated += loss > limit
        lost.append(loss)
        costs.append(float(everybody.sample.cost(chosen).mean() / full))
    return {
        "delta": DELTA,
        "rounds": rounds,
        "found": found / rounds,
        "violated": violated / rounds,
        "violated_interval": proportion_interval(violated, rounds),
        "mean_loss": float(np.mean(lost)) if lost else None,
        "cost_of_large_only": float(np.mean(costs)),
    }


def _losses(population: Population, name: str) -> Losses:
    return population.disagreement if name == "agreement" else population.accuracy_drop


def _grid(sample: Sample) -> list[Candidate]:
    most = sample.cost(LARGE_ONLY).mean()
    every = (Candidate(t, way) for way in sample.prunings for t in thresholds())
    return [one for one in every if sample.cost(one).mean() < most]


def _cheapest(candidates: Iterator[Candidate], sample: Sample) -> Candidate | None:
    return min(candidates, key=lambda one: sample.cost(one).mean(), default=None)


def report(rows: Sequence[Row]) -> str:
    """As a table of text."""
    head = f"{'target':>18} {'room':>5} {'records':>7} {'way':>10} {'found':>6}"
    lines = [f"{head} {'violated':>22} {'mean loss':>9} {'cost':>6}"]
    for row in rows:
        low, high = row["violated_interval"]
        lost = "" if row["mean_loss"] is None else f"{row['mean_loss']:.4f}"
        lines.append(
            f"{row['target']:>18} {row['limit']:>5} {row['records']:>7} {row['way']:>10} "
            f"{row['found']:>6.1%} {row['violated']:>7.1%} [{low:>5.1%}, {high:>5.1%}] "
            f"{lost:>9} {row['cost_of_large_only']:>6.1%}"
        )
    lines.append(f"delta {rows[0]['delta']}; cost as a share of the large model alone")
    return "\n".join(lines)
