"""The frontier of cost and quality: what every strategy to answer costs at a stated quality.

Costs are shares of what the unpruned large model alone costs on the same records. Intervals are
95 %, from resampled clusters (sgl/statistics.py).

The best of many policies flatters itself on the records that it was chosen on. So what is said of
a strategy's best is cross-fitted: the clusters are split into two halves at random, the policy of
the best quality within a budget is chosen on each half and measured on the other one, and both are
averaged; and so are several such splits. Every resample chooses anew, so that an interval holds the
chance in the choice as well.

Shapes: n records, K policies, B budgets, R sums: one over all records, the others over resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sgl.bounds import Floats
from sgl.routing import recovered
from sgl.statistics import Bootstrap, Estimate, estimate_of
from sgl.strategies import BOTH, Answered, Policies, Setting, strategies

KEPT = (0.99, 0.98, 0.95)
"""Shares of the large model's quality at whose least cost strategies are compared."""
BUDGET = 0.4
"""Share of the large model's cost at which they are compared by quality."""
BUDGETS = tuple(percent / 100 for percent in range(2, 101, 2))
SPLITS = 5
_EQUAL = 1e-9
_SEED = 5

Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Point:
    """One policy on all records.

    Attributes:
        setting: of the policy.
        cost: share of large only.
        quality: mean.
    """

    setting: Setting
    cost: Estimate
    quality: Estimate


@dataclass(frozen=True)
class Within:
    """The best of a strategy within a budget, cross-fitted.

    Attributes:
        budget: share of large only's cost that may be spent where the choice is made.
        cost: share of large only.
        quality: mean.
        kept: share of large only's quality.
        setting: that all records together would choose.
    """

    budget: float
    cost: Estimate
    quality: Estimate
    kept: Estimate
    setting: Setting


@dataclass(frozen=True)
class Least:
    """The least cost at which a strategy keeps a quality, read off its cross-fitted budgets.

    Attributes:
        kept: share of large only's quality that every budget from there on keeps.
        cost: share of large only; its resamples in which no budget does cost as much as that.
        setting: that all records together would choose for that budget.
    """

    kept: float
    cost: Estimate
    setting: Setting


@dataclass(frozen=True)
class Curve:
    """One strategy.

    Attributes:
        points: its policies, by cost; of cascade, pruned those that no other one beats in both
            cost and quality on these records, which flatters them.
        budgets: those of BUDGETS that something fits into.
        least: by share of KEPT; None where no budget keeps it.
    """

    points: tuple[Point, ...]
    budgets: tuple[Within, ...]
    least: dict[float, Least | None]

    def within(self, budget: float) -> Within | None:
        """The best at a cost; None where nothing is so cheap."""
        return next((one for one in self.budgets if one.budget == budget), None)


@dataclass(frozen=True)
class Frontier:
    """Every strategy on the same records.

    Attributes:
        records: n.
        clusters: that they belong to.
        curves: by the name of the strategy.
        recovered: how much of what routing can gain the exit score does; see sgl/routing.py.
    """

    records: int
    clusters: int
    curves: dict[str, Curve]
    recovered: Estimate | None


def frontier(answered: Answered) -> Frontier:
    """Compare all strategies.

    Args:
        answered: records of at least two clusters.
    """
    bootstrap = Bootstrap(answered.clusters)
    figures = _Figures(answered, bootstrap)
    return Frontier(
        records=len(answered.small),
        clusters=len(np.unique(answered.clusters)),
        curves={name: figures.curve(name, one) for name, one in strategies(answered).items()},
        recovered=recovered(answered, bootstrap),
    )


def front(costs: Sequence[float], qualities: Sequence[float]) -> list[int]:
    """Places of those that no other one beats in both, by cost."""
    best, kept = -np.inf, []
    for place in sorted(range(len(costs)), key=lambda at: (costs[at], -qualities[at])):
        if qualities[place] > best:
            best = qualities[place]
            kept.append(place)
    return kept


@dataclass(frozen=True)
class _Sums:
    """Of policies, (R, K), and of large only and the records, (R,)."""

    cost: Floats
    quality: Floats
    large_cost: Floats
    large_quality: Floats
    records: Floats

    def best(self, budget: float) -> Places:
        """(R,) the policy of the best quality within a budget; -1 where nothing fits."""
        allowed = self.cost <= (budget + _EQUAL) * self.large_cost[:, None]
        places = np.argmax(np.where(allowed, self.quality, -np.inf), axis=1)
        return np.where(allowed.any(axis=1), places, -1)

    def without(self, part: "_Sums") -> "_Sums":
        """Of the records that are not in a part."""
        return _Sums(
            self.cost - part.cost,
            self.quality - part.quality,
            self.large_cost - part.large_cost,
            self.large_quality - part.large_quality,
            self.records - part.records,
        )


