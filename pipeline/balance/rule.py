"""The rule: which split finishes the remaining work soonest, and whether to move is worth it.

    n_small, n_large    replicas
    s_small, s_large    seconds of one replica per record
    r                   records for the large model, per record of the small one
    R                   records that the small model has not done
    Q                   records that wait for the large model or are in it
    H                   of these, those that large replicas hold already; they cannot move

The pools work at the same time, so that the later one decides:

    T = max( R s_small / n_small,  (Q + R r) s_large / n_large,  H s_large / n_large before )

A move costs what its devices do not do while they change hands: for as long as the pool that grows
takes to load a model, the one that gives has its replicas less and the other has not got its own.
Then what is left goes on as above. A move has to be worth it by `MARGIN` at the rate that was seen
and at both of its limits. So chance alone moves nothing, and neither does a run that is nearly
over. To be undone, a move would have to be wrong by twice the margin.

What decides between splits is r s_large / s_small. So what is not known of the seconds is laid upon
the limits of the rate.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.balance.evidence import SURE, Pace, Rate
from pipeline.balance.splits import Split

MARGIN = 0.05
"""Of the remaining time, that a move must save."""


@dataclass(frozen=True)
class Seen:
    """What is known of the models.

    Attributes:
        rate: records for the large model, per record of the small one.
        small, large: pace of a replica.
        small_start_s, large_start_s: from asking for a replica to its first record.
    """

    rate: Rate
    small: Pace
    large: Pace
    small_start_s: float
    large_start_s: float

    @property
    def small_s(self) -> float:
        """Seconds of one replica per record."""
        return self.small.record_s

    @property
    def large_s(self) -> float:
        """Likewise."""
        return self.large.record_s

    def rates(self) -> tuple[float, float, float]:
        """The mean of the rate, and the least and the most that it may be worth."""
        rate = self.rate
        around = SURE * rate.mean * math.hypot(self.small.error, self.large.error)
        low, high = (math.hypot(rate.mean - limit, around) for limit in (rate.low, rate.high))
        return rate.mean, max(0.0, rate.mean - low), rate.mean + high


@dataclass(frozen=True)
class Left:
    """The remaining work, in records.

    Attributes:
        records: that the small model has not done.
        waiting: for the large model, or in it.
        held: of these, by large replicas already.
    """

    records: float
    waiting: float
    held: float


@dataclass(frozen=True)
class Forecast:
    """A move.

    Attributes:
        split: to go to.
        stay_s: the remaining time without it.
        move_s: with it.
    """

    split: Split
    stay_s: float
    move_s: float


def worthwhile(now: Split, splits: Iterable[Split], left: Left, seen: Seen) -> list[Forecast]:
    """The moves that pay at every rate that may be the true one, the best first.

    Args:
        now: the replicas that there are.
        splits: that are allowed.
        left: the remaining work.
        seen: of the models.
    """
    rates = seen.rates()
    stays = [stay_s(now, left, seen, rate) for rate in rates]
    found = []
    for split in splits:
        moves = [move_s(now, split, left, seen, rate) for rate in rates]
        if split != now and all(m < (1 - MARGIN) * s for m, s in zip(moves, stays, strict=True)):
            found.append(Forecast(split, stays[0], moves[0]))
    return sorted(found, key=lambda one: (one.move_s, abs(one.split.large - now.large)))


def stay_s(split: Split, left: Left, seen: Seen, rate: float) -> float:
    """Seconds until a split has done what is left."""
    small = _over(left.records * seen.small_s, split.small)
    return max(small, _over((left.waiting + left.records * rate) * seen.large_s, split.large))


def move_s(now: Split, then: Split, left: Left, seen: Seen, rate: float) -> float:
    """The same, where the replicas change on the way."""
    start_s = seen.large_start_s if then.large > now.large else seen.small_start_s
    small, large = min(now.small, then.small), min(now.large, then.large)
    done = min(left.records, small * start_s / seen.small_s)
    answered = min(left.waiting + done * rate, large * start_s / seen.large_s)
    later = Left(left.records - done, left.waiting + done * rate - answered, 0.0)
    whole = start_s + stay_s(then, later, seen, rate)
    return max(whole, _over(left.held * seen.large_s, now.large))


def _over(work_s: float, replicas: int) -> float:
    if work_s <= 0:
        return 0.0
    return work_s / replicas if replicas else float("inf")
