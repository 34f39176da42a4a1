"""A budget: what is spent, when a run is closed, and what its stages then do."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.budget import Purse, Spent, spent_before, spent_by
from pipeline.budget_config import BudgetConfig, WhenSpent
from pipeline.config import InputConfig
from pipeline.progress import Board, is_closed
from pipeline.read import RecordDatasource
from pipeline.run_record import PoolRecord, RunRecord
from pipeline.small_stage import SmallSettings, SmallStage
from pipeline.source import open_source
from pipeline.timesheet import Times
from sgl.errors import BudgetError, ConfigurationError
from tests.pipeline.fakes import FakeSmall, LocalReporter, guard_of, score_of
from tests.pipeline.inputs import records, write_parquet
from tests.pipeline.tables import fetch_stage, read_table

THRESHOLD = 0.6
NOTHING = Spent(0.0, 0.0)


def run_of(usd_per_hour: float | None = 2.0, elapsed_s: float = 0.0) -> RunRecord:
    """Nine devices: one of the small pool, two replicas of four of the large one."""
    gpu: dict[str, Any] = {"device": "gpu", "usd_per_hour": usd_per_hour, "price": "as given"}
    pools = {
        "small": PoolRecord(replicas=1, devices=1.0, **gpu),
        "large": PoolRecord(replicas=2, devices=4.0, **gpu),
    }
    times = Times(elapsed_s=elapsed_s, replicas=())
    return RunRecord(run_id="run", started_at=1000.0, ended=False, pools=pools, times=times)


def test_reserved_devices_are_paid_for_whatever_they_do() -> None:
    assert spent_by(run_of(), 1800.0) == Spent(usd=9.0, gpu_hours=4.5)
    before = spent_before([run_of(elapsed_s=3600.0), run_of(None, elapsed_s=3600.0)])
    assert before == Spent(usd=18.0, gpu_hours=18.0)


class Spy:
    def __init__(self) -> None:
        self.closed = 0
        self.lines: list[str] = []
        self.now = 1000.0

    def purse(self, before: Spent = NOTHING, run: RunRecord | None = None, **limits: Any) -> Purse:
        config = BudgetConfig(**limits)
        return Purse(config, run or run_of(), before, self.close, self.lines.append, self.clock)

    def close(self) -> None:
        self.closed += 1

    def clock(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"usd": 9.0}, "9 of 9 USD are spent; no new records are taken"),
        ({"gpu_hours": 4.5, "usd": 100.0}, "4.5 of 4.5 device-hours are spent"),
        ({"usd": 9.0, "then": "small"}, "the small model's answers stand"),
    ],
)
def test_a_run_is_closed_and_that_is_said_once_when_a_limit_is_reached(
    limits: dict[str, Any], told: str
) -> None:
    spy = Spy()
    purse = spy.purse(**limits)
    spy.now += 1799.0
    purse()
    assert not purse.closed
    spy.now += 1.0
    purse()
    purse()
    assert purse.closed
    assert purse.stopped == ("then" not in limits)
    assert spy.closed == 2, "told again, as a message may be lost"
    (line,) = spy.lines
    assert told in line


def test_what_earlier_runs_spent_counts() -> None:
    spy = Spy()
    purse = spy.purse(Spent(8.99, 0.0), usd=9.0)
    spy.now += 2.0
    purse()
    assert purse.closed
    with pytest.raises(BudgetError, match=r"9 of 9 USD are spent by earlier runs; write a larger"):
        spy.purse(Spent(9.0, 0.0), usd=9.0)
    # The small model alone goes on, however much is spent.
    spy.purse(Spent(9.0, 0.0), usd=9.0, then="small")


def test_dollars_need_prices_and_hours_do_not() -> None:
    with pytest.raises(ConfigurationError, match=r"budget\.usd: no prices are known"):
        Spy().purse(run=run_of(None), usd=1.0)
    Spy().purse(run=run_of(None), gpu_hours=1.0)


def test_a_budget_limits_something() -> None:
    with pytest.raises(ValidationError, match="neither usd nor gpu_hours"):
        BudgetConfig(then=WhenSpent.STOP)


def closed_reporter() -> LocalReporter:
    board = Board(100)
    board.close()
    return LocalReporter(board)


def test_a_board_that_is_closed_waits_for_what_is_under_way_only() -> None:
    board = Board(100)
    board.done("fetch", 20, 0, 0)
    board.done("small", 10, 0, 0)
    board.arrived(10)
    assert not board.drained("one")
    assert not is_closed(LocalReporter(board))
    board.close()
    assert board.drained("one")
    assert is_closed(LocalReporter(board))
    board.done("small", 10, 0, 0)
    assert not board.drained("one")


def test_a_stage_that_takes_no_more_lets_a_block_go(tmp_path: Path) -> None:
    stage = fetch_stage(reporter=closed_reporter(), stops=True)
    out = stage(read_table(tmp_path, 5))
    assert out.num_rows == 0
    assert "images" in out.column_names
    assert fetch_stage(reporter=closed_reporter())(read_table(tmp_path, 5)).num_rows == 5


def test_the_small_models_answers_stand_once_the_budget_is_spent(tmp_path: Path) -> None:
    settings = SmallSettings(THRESHOLD, when_spent=WhenSpent.SMALL)
    stage = SmallStage(FakeSmall, settings, closed_reporter(), guard_of("small"))
    rows = stage(fetch_stage()(read_table(tmp_path, 40))).to_pylist()
    doubtful = [row for row in rows if row["route"] == "small" and score_of(row["id"]) < THRESHOLD]
    assert doubtful
    assert {row["decision"] for row in doubtful} == {"over_budget"}
    assert all(row["answer"] == row["small_answer"] for row in doubtful)
    assert all(row["images"] is None for row in rows)


def test_the_small_stage_lets_go_of_what_was_fetched_ahead(tmp_path: Path) -> None:
    settings = SmallSettings(THRESHOLD, when_spent=WhenSpent.STOP)
    stage = SmallStage(FakeSmall, settings, closed_reporter(), guard_of("small"))
    out = stage(fetch_stage()(read_table(tmp_path, 5)))
    assert out.num_rows == 0
    assert "guidance" in out.column_names


def test_no_part_is_read_of_a_run_that_is_closed(tmp_path: Path) -> None:

    path = write_parquet(tmp_path / "in.parquet", records(40), row_group_size=10)
    source = open_source(InputConfig(path=str(path)))
    asked: list[bool] = []

    def stopped() -> bool:
        asked.append(len(asked) >= 1)
        return asked[-1]

    tables = [
        table for task in RecordDatasource(source, stopped).get_read_tasks(1) for table in task()
    ]
    assert 0 < sum(table.num_rows for table in tables) < 40