class _Figures:
    """What policies come to in every resample, over all records and over halves of the clusters."""

    def __init__(self, answered: Answered, bootstrap: Bootstrap) -> None:
        _, of_record = np.unique(answered.clusters, return_inverse=True)
        clusters = int(of_record.max()) + 1
        rng = np.random.default_rng(_SEED)
        orders = (rng.permutation(clusters) for _ in range(SPLITS))
        self._halves = [(order < clusters // 2)[of_record] for order in orders]
        self._bootstrap = bootstrap
        self._answered = answered

    def curve(self, name: str, policies: Policies) -> Curve:
        """Everything that is said of one strategy."""
        whole = self._sums(policies, np.ones(len(self._answered.small), dtype=bool))
        points = _points(whole, policies)
        if name == BOTH:
            costs = [one.cost.value for one in points]
            qualities = [one.quality.value for one in points]
            points = [points[place] for place in front(costs, qualities)]
        firsts = (self._sums(policies, half) for half in self._halves)
        budgets, cost, quality = _cross_fitted([(one, whole.without(one)) for one in firsts])
        kept = _share(quality, whole.large_quality[:, None])
        settings = [policies.settings[max(whole.best(budget)[0], 0)] for budget in budgets]
        mean = _share(quality, whole.records[:, None])
        spent = _share(cost, whole.large_cost[:, None])
        return Curve(
            points=tuple(points),
            budgets=tuple(
                Within(
                    budget,
                    cost=_estimate(spent[:, at]),
                    quality=_estimate(mean[:, at]),
                    kept=_estimate(kept[:, at]),
                    setting=settings[at],
                )
                for at, budget in enumerate(budgets)
            ),
            least={share: _least(spent, kept, share, settings) for share in KEPT},
        )

    def _sums(self, policies: Policies, chosen: npt.NDArray[np.bool_]) -> _Sums:
        answered = self._answered
        width = len(policies.settings)
        columns = [policies.cost, policies.quality, answered.large_cost[:, None]]
        columns += [answered.large_quality[:, None], np.ones((len(answered.small), 1))]
        every = np.concatenate(columns, axis=1) * chosen[:, None]
        found = self._bootstrap.totals(every)
        return _Sums(
            found[:, :width],
            found[:, width : 2 * width],
            *(found[:, place] for place in (-3, -2, -1)),
        )


def _points(whole: _Sums, policies: Policies) -> list[Point]:
    cost = _share(whole.cost, whole.large_cost[:, None])
    quality = _share(whole.quality, whole.records[:, None])
    return [
        Point(setting, _estimate(cost[:, place]), _estimate(quality[:, place]))
        for place, setting in enumerate(policies.settings)
    ]


def _cross_fitted(splits: Sequence[tuple[_Sums, _Sums]]) -> tuple[list[float], Floats, Floats]:
    """Budgets that something fits into, and what is spent and right within each: (R, B)."""
    budgets: list[float] = []
    costs: list[Floats] = []
    qualities: list[Floats] = []
    for budget in BUDGETS:
        found = [_swapped(first, second, budget) for first, second in splits]
        if all(fits for fits, _, _ in found):
            budgets.append(budget)
            costs.append(np.mean([cost for _, cost, _ in found], axis=0))
            qualities.append(np.mean([quality for _, _, quality in found], axis=0))
    shape = (len(budgets), len(splits[0][0].records))
    cost, quality = (np.reshape(of, shape).T for of in (costs, qualities))
    return budgets, cost, quality


def _swapped(first: _Sums, second: _Sums, budget: float) -> tuple[bool, Floats, Floats]:
    """Each half by the other one's choice: whether one fits into the budget, and (R,) sums."""
    fits, costs, qualities = True, np.zeros(len(first.cost)), np.zeros(len(first.cost))
    for fit, test in ((first, second), (second, first)):
        places = fit.best(budget)
        fits &= bool(places[0] >= 0)
        # A resample in which nothing fits has the cheapest, which comes first.
        at = np.maximum(places, 0)[:, None]
        costs += np.take_along_axis(test.cost, at, axis=1)[:, 0]
        qualities += np.take_along_axis(test.quality, at, axis=1)[:, 0]
    return fits, costs, qualities


def _least(spent: Floats, kept: Floats, share: float, settings: Sequence[Setting]) -> Least | None:
    """From (R, B) shares of large only's cost and quality."""
    keeps = kept >= share - _EQUAL
    from_there_on = np.logical_and.accumulate(keeps[:, ::-1], axis=1)[:, ::-1]
    if not from_there_on[0].any():
        return None
    places = np.argmax(from_there_on, axis=1)
    cost = np.take_along_axis(spent, places[:, None], axis=1)[:, 0]
    found = np.where(from_there_on.any(axis=1), cost, 1.0)
    return Least(share, _estimate(found), settings[places[0]])


def _share(parts: Floats, wholes: Floats) -> Floats:
    """Without a value in a resample whose whole is nothing."""
    return np.divide(parts, wholes, out=np.full_like(parts, np.nan), where=wholes != 0)


def _estimate(figures: Floats) -> Estimate:
    """Of all records, and of the resamples."""
    return estimate_of(float(figures[0]), figures[1:])
