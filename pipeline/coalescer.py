"""Full batches out of many concurrent calls that each bring a few items.

Flush policy, in this order:
1. `batch_size` items wait: run them.
2. Fewer wait, and nothing more can arrive: run them. That is so when as many calls as can run at
   the same time are waiting already, or when the upstream says that it is drained.
3. Fewer wait, and nothing has arrived for `linger_s`: run them, so that a slow upstream delays
   results and never blocks them.

Where more wait than a batch takes, the oldest item runs with those nearest to it in size: a batch
is padded to its longest item, and nobody waits for ever.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

_POLL_S = 0.25

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Batched(Generic[Result]):
    """One item's result and the batch it ran in.

    Attributes:
        result: of the item.
        batch_rows: items of that batch.
        started_at: time.time() when the batch started.
        finished_at: when it ended.
    """

    result: Result
    batch_rows: int
    started_at: float
    finished_at: float


class _Call(Generic[Item, Result]):
    """One caller's items, until the last of them has its result."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.results: list[Batched[Result] | None] = [None] * len(items)
        self.missing = len(items)
        self.finished = asyncio.get_running_loop().create_future()


class Coalescer(Generic[Item, Result]):
    """Collects items of concurrent calls into batches that run one at a time.

    Args:
        run: runs one batch; one result per item, in order.
        batch_size: the most items of a batch.
        size: of an item, in any unit.
        max_calls: how many calls can be in `submit` at the same time.
        linger_s: see the policy above.
        drained: whether no further call will come; asked while a partial batch waits.
        on_death: called with the error when `run` raises; nothing is delivered after that.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        batch_size: int,
        size: Callable[[Item], int],
        max_calls: int,
        linger_s: float,
        drained: Callable[[], Awaitable[bool]],
        on_death: Callable[[BaseException], None],
    ) -> None:
        self._run = run
        self._batch_size = batch_size
        self._size = size
        self._max_calls = max_calls
        self._linger_s = linger_s
        self._drained = drained
        self._on_death = on_death
        self._waiting: list[tuple[_Call[Item, Result], int, Item]] = []
        self._open_calls = 0
        self._arrival = asyncio.Event()
        self._last_arrival = 0.0
        # The loop keeps only a weak reference to a task.
        self._pump_task: asyncio.Task[None] | None = None

    async def submit(self, items: Sequence[Item]) -> list[Batched[Result]]:
        """Wait until every item has run; results in the items' order."""
        if not items:
            return []
        call: _Call[Item, Result] = _Call(items)
        self._open_calls += 1
        self._waiting.extend((call, place, item) for place, item in enumerate(items))
        self._last_arrival = time.monotonic()
        self._arrival.set()
        self._ensure_pump()
        await call.finished
        return [item for item in call.results if item is not None]

    def _ensure_pump(self) -> None:
        if self._pump_task is None or self._pump_task.done():
            self._pump_task = asyncio.get_running_loop().create_task(self._pump())
            self._pump_task.add_done_callback(self._pump_ended)

    async def _pump(self) -> None:
        while self._waiting:
            await self._batch_due()
            batch = self._take()
            started = time.time()
            results = await self._run([item for _, _, item in batch])
            finished = time.time()
            for (call, place, _), result in zip(batch, results, strict=True):
                self._deliver(call, place, Batched(result, len(batch), started, finished))

    def _take(self) -> list[tuple[_Call[Item, Result], int, Item]]:
        """The oldest waiting item and those nearest to it in size, in their order of arrival."""
        sizes = [self._size(item) for _, _, item in self._waiting]
        nearest = sorted(range(len(sizes)), key=lambda place: abs(sizes[place] - sizes[0]))
        taken = set(nearest[: self._batch_size])
        batch = [entry for place, entry in enumerate(self._waiting) if place in taken]
        self._waiting = [entry for place, entry in enumerate(self._waiting) if place not in taken]
        return batch

    async def _batch_due(self) -> None:
        while len(self._waiting) < self._batch_size:
            # Before anything is awaited: an arrival during `drained` must end the wait below.
            self._arrival.clear()
            if self._open_calls >= self._max_calls or await self._drained():
                return
            left = self._last_arrival + self._linger_s - time.monotonic()
            if left <= 0:
                return
            await self._next_arrival(min(left, _POLL_S))

    async def _next_arrival(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._arrival.wait(), timeout_s)

    def _deliver(self, call: _Call[Item, Result], place: int, item: Batched[Result]) -> None:
        call.results[place] = item
        call.missing -= 1
        if call.missing == 0:
            # Counted here and not when the caller resumes: its slot is free from now on, and the
            # pump must not take it for one that waits.
            self._open_calls -= 1
            call.finished.set_result(None)

    def _pump_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_death(error)
