"""Runs that end badly, and the same command again; models that answer by arithmetic."""

import io
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jobs.run import Outcome, run_job
from pipeline.build import Loaders
from pipeline.config import JobConfig
from pipeline.fingerprint import fingerprint_of, identity_of
from pipeline.lease import Lease
from pipeline.output import JobRecord, Output, Success
from pipeline.scores import Wanted
from pipeline.scoring import score_output
from pipeline.status import digest_of_files, status
from sgl.errors import AuditError, ConfigurationError, OutputBusyError
from tests.pipeline.fakes import MORTAL, FakeLarge, FakeSmall, Load, Mortal, calls, guidance_of
from tests.pipeline.inputs import job_of, png, write_jsonl
from tests.pipeline.outputs import write_task
from tests.pipeline.tables import picture_question

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

COUNT = 24
GONE = {"r0003", "r0010"}


def make_input(folder: Path, without: set[str]) -> Path:
    """A manifest of pictures, some of which are not there."""
    rows = []
    for i in range(COUNT):
        name = f"r{i:04d}"
        if name not in without:
            (folder / f"{name}.png").write_bytes(png(i))
        rows.append({"id": name, "image": f"{name}.png", "question": f"what is {i}?"})
    return write_jsonl(folder / "in.jsonl", rows)


def run(
    job: JobConfig,
    folder: Path,
    retry_errors: bool = False,
    small: type[FakeSmall] = FakeSmall,
) -> tuple[Outcome, str, Counter[str]]:
    """The outcome, what was said, and how often the small model saw each record."""
    log = folder / "log"
    shutil.rmtree(log, ignore_errors=True)
    log.mkdir()
    console = Console(file=io.StringIO(), width=300)
    loaders = Loaders(Load(small, log), Load(FakeLarge, log))  # type: ignore[arg-type]
    outcome = run_job(job, console, loaders, retry_errors=retry_errors)
    seen = Counter(name for batch in calls(log, "small") for name in batch)
    assert isinstance(console.file, io.StringIO)
    return outcome, console.file.getvalue(), seen


def rows_of(job: JobConfig) -> dict[str, dict[str, Any]]:
    """Every row by id; none twice, and each answered as the models answer it."""
    rows = pq.read_table(Path(job.output.path) / "rows").to_pylist()
    found = {row["id"]: row for row in rows}
    assert len(found) == len(rows)
    for name, row in found.items():
        if row["exit_score"] is not None:
            assert row["small_answer"] == guidance_of(picture_question(int(name[1:]))).answer
    return found


def test_a_life_of_an_output(tmp_path: Path) -> None:
    job = job_of(make_input(tmp_path, GONE), tmp_path / "out", output={"rows_per_file": 4})
    everything = {f"r{i:04d}" for i in range(COUNT)}
    folder = Path(job.output.path)

    outcome, _, seen = run(job, tmp_path)
    assert set(seen) == everything - GONE
    assert {name for name, row in rows_of(job).items() if row["route"] == "failed"} == GONE
    success = outcome.output.success()
    assert success is not None
    assert (success.records, success.routes["failed"]) == (COUNT, 2)
    assert not (folder / "_lease.json").exists()
    assert status(job.output.path, 0.0).state == "complete"

    # Again: nothing is done, and the marker stays the first run's.
    again, said, seen = run(job, tmp_path)
    assert "nothing left to do" in said
    assert not seen
    assert again.output.success() == success

    # The marker alone is gone: the output is audited and marked, and no model runs.
    (folder / "_SUCCESS.json").unlink()
    again, said, seen = run(job, tmp_path)
    assert not seen
    assert again.output.success() is not None

    # So with the checkpoint, which is written anew from the rows, and with what they are of.
    shutil.rmtree(folder / "checkpoint")
    _, said, seen = run(job, tmp_path)
    assert not seen
    (folder / "_job.json").unlink()
    _, said, seen = run(job, tmp_path)
    assert not seen
    assert status(job.output.path, 0.0).state == "complete"

    # The pictures are there now, and only the failed records are done again.
    make_input(tmp_path, set())
    _, said, seen = run(job, tmp_path)
    assert not seen
    _, said, seen = run(job, tmp_path, retry_errors=True)
    assert "2 of 24 records, 2 of them failed before" in said
    assert seen == Counter(GONE)
    assert {row["route"] for row in rows_of(job).values()} == {"small", "large"}
    _, said, seen = run(job, tmp_path, retry_errors=True)
    assert "nothing left to do" in said
    assert not seen

    # All rows are deleted, and the checkpoint still calls them done.
    shutil.rmtree(folder / "rows")
    _, said, seen = run(job, tmp_path)
    assert "24 committed rows are gone" in said
    assert seen == Counter(everything)
    assert set(rows_of(job)) == everything
    assert status(job.output.path, 0.0).state == "complete"


