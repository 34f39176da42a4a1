"""Following a job of a cluster: its log, once and in order, over however many connections.

The API gives a log from its beginning only. Whatever breaks, the next connection begins there
again, and as many characters as were shown are passed over.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

from jobs.patience import Clock, Patience
from jobs.ray_jobs import JobInfo, NoSuchJobError, OutOfReachError, State
from sgl.errors import ClusterLostError, ConfigurationError, SglError

_POLL_S = 1.0
"""Of a job that has not begun."""
_SILENCE_S = 60.0
"""A connection may be dead without anybody having said so; a running job tells its progress."""
_LAST_TRIES = 5
"""For the end of the log of a job that has ended: its node may be gone."""


class Jobs(Protocol):
    """See jobs.ray_jobs.RayJobs."""

    def info(self, job_id: str) -> JobInfo:
        """What the cluster says of a job."""
        ...

    def log(self, job_id: str) -> str:
        """All that a job has written so far."""
        ...

    def tail(self, job_id: str) -> AsyncGenerator[str, None]:
        """The same from its beginning, piece by piece, until the job or the connection ends."""
        ...


class Follower:
    """Follows one job to its end.

    Args:
        jobs: of the cluster.
        job_id: which.
        show: takes the log, piece by piece.
        say: takes what there is to say besides, line by line.
        limit_s: so long the cluster may be out of reach.
        clock: of the machine.
    """

    def __init__(
        self,
        jobs: Jobs,
        job_id: str,
        show: Callable[[str], None],
        say: Callable[[str], None],
        limit_s: float,
        clock: Clock | None = None,
    ) -> None:
        self._jobs = jobs
        self._job_id = job_id
        self._show = show
        self._say = say
        self._clock = clock or Clock()
        self._patience = Patience(limit_s, say, self._clock)
        self._known = False
        self._shown = 0
        self._waits_for = ""

    async def follow(self) -> JobInfo:
        """Show the log until the job has ended.

        Returns:
            What the cluster says of it then.

        Raises:
            ConfigurationError: there is no such job.
            ClusterLostError: the cluster is out of reach for too long, or knows the job no more.
        """
        while True:
            try:
                info = self._info()
                if info.state is State.RUNNING:
                    await self._tail()
                    info = self._info()
            except OutOfReachError:
                await self._patience.lost()
                continue
            except NoSuchJobError as error:
                raise self._unknown() from error
            if info.ended:
                await self._rest()
                return info
            if info.state is State.PENDING:
                self._waiting(info)
                await self._clock.sleep(_POLL_S)
            else:
                await self._patience.pause()

    def _info(self) -> JobInfo:
        info = self._jobs.info(self._job_id)
        self._patience.found()
        self._known = True
        return info

    def _unknown(self) -> SglError:
        if self._known:
            return ClusterLostError(
                f"the cluster no longer knows job {self._job_id}: it was started anew"
            )
        return ConfigurationError(f"the cluster knows no job {self._job_id}")

    async def _tail(self) -> None:
        """One connection's worth of the log; that it breaks is no news while the job answers."""
        passed = 0
        async with aclosing(self._jobs.tail(self._job_id)) as pieces:
            while True:
                try:
                    piece = await asyncio.wait_for(anext(pieces), _SILENCE_S)
                except (StopAsyncIteration, TimeoutError, OutOfReachError):
                    return
                if new := piece[max(0, self._shown - passed) :]:
                    self._shown += len(new)
                    self._show(new)
                    self._patience.news()
                passed += len(piece)

    async def _rest(self) -> None:
        """What a job that has ended has written besides."""
        for _ in range(_LAST_TRIES):
            try:
                self._show(self._jobs.log(self._job_id)[self._shown :])
                return
            except NoSuchJobError:
                break
            except OutOfReachError:
                await self._patience.pause()
        self._say("the end of its log cannot be had")

    def _waiting(self, info: JobInfo) -> None:
        if info.message != self._waits_for:
            self._say(f"job {self._job_id} waits: {info.message}")
            self._waits_for = info.message
