"""Both pools by their Ray Serve handles: retries where replicas die, refusals where none are left.

A request that a replica had taken when it died is asked again of another one. Answers are greedy or
drawn with a seed, so that a text that was begun goes on where it was (`actors.retold`).
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from actors.large_vlm import GuidedQuestion
from actors.retold import Retold
from serving.backend import Delta, PoolState, Timed
from serving.config import Degrade, ServeConfig
from serving.pools import Event
from sgl.errors import OverloadedError, UnavailableError
from sgl.types import ImageQuestion

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""A request whose replica dies so often is suspected to be why."""
_POLL_S = 1.0
_STALE_S = 5.0
_RETRY_S = 0.1
"""The handle needs a moment to hear of a replica's death."""
_RETRY_AFTER_S = 1.0
_RUNNING = "RUNNING"


class PoolStates:
    """How many replicas the pools have, asked of Ray Serve once a second, while anybody wonders.

    Ray Serve takes long to tell (25 ms of this process, more of its controller), so that requests
    go by what was known a moment ago, and have it asked anew while they go on.

    Args:
        app: name of the application.
        wanted: replicas by pool.
    """

    def __init__(self, app: str, wanted: dict[str, int]) -> None:
        self._app, self._wanted = app, wanted
        self._known = {name: PoolState(number, number) for name, number in wanted.items()}
        self._asked = 0.0
        self._asking = asyncio.Lock()
        self._refresh: asyncio.Task[dict[str, PoolState]] | None = None

    async def now(self) -> dict[str, PoolState]:
        """As of the last second."""
        async with self._asking:
            if self._age_s() > _POLL_S:
                self._known = await asyncio.to_thread(self._ask)
                self._asked = time.monotonic()
        return self._known

    async def lately(self) -> dict[str, PoolState]:
        """As of the last seconds; waits only where nobody has wondered for longer."""
        if self._age_s() > _STALE_S:
            return await self.now()
        if self._age_s() > _POLL_S and (self._refresh is None or self._refresh.done()):
            self._refresh = asyncio.create_task(self.now())
            self._refresh.add_done_callback(_noted)
        return self._known

    def _age_s(self) -> float:
        return time.monotonic() - self._asked

    def _ask(self) -> dict[str, PoolState]:
        deployments = serve.status().applications[self._app].deployments
        return {
            name: PoolState(deployments[name].replica_states.get(_RUNNING, 0), number)
            for name, number in self._wanted.items()
        }


def _noted(refresh: "asyncio.Task[dict[str, PoolState]]") -> None:
    if not refresh.cancelled() and (error := refresh.exception()):
        # Whoever wonders once more than `_STALE_S` have passed is told.
        logger.warning("Ray Serve does not tell how the pools do: %s", error)


class RayBackend:
    """See Backend.

    Args:
        config: of the endpoint.
        app: its name to Ray Serve.
        small: handle of the small pool.
        large: likewise.
    """

    def __init__(
        self, config: ServeConfig, app: str, small: DeploymentHandle, large: DeploymentHandle
    ) -> None:
        self._handles = {"small": small, "large": large}
        # What was never begun is refused at once; what was begun waits, unless it can do without.
        begun = config.restart_wait_s
        self._first_wait_s = {
            "small": 0.0,
            "large": begun if config.degrade is Degrade.ERROR else 0.0,
        }
        self._wait_s = self._first_wait_s | {"small": begun}
        self._states = PoolStates(
            app, {"small": config.pools.small.replicas, "large": config.pools.large.replicas}
        )

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
        for attempt in range(ATTEMPTS):
            await self._replica(pool, (self._wait_s if attempt else self._first_wait_s)[pool])
            retold.again()
            left = max(0.0, deadline - time.monotonic())
            try:
                async with aclosing(self._call(pool, item, left, stream)) as events:
                    async for event in events:
                        if isinstance(event, Delta):
                            if new := retold.more(event.text):
                                yield Delta(new)
                        elif isinstance(event, Timed):
                            yield event
                            return
                        else:
                            raise event
            except BackPressureError as error:
                raise OverloadedError(
                    f"the {pool} pool has as many requests waiting as may", _RETRY_AFTER_S
                ) from error
            except (RayActorError, DeploymentUnavailableError):
                logger.warning("a replica of the %s pool died under a request", pool)
                await asyncio.sleep(_RETRY_S)
        raise UnavailableError(f"{ATTEMPTS} replicas of the {pool} pool died under this request")

    async def _replica(self, pool: str, wait_s: float) -> None:
        """Wait until some replica could take a request.

        Raises:
            UnavailableError: there is none after so long.
        """
        if (await self._states.lately())[pool].replicas:
            return
        until = time.monotonic() + wait_s
        while (await self._states.now())[pool].replicas == 0:
            if time.monotonic() >= until:
                raise UnavailableError(f"the {pool} pool has no replica now")
            await asyncio.sleep(_POLL_S)

    async def _call(
        self, pool: str, item: Any, timeout_s: float, stream: bool
    ) -> AsyncGenerator[Event]:
        """One call of one replica; whoever stops listening cancels it."""
        handle = self._handles[pool]
        if not stream:
            response = handle.ask.remote(item, timeout_s)
            try:
                yield await response
            finally:
                response.cancel()
            return
        events = handle.options(stream=True).ask_stream.remote(item, timeout_s)
        try:
            async for event in events:
                yield event
        finally:
            events.cancel()
