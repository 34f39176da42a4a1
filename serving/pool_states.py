"""How many replicas the pools have, as far as is known; nobody who asks waits for Ray Serve.

What counts is evidence. A controller that cannot be asked, or that is about to find its replicas
again after its own death, has none: what was seen before stands, and what nobody knows is tried.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from serving.backend import PoolState

logger = logging.getLogger(__name__)

_POLL_S = 0.25
_LAG_S = 2.0
"""A replica that has died is said to run for at most about so long."""
_STALE_S = 5.0
"""A pool that had no replica so long ago may have one."""
_FIRST_S = 2.0
_SERVE = ("RUNNING", "PENDING_MIGRATION")
_RECOVERING = "RECOVERING"
_STOPPING = "STOPPING"

Reported: TypeAlias = Mapping[str, Mapping[str, int]]
"""Replicas by pool and state, as Ray Serve names them."""


@dataclass(frozen=True, slots=True)
class _Seen:
    serve: int
    finish: int
    """Take no more requests, and may have some."""


class PoolStates:
    """Asks again and again, from the first question of others on.

    Args:
        wanted: replicas by pool.
        ask: Ray Serve; may be slow, or fail.
    """

    def __init__(self, wanted: Mapping[str, int], ask: Callable[[], Reported]) -> None:
        self._wanted, self._ask = dict(wanted), ask
        self._seen: dict[str, _Seen] = {}
        self._heard: float | None = None
        self._fails = False
        self._dead: set[str] = set()
        self._at_most: dict[str, tuple[int, float]] = {}
        self._told: object = None
        self._change = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def now(self) -> dict[str, PoolState]:
        """As last seen; what is not known counts as none."""
        self._watch()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_S):
                while self._heard is None:
                    await self._change.wait()
        return {name: PoolState(self._count(name) or 0, n) for name, n in self._wanted.items()}

    def may_take(self, pool: str) -> bool:
        """Whether some replica could take a request, for all that is known."""
        self._watch()
        return self._count(pool) != 0

    async def has_some(self, pool: str, within_s: float) -> bool:
        """Wait until some replica may take a request, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not self.may_take(pool):
                    await self._change.wait()
        return self.may_take(pool)

    async def is_gone(self, pool: str, for_s: float) -> None:
        """Returns once no replica of a pool could have had any request for so long."""
        while True:
            while self.may_take(pool) or self._finishes(pool):
                await self._change.wait()
            if not await self.has_some(pool, for_s) and not self._finishes(pool):
                return

    def died(self, pool: str, replica: str) -> None:
        """A replica died under a request; Ray Serve will notice a little later.

        Args:
            pool: of it.
            replica: its id, as all requests that it had tell of it.
        """
        if replica in self._dead:
            return
        self._dead.add(replica)
        known = self._count(pool)
        left = max(0, (self._wanted[pool] if known is None else known) - 1)
        self._at_most[pool] = (left, time.monotonic() + _LAG_S)
        self._tell()

    def _count(self, pool: str) -> int | None:
        """Replicas that serve; None where it is not known."""
        now = time.monotonic()
        seen = self._seen[pool].serve if pool in self._seen else None
        most, until = self._at_most.get(pool, (0, now))
        if now < until:
            return most if seen is None else min(most, seen)
        if seen == 0 and now - (self._heard or 0.0) > _STALE_S:
            return None
        return seen

    def _finishes(self, pool: str) -> bool:
        return pool in self._seen and self._seen[pool].finish > 0

    def _watch(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._refresh())

    async def _refresh(self) -> None:
        asking: asyncio.Task[Reported] | None = None
        while True:
            asking = asking or asyncio.create_task(asyncio.to_thread(self._ask))
            await asyncio.wait({asking}, timeout=_POLL_S)
            if asking.done():
                self._hear(asking)
                asking = None
            self._tell()
            await asyncio.sleep(_POLL_S)

    def _hear(self, asked: "asyncio.Task[Reported]") -> None:
        try:
            reported = asked.result()
        except Exception as error:  # whatever it is, the next time may be better
            if not self._fails:
                logger.warning("Ray Serve does not say how the pools do: %s", error)
            self._fails = True
            return
        self._fails, self._heard = False, time.monotonic()
        for pool in self._wanted:
            if (seen := _seen_in(reported.get(pool, {}))) is not None:
                self._seen[pool] = seen

    def _tell(self) -> None:
        """Wake whoever waits for a change, if there is one."""
        counts = [(self._count(pool), self._finishes(pool)) for pool in self._wanted]
        known = (self._heard is not None, counts)
        if known != self._told:
            self._told = known
            self._change.set()
            self._change = asyncio.Event()


def _seen_in(states: Mapping[str, int]) -> _Seen | None:
    """What a report says; None where a controller has not found its replicas again."""
    serve = sum(states.get(state, 0) for state in _SERVE)
    if not serve and (not any(states.values()) or states.get(_RECOVERING)):
        return None
    return _Seen(serve, states.get(_STOPPING, 0))
