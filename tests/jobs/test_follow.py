import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.follow import Follower
from jobs.ray_jobs import JobInfo, State
from sgl.errors import ClusterLostError, ConfigurationError
from tests.jobs.fake_jobs import JOB, FakeClock, FakeJobs

PIECES = st.lists(st.text(alphabet="ab\né", min_size=1, max_size=12), max_size=8)


def followed(jobs: FakeJobs, limit_s: float = 100.0) -> tuple[JobInfo, str, list[str], FakeClock]:
    shown: list[str] = []
    said: list[str] = []
    clock = FakeClock()
    follower = Follower(jobs, JOB, shown.append, said.append, limit_s, clock.clock())
    return asyncio.run(follower.follow()), "".join(shown), said, clock


@given(
    pieces=PIECES,
    breaks=st.lists(st.integers(0, 40), max_size=8),
    fails=st.lists(st.booleans(), max_size=6),
)
def test_every_character_is_shown_once_and_in_order_whatever_breaks(
    pieces: list[str], breaks: list[int], fails: list[bool]
) -> None:
    info, shown, _, _ = followed(FakeJobs(pieces, iter(breaks), iter(fails)), limit_s=1e6)
    assert shown == "".join(pieces)
    assert info.state is State.SUCCEEDED


def test_a_connection_that_is_lost_is_told_once_and_so_is_that_it_is_back() -> None:
    jobs = FakeJobs(["one\n", "two\n"], fails=iter([False, True, True, True, True]))
    jobs.breaks = iter([4])
    _, shown, said, clock = followed(jobs)
    assert shown == "one\ntwo\n"
    assert len(said) == 2
    assert "out of reach, which does not touch the job: no route; asking again" in said[0]
    assert "answers again, after 15 s" in said[1]
    assert clock.pauses[:4] == [1, 2, 4, 8]


def test_a_log_that_breaks_while_the_job_answers_is_no_news() -> None:
    _, shown, said, _ = followed(FakeJobs(["one\n", "two\n"], breaks=iter([2, 6, 5])))
    assert shown == "one\ntwo\n"
    assert said == []


def test_it_gives_up_at_the_limit() -> None:
    jobs = FakeJobs(["one\n"], fails=itertools.chain([False], itertools.repeat(True)))
    clock = FakeClock()
    said: list[str] = []
    follower = Follower(jobs, JOB, said.append, said.append, 100.0, clock.clock())
    with pytest.raises(ClusterLostError, match="out of reach for 100 s"):
        asyncio.run(follower.follow())
    assert clock.seconds == 100
    assert max(clock.pauses) == 30


def test_the_limit_begins_anew_when_the_cluster_was_back() -> None:
    away = [True] * 5
    fails = itertools.chain([False], away, [False], away, [False], away)
    jobs = FakeJobs(["one\n"] * 9, breaks=iter([1, 1, 1, 1]), fails=fails)
    _, shown, said, _ = followed(jobs, limit_s=40)
    assert shown == "one\n" * 9
    assert len(said) == 6


def test_a_job_that_waits_says_why_once() -> None:
    _, shown, said, _ = followed(FakeJobs(["one\n"], pending=3))
    assert shown == "one\n"
    assert said == [f"job {JOB} waits: not yet"]


def test_a_job_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="knows no job sgl-1"):
        followed(FakeJobs(["one\n"], known=False))


def test_a_cluster_that_was_started_anew_is_told() -> None:
    class Anew(FakeJobs):
        def log(self, job_id: str) -> str:
            raise AssertionError

        async def tail(self, job_id: str):  # type: ignore[no-untyped-def]
            self.known = False
            yield "one\n"

    with pytest.raises(ClusterLostError, match="no longer knows job sgl-1"):
        followed(Anew(["one\n"]))


def test_a_log_that_is_gone_does_not_hold_up_the_end() -> None:
    jobs = FakeJobs([], end=JobInfo(State.FAILED, "the node is gone"))
    jobs.fails = itertools.chain([False], itertools.repeat(True))
    info, shown, said, clock = followed(jobs)
    assert (info.state, shown) == (State.FAILED, "")
    assert said == ["the end of its log cannot be had"]
    assert len(clock.pauses) == 5


def test_silence_opens_another_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection can be dead without anybody having said so."""
    monkeypatch.setattr("jobs.follow._SILENCE_S", 0.01)

    class Silent(FakeJobs):
        silent = True

        async def tail(self, job_id: str):  # type: ignore[no-untyped-def]
            if self.silent:
                self.silent = False
                await asyncio.sleep(3600)
            async for piece in super().tail(job_id):
                yield piece

    _, shown, said, _ = followed(Silent(["one\n"]))
    assert shown == "one\n"
    assert said == []


def test_a_log_that_can_never_be_tailed_is_told_once_and_asked_for_as_a_whole() -> None:
    jobs = FakeJobs(["one\n"] * 6, breaks=itertools.repeat(0))
    _, shown, said, _ = followed(jobs)
    assert shown == "one\n" * 6
    assert said == ["its log cannot be had now: broken; asking for all of it now and then"]


def test_a_log_that_is_shorter_than_what_was_shown_is_not_taken_for_whole() -> None:
    class Replaced(FakeJobs):
        def log(self, job_id: str) -> str:
            return "on"

    _, shown, said, _ = followed(Replaced(["one\n"]))
    assert shown == "one\n"
    assert said == ["the end of its log cannot be had"]
