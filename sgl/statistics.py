"""How sure a mean is: intervals by bootstrap over clusters, or by formula where that is better.

Records about one image are not independent, so whole images are resampled (clusters): an interval
over records would be too narrow.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Statistic = Callable[[Floats], float]
"""Of record weights (n,), adding up to any positive number."""

RESAMPLES = 1000
LEVEL = 0.95
MANY_CLUSTERS = 10_000
_SEED = 11
_Z = 1.959963984540054
"""The standard normal's quantile at (1 + LEVEL) / 2."""
_CELLS = 1 << 22
"""Draws held in memory at one time: 32 MiB."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Bootstrap:
    """Percentile intervals from resampled clusters; the same for the same clusters.

    Memory grows with the clusters and not with the resamples.

    Args:
        clusters: (n,) what each record belongs to: numbers or names.
    """

    def __init__(self, clusters: npt.ArrayLike) -> None:
        _, self._of_record = np.unique(np.asarray(clusters), return_inverse=True)
        self._count = int(self._of_record.max()) + 1

    def estimate(self, statistic: Statistic) -> Estimate:
        """Of all records; the interval leaves out resamples without a value."""
        return self.estimates([statistic])[0]

    def estimates(self, statistics: Sequence[Statistic]) -> list[Estimate]:
        """Of several figures: drawing the resamples takes longer than most that is done on them."""
        every = np.ones(len(self._of_record))
        weights = (
            row[self._of_record].astype(np.float64) for draws in self._draws() for row in draws
        )
        resampled = np.array([[statistic(one) for statistic in statistics] for one in weights])
        return [
            estimate_of(statistic(every), found)
            for statistic, found in zip(statistics, resampled.T, strict=True)
        ]

    def mean(self, values: npt.ArrayLike, where: npt.NDArray[np.bool_] | None = None) -> Estimate:
        """Of (n,) values, or of some of them."""
        numbers = np.asarray(values, dtype=np.float64)
        chosen = np.ones(len(numbers), dtype=bool) if where is None else where
        sums, counts = self._sums(numbers, chosen), self._sums(np.ones(len(numbers)), chosen)
        return estimate_of(_share(sums.sum(), counts.sum()), self._shares(sums, counts))

    def ratio(self, values: npt.ArrayLike, to: npt.ArrayLike) -> Estimate:
        """Of two means over the same records.

        Where no record differs from the others in it, the interval has no width: `unseen` says what
        few records leave open.
        """
        above, below = (np.asarray(one, dtype=np.float64) for one in (values, to))
        every = np.ones(len(above), dtype=bool)
        sums, others = self._sums(above, every), self._sums(below, every)
        return estimate_of(_share(sums.sum(), others.sum()), self._shares(sums, others))

    def totals(self, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Sums of (n, k) values: (1 + RESAMPLES, k), of all records and then of every resample."""
        columns = np.asarray(values, dtype=np.float64).T
        every = np.ones(len(self._of_record), dtype=bool)
        sums = np.stack([self._sums(column, every) for column in columns], axis=1)
        return np.vstack([sums.sum(axis=0), *(draws @ sums for draws in self._draws())])

    def _sums(self, values: Floats, chosen: npt.NDArray[np.bool_]) -> Floats:
        """By cluster, which is all that a mean's resamples need of the records."""
        of, some = self._of_record[chosen], values[chosen]
        return np.bincount(of, weights=some, minlength=self._count).astype(np.float64)

    def _shares(self, parts: Floats, wholes: Floats) -> Floats:
        found = [(draws @ parts, draws @ wholes) for draws in self._draws()]
        part, whole = (np.concatenate(one) for one in zip(*found, strict=True))
        return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole != 0)

    def _draws(self) -> Iterator[npt.NDArray[np.int64]]:
        """How often each cluster is in a resample: (resamples, clusters), some at a time."""
        rng = np.random.default_rng(_SEED)
        even = np.full(self._count, 1 / self._count)
        step = max(1, _CELLS // self._count)
        for start in range(0, RESAMPLES, step):
            yield rng.multinomial(self._count, even, size=min(step, RESAMPLES - start))


def wilson(successes: float, trials: float) -> Estimate:
    """A plain proportion with Wilson's score interval, which has a width at 0 and 1 too."""
    share, z2 = successes / trials, _Z * _Z
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    margin = _Z * sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return Estimate(share, max(0.0, centre - margin), min(1.0, centre + margin))


def unseen(trials: int) -> float:
    """The share of which none may be seen in so many trials, at 95 % confidence: 0.05^(1/n)."""
    return 1 - float((1 - LEVEL) ** (1 / trials))


def mean_score(scores: npt.ArrayLike, clusters: npt.ArrayLike | None = None) -> Estimate:
    """The mean of scores, with the interval that fits them.

    Right-or-wrong scores without clusters: Wilson's. Scores that are all 0 or all 1: Wilson's, each
    cluster counted once, because resamples could not differ. Scores in [0, 1] in very many
    clusters: Wilson's, with as many trials as give the standard error over clusters, where
    resampling would take minutes for the same. All others: bootstrap over clusters.

    Args:
        scores: (n,) at least one.
        clusters: (n,) numbers or names; None means that each record stands alone.
    """
    values = np.asarray(scores, dtype=np.float64)
    named = np.arange(len(values)) if clusters is None else np.asarray(clusters)
    _, of_record = np.unique(named, return_inverse=True)
    alone, mean = int(of_record.max()) + 1, float(values.mean())
    plain = bool(np.isin(values, (0.0, 1.0)).all())
    if plain and (alone == len(values) or mean in (0.0, 1.0)):
        return wilson(mean * alone, alone)
    if alone >= MANY_CLUSTERS and values.min() >= 0 and values.max() <= 1:
        deviations = np.bincount(of_record, weights=values - mean)
        variance = float(deviations @ deviations) / len(values) ** 2
        trials = mean * (1 - mean) / variance if variance else float(alone)
        return wilson(mean * trials, trials)
    return Bootstrap(of_record).mean(values)


def estimate_of(value: float, resampled: Floats) -> Estimate:
    """A figure with the interval that its resamples span; those without a value are left out."""
    margin = (1 - LEVEL) / 2
    low, high = np.nanquantile(resampled, (margin, 1 - margin))
    return Estimate(*(round(float(one), 4) for one in (value, low, high)))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
