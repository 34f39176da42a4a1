"""Full batches out of many concurrent calls that each bring a few items.

A batch is padded to its largest item, so that only items of one kind and of like size share one:
none is smaller than the largest by more than a limit. Which run, and when, in this order:
1. The oldest item has waited for `linger_s`: it runs with those of its size, so that neither a slow
   upstream nor others that find their like sooner can hold it up.
2. `batch_size` items of like size wait: run them, the oldest first.
3. Fewer wait, and nothing more can arrive: run the most that are of like size. That is so when as
   many calls as can run at the same time are waiting already, or when the upstream says that it is
   drained.
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
        started_at: time.time() when the batch started.
        finished_at: when it ended.
    """

    result: Result
    started_at: float
    finished_at: float


class _Call(Generic[Item, Result]):
    """One caller's items, until the last of them has its result."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.results: list[Batched[Result] | None] = [None] * len(items)
        self.missing = len(items)
        self.finished = asyncio.get_running_loop().create_future()


@dataclass(frozen=True)
class _Waiting(Generic[Item, Result]):
    """One item of a call, at its place in it."""

    call: "_Call[Item, Result]"
    place: int
    item: Item
    kind: int
    size: int
    since: float


class Coalescer(Generic[Item, Result]):
    """Collects items of concurrent calls into batches that run one at a time.

    Args:
        run: runs one batch; one result per item, in order.
        batch_size: the most items of a batch.
        most_padding: how much smaller than the largest of its batch an item may be, as a share.
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
        most_padding: float,
        max_calls: int,
        linger_s: float,
        drained: Callable[[], Awaitable[bool]],
        on_death: Callable[[BaseException], None],
    ) -> None:
        self._run = run
        self._batch_size = batch_size
        self._most_padding = most_padding
        self._max_calls = max_calls
        self._linger_s = linger_s
        self._drained = drained
        self._on_death = on_death
        self._waiting: list[_Waiting[Item, Result]] = []
        self._open_calls = 0
        self._arrival = asyncio.Event()
        # The loop keeps only a weak reference to a task.
        self._pump_task: asyncio.Task[None] | None = None

    async def submit(
        self, items: Sequence[Item], sizes: Sequence[int], kinds: Sequence[int] | None = None
    ) -> list[Batched[Result]]:
        """Wait until every item has run.

        Args:
            items: of one call.
            sizes: of the items, in any unit.
            kinds: of the items; those of different kinds share no batch. None: all are of one.

        Returns:
            In the items' order.
        """
        if not items:
            return []
        call: _Call[Item, Result] = _Call(items)
        self._open_calls += 1
        now = time.monotonic()
        self._waiting.extend(
            _Waiting(call, place, item, kind, size, now)
            for place, (item, kind, size) in enumerate(
                zip(items, kinds or [0] * len(items), sizes, strict=True)
            )
        )
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
            batch = await self._batch_due()
            taken = set(map(id, batch))
            self._waiting = [waiting for waiting in self._waiting if id(waiting) not in taken]
            started = time.time()
            results = await self._run([waiting.item for waiting in batch])
            finished = time.time()
            for waiting, result in zip(batch, results, strict=True):
                self._deliver(waiting.call, waiting.place, Batched(result, started, finished))

    async def _batch_due(self) -> "list[_Waiting[Item, Result]]":
        while True:
            # Before anything is awaited: an arrival during `drained` must end the wait below.
            self._arrival.clear()
            left = self._waiting[0].since + self._linger_s - time.monotonic()
            if left <= 0:
                return self._fullest(with_oldest=True)
            if len(self._waiting) >= self._batch_size:
                batch = self._fullest()
                if len(batch) == self._batch_size:
                    return batch
            if self._open_calls >= self._max_calls or await self._drained():
                return self._fullest()
            await self._next_arrival(min(left, _POLL_S))

    def _fullest(self, *, with_oldest: bool = False) -> "list[_Waiting[Item, Result]]":
        """The most items of like size; of several such batches the one that holds the oldest."""
        found: tuple[int, int, list[int]] = (0, 0, [])
        waiting = self._waiting
        order = sorted(
            range(len(waiting)), key=lambda place: (waiting[place].kind, waiting[place].size)
        )
        start = 0
        for end in range(len(order)):
            start = max(start, end + 1 - self._batch_size)
            last = waiting[order[end]]
            least = (last.kind, (1 - self._most_padding) * last.size)
            while (waiting[order[start]].kind, waiting[order[start]].size) < least:
                start += 1
            places = order[start : end + 1]
            if not with_oldest or 0 in places:
                found = max(found, (len(places), -min(places), places))
        return [waiting[place] for place in sorted(found[2])]

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
