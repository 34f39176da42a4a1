"""Bringing one job to a cluster, once, whatever becomes of the connection meanwhile."""

from collections.abc import Callable
from typing import Protocol

from jobs.patience import Clock, Patience
from jobs.ray_jobs import JobInfo, NoSuchJobError, OutOfReachError
from jobs.submission import CODE, DIGEST, Submission
from sgl.errors import ConfigurationError


class Taker(Protocol):
    """See jobs.ray_jobs.RayJobs."""

    def info(self, job_id: str) -> JobInfo:
        """What the cluster says of a job."""
        ...

    def submit(self, submission: Submission) -> None:
        """Start the job."""
        ...


async def submit_once(
    jobs: Taker, submission: Submission, say: Callable[[str], None], clock: Clock | None = None
) -> bool:
    """See that a job of this id is on the cluster. An answer that was lost is asked for again.

    Args:
        jobs: of the cluster.
        submission: which job.
        say: takes what the user should know.
        clock: of the machine.

    Returns:
        Whether it was not there before.

    Raises:
        ConfigurationError: the cluster refuses it, or has another job of this id.
        ClusterLostError: it is out of reach for too long.
    """
    patience = Patience(submission.config.reconnect_s, say, clock or Clock())
    sent = False
    while True:
        try:
            there = _there(jobs, submission.job_id)
            patience.found()
            if there is not None:
                if not sent:
                    _check_same(there, submission, say)
                return sent
            sent = True
            jobs.submit(submission)
            return True
        except OutOfReachError:
            await patience.lost()


def _there(jobs: Taker, job_id: str) -> JobInfo | None:
    try:
        return jobs.info(job_id)
    except NoSuchJobError:
        return None


def _check_same(there: JobInfo, submission: Submission, say: Callable[[str], None]) -> None:
    if there.metadata.get(DIGEST) != submission.metadata[DIGEST]:
        raise ConfigurationError(
            f"--job-id {submission.job_id}: the cluster has a job of this id with other settings; "
            "write another id"
        )
    say(f"job {submission.job_id} is there already, and is not run twice")
    code = there.metadata.get(CODE, "unknown")
    if code != submission.metadata[CODE]:
        say(f"its code is {code}, and here it is {submission.metadata[CODE]}")
