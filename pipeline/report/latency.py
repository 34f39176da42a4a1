"""How long records took, as percentiles from a histogram: right to 1 %, whatever their number."""

from dataclasses import dataclass

import numpy as np

from pipeline.report.rows import Chunk, Flags, Floats
from sgl.types import Route

_LOWEST_S = 1e-4
_GROWTH = 1.02
_CLASSES = 1200
KINDS = ("small", "large", "exited", "escalated")
"""Of work, see durations_of."""
PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class Latency:
    """Seconds of some kind of work.

    Attributes:
        records: that it was measured of.
        percentiles: by name, as in "p50".
        longest: of all, exactly.
    """

    records: int
    percentiles: dict[str, float]
    longest: float


class Durations:
    """A histogram whose classes grow by 2 %."""

    def __init__(self) -> None:
        self._counts = np.zeros(_CLASSES, dtype=np.int64)
        self._longest = 0.0

    def add(self, seconds: Floats) -> None:
        """More durations; NaN is none."""
        known = seconds[~np.isnan(seconds)].clip(0)
        if len(known):
            place = np.log(np.maximum(known, _LOWEST_S) / _LOWEST_S) / np.log(_GROWTH)
            place = np.minimum(place.astype(np.int64), _CLASSES - 1)
            self._counts += np.bincount(place, minlength=_CLASSES)
            self._longest = max(self._longest, float(known.max()))

    def latency(self) -> Latency | None:
        """None of no duration."""
        total = int(self._counts.sum())
        if not total:
            return None
        reached = np.cumsum(self._counts)
        found = {}
        for percent in PERCENTILES:
            place = int(np.searchsorted(reached, total * percent / 100))
            middle = _LOWEST_S * _GROWTH ** (place + 0.5)
            found[f"p{percent}"] = round(min(middle, self._longest), 6)
        return Latency(total, found, round(self._longest, 6))


def durations_of(chunk: Chunk) -> dict[str, Floats]:
    """Seconds (n,) by kind of work; NaN where a row has none.

    small: the row's block in the small model; large: its batch in the large one; exited and
    escalated: from the start in the small model to the answer.
    """
    start, small_end = chunk.instants("small_started_at"), chunk.instants("small_finished_at")
    large_start = chunk.instants("large_started_at")
    large_end = chunk.instants("large_finished_at")

    def among(seconds: Floats, rows: Flags) -> Floats:
        return np.where(rows, seconds, np.nan)

    return {
        "small": small_end - start,
        "large": large_end - large_start,
        "exited": among(small_end - start, chunk.is_route(Route.SMALL)),
        "escalated": among(large_end - start, chunk.escalated),
    }
