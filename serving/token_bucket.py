"""A token bucket: so much per minute on average, a minute's worth at once."""

import time
from collections.abc import Callable


class TokenBucket:
    """Full at first. It may be overdrawn, for costs that are known too late.

    Args:
        per_minute: what flows in; also the size, if that is at least 1.
        clock: in seconds, never back.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.size = max(1.0, per_minute)
        self._per_s = per_minute / 60
        self._clock = clock
        self._level = self.size
        self._as_of = clock()

    @property
    def level(self) -> float:
        """What is in it now; below 0 where it is overdrawn."""
        now = self._clock()
        self._level = min(self.size, self._level + (now - self._as_of) * self._per_s)
        self._as_of = now
        return self._level

    def take(self, amount: float) -> None:
        """Take something out, whether it is there or not."""
        self._level = self.level - amount

    def wait_s(self, level: float) -> float:
        """Seconds until so much is in it, if nothing is taken; 0 where it is."""
        return max(0.0, (level - self.level) / self._per_s)
