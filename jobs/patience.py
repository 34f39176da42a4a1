"""How long a cluster that does not answer is asked again, and what is said of it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sgl.errors import ClusterLostError

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True)
class Clock:
    """Time, which tests have of their own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Patience:
    """Waits between attempts, longer each time in which nothing came.

    Args:
        limit_s: so long the cluster may be out of reach, without a break.
        say: takes a line when it is lost, and one when it is found again.
        clock: of the machine.
        but: what else is to be said of a cluster that is lost.
    """

    def __init__(
        self, limit_s: float, say: Callable[[str], None], clock: Clock, but: str = ""
    ) -> None:
        self._limit_s = limit_s
        self._say = say
        self._clock = clock
        self._but = but
        self._pause_s = _FIRST_PAUSE_S
        self._lost_at: float | None = None

    async def lost(self, reason: str) -> None:
        """It did not do what it was asked: wait.

        Args:
            reason: as far as it is known.

        Raises:
            ClusterLostError: for too long.
        """
        because = f": {' '.join(reason.split())}" if reason else ""
        now = self._clock.now()
        if self._lost_at is None:
            self._lost_at = now
            self._say(
                f"the cluster is out of reach{self._but}{because}; asking again for "
                f"{self._limit_s:g} s"
            )
        left = self._lost_at + self._limit_s - now
        if left <= 0:
            raise ClusterLostError(
                f"the cluster was out of reach for {now - self._lost_at:.0f} s{because}"
            )
        await self.pause(left)

    def found(self) -> None:
        """It did."""
        if self._lost_at is not None:
            self._say(f"the cluster answers again, after {self._clock.now() - self._lost_at:.0f} s")
            self._lost_at = None
            self.news()

    def news(self) -> None:
        """What was waited for came: the next pause is short."""
        self._pause_s = _FIRST_PAUSE_S

    async def pause(self, at_most_s: float = _LONGEST_PAUSE_S) -> None:
        """Wait before the next attempt."""
        await self._clock.sleep(min(self._pause_s, at_most_s))
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
