"""Both pools by their Ray Serve handles: retries where replicas die, refusals where none are left.

A request that a replica had taken when it died is asked again of another one. Answers are greedy or
drawn with a seed, so that a text that was begun goes on where it was (`actors.retold`).
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

from ray import serve
from ray.exceptions import ActorUnavailableError, RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from actors.large_vlm import GuidedQuestion
from actors.retold import Retold, diverged
from serving.backend import Delta, PoolState, Timed
from serving.config import Degrade, ServeConfig
from serving.pool_states import PoolStates, Reported
from serving.pools import Event
from sgl.errors import CrashError, OverloadedError, UnavailableError
from sgl.types import Failure, ImageQuestion

logger = logging.getLogger(__name__)

ATTEMPTS = 2
"""A request whose replica dies so often is suspected to be why, and gets no other one to end."""
_RETRY_S = 0.1
"""The handle needs a moment to hear of a replica's death."""
_RETRY_AFTER_S = 1.0
_GRACE_S = 0.5
"""A call that a replica had taken hears of its death before the pool is given up."""

Heard = TypeVar("Heard")


def reported_by_serve(app: str) -> Reported:
    """Replicas of an application by deployment and state.

    Raises:
        KeyError: a controller that has just begun does not know it yet.
    """
    deployments = serve.status().applications[app].deployments
    return {name: {**one.replica_states} for name, one in deployments.items()}


class RayBackend:
    """See Backend.

    Args:
        config: of the endpoint.
        states: of its pools.
        small: handle of the small pool.
        large: likewise.
    """

    def __init__(
        self,
        config: ServeConfig,
        states: PoolStates,
        small: DeploymentHandle,
        large: DeploymentHandle,
    ) -> None:
        self._handles = {"small": small, "large": large}
        # What was never begun is refused at once; what was begun waits, unless it can do without.
        begun = config.restart_wait_s
        self._first_wait_s = {
            "small": 0.0,
            "large": begun if config.degrade is Degrade.ERROR else 0.0,
        }
        self._wait_s = self._first_wait_s | {"small": begun}
        self._states = states

    def guide(
        self, question: ImageQuestion, *, timeout_s: float, stream: bool
    ) -> AsyncIterator[Delta | Timed]:
        """See Backend."""
        return self._ask("small", question, timeout_s, stream)

    def answer(
        self, request: GuidedQuestion, *, timeout_s: float, stream: bool
    ) -> AsyncIterator[Delta | Timed]:
        """See Backend."""
        return self._ask("large", request, timeout_s, stream)

    async def states(self) -> dict[str, PoolState]:
        """See Backend."""
        return await self._states.now()

    async def _ask(
        self, pool: str, item: Any, timeout_s: float, stream: bool
    ) -> AsyncIterator[Delta | Timed]:
        deadline = time.monotonic() + timeout_s
        retold = Retold()
        deaths = 0
        for attempt in range(ATTEMPTS):
            wait_s = (self._wait_s if attempt else self._first_wait_s)[pool]
            if not await self._states.has_some(pool, wait_s):
                raise _no_replica(pool)
            retold.again()
            left = max(0.0, deadline - time.monotonic())
            try:
                async with aclosing(self._call(pool, item, left, wait_s, stream)) as events:
                    async for event in events:
                        if isinstance(event, Delta):
                            if new := retold.more(event.text):
                                yield Delta(new)
                        elif isinstance(event, Timed):
                            if not retold.complete:
                                raise diverged()
                            yield event
                            return
                        else:
                            raise event
            except BackPressureError as error:
                raise OverloadedError(
                    f"the {pool} pool has as many requests waiting as may", _RETRY_AFTER_S
                ) from error
            except (RayActorError, DeploymentUnavailableError) as error:
                deaths += self._is_death(pool, error)
                await asyncio.sleep(_RETRY_S)
        if deaths < ATTEMPTS:
            raise UnavailableError(f"no replica of the {pool} pool could be reached")
        told = f"{ATTEMPTS} replicas of the {pool} pool died under this request"
        yield Timed(Failure(item.id, pool, CrashError.__name__, told), queued_s=0.0, served_s=0.0)

    def _is_death(self, pool: str, error: Exception) -> bool:
        """Whether a replica has died, and is not merely out of reach."""
        logger.warning("a replica of the %s pool was lost under a request", pool)
        if not isinstance(error, RayActorError) or isinstance(error, ActorUnavailableError):
            return False
        self._states.died(pool, str(error.actor_id))
        return True

    async def _call(
        self, pool: str, item: Any, timeout_s: float, wait_s: float, stream: bool
    ) -> AsyncGenerator[Event]:
        """One call of one replica; whoever stops listening cancels it."""
        handle = self._handles[pool]
        first = partial(self._unless_gone, pool, wait_s)
        if not stream:
            response = handle.ask.remote(item, timeout_s)
            try:
                yield await first(response)
            finally:
                response.cancel()
            return
        events = handle.options(stream=True).ask_stream.remote(item, timeout_s)
        try:
            yield await first(anext(events))
            async for event in events:
                yield event
        finally:
            events.cancel()

    async def _unless_gone(self, pool: str, wait_s: float, heard: Awaitable[Heard]) -> Heard:
        """Wait for what a replica says first.

        Ray Serve keeps a call that no replica has taken for as long as there is none.

        Raises:
            UnavailableError: the pool has had no replica for so long.
        """
        call = asyncio.ensure_future(heard)
        gone = asyncio.create_task(self._states.is_gone(pool, max(wait_s, _GRACE_S)))
        try:
            await asyncio.wait({call, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                raise _no_replica(pool)
            return call.result()
        finally:
            for task in (call, gone):
                task.cancel()
            # Heard here, as Ray Serve words the cancellation of a call that it knows otherwise.
            await asyncio.wait({call, gone})


def _no_replica(pool: str) -> UnavailableError:
    return UnavailableError(f"the {pool} pool has no replica now")
