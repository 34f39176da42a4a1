import asyncio
import itertools
from dataclasses import replace

import pytest

from jobs.ray_jobs import JobInfo, State
from jobs.stopping import stop_and_wait
from sgl.errors import ClusterLostError, ConfigurationError
from tests.jobs.fake_jobs import JOB, FakeClock, FakeJobs

STOPPED = JobInfo(State.STOPPED)


def stopped(jobs: FakeJobs) -> tuple[JobInfo, list[str]]:
    said: list[str] = []
    clock = FakeClock().clock()
    return asyncio.run(stop_and_wait(jobs, JOB, 10, said.append, clock)), said


def test_a_job_that_runs_is_ended_and_waited_for() -> None:
    jobs = FakeJobs(["one\n"], end=STOPPED)
    info, said = stopped(jobs)
    assert info.state is State.STOPPED
    assert jobs.stopped == [JOB]
    assert said == [f"job {JOB} was told to end, and has up to 10 s"]


def test_one_that_has_ended_is_left_as_it_is() -> None:
    jobs = FakeJobs([])
    info, said = stopped(jobs)
    assert (info.state, said, jobs.stopped) == (State.SUCCEEDED, [], [])


def test_one_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="knows no such job"):
        stopped(FakeJobs([], known=False))


def test_one_that_does_not_end_is_told() -> None:
    with pytest.raises(ClusterLostError, match="still PENDING"):
        stopped(FakeJobs([], pending=1000))


def test_a_cluster_that_does_not_answer_is_told() -> None:
    with pytest.raises(ClusterLostError, match="out of reach"):
        stopped(FakeJobs([], fails=itertools.repeat(True)))


@pytest.mark.parametrize(("told", "wait_s"), [("7", "7"), ("soon", "10")])
def test_the_wait_is_the_jobs_own(told: str, wait_s: str) -> None:
    class Told(FakeJobs):
        def info(self, job_id: str) -> JobInfo:
            return replace(super().info(job_id), metadata={"sgl.stop_wait_s": told})

    _, said = stopped(Told(["one\n"], end=STOPPED))
    assert said == [f"job {JOB} was told to end, and has up to {wait_s} s"]
