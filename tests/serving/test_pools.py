"""A pool's replica: who leaves frees its place at once, and refusals are values."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, cast

import pytest

from actors.continuous import Continuous
from serving.backend import Delta, Timed
from serving.config import ServePoolConfig
from serving.pools import Pool, _check_warm
from sgl.errors import ExpiredError, OverloadedError, ReplicaError
from sgl.layout import PromptLayout
from sgl.types import Failure
from tests.actors.test_continuous import Item, Model


def pool_of(model: Model, **settings: Any) -> Any:
    return Pool(lambda: model, "small", ServePoolConfig(**settings))


def continuous_of(pool: Any) -> Continuous[Any, Any]:
    return cast("Continuous[Any, Any]", pool._continuous)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.001)


def test_a_call_tells_its_text_and_then_its_result() -> None:
    async def main() -> list[Any]:
        pool = pool_of(Model())
        alone = await pool.ask(Item("a", passes=2), 60.0)
        assert isinstance(alone, Timed)
        assert alone.result == "answer a"
        return [event async for event in pool.ask_stream(Item("b", passes=2), 60.0)]

    *texts, last = asyncio.run(main())
    assert texts == [Delta("1"), Delta("2")]
    assert (last.result, last.queued_s >= 0, last.served_s >= 0) == ("answer b", True, True)


def test_what_is_refused_is_a_value() -> None:
    async def main() -> None:
        model = Model()
        pool = pool_of(model, max_waiting=1)
        bad = await pool.ask(Item("bad", bad=True), 60.0)
        assert isinstance(bad.result, Failure)
        assert (bad.result.type, bad.result.id) == ("EmptyQuestionError", "bad")
        with model.held() as let:
            first = asyncio.ensure_future(pool.ask(Item("1", passes=3), 0.01))
            await until(lambda: continuous_of(pool).load().running == 1)
            waiting = asyncio.ensure_future(pool.ask(Item("2"), 60.0))
            await until(lambda: continuous_of(pool).load().waiting == 1)
            refused = await pool.ask(Item("3"), 60.0)
            assert isinstance(refused, OverloadedError)
            await asyncio.sleep(0.02)
            let()
            assert isinstance(await first, ExpiredError)
        assert (await waiting).result == "answer 2"

    asyncio.run(main())


def test_who_leaves_frees_the_place() -> None:
    async def main() -> None:
        model = Model()
        pool = pool_of(model)
        async with aclosing(
            cast("AsyncIterator[Any]", pool.ask_stream(Item("1", passes=10**9), 60.0))  # type: ignore[type-var]
        ) as events:
            assert await anext(events) == Delta("1")
        await until(lambda: continuous_of(pool).load().running == 0)
        call = asyncio.ensure_future(pool.ask(Item("2", passes=10**9), 60.0))
        await until(lambda: continuous_of(pool).load().running == 1)
        call.cancel()
        await until(lambda: continuous_of(pool).load().running == 0)
        assert model.cancelled == ["1", "2"]

    asyncio.run(main())


def test_who_leaves_while_its_prompt_is_laid_out_asks_for_nothing() -> None:
    class Slow(Model):
        begun, go_on = threading.Event(), threading.Event()

        def lay_out(self, item: Item) -> PromptLayout:
            self.begun.set()
            assert self.go_on.wait(20)
            return super().lay_out(item)

    async def main() -> None:
        model = Slow()
        pool = pool_of(model)
        call = asyncio.ensure_future(pool.ask(Item("1", passes=10**9), 60.0))
        await until(model.begun.is_set)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        model.go_on.set()
        # What came behind it is answered, and of it nothing runs on.
        assert (await pool.ask(Item("2"), 60.0)).result == "answer 2"
        await until(lambda: continuous_of(pool).load().running == 0)

    asyncio.run(main())


def test_a_model_that_hangs_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        model = Model()
        pool = pool_of(model)
        pool.check_health()
        monkeypatch.setattr("serving.pools.STUCK_S", 0.0)
        with model.held():
            call = asyncio.ensure_future(pool.ask(Item("1"), 60.0))
            await until(lambda: continuous_of(pool).load().busy_s > 0)
            with pytest.raises(RuntimeError, match="forward pass"):
                pool.check_health()
        await call

    asyncio.run(main())


def test_a_model_that_can_answer_nothing_does_not_start() -> None:
    with pytest.raises(ReplicaError, match="not finite"):
        _check_warm([Failure("warm-up", "large", "NumericalError", "not finite")])
