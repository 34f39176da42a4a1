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
_FAILED_TAILS = 3
"""Connections for the log that brought nothing, before it is asked for as a whole."""
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
        self._patience = Patience(limit_s, say, self._clock, but=", which does not touch the job")
        self._known = False
        self._shown = 0
        self._failed_tails = 0
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
                    await self._look()
                    info = self._info()
            except OutOfReachError as error:
                if self._failed_tails < _FAILED_TAILS:
                    self._failed_tails = 0  # the cluster's fault, not the log's
                await self._patience.lost(str(error))
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

    async def _look(self) -> None:
        if self._failed_tails < _FAILED_TAILS:
            await self._tail()
            return
        try:
            log = self._jobs.log(self._job_id)
        except OutOfReachError:
            return  # as was said; whether the job answers is another question
        # No news: what is asked for as a whole is asked for seldom.
        self._show(log[self._shown :])
        self._shown = max(self._shown, len(log))

    def _tail_failed(self, reason: str) -> None:
        self._failed_tails += 1
        if self._failed_tails == _FAILED_TAILS:
            because = " ".join(reason.split()) or "the connection ends at once"
            self._say(f"its log cannot be had now: {because}; asking for all of it now and then")

    async def _tail(self) -> None:
        """One connection's worth of the log; that it breaks is no news while the job answers."""
        passed = 0
        async with aclosing(self._jobs.tail(self._job_id)) as pieces:
            while True:
                try:
                    piece = await asyncio.wait_for(anext(pieces), _SILENCE_S)
                except TimeoutError:
                    return
                except (StopAsyncIteration, OutOfReachError) as error:
                    self._tail_failed(str(error))
                    return
                if new := piece[max(0, self._shown - passed) :]:
                    self._shown += len(new)
                    self._show(new)
                    self._patience.news()
                    self._failed_tails = 0
                passed += len(piece)

    async def _rest(self) -> None:
        """What a job that has ended has written besides."""
        for _ in range(_LAST_TRIES):
            try:
                log = self._jobs.log(self._job_id)
            except NoSuchJobError:
                break
            except OutOfReachError:
                await self._patience.pause()
                continue
            if len(log) < self._shown:
                break  # of a node that was replaced, say
            self._show(log[self._shown :])
            return
        self._say("the end of its log cannot be had")

    def _waiting(self, info: JobInfo) -> None:
        if info.message != self._waits_for:
            self._say(f"job {self._job_id} waits: {info.message}")
            self._waits_for = info.message
