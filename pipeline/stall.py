"""A run in which nothing moves and nobody works: replicas that found no place, as a rule.

Ray waits for ever, and in silence, for resources that somebody else holds or that have gone with a
node. Every process that is at work has a deadline of its own; this is for those that do not exist.
"""

import time
from collections.abc import Callable, Hashable

_SAID_EVERY_S = 60.0


class Stall:
    """Asked again and again whether the run has come to a standstill.

    Args:
        moved: changes whenever anything does; None where it cannot be told now.
        limit_s: standing still for longer is the end.
        told: what stands still, for the message: what is asked for and what is free.
        say: shows a line to the user.
        clock: seconds.
    """

    def __init__(
        self,
        moved: Callable[[], Hashable],
        limit_s: float,
        told: Callable[[], str],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._moved = moved
        self._limit_s = limit_s
        self._told = told
        self._say = say
        self._clock = clock
        self._last: Hashable = None
        self._since = self._said = clock()

    def __call__(self) -> str | None:
        """Why the run had better end; None while it need not."""
        now, state = self._clock(), self._moved()
        if state is None or state != self._last:
            self._last, self._since, self._said = state, now, now
            return None
        if now - self._since >= self._limit_s:
            return (
                f"nothing has moved for {now - self._since:.0f} s and no replica is at work: "
                f"{self._told()}; free what they wait for, or ask for less"
            )
        if now - self._said >= _SAID_EVERY_S:
            self._said = now
            self._say(f"waiting for {now - self._since:.0f} s already: {self._told()}")
        return None
