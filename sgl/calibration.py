"""The cheapest cascade that keeps a stated quality, with a statistical guarantee.

A candidate is a threshold together with a pruning of the large model; "large only" (no record
exits, nothing is pruned) and "small only" (all exit) are among them. From a sample on which both
models have answered, in every way to prune, one candidate is chosen such that

    P( its mean loss on new records of the same distribution > the limit ) <= delta.

Learn then Test (Angelopoulos et al., Ann. Appl. Stat. 19 (2025), arXiv 2110.01052) turns the choice
into tests: each candidate's null hypothesis is that its mean loss is above the limit, and those
that are rejected while the chance of any false rejection stays below delta are safe, so that the
cheapest of them may be taken, however it is looked for. Several targets at once are one hypothesis
per candidate: its p-value is the largest of theirs.

The order of the tests is learnt (Pareto Testing; Laufer-Goldenshluger et al., ICLR 2023, arXiv
2210.07913): on a part of the sample the candidates are found that no other one beats in both
p-value and aim, and a path is laid from the safest of them to the cheapest; on the other part they
are tested along it, each at delta, until the first that fails. No correction for their number is
needed, so the grid may be fine.

Shapes: n records, P ways to prune, C candidates, G targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sgl.bounds import Floats, Kind, mean_p
from sgl.sample_size import LEARNING_SHARE, records_needed

NOBODY_EXITS = 1.01
"""A threshold: scores are at most 1."""


@dataclass(frozen=True)
class Pruned:
    """One way to run the large model; a keep ratio of 1 is unpruned."""

    prune_layer: float
    keep_ratio: float
    pruner: str = "guided"


@dataclass(frozen=True)
class Candidate:
    """One cascade.

    Attributes:
        threshold: exit score from which the small model's answer stands.
        pruned: of the large model, on the others.
    """

    threshold: float
    pruned: Pruned


UNPRUNED = Pruned(0.0, 1.0)
LARGE_ONLY = Candidate(NOBODY_EXITS, UNPRUNED)
"""It needs no small model."""


@dataclass(frozen=True)
class Losses:
    """What one target loses on every record.

    Attributes:
        small: (n,) by the small model's answer.
        large: (P, n) by the large model's, in each way to prune.
        kind: of these numbers.
    """

    small: Floats
    large: Floats
    kind: Kind

    def of(self, candidate: Candidate, sample: "Sample") -> Floats:
        """(n,) of a cascade."""
        way = sample.prunings.index(candidate.pruned)
        return np.where(sample.exits(candidate.threshold), self.small, self.large[way])


@dataclass(frozen=True)
class Target:
    """Something that must not be exceeded on average.

    Attributes:
        name: as the user says it.
        limit: of the mean loss.
        losses: on the sample.
    """

    name: str
    limit: float
    losses: Losses


@dataclass(frozen=True)
class Sample:
    """Records on which both models have answered, in an order that means nothing.

    Attributes:
        scores: (n,) exit scores.
        prunings: P ways, the unpruned one among them.
        small_cost: (n,) of the small model.
        large_cost: (P, n) of the large one; both in one unit.
    """

    scores: Floats
    prunings: tuple[Pruned, ...]
    small_cost: Floats
    large_cost: Floats

    def exits(self, threshold: float) -> npt.NDArray[np.bool_]:
        """(n,) whether the small model's answer stands."""
        return self.scores >= threshold

    def cost(self, candidate: Candidate) -> Floats:
        """(n,) of a cascade; of the large model alone where nothing exits and nothing is pruned."""
        large = self.large_cost[self.prunings.index(candidate.pruned)]
        if candidate == LARGE_ONLY:
            return large
        return self.small_cost + np.where(self.exits(candidate.threshold), 0.0, large)


@dataclass(frozen=True)
class Choice:
    """What calibration came to.

    Attributes:
        candidate: the best that is safe and cheaper than the large model alone; None where there is
            none.
        estimates: by target, its mean loss on the records of the test; without a candidate, that of
            the nearest. No bound: the records that it was chosen by flatter it, and what holds with
            probability 1 - delta is that no target is exceeded.
        tested: candidates in the order of their tests; where one failed, it is the last.
        records: of the test.
        nearest: where there is no candidate, the one with the least p-value; None where everything
            is dearer than the large model alone.
        needed: records of a sample that would do, 4 times out of 5, were the losses of the nearest
            what they seem; None where it seems to lose too much at any size.
    """

    candidate: Candidate | None
    estimates: dict[str, float]
    tested: tuple[Candidate, ...]
    records: int
    nearest: Candidate | None = None
    needed: int | None = None


