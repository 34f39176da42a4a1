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
            if there is None:
                sent = True
                _submit(jobs, submission)
        except OutOfReachError as error:
            await patience.lost(str(error))
            continue
        # Only now: a cluster that tells of jobs and takes none is as good as lost.
        patience.found()
        if there is not None:
            _check_same(there, submission)
            if not sent:
                _tell(there, submission, say)
        return sent


def _submit(jobs: Taker, submission: Submission) -> None:
    try:
        jobs.submit(submission)
    except ConfigurationError:
        # A proxy may have sent the request twice, and the second is refused.
        there = _there(jobs, submission.job_id)
        if there is None:
            raise
        _check_same(there, submission)


def _there(jobs: Taker, job_id: str) -> JobInfo | None:
    try:
        return jobs.info(job_id)
    except NoSuchJobError:
        return None


def _check_same(there: JobInfo, submission: Submission) -> None:
    if there.metadata.get(DIGEST) != submission.metadata[DIGEST]:
        raise ConfigurationError(
            f"--job-id {submission.job_id}: the cluster has a job of this id with other settings; "
            "write another id"
        )


def _tell(there: JobInfo, submission: Submission, say: Callable[[str], None]) -> None:
    say(f"job {submission.job_id} is there already, and is not run twice")
    if there.ended:
        say(f"it has ended, {there.state}; to run it again write another --job-id")
    code = there.metadata.get(CODE, "unknown")
    if code != submission.metadata[CODE]:
        say(f"its code is {code}, and here it is {submission.metadata[CODE]}")
