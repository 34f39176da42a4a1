"""P-values for the mean of a loss, valid at any sample size.

Everything here is for independent records of one distribution and losses from 0 to 1 (or a known
interval). The null hypothesis is always "the mean loss is above the limit"; a small p-value is
evidence that it is not.

| bound             | for                 | source                                            |
|-------------------|---------------------|---------------------------------------------------|
| exact binomial    | losses 0 or 1       | Clopper and Pearson, Biometrika 26 (1934)         |
| Hoeffding-Bentkus | losses in [0, 1]    | Bates et al., J. ACM 68 (2021), section 3.1       |
| betting           | bounded differences | Waudby-Smith and Ramdas, JRSS-B 86 (2024), sec. 4 |
| betting anew      | drift               | Shin, Ramdas and Rinaldo, E-detectors (2024)      |

The first two see the mean alone. Betting sees the spread too, which is what makes a difference of
two scores, nearly always nought, a matter of hundreds of records and not of ten thousands.

Shapes: n records.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """What is known of losses before any is seen; it decides which bound is used.

    Attributes:
        low: the least that there can be.
        high: the largest.
        binary: they are 0 or 1, nothing else.
    """

    low: float = 0.0
    high: float = 1.0
    binary: bool = False


BINARY = Kind(binary=True)
SHARE = Kind()
DIFFERENCE = Kind(low=-1.0)
"""Of two shares."""

_E = float(np.e)
_MOST_BET = 0.5
"""Of the largest bet that cannot ruin: a bet of all is lost for good at the first bad record."""
_TOLERANCE = 1e-9
_ANEW = 100
"""Records from one bet to the next of a test for drift."""
_MOST_BETS = 64
"""Of those held at the same time; what is given up was staked and is lost, which is fair too."""


def binomial_p(failures: int, records: int, limit: float) -> float:
    """P-value of a mean above `limit`, from losses that are 0 or 1: P(Bin(n, limit) <= failures).

    Args:
        failures: sum of the losses.
        records: n.
        limit: 0 to 1.
    """
    return float(stats.binom.cdf(failures, records, limit)) if records else 1.0


def hoeffding_bentkus_p(mean: float, records: int, limit: float) -> float:
    """P-value of a mean above `limit`, from the mean of n losses in [0, 1]."""
    if not records or mean >= limit:
        return 1.0
    hoeffding = np.exp(-records * _binary_divergence(mean, limit))
    bentkus = _E * stats.binom.cdf(np.ceil(records * mean - _TOLERANCE), records, limit)
    return float(min(hoeffding, bentkus, 1.0))


def _binary_divergence(mean: float, limit: float) -> float:
    """Kullback-Leibler divergence of two coins."""
    if limit >= 1:
        return float("inf")
    low = mean * np.log(mean / limit) if mean > 0 else 0.0
    high = (1 - mean) * np.log((1 - mean) / (1 - limit)) if mean < 1 else 0.0
    return float(low + high)


@dataclass(frozen=True)
class BettingTest:
    """A bet against "the mean loss is above the limit", record by record, as far as it has come.

    A gambler who bets on small losses cannot, where the mean is at least the limit, expect to win;
    the chance ever to hold 1/p of the stake is at most p (Ville). Bets look back only, so that one
    may look after any record, go on, and look again.

    Attributes:
        limit: between the kind's ends.
        kind: of the losses.
        records: seen so far.
        total: sum of their gains (limit - loss, scaled to a range of 1).
        deviation: sum of squares of these about their running mean.
        log_wealth: now, of a stake of 1.
        best: the highest that it ever was.
    """

    limit: float
    kind: Kind = SHARE
    records: int = 0
    total: float = 0.0
    deviation: float = 0.0
    log_wealth: float = 0.0
    best: float = 0.0

    @property
    def p(self) -> float:
        """P-value of a mean above the limit, by the best moment so far."""
        return float(min(1.0, np.exp(-self.best)))

    @property
    def mean(self) -> float:
        """Of the losses so far; the limit where there are none."""
        width = self.kind.high - self.kind.low
        return self.limit - width * self.total / max(1, self.records)

    def after(self, losses: Floats) -> "BettingTest":
        """The test once more records were seen; in parts or at once, it comes to the same.

        Args:
            losses: (n,), in an order that does not depend on them.
        """
        return self._advanced(losses)[0]

    def _advanced(self, losses: Floats) -> tuple["BettingTest", Floats]:
        """The test after (n,) losses, and its log wealth after each of them."""
        width = self.kind.high - self.kind.low
        worst = (self.kind.high - self.limit) / width
        if len(losses) == 0 or worst <= 0:
            idle = np.full(len(losses), self.log_wealth)
            return replace(self, records=self.records + len(losses)), idle
        gains = (self.limit - losses) / width
        count = self.records + np.arange(len(gains) + 1)
        totals = _sums(self.total, gains)
        # Regularised by one gain of nought and a spread of a quarter.
        means = totals / (count + 1)
        deviations = _sums(self.deviation, (gains - means[1:]) ** 2)
        spreads = (0.25 + deviations) / (count + 1)
        # A bet knows the past alone: the last mean and spread are for the record to come.
        mean, spread = means[:-1], spreads[:-1]
        bets = np.clip(mean / (spread + mean**2), 0.0, _MOST_BET / worst)
        wealth = _sums(self.log_wealth, np.log1p(bets * gains))
        test = replace(
            self,
            records=int(count[-1]),
            total=float(totals[-1]),
            deviation=float(deviations[-1]),
            log_wealth=float(wealth[-1]),
            best=max(self.best, float(wealth.max())),
        )
        return test, wealth[1:]


@dataclass(frozen=True)
class DriftTest:
    """A bet against "the mean loss is above the limit, for each record given those before it".

    A single bet remembers all records since the first: after many good ones, as many bad ones go
    by before it dares anything. So every `_ANEW` records a part of the stake goes into a bet that
    begins then, and knows nothing of before. What they hold together is still a fair game of one
    stake, so that the chance ever to hold 1/p of it is at most p.

    Attributes:
        limit: between the kind's ends.
        kind: of the losses.
        records: seen so far.
        bets: that have begun and are still held: the first, and the latest.
        stakes: put into each.
        best: the most that was ever held, of a stake of 1.
    """

    limit: float
    kind: Kind = SHARE
    records: int = 0
    bets: tuple[BettingTest, ...] = ()
    stakes: tuple[float, ...] = ()
    best: float = 1.0

    @property
    def p(self) -> float:
        """P-value by the best moment so far."""
        return 1.0 / self.best

    @property
    def leading(self) -> BettingTest:
        """The bet that holds most: it began about where the losses became small."""
        held = [
            np.log(one) + bet.log_wealth for one, bet in zip(self.stakes, self.bets, strict=True)
        ]
        return self.bets[int(np.argmax(held))]

    def after(self, losses: Floats) -> "DriftTest":
        """The test once more records were seen; in parts or at once, it comes to the same.

        Args:
            losses: (n,), in an order that does not depend on them.
        """
        test, start = self, 0
        while start < len(losses):
            end = start + _ANEW - test.records % _ANEW
            test = test._begun()._within(losses[start:end])
            start = end
        return test

    def _begun(self) -> "DriftTest":
        number, rest = divmod(self.records, _ANEW)
        if rest:
            return self
        bets = (*self.bets, BettingTest(self.limit, self.kind))
        stakes = (*self.stakes, 1 / ((number + 1) * (number + 2)))  # all together they are 1
        if len(bets) > _MOST_BETS:
            bets, stakes = (bets[0], *bets[2:]), (stakes[0], *stakes[2:])
        return replace(self, bets=bets, stakes=stakes)

    def _within(self, losses: Floats) -> "DriftTest":
        bets, paths = zip(*(bet._advanced(losses) for bet in self.bets), strict=True)
        kept = 1 / (self.records // _ANEW + 2)
        held = kept + np.array(self.stakes) @ np.exp(np.stack(paths))
        best = max(self.best, float(held.max(initial=0.0)))
        return replace(self, records=self.records + len(losses), bets=bets, best=best)


def betting_p(losses: Floats, limit: float, kind: Kind = SHARE) -> float:
    """P-value of a mean above `limit`, from (n,) losses in an order that is not of their making."""
    return BettingTest(limit, kind).after(losses).p


def _sums(start: float, values: Floats) -> Floats:
    """(n + 1,) running sums, the start first."""
    return np.cumsum(np.concatenate([[start], values]))


def mean_p(losses: Floats, limit: float, kind: Kind) -> float:
    """P-value of a mean above `limit`, by the bound that fits the kind of losses best."""
    if limit >= kind.high:
        return 0.0
    if limit <= kind.low:
        return 1.0
    if kind.binary:
        return binomial_p(int(losses.sum()), len(losses), limit)
    if kind == SHARE:
        return hoeffding_bentkus_p(float(losses.mean()), len(losses), limit)
    return betting_p(losses, limit, kind)


def proportion_interval(successes: int, records: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's two-sided interval of a proportion; (0, 1) of no records."""
    if not records:
        return 0.0, 1.0
    interval = stats.binomtest(successes, records).proportion_ci(level, method="exact")
    return float(interval.low), float(interval.high)
