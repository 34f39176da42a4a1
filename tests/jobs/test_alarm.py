"""Runs whose records change on the way: the small model and the pruned one go wrong on the rest."""

import io
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from actors.batching import Watch, unwatched
from actors.large_vlm import GuidedQuestion
from jobs.cli import main
from jobs.run import Outcome, report, run_job
from pipeline.build import Loaders
from pipeline.config import JobConfig
from pipeline.status import status
from sgl.errors import AlarmError
from sgl.types import Answer, Failure, Guidance, ImageQuestion
from tests.pipeline.fakes import FakeLarge, FakeSmall, Load
from tests.pipeline.inputs import job_of, records, write_parquet

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

EASY, HARD, LATE = 60, 60, 120
"""Records, in this order; the late ones are hard, and come when an alarm has been raised."""
SECONDS = 0.3
"""That a late block takes, of which there are 15: stages hear of an alarm within a second."""
PATIENCE_S = 60.0


@dataclass
class Small(FakeSmall):
    """Always says yes; waits for the alarm before the late records."""

    def run(self, records: Any, watch: Watch = unwatched) -> list[Guidance | Failure]:
        if any("late" in record.question for record in records):
            assert self.log is not None
            alarm = self.log.parent / "out" / "_ALARM.json"
            end = time.monotonic() + PATIENCE_S
            while not alarm.exists() and time.monotonic() < end:
                time.sleep(0.05)
            time.sleep(SECONDS)
        return [
            one if isinstance(one, Failure) else replace(one, answer="yes")
            for one in super().run(records, watch)
        ]


class Large(FakeLarge):
    """Says yes; to hard records no, unless it is pruned."""

    def _answer(self, request: GuidedQuestion, records: int) -> Answer | Failure:
        answer = super()._answer(request, records)
        assert isinstance(answer, Answer)
        unpruned = request.pruning is not None and request.pruning.keep_ratio == 1
        return replace(answer, text="no" if unpruned and is_hard(request.record) else "yes")


def is_hard(record: ImageQuestion) -> bool:
    return "hard" in record.question


def job_in(folder: Path, on_alarm: str, hard: bool = True, **settings: Any) -> JobConfig:
    """A job whose outcomes come block by block."""
    kinds = ["easy"] * EASY + ["hard"] * HARD + ["hard and late"] * LATE
    if not hard:
        kinds = ["easy"] * (EASY + HARD)
    table = records(len(kinds)) | {"question": [f"{kind}: {i}?" for i, kind in enumerate(kinds)]}
    return job_of(
        write_parquet(folder / "in.parquet", table),
        folder / "out",
        output={"rows_per_file": 8},
        probe={"share": 1.0, "on_alarm": on_alarm},
        promise={"agreement": 0.9, "delta": 0.05},
        pools={"large": {"linger_s": 0.2}},
        **settings,
    )


def run(job: JobConfig, folder: Path) -> tuple[Outcome, str]:
    log = folder / "log"
    log.mkdir(exist_ok=True)
    console = Console(file=io.StringIO(), width=300)
    outcome = run_job(job, console, Loaders(Load(Small, log), Load(Large, log)))  # type: ignore[arg-type]
    report(outcome, console)
    assert isinstance(console.file, io.StringIO)
    return outcome, console.file.getvalue()


def rows_of(job: JobConfig) -> list[dict[str, Any]]:
    rows = pq.read_table(Path(job.output.path) / "rows").to_pylist()
    assert len({row["id"] for row in rows}) == len(rows)
    return sorted(rows, key=lambda row: str(row["id"]))


def test_what_is_as_promised_raises_no_alarm(tmp_path: Path) -> None:
    job = job_in(tmp_path, "large", hard=False)
    outcome, said = run(job, tmp_path)
    assert outcome.alarm is None
    assert "ALARM" not in said
    assert {row["decision"] for row in rows_of(job)} == {"exited", "escalated"}
    assert status(job.output.path, 0.0).alarm is None