def thresholds() -> tuple[float, ...]:
    """A grid that is known before any score is: even, and finer towards 1, where scores crowd."""
    even = np.linspace(0, 0.98, 50)
    fine = 1 - np.geomspace(0.01, 1e-6, 33)
    return tuple(float(one) for one in (*even, *fine, NOBODY_EXITS))


def calibrate(
    sample: Sample,
    targets: Sequence[Target],
    delta: float,
    *,
    aim: Losses | None = None,
    seed: int = 0,
) -> Choice:
    """Choose the best safe cascade.

    Args:
        sample: independent records of the distribution that the cascade will meet.
        targets: at least one; all of them are met at once.
        delta: the chance that is accepted of a target not being met.
        aim: what to lose least of among the safe ones; None is cost.
        seed: of the split into the part that orders and the part that tests.
    """
    shuffled = np.random.default_rng(seed).permutation(len(sample.scores))
    first = int(len(shuffled) * LEARNING_SHARE)
    learn, test = shuffled[:first], shuffled[first:]
    search = _Search(sample, targets, aim, learn)
    tested: list[Candidate] = []
    safe: list[Candidate] = []
    for candidate in search.path(learn):
        tested.append(candidate)
        if search.p_value(candidate, test) > delta:
            break
        safe.append(candidate)
    if not search.grid:
        return Choice(None, {}, (), len(test))
    # By all records: cost and aim are no part of the guarantee, and any of the safe may be taken.
    cheaper = [one for one in safe if search.is_cheaper(one, shuffled)]
    if not cheaper:
        nearest = min(search.grid, key=lambda one: search.p_value(one, shuffled))
        needed = search.needed(nearest, delta, shuffled)
        estimates = search.estimates(nearest, test)
        return Choice(None, estimates, tuple(tested), len(test), nearest, needed)
    best = min(cheaper, key=lambda one: search.aims(one, shuffled))
    return Choice(best, search.estimates(best, test), tuple(tested), len(test))


Records: TypeAlias = npt.NDArray[np.int64]


class _Search:
    """The grid over one sample, and what is known of its candidates on some of the records.

    Candidates are those that are cheaper than the large model alone on the records that order them:
    what is tested must not depend on the records of the test.
    """

    def __init__(
        self, sample: Sample, targets: Sequence[Target], aim: Losses | None, learn: Records
    ) -> None:
        self._sample = sample
        self._targets = targets
        self._aim = aim
        every = [Candidate(t, way) for way in sample.prunings for t in thresholds()]
        self.grid = [one for one in every if self.is_cheaper(one, learn)]

    def is_cheaper(self, candidate: Candidate, records: Records) -> bool:
        """Than the large model alone."""
        costs = (self._sample.cost(one)[records].mean() for one in (candidate, LARGE_ONLY))
        return bool(np.less(*costs))

    def aims(self, candidate: Candidate, records: Records) -> float:
        """Mean of what is to be small."""
        if self._aim is None:
            return float(self._sample.cost(candidate)[records].mean())
        return float(self._aim.of(candidate, self._sample)[records].mean())

    def p_value(self, candidate: Candidate, records: Records) -> float:
        """Of "at least one target is not met"."""
        return max(
            mean_p(one.losses.of(candidate, self._sample)[records], one.limit, one.losses.kind)
            for one in self._targets
        )

    def estimates(self, candidate: Candidate, records: Records) -> dict[str, float]:
        """Its mean losses, by target."""
        return {
            one.name: float(one.losses.of(candidate, self._sample)[records].mean())
            for one in self._targets
        }

    def path(self, records: Records) -> list[Candidate]:
        """From the safest candidate to the one with the least aim, through the Pareto front.

        Between two of the front come those with the pruning of the second that seem as safe and
        whose aim lies between: a front learnt from few records leaps, and what fails at the end of
        a leap may hold half-way.
        """
        p_value = {one: self.p_value(one, records) for one in self.grid}
        aim = {one: self.aims(one, records) for one in self.grid}
        path: list[Candidate] = []
        least = np.inf
        for one in sorted(self.grid, key=lambda one: (p_value[one], aim[one])):
            if aim[one] >= least:
                continue
            between = [
                other
                for other in self.grid
                if other.pruned == one.pruned
                and aim[one] < aim[other] < least
                and p_value[other] <= p_value[one]
            ]
            path += [*sorted(between, key=lambda other: -aim[other]), one]
            least = aim[one]
        return path

    def needed(self, candidate: Candidate, delta: float, records: Records) -> int | None:
        """See Choice."""
        sizes = [
            records_needed(
                one.losses.of(candidate, self._sample)[records],
                one.limit,
                delta,
                one.losses.kind,
            )
            for one in self._targets
        ]
        return None if None in sizes else max(size for size in sizes if size is not None)
