import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.coalescer import Batched, Coalescer

FOREVER = 3600.0


class Recorder:
    """A model that doubles numbers and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    async def __call__(self, batch: Sequence[int]) -> list[int]:
        self.batches.append(list(batch))
        await asyncio.sleep(0)
        return [2 * item for item in batch]


@dataclass(frozen=True)
class Sized:
    """A coalescer whose items know their sizes."""

    coalescer: Coalescer[int, int]
    size: Callable[[int], int] = lambda item: 0

    async def submit(self, items: Sequence[int]) -> list[Batched[int]]:
        return await self.coalescer.submit(items, [self.size(item) for item in items])


def coalescer(
    run: Callable[[Sequence[int]], Awaitable[Sequence[int]]],
    *,
    batch_size: int = 4,
    size: Callable[[int], int] = lambda item: 0,
    max_calls: int = 100,
    linger_s: float = FOREVER,
    drained: Callable[[], bool] = lambda: False,
    deaths: list[BaseException] | None = None,
) -> Sized:
    async def is_drained() -> bool:
        return drained()

    inner: Coalescer[int, int] = Coalescer(
        run,
        batch_size=batch_size,
        most_padding=0.15,
        max_calls=max_calls,
        linger_s=linger_s,
        drained=is_drained,
        on_death=(deaths if deaths is not None else []).append,
    )
    return Sized(inner, size)


def values(results: Sequence[Batched[int]]) -> list[int]:
    return [item.result for item in results]


@settings(deadline=None, max_examples=60)
@given(
    calls=st.lists(st.lists(st.integers(), max_size=9), min_size=1, max_size=12),
    batch_size=st.integers(1, 7),
    max_calls=st.integers(1, 5),
    modulus=st.integers(1, 5),
)
def test_every_item_comes_back_once_in_order_and_no_call_hangs(
    calls: list[list[int]], batch_size: int, max_calls: int, modulus: int
) -> None:
    run = Recorder()

    async def scenario() -> list[list[Batched[int]]]:
        left = len(calls)
        slots = asyncio.Semaphore(max_calls)
        shared = coalescer(
            run,
            batch_size=batch_size,
            size=lambda item: item % modulus,
            max_calls=max_calls,
            drained=lambda: left == 0,
        )

        async def call(items: list[int]) -> list[Batched[int]]:
            nonlocal left
            async with slots:
                left -= 1
                return await shared.submit(items)

        return await asyncio.wait_for(asyncio.gather(*map(call, calls)), 30)

    results = asyncio.run(scenario())
    assert [values(result) for result in results] == [[2 * i for i in items] for items in calls]
    assert sorted(i for batch in run.batches for i in batch) == sorted(i for c in calls for i in c)
    assert all(1 <= len(batch) <= batch_size for batch in run.batches)


def test_items_of_several_calls_share_a_batch() -> None:
    run = Recorder()

    async def scenario() -> None:
        shared = coalescer(run)
        await asyncio.gather(*(shared.submit([i, i + 1]) for i in range(0, 16, 2)))

    asyncio.run(scenario())
    assert [len(batch) for batch in run.batches] == [4, 4, 4, 4]


def test_items_of_a_size_share_a_batch_and_the_oldest_is_always_in() -> None:
    run = Recorder()

    async def scenario() -> None:
        shared = coalescer(run, size=lambda item: item // 100, drained=lambda: True)
        await shared.submit([700, 100, 101, 701, 102, 702, 900, 703, 103])

    asyncio.run(scenario())
    assert run.batches == [[700, 701, 702, 703], [100, 101, 102, 103], [900]]


def test_a_partial_batch_waits_while_more_can_arrive() -> None:
    run = Recorder()

    async def scenario() -> None:
        shared = coalescer(run)
        first = asyncio.create_task(shared.submit([1, 2, 3]))
        await asyncio.sleep(0.05)
        assert run.batches == []
        assert not first.done()
        second = asyncio.create_task(shared.submit([4]))
        await asyncio.gather(first, second)

    asyncio.run(scenario())
    assert run.batches == [[1, 2, 3, 4]]


def test_a_partial_batch_runs_when_all_calls_wait() -> None:
    run = Recorder()

    async def scenario() -> None:
        shared = coalescer(run, max_calls=2)
        await asyncio.gather(shared.submit([1]), shared.submit([2]))

    asyncio.run(scenario())
    assert run.batches == [[1, 2]]


def test_a_call_whose_items_are_done_frees_its_slot_at_once() -> None:
    # Two calls may run. The first is done with the full batch, so that only the second waits and
    # its rest stays for the call that takes the free slot.
    run = Recorder()

    async def scenario() -> None:
        shared = coalescer(run, max_calls=2)
        first = asyncio.create_task(shared.submit([1, 2, 3]))
        second = asyncio.create_task(shared.submit([4, 5]))
        await first
        await asyncio.sleep(0.05)
        assert run.batches == [[1, 2, 3, 4]]
        third = asyncio.create_task(shared.submit([6]))
        await asyncio.gather(second, third)

    asyncio.run(scenario())
    assert run.batches == [[1, 2, 3, 4], [5, 6]]


def test_the_rest_runs_when_the_upstream_is_drained() -> None:
    run = Recorder()

    async def scenario() -> None:
        shared = coalescer(run, drained=lambda: True)
        await asyncio.gather(shared.submit([1, 2, 3]), shared.submit([4, 5]))

    asyncio.run(scenario())
    assert run.batches == [[1, 2, 3, 4], [5]]


def test_the_rest_runs_after_the_linger() -> None:
    run = Recorder()

    async def scenario() -> list[Batched[int]]:
        return await coalescer(run, linger_s=0.05).submit([1])

    assert values(asyncio.run(scenario())) == [2]


def test_nothing_to_do_runs_nothing() -> None:
    run = Recorder()

    async def scenario() -> list[Batched[int]]:
        return await coalescer(run).submit([])

    assert asyncio.run(scenario()) == []
    assert run.batches == []


def test_it_goes_on_after_it_was_idle() -> None:
    run = Recorder()

    async def scenario() -> None:
        shared = coalescer(run, batch_size=1)
        await shared.submit([1])
        await asyncio.sleep(0.02)
        await shared.submit([2])

    asyncio.run(scenario())
    assert run.batches == [[1], [2]]


def test_an_error_of_the_model_is_told_and_nothing_is_delivered() -> None:
    deaths: list[BaseException] = []

    async def broken(batch: Sequence[int]) -> list[int]:
        raise RuntimeError("device lost")

    async def scenario() -> None:
        shared = coalescer(broken, batch_size=1, deaths=deaths)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(shared.submit([1]), 0.1)

    asyncio.run(scenario())
    assert [str(error) for error in deaths] == ["device lost"]


def test_when_the_batch_of_an_item_ran_is_told() -> None:
    async def scenario() -> list[Batched[int]]:
        return await coalescer(Recorder(), batch_size=2, drained=lambda: True).submit([1, 2, 3])

    first, second, third = asyncio.run(scenario())
    assert (first.started_at, first.finished_at) == (second.started_at, second.finished_at)
    assert first.started_at <= first.finished_at <= third.started_at <= third.finished_at


def test_sizes_that_would_pad_too_much_wait_for_their_like() -> None:
    run = Recorder()

    async def scenario() -> None:
        shared = coalescer(run, size=lambda item: item, drained=lambda: False)
        first = asyncio.create_task(shared.submit([100, 30, 99, 31]))
        await asyncio.sleep(0.05)
        assert run.batches == []
        second = asyncio.create_task(shared.submit([98, 97, 29, 30]))
        await asyncio.gather(first, second)

    asyncio.run(scenario())
    assert run.batches == [[100, 99, 98, 97], [30, 31, 29, 30]]


@pytest.mark.parametrize(("max_calls", "share"), [(100, 4), (2, 3)])
def test_an_item_without_its_like_is_not_passed_over_for_ever(max_calls: int, share: int) -> None:
    """Neither by full batches nor by those that run because all calls wait."""
    run = Recorder()

    async def scenario() -> None:
        shared = coalescer(run, size=lambda item: item, linger_s=0.2, max_calls=max_calls)
        odd = asyncio.create_task(shared.submit([1000]))
        while not odd.done():
            await shared.submit([10] * share)
        await odd

    asyncio.run(asyncio.wait_for(scenario(), 30))
    assert [1000] in run.batches
    assert run.batches[0] == [10] * share


def test_an_arrival_while_the_upstream_is_asked_fills_the_batch_at_once() -> None:
    """The pump polls a quarter of a second apart; a full batch must not wait for the next poll."""
    run = Recorder()

    async def scenario() -> float:
        asked = asyncio.Event()
        answer = asyncio.Event()

        async def slow_drained() -> bool:
            asked.set()
            await answer.wait()
            return False

        inner: Coalescer[int, int] = Coalescer(
            run,
            batch_size=2,
            most_padding=0.15,
            max_calls=100,
            linger_s=FOREVER,
            drained=slow_drained,
            on_death=lambda error: None,
        )
        shared = Sized(inner)
        first = asyncio.create_task(shared.submit([1]))
        await asked.wait()
        second = asyncio.create_task(shared.submit([2]))
        await asyncio.sleep(0)
        answer.set()
        for _ in range(20):  # turns of the loop, no clock
            await asyncio.sleep(0)
        filled = len(run.batches)
        await asyncio.gather(first, second)
        return filled

    assert asyncio.run(scenario()) == 1
