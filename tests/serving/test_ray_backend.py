"""Both pools by handles that fail as Ray Serve's do."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from ray.exceptions import ActorUnavailableError, RayActorError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from actors.large_vlm import GuidedQuestion
from serving import pool_states, ray_backend
from serving.backend import Delta, Timed
from serving.config import Degrade
from serving.pool_states import PoolStates
from serving.ray_backend import RayBackend
from sgl.errors import ExpiredError, OverloadedError, UnavailableError
from sgl.types import Failure, ImageQuestion
from tests.serving.fakes import answer_of, config_of

pytestmark = pytest.mark.anyio

QUESTION = ImageQuestion("q", "what ?")
REQUEST = GuidedQuestion(QUESTION)
DONE = Timed(answer_of(REQUEST), 0.0, 0.0)
NEVER = object()
"""Nothing more is said."""


def death(replica: str = "a") -> RayActorError:
    return RayActorError(actor_id=replica)


class Call:
    """One call, which says what a test has written for it."""

    def __init__(self, script: list[Any]) -> None:
        self.cancelled = False
        self._events = self._say(script)

    async def _say(self, script: list[Any]) -> AsyncIterator[Any]:
        for event in script:
            if event is NEVER:
                await asyncio.Event().wait()
            if isinstance(event, Exception) and not isinstance(event, Refusals):
                raise event
            yield event

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._events

    def __anext__(self) -> Any:
        return anext(self._events)

    def __await__(self) -> Any:
        return anext(self._events).__await__()

    def cancel(self) -> None:
        self.cancelled = True


Refusals = (OverloadedError, ExpiredError, UnavailableError)
"""A pool says these as values."""


class Handle:
    """Of a pool whose calls go by scripts, one after another; the last one again and again."""

    def __init__(self, *scripts: list[Any]) -> None:
        self._scripts = list(scripts)
        self.calls: list[Call] = []
        self.timeouts: list[float] = []

    def options(self, *, stream: bool) -> "Handle":
        assert stream
        return self

    @property
    def ask(self) -> "Handle":
        return self

    @property
    def ask_stream(self) -> "Handle":
        return self

    def remote(self, item: Any, timeout_s: float) -> Call:
        assert item is REQUEST
        self.timeouts.append(timeout_s)
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        self.calls.append(Call(script))
        return self.calls[-1]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_states, "_POLL_S", 0.01)
    monkeypatch.setattr(pool_states, "_LAG_S", 0.05)
    monkeypatch.setattr(ray_backend, "_RETRY_S", 0.0)
    monkeypatch.setattr(ray_backend, "_GRACE_S", 0.05)


def backend_of(
    handle: Handle,
    degrade: Degrade = Degrade.ERROR,
    reported: Callable[[], dict[str, Any]] = lambda: {"large": {"RUNNING": 1}},
    wait_s: float = 5,
) -> RayBackend:
    large = cast("DeploymentHandle", handle)
    states = PoolStates({"small": 1, "large": 1}, reported)
    return RayBackend(config_of(degrade=degrade, restart_wait_s=wait_s), states, large, large)


async def heard(backend: RayBackend, stream: bool = True) -> list[Delta | Timed]:
    async with asyncio.timeout(10):
        return [one async for one in backend.answer(REQUEST, timeout_s=30, stream=stream)]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_whose_replica_dies_is_asked_of_another(stream: bool) -> None:
    handle = Handle([death()], [DONE])
    assert await heard(backend_of(handle), stream) == [DONE]
    assert all(call.cancelled for call in handle.calls)
    assert 0 < handle.timeouts[1] < handle.timeouts[0] <= 30


async def test_a_stream_goes_on_where_it_was() -> None:
    first = [Delta("the large"), death()]
    second = [Delta("the "), Delta("large answer"), DONE]
    found = await heard(backend_of(Handle(first, second)))
    assert found == [Delta("the large"), Delta(" answer"), DONE]


async def test_a_stream_that_would_go_on_otherwise_ends() -> None:
    handle = Handle([Delta("the large"), death()], [Delta("a small"), DONE])
    with pytest.raises(UnavailableError, match="ask again"):
        await heard(backend_of(handle))
    assert handle.calls[1].cancelled


async def test_a_stream_that_would_end_earlier_ends_with_an_error() -> None:
    handle = Handle([Delta("red"), Delta(" and blue"), death()], [Delta("red"), DONE])
    with pytest.raises(UnavailableError, match="ask again"):
        await heard(backend_of(handle))


async def test_a_request_that_ends_replicas_gets_no_third_one() -> None:
    handle = Handle([death("a")], [death("b")])
    (found,) = await heard(backend_of(handle))
    assert isinstance(found, Timed)
    assert isinstance(found.result, Failure)
    assert (found.result.id, found.result.type) == ("q", "CrashError")
    assert len(handle.calls) == 2


async def test_replicas_out_of_reach_are_not_the_requests_fault() -> None:
    handle = Handle([ActorUnavailableError("away", b"1" * 16)])
    with pytest.raises(UnavailableError, match="could be reached"):
        await heard(backend_of(handle))


async def test_a_full_queue_is_told_as_such() -> None:
    with pytest.raises(OverloadedError) as caught:
        await heard(backend_of(Handle([BackPressureError(5, 5)])))
    assert caught.value.retry_after_s > 0


@pytest.mark.parametrize("refused", [OverloadedError("full", 2.0), ExpiredError("late")])
async def test_what_a_replica_refuses_is_raised(refused: Exception) -> None:
    handle = Handle([refused])
    with pytest.raises(type(refused)):
        await heard(backend_of(handle), stream=False)
    assert len(handle.calls) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_whoever_stops_listening_cancels_the_call(stream: bool) -> None:
    handle = Handle([NEVER])
    task = asyncio.create_task(heard(backend_of(handle), stream))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [call.cancelled for call in handle.calls] == [True]


async def test_a_call_that_no_replica_takes_ends_with_its_pool() -> None:
    """Ray Serve's router keeps it for as long as there is no replica."""
    running = True

    def reported() -> dict[str, Any]:
        return {"large": {"RUNNING": 1} if running else {"STARTING": 1}}

    handle = Handle([NEVER])
    task = asyncio.create_task(heard(backend_of(handle, Degrade.SMALL, reported)))
    await asyncio.sleep(0.2)
    assert not task.done()
    running = False
    with pytest.raises(UnavailableError, match="no replica now"):
        await asyncio.wait_for(task, 2)
    assert handle.calls[0].cancelled


async def test_the_death_of_the_last_replica_degrades_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_states, "_LAG_S", 5.0)
    handle = Handle([death()], [NEVER])
    with pytest.raises(UnavailableError):
        await asyncio.wait_for(heard(backend_of(handle, Degrade.SMALL)), 2)
    assert len(handle.calls) == 1


async def test_what_was_begun_waits_for_the_next_replica() -> None:
    asked = 0

    def reported() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return {"large": {"STARTING": 1} if 2 < asked < 40 else {"RUNNING": 1}}

    handle = Handle([NEVER], [DONE])
    backend = backend_of(handle, Degrade.ERROR, reported)
    await backend.states()
    handle._scripts = [[death()], [DONE]]
    assert await heard(backend) == [DONE]


async def test_a_slow_controller_delays_nobody() -> None:
    def reported() -> dict[str, Any]:
        raise RuntimeError("the controller is dead")

    assert await asyncio.wait_for(heard(backend_of(Handle([DONE]), reported=reported)), 1)
