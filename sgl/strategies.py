"""Ways to answer records with a small and a large model: what each would cost, and how right it is.

Where both models have answered every record, the large one unpruned and in several ways to prune,
no way to route has to be run: what it says to a record, and what that costs, is known.

    small only      every record exits
    large only      no record exits and nothing is pruned; needs no small model
    cascade only    exits by score, thresholds; the others unpruned
    prune only      no record exits; one policy per way to prune, the small model guides all;
                    a pruner that needs no guidance goes without the small model
    cascade, pruned thresholds x ways
    random          a random share exits, the others unpruned; the coin falls before any model runs
    random, pruned  likewise, but the others are pruned, for which the small model guides all
                    records or, as before, none; shares x ways
    oracle          knows every outcome: per record the best answer at the least cost

Random routing is in its expected values, which lie on straight lines. The oracle takes per record
what is greatest of quality - price x cost; over all prices that is the upper bound of everything
else here, random mixtures included. At the lowest price it escalates exactly where that helps,
by the cheapest way that does.

Shapes: n records, P ways to prune, K policies.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sgl.bounds import Floats
from sgl.calibration import LARGE_ONLY, NOBODY_EXITS, UNPRUNED, Candidate, Pruned, Sample
from sgl.errors import ConfigurationError

SMALL, LARGE = "small only", "large only"
CASCADE, PRUNE, BOTH = "cascade only", "prune only", "cascade, pruned"
RANDOM, RANDOM_PRUNED, ORACLE = "random", "random, pruned", "oracle"
SHARES = 51
"""Thresholds and shares of random routing: steps of 2 % of the records."""
PRICES = (1e-6, *np.geomspace(0.05, 20, 30).tolist())
"""Of one large model's answer, in quality: what the oracle is asked to save for."""


@dataclass(frozen=True)
class Answered:
    """Records that both models have answered in every way.

    Attributes:
        sample: scores and costs; the unpruned way is among its prunings.
        small: (n,) quality of the small model's answers, 0 to 1.
        large: (P, n) of the large one's, in the order of the prunings.
        clusters: (n,) what each record belongs to, as its image.
    """

    sample: Sample
    small: Floats
    large: Floats
    clusters: npt.NDArray[Any]

    def __post_init__(self) -> None:
        if UNPRUNED not in self.sample.prunings:
            raise ConfigurationError("the large model's unpruned answers are missing")

    @property
    def large_cost(self) -> Floats:
        """(n,) of the unpruned large model."""
        return self.sample.cost(LARGE_ONLY)

    @property
    def large_quality(self) -> Floats:
        """(n,) of the unpruned large model."""
        return self.large[self.sample.prunings.index(UNPRUNED)]


@dataclass(frozen=True)
class Setting:
    """What tells a policy from the others of its strategy; None where it has no such knob.

    Attributes:
        threshold: exit score from which the small model's answer stands.
        exit_share: of the records, at random.
        pruned: of the large model.
        price: of one large model's answer, in quality.
    """

    threshold: float | None = None
    exit_share: float | None = None
    pruned: Pruned | None = None
    price: float | None = None


@dataclass(frozen=True)
class Policies:
    """Those of one strategy, the cheapest on these records first.

    Attributes:
        settings: K.
        cost: (n, K) expected, by record.
        quality: (n, K) likewise.
    """

    settings: tuple[Setting, ...]
    cost: Floats
    quality: Floats


_One = tuple[Setting, Floats, Floats]


def guided(way: Pruned) -> bool:
    """Whether the small model has to run so that the large one can be pruned in a way."""
    return way != UNPRUNED and way.pruner == UNPRUNED.pruner


def strategies(answered: Answered) -> dict[str, Policies]:
    """Every strategy's policies, by its name."""
    ways = answered.sample.prunings
    pruned = [way for way in ways if way != UNPRUNED]
    made = {
        SMALL: _small(answered),
        LARGE: _large(answered),
        CASCADE: _exits(answered, [UNPRUNED]),
        PRUNE: _prunes(answered, pruned),
        BOTH: _exits(answered, list(ways)),
        RANDOM: _random(answered),
        RANDOM_PRUNED: _random_pruned(answered, pruned),
        ORACLE: _oracle(answered),
    }
    collected = {name: list(policies) for name, policies in made.items()}
    return {name: _policies(every) for name, every in collected.items() if every}


def thresholds_of(scores: Floats) -> list[float]:
    """Thresholds that let some share of the records exit, in even steps from all to none."""
    cuts = np.quantile(scores, np.linspace(0, 1, SHARES), method="lower")
    return [*(float(one) for one in np.unique(cuts)), NOBODY_EXITS]


def _policies(every: list[_One]) -> Policies:
    ordered = sorted(every, key=lambda one: float(one[1].sum()))
    settings, costs, qualities = zip(*ordered, strict=True)
    return Policies(settings, np.stack(costs, axis=1), np.stack(qualities, axis=1))


def _small(answered: Answered) -> Iterator[_One]:
    yield Setting(), answered.sample.small_cost, answered.small


def _large(answered: Answered) -> Iterator[_One]:
    yield Setting(), answered.large_cost, answered.large_quality


def _exits(answered: Answered, ways: list[Pruned]) -> Iterator[_One]:
    sample = answered.sample
    for way in ways:
        large = answered.large[sample.prunings.index(way)]
        for threshold in thresholds_of(sample.scores):
            # The cascade in which nobody exits ran the small model too, in vain if unpruned.
            exits = sample.exits(threshold)
            cost = sample.cost(Candidate(threshold, way))
            if threshold == NOBODY_EXITS and way == UNPRUNED:
                cost = sample.small_cost + answered.large_cost
            setting = Setting(threshold=threshold, pruned=way)
            yield setting, cost, np.where(exits, answered.small, large)


def _prunes(answered: Answered, ways: list[Pruned]) -> Iterator[_One]:
    sample = answered.sample
    for way in ways:
        at = sample.prunings.index(way)
        cost = sample.large_cost[at] + sample.small_cost * guided(way)
        yield Setting(pruned=way), cost, answered.large[at]


def _random(answered: Answered) -> Iterator[_One]:
    small = (answered.sample.small_cost, answered.small)
    large = (answered.large_cost, answered.large_quality)
    for share in np.linspace(0, 1, SHARES):
        cost, quality = (share * a + (1 - share) * b for a, b in zip(small, large, strict=True))
        yield Setting(exit_share=float(share), pruned=UNPRUNED), cost, quality


def _random_pruned(answered: Answered, ways: list[Pruned]) -> Iterator[_One]:
    sample = answered.sample
    for way in ways:
        at = sample.prunings.index(way)
        for share in np.linspace(0, 1, SHARES):
            small = sample.small_cost * (1.0 if guided(way) else share)
            cost = small + (1 - share) * sample.large_cost[at]
            quality = share * answered.small + (1 - share) * answered.large[at]
            yield Setting(exit_share=float(share), pruned=way), cost, quality


def _oracle(answered: Answered) -> Iterator[_One]:
    """Options of a record: the small model, the large one in each way, with it where it guides."""
    sample = answered.sample
    guides = np.array([guided(way) for way in sample.prunings], dtype=float)
    costs = np.vstack([sample.small_cost, sample.large_cost + guides[:, None] * sample.small_cost])
    qualities = np.vstack([answered.small, answered.large])
    unit = answered.large_cost.mean()
    every = np.arange(len(sample.scores))
    for price in PRICES:
        best = np.argmax(qualities - price * costs / unit, axis=0)
        yield Setting(price=price), costs[best, every], qualities[best, every]
