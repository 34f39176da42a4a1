"""Ending a job of a cluster, which gives its output back before it ends."""

from collections.abc import Callable
from typing import Protocol

from jobs.patience import Clock
from jobs.ray_jobs import JobInfo, NoSuchJobError, OutOfReachError
from jobs.submission import STOP_WAIT
from sgl.errors import ClusterLostError, ConfigurationError

_POLL_S = 1.0
_AND_THEN_S = 30.0
"""For the cluster to kill what does not end, and to say so."""


class Stoppable(Protocol):
    """See jobs.ray_jobs.RayJobs."""

    def info(self, job_id: str) -> JobInfo:
        """What the cluster says of a job."""
        ...

    def stop(self, job_id: str) -> None:
        """Ask a job to end."""
        ...


async def stop_and_wait(
    jobs: Stoppable,
    job_id: str,
    wait_s: float,
    say: Callable[[str], None],
    clock: Clock | None = None,
) -> JobInfo:
    """End a job.

    Args:
        jobs: of the cluster.
        job_id: which.
        wait_s: so long a job may take to end by itself that does not tell how long it has.
        say: takes what the user should know.
        clock: of the machine.

    Raises:
        ConfigurationError: there is none.
        ClusterLostError: it has not ended by then.
    """
    clock = clock or Clock()
    try:
        info = jobs.info(job_id)
        if info.ended:
            return info
        wait_s = _wait_of(info, wait_s)
        jobs.stop(job_id)
        say(f"job {job_id} was told to end, and has up to {wait_s:g} s")
        until = clock.now() + wait_s + _AND_THEN_S
        while not info.ended and clock.now() < until:
            await clock.sleep(_POLL_S)
            info = jobs.info(job_id)
    except NoSuchJobError as error:
        raise ConfigurationError(f"--stop {job_id}: the cluster knows no such job") from error
    except OutOfReachError as error:
        raise ClusterLostError(f"the cluster is out of reach: {error}; ask again") from error
    if not info.ended:
        raise ClusterLostError(f"job {job_id} was told to end, and is still {info.state}")
    return info


def _wait_of(info: JobInfo, otherwise_s: float) -> float:
    """What the cluster was told when the job came, whatever the settings here say now."""
    try:
        return float(info.metadata[STOP_WAIT])
    except (KeyError, ValueError):
        return otherwise_s
