"""A run that has spent its budget ends well, and goes on when it gets more."""

import io
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jobs.run import report, run_job
from jobs.stream import _ended
from pipeline.balance.record import BalanceRecord
from pipeline.budget import Purse
from pipeline.build import Loaders
from sgl.errors import BudgetError
from tests.pipeline.fakes import FakeLarge, FakeSmall, Load, calls
from tests.pipeline.inputs import job_of, records, write_parquet

COUNT = 240
SPENT_AT = 5
"""Blocks of the small model: the purse's clock then leaps."""

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def job_in(folder: Path, **settings: Any) -> Any:
    path = folder / "in.parquet"
    if not path.exists():
        write_parquet(path, records(COUNT), row_group_size=8)
    pools = {role: {"usd_per_hour": 1.0} for role in ("small", "large")}
    return job_of(path, folder / "out", pools=pools, rows_per_block=8, **settings)


def loaders_in(folder: Path) -> Loaders:
    log = folder / "log"
    log.mkdir(exist_ok=True)
    return Loaders(Load(FakeSmall, log, 0.2), Load(FakeLarge, log, 0.0))  # type: ignore[arg-type]


def ids_in(folder: Path) -> list[str]:
    return sorted(pq.read_table(folder / "out" / "rows")["id"].to_pylist())


@pytest.fixture
def leaping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands still for the purse until some blocks are done, and then is over."""

    def purse(config: Any, run: Any, *others: Any) -> Purse:
        def clock() -> float:
            done = len(calls(tmp_path / "log", "small")) >= SPENT_AT
            return float(run.started_at) + 1e9 * done

        return Purse(config, run, *others, clock)

    monkeypatch.setattr("jobs.stream.Purse", purse)


@pytest.mark.usefixtures("leaping")
def test_it_stops_with_whole_rows_and_goes_on_with_more(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    stopped = run_job(job_in(tmp_path, budget={"usd": 1e-6}), console, loaders_in(tmp_path))
    report(stopped, console)
    assert stopped.over_budget is not None
    done = ids_in(tmp_path)
    assert len(done) == len(set(done))
    assert SPENT_AT * 8 <= len(done) < COUNT
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "of 1e-06 USD are spent; no new records are taken" in text
    assert f"{COUNT - len(done):,} records have no row" in text
    assert not (tmp_path / "out" / "_SUCCESS.json").exists()

    for retry_errors in (False, True):
        again = job_in(tmp_path, budget={"usd": 1e-6})
        with pytest.raises(BudgetError, match="by earlier runs; write a larger one"):
            run_job(again, console, loaders_in(tmp_path), retry_errors=retry_errors)
    assert ids_in(tmp_path) == done

    ended = run_job(job_in(tmp_path, budget={"usd": 1e12}), console, loaders_in(tmp_path))
    assert ended.over_budget is None
    assert ids_in(tmp_path) == [f"r{i:04d}" for i in range(COUNT)]
    assert (tmp_path / "out" / "_SUCCESS.json").exists()


@pytest.mark.usefixtures("leaping")
def test_it_degrades_to_the_small_model_on_request(tmp_path: Path) -> None:
    budget = {"usd": 1e-6, "then": "small"}
    console = Console(file=io.StringIO(), width=200)
    ended = run_job(job_in(tmp_path, budget=budget), console, loaders_in(tmp_path))
    assert ended.over_budget is None
    assert ended.summary.records == COUNT
    rows = pq.read_table(tmp_path / "out" / "rows")
    decisions = rows["decision"].to_pylist()
    assert decisions.count("over_budget") > 0
    routes = dict(zip(decisions, rows["route"].to_pylist(), strict=True))
    assert routes["over_budget"] == "small"


@pytest.mark.parametrize("stopped", [True, False])
def test_once_it_has_stopped_the_run_its_pools_are_balanced_no_more(stopped: bool) -> None:
    """Where it only degrades the records still come."""
    told: list[str] = []

    class Spent:
        def __init__(self) -> None:
            self.stopped = False

        def __call__(self, balance: BalanceRecord) -> None:
            self.stopped = stopped

    class Balancer:
        def record(self) -> BalanceRecord:
            return BalanceRecord()

        def close(self) -> None:
            told.append("closed")

    purse: Any = Spent()
    balancer: Any = Balancer()
    stall: Any = lambda: None  # noqa: E731
    assert _ended(stall, None, purse, balancer) is None
    assert told == (["closed"] if stopped else [])
