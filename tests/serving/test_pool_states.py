"""What is known of the pools while Ray Serve is slow, silent, or behind the times."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from serving import pool_states
from serving.backend import PoolState
from serving.pool_states import PoolStates

pytestmark = pytest.mark.anyio

ONE = {"small": 1}


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_states, "_POLL_S", 0.01)


class Reports:
    """What Ray Serve says, which tests change on the way."""

    def __init__(self, **states: Any) -> None:
        self.states: dict[str, Any] | Exception = states

    def __call__(self) -> dict[str, Any]:
        if isinstance(self.states, Exception):
            raise self.states
        return self.states


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.005)


async def test_it_is_as_ray_serve_says() -> None:
    states = PoolStates({"small": 2, "large": 1}, Reports(small={"RUNNING": 2}, large={}))
    assert await states.now() == {"small": PoolState(2, 2), "large": PoolState(0, 1)}
    assert states.may_take("small")


async def test_nobody_waits_for_a_controller_that_does_not_answer() -> None:
    hold = threading.Event()

    def ask() -> dict[str, Any]:
        hold.wait(10)
        return {}

    states = PoolStates(ONE, ask)
    begun = time.monotonic()
    assert states.may_take("small")
    assert await states.has_some("small", 0)
    assert time.monotonic() - begun < 1
    hold.set()


async def test_what_was_seen_stands_while_the_controller_is_gone() -> None:
    reports = Reports(small={"RUNNING": 1})
    states = PoolStates(ONE, reports)
    await states.now()
    reports.states = RuntimeError("the controller is dead")
    await asyncio.sleep(0.1)
    assert await states.now() == {"small": PoolState(1, 1)}
    # The next one knows its applications, and finds their replicas one by one.
    for found in ({}, {"RECOVERING": 1}):
        reports.states = {"small": found}
        await asyncio.sleep(0.1)
        assert states.may_take("small")
    reports.states = {"small": {"STARTING": 1}}
    await until(lambda: not states.may_take("small"))


async def test_none_seen_long_ago_is_no_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_states, "_STALE_S", 0.2)
    reports = Reports(small={"STARTING": 1})
    states = PoolStates(ONE, reports)
    await states.now()
    assert not states.may_take("small")
    reports.states = RuntimeError("gone")
    await until(lambda: states.may_take("small"))
    assert await states.now() == {"small": PoolState(0, 1)}


async def test_a_death_counts_before_ray_serve_notices() -> None:
    states = PoolStates(ONE, Reports(small={"RUNNING": 1}))
    await states.now()
    states.died("small", "a")
    await asyncio.sleep(0.1)  # in which it was said to run, many times
    assert not states.may_take("small")


async def test_all_requests_of_one_replica_tell_of_one_death() -> None:
    states = PoolStates({"small": 2}, Reports(small={"RUNNING": 2}))
    await states.now()
    for _ in range(8):
        states.died("small", "a")
    assert await states.now() == {"small": PoolState(1, 2)}


async def test_what_ray_serve_says_later_counts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_states, "_LAG_S", 0.1)
    states = PoolStates(ONE, Reports(small={"RUNNING": 1}))
    await states.now()
    states.died("small", "a")
    assert not states.may_take("small")
    assert await states.has_some("small", 5)


async def test_a_pool_is_gone_when_no_replica_can_have_a_request() -> None:
    reports = Reports(small={"RUNNING": 1})
    states = PoolStates(ONE, reports)
    await states.now()
    gone = asyncio.create_task(states.is_gone("small", 0.05))
    # One that is about to stop finishes what it has.
    reports.states = {"small": {"STOPPING": 1, "STARTING": 1}}
    await until(lambda: not states.may_take("small"))
    await asyncio.sleep(0.2)
    assert not gone.done()
    reports.states = {"small": {"STARTING": 1}}
    await asyncio.wait_for(gone, 5)