def test_a_record_in_quarantine_runs_again_on_request(tmp_path: Path) -> None:
    path = make_input(tmp_path, set())
    settings: dict[str, Any] = {"faults": {"max_deaths": 1}, "input": {"limit": 8}, "mode": "small"}
    job = job_of(path, tmp_path / "out", **settings)
    run(job, tmp_path, small=Mortal)
    assert status(job.output.path, 0.0).failed == {"small": {"CrashError": 1}}
    assert rows_of(job)[MORTAL]["route"] == "failed"
    _, _, seen = run(job, tmp_path)
    assert not seen
    _, said, seen = run(job, tmp_path, retry_errors=True)
    assert "1 of 8 records, 1 of them failed before" in said
    assert seen == Counter({MORTAL: 1})
    assert rows_of(job)[MORTAL]["answer"] is not None
    assert status(job.output.path, 0.0).state == "complete"


def finished(folder: Path, rows: int = COUNT) -> JobConfig:
    """A job whose output is marked as whole, without a run."""
    job = job_of(make_input(folder, set()), folder / "out")
    identity = identity_of(job)
    output = Output(job.output.path, fingerprint_of(identity), job.storage)
    write_task(output, 0, [f"r{i:04d}" for i in range(rows)])
    record = JobRecord(
        fingerprint=output.fingerprint,
        run_id="r",
        records=rows,
        identity=identity,
        precision={},
        versions={},
        job={},
    )
    output.tell(record)
    output.tell(
        Success(
            run_id="r",
            fingerprint=output.fingerprint,
            finished_at="then",
            records=rows,
            routes={"small": rows},
            files=digest_of_files(output),
        )
    )
    return job


def refused(job: JobConfig) -> None:
    rows = rows_of(job)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs.run.cluster", lambda *_: pytest.fail("Ray was started"))
        run_job(job, Console(file=io.StringIO()))
    assert rows_of(job) == rows


def test_settings_that_change_an_answer_are_refused_by_name(tmp_path: Path) -> None:
    job = finished(tmp_path)
    with pytest.raises(ConfigurationError, match=r"\(threshold 0.6 there, 0.7 here\)"):
        refused(job.model_copy(update={"threshold": 0.7}))


def test_an_output_from_before_a_column_was_there_goes_on(tmp_path: Path) -> None:
    """As all were before rows said who pruned them."""
    source = make_input(tmp_path, set())
    lines = source.read_text().splitlines(keepends=True)
    source.write_text("".join(lines[: COUNT // 2]))
    job = job_of(source, tmp_path / "out")
    run(job, tmp_path)
    for file in (tmp_path / "out" / "rows").iterdir():
        pq.write_table(pq.read_table(file).drop_columns("pruner"), file, write_page_checksum=True)

    source.write_text("".join(lines))
    outcome, _, seen = run(job, tmp_path)
    assert set(seen) == {f"r{i:04d}" for i in range(COUNT // 2, COUNT)}
    assert outcome.summary.records == len(rows_of(job)) == COUNT
    assert sum(status(str(tmp_path / "out"), 0.0).done.values()) == COUNT
    scored = score_output(str(tmp_path / "out"), Wanted(reference="small_answer"), job.storage)
    assert len(scored.routes) == COUNT
    columns = {"pruner" in pq.read_schema(one).names for one in tmp_path.glob("out/rows/*")}
    assert columns == {True, False}


def test_a_shorter_input_is_refused(tmp_path: Path) -> None:
    job = finished(tmp_path)
    shorter = job.input.model_copy(update={"limit": 20})
    with pytest.raises(ConfigurationError, match=r"4 rows .* give the whole input"):
        refused(job.model_copy(update={"input": shorter}))


def test_rows_of_two_types_are_no_output(tmp_path: Path) -> None:
    """What cells of a text format look like may change with the input."""
    path = make_input(tmp_path, set())
    rows = [json.loads(line) | {"score": 1} for line in path.read_text().splitlines()]
    job = job_of(write_jsonl(path, rows[:8]), tmp_path / "out", mode="small")
    run(job, tmp_path)
    write_jsonl(path, [row | {"score": 0.5} for row in rows])
    with pytest.raises(ConfigurationError, match="'score' holds double now, and int64 in the rows"):
        run(job, tmp_path)


def test_a_second_run_at_the_same_time_is_refused(tmp_path: Path) -> None:
    job = finished(tmp_path)
    output = Output(job.output.path, "", job.storage)
    with Lease(output, "other"), pytest.raises(OutputBusyError, match="other is writing"):
        refused(job)


def test_a_run_that_lost_rows_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = finished(tmp_path, rows=20)
    assert status(job.output.path, 0.0).state == "complete"
    monkeypatch.setattr("jobs.stream.write", lambda *_: None)
    with pytest.raises(AuditError, match="4 records have no row"):
        run(job, tmp_path)
    found = status(job.output.path, 0.0)
    assert (found.state, found.missing, found.finished_at) == ("stopped", 4, None)
