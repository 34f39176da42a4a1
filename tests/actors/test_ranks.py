"""The watch over a group of ranks: whatever a rank does, nothing hangs and nothing is left over."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from actors.ranks import RankGroup
from sgl.errors import DeviceError, EmptyQuestionError
from tests.actors.rank_workers import Disagreeing, Obedient, Order, gone, refuses


@pytest.fixture
def group() -> Iterator[RankGroup]:
    group = RankGroup(Obedient, 2, grace_s=1.5)
    yield group
    group.close()
    assert gone(group.introductions)


def test_rank_0_answers_for_all(group: RankGroup) -> None:
    assert [group.run(Order()) for _ in range(3)] == ["answer of rank 0"] * 3


def test_ranks_that_fail_alike_go_on(group: RankGroup) -> None:
    with pytest.raises(EmptyQuestionError, match="no question"):
        group.run(Order(do="bad_record"))
    with pytest.raises(ValueError, match="rank 0 cannot") as caught:
        group.run(Order(do="fail"))
    assert "rank_workers.py" in "".join(caught.value.__notes__)
    with pytest.raises(RuntimeError, match="LocalError: cannot be pickled"):
        group.run(Order(do="unspeakable"))
    assert group.run(Order()) == "answer of rank 0"


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("order", "says"),
    [
        (Order(1, "die"), "rank 1 of 2 died with exit code 7"),
        (Order(1, "die", else_="wait"), "rank 1 of 2 died with exit code 7"),
        (Order(0, "fail"), "out of step"),
        (Order(0, "fail", else_="bad_record"), "out of step"),
        (Order(0, "fail", else_="fail_later"), "out of step"),
        (Order(0, "fail", else_="wait"), r"ranks \[1\] still run 1.5 s after rank 0"),
        (Order(1, "answer", else_="wait"), r"ranks \[0\] still run 1.5 s after rank 1"),
        (Order(do="lose_device"), "device of this replica failed"),
    ],
)
def test_a_rank_that_fails_alone_takes_the_group_down(
    group: RankGroup, order: Order, says: str
) -> None:
    with pytest.raises(DeviceError, match=says):
        group.run(order)
    assert gone(group.introductions)
    with pytest.raises(DeviceError, match="have ended"):
        group.run(Order())


def test_ranks_that_answer_differently_are_out_of_step() -> None:
    group = RankGroup(Disagreeing, 2)
    with pytest.raises(DeviceError, match="answers differ"):
        group.run(Order())


def test_what_a_rank_cannot_build_is_raised() -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        RankGroup(refuses, 2)


@pytest.mark.chaos
def test_ranks_die_with_a_watcher_that_is_killed() -> None:
    """Busy ranks too, as in a collective that waits for a rank that is no more."""
    code = (
        "from actors.ranks import RankGroup; from tests.actors.rank_workers import *;"
        "group = RankGroup(Obedient, 2); print(*group.introductions, flush=True);"
        "group.run(Order(do='wait'))"
    )
    watcher = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert watcher.stdout is not None
    ranks = [int(pid) for pid in watcher.stdout.readline().split()]
    assert len(ranks) == 2
    watcher.send_signal(signal.SIGKILL)
    watcher.wait()
    watcher.stdout.close()
    assert gone(ranks)