def test_a_run_that_fails_safe_answers_the_rest_by_the_large_model(tmp_path: Path) -> None:
    job = job_in(tmp_path, "large")
    outcome, said = run(job, tmp_path)
    rows = rows_of(job)
    assert len(rows) == EASY + HARD + LATE
    decisions = [row["decision"] for row in rows]
    assert "fail_safe" not in decisions[: EASY + 3]
    # Both stages hear of it a little later, each by itself; by the end they have.
    in_time = [one["decision"] for one in sorted(rows, key=lambda row: row["small_started_at"])]
    assert in_time[-1] == "fail_safe"
    for row in rows:
        if row["decision"] == "fail_safe":
            assert (row["route"], row["keep_ratio"], row["answer"]) == ("large", None, "no")
    measured = outcome.measured
    assert measured is not None
    assert measured.cascade is not None
    assert measured.fail_safe is not None
    assert measured.fail_safe.agreement.value == 1
    assert measured.cascade.agreement.value < 0.9
    assert measured.cascade.records + measured.fail_safe.records == len(rows)
    # Once when it was raised, and once at the end.
    assert said.count("ALARM") == 2
    assert "from now on the unpruned large model answers every record" in said
    assert "fail-safe, after the alarm" in said
    assert "as the cascade answered" in said
    assert outcome.summary.fail_safe == decisions.count("fail_safe")
    found = status(job.output.path, 0.0)
    assert found.state == "complete"
    assert found.alarm == outcome.alarm is not None


def test_a_warning_changes_no_row(tmp_path: Path) -> None:
    job = job_in(tmp_path, "warn")
    outcome, said = run(job, tmp_path)
    assert outcome.alarm is not None
    assert not outcome.stopped
    assert said.count("ALARM") == 2
    assert {row["decision"] for row in rows_of(job)} == {"exited", "escalated"}
    assert outcome.measured is not None
    assert outcome.measured.fail_safe is None


def test_a_run_that_was_stopped_goes_on_fail_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_in(tmp_path, "stop")
    with pytest.raises(AlarmError, match=r"--set probe.on_alarm=large"):
        run(job, tmp_path)
    found = status(job.output.path, time.time())
    assert found.state == "stopped"
    assert found.alarm is not None
    assert found.missing

    # The same command does not begin at all, and forgets nothing.
    with monkeypatch.context() as patch:
        patch.setattr("jobs.run.cluster", lambda *_: pytest.fail("Ray was started"))
        with pytest.raises(AlarmError):
            run(job, tmp_path)

    before = {row["id"] for row in rows_of(job)}
    safe = job_in(tmp_path, "large")
    outcome, said = run(safe, tmp_path)
    rows = rows_of(job)
    assert len(rows) == EASY + HARD + LATE
    again = [row for row in rows if row["run_id"] == outcome.run_id]
    assert again
    assert {row["decision"] for row in again} == {"fail_safe"}
    assert before.isdisjoint(row["id"] for row in again)
    assert outcome.alarm == found.alarm
    assert said.count("ALARM") == 2
    assert status(job.output.path, 0.0).state == "complete"

    # It is complete, and the alarm stands: whoever wanted to be stopped is told.
    outcome, said = run(job, tmp_path)
    assert "nothing left to do" in said
    assert outcome.stopped


def test_programs_know_an_alarm_by_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise AlarmError("why")

    command = ["run", "--input", "in", "--output", str(tmp_path / "out"), "--threshold", "0.5"]
    command += ["--small", "testbed", "--large", "testbed"]
    monkeypatch.setattr("jobs.run.run_job", stop)
    assert main(command) == 6
    assert capsys.readouterr().err == "sgl: why\n"

    # One that came when every record was done already stops nothing, and is told in the same way.
    fine = {"over_budget": None}
    stopped = SimpleNamespace(stopped=True, **fine)
    monkeypatch.setattr("jobs.run.run_job", lambda *_, **__: stopped)
    monkeypatch.setattr("jobs.run.report", lambda *_: None)
    assert main(command) == 6
    ended = SimpleNamespace(stopped=False, **fine)
    monkeypatch.setattr("jobs.run.run_job", lambda *_, **__: ended)
    assert main(command) == 0
