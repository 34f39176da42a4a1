import asyncio
import itertools

import pytest

from jobs.ray_jobs import JobInfo, OutOfReachError, State
from jobs.submission import Submission
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


def test_a_cluster_that_answers_and_takes_no_job_is_given_up_with_the_reason() -> None:
    class Deaf(FakeJobs):
        def submit(self, submission: Submission) -> None:
            raise OutOfReachError("status 503")

    said: list[str] = []
    clock = FakeClock()
    with pytest.raises(ClusterLostError, match="for 100 s: status 503"):
        asyncio.run(submit_once(Deaf([], known=False), submission(), said.append, clock.clock()))
    assert clock.seconds == 100
    assert said == ["the cluster is out of reach: status 503; asking again for 100 s"]


class Twice(FakeJobs):
    """A request that arrives twice: the second is refused."""

    def submit(self, submission: Submission) -> None:
        self.known = True
        raise ConfigurationError("the cluster refuses it: already exists")


def test_a_request_that_arrived_twice_is_no_failure() -> None:
    assert submitted(Twice(["one\n"], known=False)) == (True, [])


@pytest.mark.parametrize("error", [ConfigurationError("already exists"), OutOfReachError("lost")])
def test_another_job_of_that_id_that_came_between_is_refused(error: Exception) -> None:
    class Racing(FakeJobs):
        def submit(self, submission: Submission) -> None:
            self.known = True
            raise error

    with pytest.raises(ConfigurationError, match=f"--job-id {JOB}.* other settings"):
        submitted(Racing(["one\n"], known=False), **{"sgl.settings": "dd"})


def test_a_refusal_is_passed_on() -> None:
    class Refusing(FakeJobs):
        def submit(self, submission: Submission) -> None:
            raise ConfigurationError("too much is asked for")

    with pytest.raises(ConfigurationError, match="too much"):
        submitted(Refusing([], known=False))


def test_a_job_that_has_ended_says_how_to_run_it_again() -> None:
    jobs = FakeJobs([], end=JobInfo(State.STOPPED, metadata=METADATA))
    assert submitted(jobs)[1][1] == (
        "it has ended, STOPPED; to run it again write another --job-id"
    )
