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
        paces, squares: sums over the calls of seconds per record, and of its square.
    """

    calls: int = 0
    records: int = 0
    paces: float = 0.0
    squares: float = 0.0

    @classmethod
    def call(cls, records: int, seconds: float) -> "Served":
        """One call."""
        return cls(1, records, seconds / records, (seconds / records) ** 2)

    def plus(self, other: "Served") -> "Served":
        """Both."""
        return Served(
            self.calls + other.calls,
            self.records + other.records,
            self.paces + other.paces,
            self.squares + other.squares,
        )

    def since(self, before: "Served") -> "Served":
        """What has been done since."""
        return Served(
            self.calls - before.calls,
            self.records - before.records,
            self.paces - before.paces,
            self.squares - before.squares,
        )

    @property
    def mean_s(self) -> float:
        """Seconds per record."""
        return self.paces / self.calls

    @property
    def variance(self) -> float:
        """Of one call's seconds per record; never none, as few calls may be alike by chance."""
        spread = self.squares / self.calls - self.mean_s**2
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


class RecentRate:
    """Told again and again how many records the small model has done, and sent on."""

    def __init__(self) -> None:
        self._totals = _Totals((0, 0), lambda a, b: (b[0] - a[0], b[1] - a[1]), _shares_differ)

    def add(self, records: int, sent: int) -> None:
        """Totals since the run's start; few new records wait for more."""
        if records - self._totals.last[0] >= _LEAST_RECORDS:
            self._totals.add((records, sent))

    def latest(self) -> Rate | None:
        """None while nothing is known."""
        found = self._totals.latest()
        if found is None:
            return None
        records, sent = found
        mean = sent / records
        around = SURE * math.sqrt(_variance(mean, records) / records)
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


def _shares_differ(one: tuple[int, int], other: tuple[int, int]) -> bool:
    (n, k), (m, j) = one, other
    variance = _variance((k + j) / (n + m), n + m)
    return abs(k / n - j / m) > _CHANGED * math.sqrt(variance * (1 / n + 1 / m))


def _paces_differ(one: Served, other: Served) -> bool:
    variance = one.variance / one.calls + other.variance / other.calls
    return abs(one.mean_s - other.mean_s) > _CHANGED * math.sqrt(variance)


def _variance(share: float, records: int) -> float:
    """Of one record; never none, as 0 or 1 may be chance. Probes can raise a share above 1."""
    share = min(1.0, share)
    return max(share * (1 - share), 1 / records)
