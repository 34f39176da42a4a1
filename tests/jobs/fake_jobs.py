"""A cluster that breaks as it is told, and a clock that nobody waits for."""

from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field

from jobs.patience import Clock
from jobs.ray_jobs import JobInfo, NoSuchJobError, OutOfReachError, State
from jobs.submission import Submission
from pipeline.submit_config import SubmitConfig

JOB = "sgl-1"
METADATA = {"sgl.output": "s3://bucket/out", "sgl.code": "0.1.0+aa", "sgl.settings": "bb"}


@dataclass
class FakeClock:
    """Counts the seconds that are slept."""

    seconds: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def clock(self) -> Clock:
        return Clock(lambda: self.seconds, self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.seconds += seconds


@dataclass
class FakeJobs:
    """One job, whose log grows by a piece each time that it is looked at.

    Attributes:
        pieces: of its log.
        breaks: after how many characters each connection breaks; later ones do not.
        fails: for each call of the API in turn, whether it is out of reach; later ones are not.
        end: what the job comes to when its log is whole.
        pending: so many times it is still to begin.
        known: whether there is such a job.
    """

    pieces: list[str]
    breaks: Iterator[int] = field(default_factory=lambda: iter(()))
    fails: Iterator[bool] = field(default_factory=lambda: iter(()))
    end: JobInfo = field(default_factory=lambda: JobInfo(State.SUCCEEDED, exit_code=0))
    pending: int = 0
    known: bool = True
    submitted: list[str] = field(default_factory=list)
    lost_answers: int = 0
    stopped: list[str] = field(default_factory=list)
    _written: int = 0

    def info(self, job_id: str) -> JobInfo:
        self._reach()
        if not self.known:
            raise NoSuchJobError(job_id)
        if self.pending:
            self.pending -= 1
            return JobInfo(State.PENDING, "not yet", metadata=METADATA)
        if self._written < len(self.pieces):
            return JobInfo(State.RUNNING, metadata=METADATA)
        return self.end

    def log(self, job_id: str) -> str:
        self._reach()
        self._written = min(self._written + 1, len(self.pieces))
        return "".join(self.pieces[: self._written])

    async def tail(self, job_id: str) -> AsyncGenerator[str, None]:
        left = next(self.breaks, None)
        self._written = min(self._written + 1, len(self.pieces))
        at = 0
        while at < self._written:
            piece = self.pieces[at] if left is None else self.pieces[at][:left]
            if left is not None:
                left -= len(piece)
            if piece:
                yield piece
            if left == 0:
                raise OutOfReachError("broken")
            at += 1
            self._written = min(self._written + 1, len(self.pieces))

    def submit(self, submission: Submission) -> None:
        self._reach()
        assert not self.known, "submitted twice"
        self.known = True
        self.submitted.append(submission.job_id)
        if self.lost_answers:
            self.lost_answers -= 1
            raise OutOfReachError("lost answer")

    def stop(self, job_id: str) -> None:
        self._reach()
        self.stopped.append(job_id)
        self._written = len(self.pieces)

    def _reach(self) -> None:
        if next(self.fails, False):
            raise OutOfReachError("no route")


def submission(**metadata: str) -> Submission:
    config = SubmitConfig(reconnect_s=100)
    return Submission(JOB, "true", b"", {}, METADATA | metadata, config)
