"""What the latest records tell: how many of them escalate, and how long each model takes.

Both are taken from a stretch of the latest records, or calls, over which they have not changed: the
stretch is doubled, back in time, as long as the half that is added does not differ from the later
one by more than chance. So a jump is seen at once, a small change as soon as there is enough to
tell it by, and what stays becomes more certain with every record.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

SURE = 3.0
"""Standard deviations to the limits of what may be true."""
_CHANGED = 4.0
"""Standard deviations between one half and the other."""
_LEAST_RECORDS = 30
"""Of a step, for its share to be near a normal distribution."""
_LEAST_CALLS = 4
_STEPS = 600


@dataclass(frozen=True)
class Rate:
    """Records for the large model, per record of the small one.

    Attributes:
        mean: of the latest records.
        low, high: what it may be as well.
        records: that it is taken from.
    """

    mean: float
    low: float
    high: float
    records: int


@dataclass(frozen=True)
class Pace:
    """Of the replicas of a pool.

    Attributes:
        record_s: seconds of one replica per record, mean of the latest calls.
        error: standard error of that, as a share of it.
    """

    record_s: float
    error: float


@dataclass(frozen=True)
class Served:
    """What the replicas of a pool have done, since the run's start.

    Attributes:
        calls: of the model.
        records: in them.
        seconds: of them.
        seconds_squared, records_squared, seconds_records: sums over the calls of these products.
    """

    calls: int = 0
    records: int = 0
    seconds: float = 0.0
    seconds_squared: float = 0.0
    records_squared: float = 0.0
    seconds_records: float = 0.0

    @classmethod
    def call(cls, records: int, seconds: float) -> "Served":
        """One call."""
        return cls(1, records, seconds, seconds**2, records**2, seconds * records)

    def plus(self, other: "Served") -> "Served":
        """Both."""
        return Served(
            self.calls + other.calls,
            self.records + other.records,
            self.seconds + other.seconds,
            self.seconds_squared + other.seconds_squared,
            self.records_squared + other.records_squared,
            self.seconds_records + other.seconds_records,
        )

    def since(self, before: "Served") -> "Served":
        """What has been done since."""
        return Served(
            self.calls - before.calls,
            self.records - before.records,
            self.seconds - before.seconds,
            self.seconds_squared - before.seconds_squared,
            self.records_squared - before.records_squared,
            self.seconds_records - before.seconds_records,
        )

    @property
    def mean_s(self) -> float:
        """Seconds per record, of all records: a call with few is no more than its records."""
        return self.seconds / self.records

    @property
    def variance(self) -> float:
        """Of a mean call's seconds per record; never none, as few calls may be alike by chance."""
        mean_s = self.mean_s
        off = self.seconds_squared - 2 * mean_s * self.seconds_records
        spread = (off + mean_s**2 * self.records_squared) * self.calls / self.records**2
        return max(spread, (self.mean_s / self.calls) ** 2) * self.calls / max(1, self.calls - 1)


Total = TypeVar("Total")


class _Totals(Generic[Total]):
    """Totals since the run's start, at moments one after the other."""

    def __init__(
        self, zero: Total, between: Callable[[Total, Total], Total], differ: Callable[..., bool]
    ) -> None:
        self._told: deque[Total] = deque([zero], maxlen=_STEPS)
        self._between = between
        self._differ = differ

    @property
    def last(self) -> Total:
        """What was told last."""
        return self._told[-1]

    def add(self, total: Total) -> None:
        """A later moment."""
        self._told.append(total)

    def latest(self) -> Total | None:
        """Over the longest stretch without a change, as doubling finds it; None of one moment."""
        told, steps = self._told, 1
        if len(told) == 1:
            return None
        while 2 * steps < len(told):
            middle = told[-1 - steps]
            older, later = self._between(told[-1 - 2 * steps], middle), self._since(middle)
            if self._differ(older, later):
                break
            steps *= 2
        return self._since(told[-1 - steps])

    def _since(self, before: Total) -> Total:
        return self._between(before, self._told[-1])


@dataclass(frozen=True)
class _Sent:
    """Records, those of them that escalated, and those that were probed."""

    records: int = 0
    escalated: int = 0
    probed: int = 0

    def since(self, before: "_Sent") -> "_Sent":
        return _Sent(
            self.records - before.records,
            self.escalated - before.escalated,
            self.probed - before.probed,
        )


class RecentRate:
    """Told again and again how many records the small model has done, and sent on.

    Whether a record escalates and whether it is probed are two chances, of which the second counts
    as often as there are ways in which the probe asks.

    Args:
        ways: in which the large model answers a probed record besides; 0 without a probe.
    """

    def __init__(self, ways: int = 0) -> None:
        self._ways = ways
        self._totals = _Totals(_Sent(), lambda a, b: b.since(a), _shares_differ)

    def add(self, records: int, sent: int, probes: int = 0) -> None:
        """Totals since the run's start; few new records wait for more.

        Args:
            records: that the small model has done.
            sent: of them, those that escalated.
            probes: requests that the probe has added.
        """
        if records - self._totals.last.records >= _LEAST_RECORDS:
            self._totals.add(_Sent(records, sent, probes // self._ways if self._ways else 0))

    def latest(self) -> Rate | None:
        """None while nothing is known."""
        found = self._totals.latest()
        if found is None:
            return None
        records = found.records
        escalated, probed = found.escalated / records, found.probed / records
        variance = _variance(escalated, records)
        if self._ways:
            variance += self._ways**2 * _variance(probed, records)
        mean = escalated + self._ways * probed
        around = SURE * math.sqrt(variance / records)
        return Rate(mean, max(0.0, mean - around), mean + around, records)


class RecentPace:
    """Told again and again what a pool has done."""

    def __init__(self) -> None:
        self._totals = _Totals(Served(), lambda a, b: b.since(a), _paces_differ)

    def add(self, served: Served) -> None:
        """Totals since the run's start; few new calls wait for more."""
        if served.calls - self._totals.last.calls >= _LEAST_CALLS:
            self._totals.add(served)

    def latest(self) -> Pace | None:
        """None while nothing is known."""
        found = self._totals.latest()
        if found is None:
            return None
        return Pace(found.mean_s, math.sqrt(found.variance / found.calls) / found.mean_s)


def _shares_differ(one: _Sent, other: _Sent) -> bool:
    n, m = one.records, other.records
    return _differ(n, one.escalated, m, other.escalated) or _differ(n, one.probed, m, other.probed)


def _differ(n: int, k: int, m: int, j: int) -> bool:
    variance = _variance((k + j) / (n + m), n + m)
    return abs(k / n - j / m) > _CHANGED * math.sqrt(variance * (1 / n + 1 / m))


def _paces_differ(one: Served, other: Served) -> bool:
    variance = one.variance / one.calls + other.variance / other.calls
    return abs(one.mean_s - other.mean_s) > _CHANGED * math.sqrt(variance)


def _variance(share: float, records: int) -> float:
    """Of one record; never none, as 0 or 1 may be chance."""
    return max(share * (1 - share), 1 / records)
