import asyncio
import itertools

import pytest

from jobs.ray_jobs import JobInfo, OutOfReachError, State
from jobs.submitting import submit_once
from sgl.errors import ClusterLostError, ConfigurationError
from tests.jobs.fake_jobs import JOB, METADATA, FakeClock, FakeJobs, submission


def submitted(jobs: FakeJobs, **metadata: str) -> tuple[bool, list[str]]:
    said: list[str] = []
    clock = FakeClock().clock()
    return asyncio.run(submit_once(jobs, submission(**metadata), said.append, clock)), said


def test_a_new_job_is_submitted() -> None:
    jobs = FakeJobs(["one\n"], known=False)
    assert submitted(jobs) == (True, [])
    assert jobs.submitted == [JOB]


def test_a_lost_answer_does_not_submit_it_twice() -> None:
    jobs = FakeJobs(["one\n"], known=False, lost_answers=1)
    new, said = submitted(jobs)
    assert new
    assert jobs.submitted == [JOB]
    assert len(said) == 2


def test_a_lost_request_is_made_again() -> None:
    jobs = FakeJobs(["one\n"], known=False, fails=iter([False, True, True]))
    assert submitted(jobs)[0]
    assert jobs.submitted == [JOB]


def test_the_same_job_again_is_not_run_twice() -> None:
    jobs = FakeJobs(["one\n"])
    new, said = submitted(jobs)
    assert not new
    assert jobs.submitted == []
    assert said == [f"job {JOB} is there already, and is not run twice"]


def test_other_code_of_the_job_that_is_there_is_told() -> None:
    _, said = submitted(FakeJobs(["one\n"]), **{"sgl.code": "0.1.0+cc"})
    assert said[1] == "its code is 0.1.0+aa, and here it is 0.1.0+cc"


def test_another_job_of_that_id_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=f"--job-id {JOB}.* other settings"):
        submitted(FakeJobs(["one\n"]), **{"sgl.settings": "dd"})


def test_it_gives_up_at_the_limit() -> None:
    with pytest.raises(ClusterLostError, match="for 100 s"):
        submitted(FakeJobs([], fails=itertools.repeat(True)))


def test_a_job_of_that_id_that_came_between_is_followed() -> None:
    """Two commands of one id at the same time: the cluster takes one of them."""

    class Racing(FakeJobs):
        def submit(self, submission: object) -> None:
            self.known = True
            raise OutOfReachError("lost")

    jobs = Racing([], known=False, end=JobInfo(State.SUCCEEDED, metadata=METADATA))
    assert submitted(jobs)[0]
