import pytest

from pipeline.balance.evidence import Served
from pipeline.progress import Board, StageCount


def test_reports_add_up() -> None:
    board = Board(expected=10)
    board.done("small", 4, 1, 2)
    board.done("small", 6, 0, 3)
    count = board.counts()["small"]
    assert (count.rows, count.failed, count.escalated) == (10, 1, 5)
    assert board.counts()["large"] == StageCount()


def test_it_is_drained_when_all_rows_have_arrived() -> None:
    board = Board(expected=10)
    board.arrived(9)
    assert not board.drained("one")
    board.arrived(1)
    assert board.drained("one")


def test_the_rate_is_rows_over_the_time_between_reports() -> None:
    assert StageCount(rows=30, since=100.0, until=110.0).rate() == pytest.approx(3)
    assert StageCount().rate() == 0


def test_a_replica_that_leaves_waits_for_no_more_rows() -> None:
    board = Board(expected=10)
    board.leaving(["one"])
    assert board.drained("one")
    assert not board.drained("another")


def test_calls_that_tell_nothing_of_a_busy_replica_count_for_the_work_alone() -> None:
    board = Board(expected=10)
    board.served("small", Served.call(8, 2.0), 3, 2, typical=True)
    board.served("large", Served.call(2, 5.0), 0, 0, typical=False)
    board.done("small", 8, 0, 3)
    flow = board.flow()
    assert (flow.rows, flow.sent, flow.probes, flow.large.records) == (8, 3, 2, 2)
    assert flow.small_typical == flow.small
    assert flow.large_typical == Served()
