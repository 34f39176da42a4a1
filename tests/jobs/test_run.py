import io
import threading
from pathlib import Path

import pytest
import ray
from rich.console import Console

from jobs.cluster import cluster
from jobs.display import Display
from jobs.run import report, run_job
from pipeline.build import Loaders
from pipeline.progress import StageCount
from pipeline.ray_config import RayConfig
from sgl.errors import ConfigurationError
from tests.pipeline.fakes import FakeLarge, FakeSmall, Load, calls
from tests.pipeline.inputs import job_of, records, write_parquet


def screen() -> Console:
    return Console(file=io.StringIO(), width=200)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_run_tells_what_it_came_to_and_the_same_again_is_a_no_op(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    answers = {"answers": [[f"small {216 * i // 3}"] for i in range(24)]}
    path = write_parquet(tmp_path / "in.parquet", records(24, **answers))
    job = job_of(path, tmp_path / "out")
    loaders = Loaders(Load(FakeSmall, log), Load(FakeLarge, log))  # type: ignore[arg-type]

    console = screen()
    first = run_job(job, console, loaders)
    report(first, console)
    assert first.summary.records == first.summary.run_records == 24
    assert "24 of 24 records, mode cascade; small: 1 x CPU, large: 1 x CPU" in text(console)
    for said in ("settled by the small model", "full of 4", "average retention", "accuracy"):
        assert said in text(console)

    console, before = screen(), len(calls(log, "small"))
    again = run_job(job, console, loaders)
    assert "nothing left to do" in text(console)
    assert len(calls(log, "small")) == before
    assert (again.summary.records, again.summary.run_records) == (24, 0)
    assert again.summary.accuracy == first.summary.accuracy


def test_duplicate_ids_are_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.run.cluster", lambda *_: pytest.fail("Ray was started"))
    path = write_parquet(tmp_path / "in.parquet", records(2) | {"id": ["same", "same"]})
    with pytest.raises(ConfigurationError, match="same"):
        run_job(job_of(path, tmp_path / "out"), screen())


def test_progress_lines_tell_rows_rates_escalation_and_failures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jobs.display._LINES_S", 0.01)
    asked = threading.Event()
    counts = {
        "small": StageCount(rows=50, failed=2, escalated=20, since=100, until=110),
        "large": StageCount(rows=10),
    }

    def read() -> dict[str, StageCount]:
        asked.set()
        return counts

    console = screen()
    with Display(console, read, ("small", "large"), 100):
        assert asked.wait(10)
    assert "small 50/100 (5.0 rows/s), 40% escalated, 2 failed   large 10/100" in text(console)


def test_the_live_table_shows_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.display._LIVE_S", 0.01)
    asked = threading.Event()

    def read() -> dict[str, StageCount]:
        asked.set()
        return {"small": StageCount(rows=50, escalated=20), "large": StageCount()}

    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with Display(console, read, ("small", "large"), 1234):
        assert asked.wait(10)
    assert "1,234" in text(console)
    assert "40%" in text(console)


@pytest.mark.parametrize(
    ("given", "environment", "address"),
    [(None, None, "local"), (None, "host:1", "host:1"), ("host:2", "host:1", "host:2")],
)
def test_a_cluster_is_the_one_that_was_named(
    given: str | None,
    environment: str | None,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a job is submitted to a cluster, Ray says in the environment which it is."""
    monkeypatch.setattr("jobs.cluster._prepare_local", lambda: None)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if environment:
        monkeypatch.setenv("RAY_ADDRESS", environment)

    def init(**options: object) -> None:
        assert options["address"] == address
        assert ("num_cpus" in options) == (address == "local")
        raise ConnectionError

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ConfigurationError, match=address), cluster(RayConfig(address=given)):
        pytest.fail("there is none")
