"""The whole graph on a local Ray, with models that answer by arithmetic."""

import pickle
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.build import Loaders, Run, build, loaders_of, write
from pipeline.config import JobConfig
from pipeline.guard import RemoteLedger
from pipeline.journal import Journal
from pipeline.output import Output
from pipeline.preflight import resolve
from pipeline.progress import Board, BoardReporter, StageCount
from pipeline.schema import OUTPUT
from pipeline.source import open_source
from pipeline.summary import summarise
from tests.pipeline.fakes import (
    POISON,
    DyingLarge,
    DyingSmall,
    FakeLarge,
    FakeSmall,
    Load,
    calls,
    guidance_of,
    score_of,
)
from tests.pipeline.inputs import job_of, records, write_parquet
from tests.pipeline.tables import picture_question

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

COUNT = 96
BAD = {3: "", 40: POISON}


@dataclass(frozen=True)
class Finished:
    """What a run left behind."""

    job: JobConfig
    rows: pa.Table
    log: Path
    counts: dict[str, StageCount]


def execute(
    job: JobConfig,
    folder: Path,
    run_id: str = "run",
    small: type[FakeSmall] = FakeSmall,
    large: type[FakeLarge] = FakeLarge,
    small_s: float = 0.0,
) -> Finished:
    import ray

    log = folder / "log"
    log.mkdir(exist_ok=True)
    source = open_source(job.input)
    board = ray.remote(num_cpus=0)(Board).remote(source.rows)
    loaders = Loaders(Load(small, log, small_s), Load(large, log))  # type: ignore[arg-type]
    output = Output(job.output.path, "fingerprint", job.storage)
    ledger = RemoteLedger.start(job.faults, Journal(output), {})
    resources = resolve(job, ray.nodes())
    run = Run(run_id, source, output, loaders, resources, BoardReporter(board), ledger)
    with ledger.explained():
        write(build(job, run), job, run)
    counts = ray.get(board.counts.remote())
    return Finished(job, pq.read_table(Path(job.output.path) / "rows"), log, counts)


def input_of(folder: Path) -> Path:
    columns = records(COUNT, kind=[f"k{i}" for i in range(COUNT)], answers=[["x"]] * COUNT)
    columns["question"] = [BAD.get(i, text) for i, text in enumerate(columns["question"])]
    columns["image"][7] = {"bytes": b"junk", "path": None}
    columns["image"][8] = {"bytes": None, "path": "gone.png"}
    return write_parquet(folder / "in.parquet", columns, row_group_size=40)


@pytest.fixture(scope="module")
def cascade(ray_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("cascade")
    # The small model takes its time, so that on a busy machine too there is some to overlap with.
    return execute(job_of(input_of(folder), folder / "out"), folder, small_s=0.1)


def by_id(rows: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in rows.to_pylist()}


FAILED = {"r0003", "r0007", "r0008", "r0040"}


def test_every_record_is_there_once_with_all_columns(cascade: Finished) -> None:
    assert Counter(cascade.rows["id"].to_pylist()) == {f"r{i:04d}": 1 for i in range(COUNT)}
    assert cascade.rows.column_names == [*OUTPUT.names, "answers", "kind"]
    assert cascade.rows.schema.field("error").type == OUTPUT.field("error").type
    rows = by_id(cascade.rows)
    assert all(rows[f"r{i:04d}"]["kind"] == f"k{i}" for i in range(COUNT))


def test_bad_records_are_failed_rows_and_the_job_ends_well(cascade: Finished) -> None:
    rows = by_id(cascade.rows)
    assert {name for name, row in rows.items() if row["route"] == "failed"} == FAILED
    kinds = {name: (rows[name]["error"]["stage"], rows[name]["error"]["type"]) for name in FAILED}
    assert kinds == {
        "r0003": ("fetch", "EmptyQuestionError"),
        "r0007": ("fetch", "ImageError"),
        "r0008": ("fetch", "ImageNotFoundError"),
        "r0040": ("small", "PromptTooLongError"),
    }
    assert all(rows[name]["answer"] is None for name in FAILED)
    assert rows["r0008"]["error"]["message"] == "gone.png: no such file"


def test_answers_are_those_of_the_models_called_directly(cascade: Finished) -> None:
    rows = by_id(cascade.rows)
    answered = {name: row for name, row in rows.items() if name not in FAILED}
    assert {row["route"] for row in answered.values()} == {"small", "large"}
    for name, row in answered.items():
        record = picture_question(int(name[1:]))
        guidance = guidance_of(record)
        assert row["small_answer"] == guidance.answer
        assert row["exit_score"] == guidance.exit_score
        bright = guidance.answer.split()[1]
        expected = {
            "small": guidance.answer,
            "large": f"large {bright} {guidance.importance.sum():.4f}",
        }
        assert row["route"] == ("small" if score_of(name) >= 0.6 else "large")
        assert row["answer"] == expected[row["route"]]


def test_the_small_model_sees_a_record_once_and_the_large_one_only_the_doubtful(
    cascade: Finished,
) -> None:
    small = Counter(name for batch in calls(cascade.log, "small") for name in batch)
    fetched = set(by_id(cascade.rows)) - {"r0003", "r0007", "r0008"}
    assert small == dict.fromkeys(fetched, 1)
    large = Counter(name for batch in calls(cascade.log, "large") for name in batch)
    doubtful = {n for n in by_id(cascade.rows) if score_of(n) < 0.6} - FAILED
    assert large == dict.fromkeys(doubtful, 1)


def test_the_large_batches_are_full_but_for_the_last(cascade: Finished) -> None:
    sizes = [len(batch) for batch in calls(cascade.log, "large")]
    assert sum(size < 4 for size in sizes) <= 1
    assert len(sizes) > 8
    total = summarise([cascade.rows], "run")
    assert total.large_batches == pytest.approx(len(sizes))
    assert total.escalated == sum(sizes) == total.doubtful


def test_the_large_stage_starts_before_the_small_one_ends(cascade: Finished) -> None:
    overlap = summarise([cascade.rows], "run").overlap_s
    assert overlap is not None
    assert overlap > 0


def test_progress_counts_every_row_of_every_stage(cascade: Finished) -> None:
    total = summarise([cascade.rows], "run")
    assert {stage: count.rows for stage, count in cascade.counts.items()} == {
        "fetch": COUNT,
        "small": COUNT,
        "large": COUNT,
    }
    assert [cascade.counts[s].failed for s in ("fetch", "small", "large")] == [3, 1, 0]
    assert cascade.counts["small"].escalated == total.escalated


def test_the_same_job_again_adds_no_rows_and_a_longer_input_only_its_own(
    cascade: Finished, tmp_path: Path
) -> None:
    before = sorted(Path(cascade.job.output.path).rglob("*.parquet"))
    again = execute(cascade.job, tmp_path, "again")
    assert sorted(Path(cascade.job.output.path).rglob("*.parquet")) == before
    assert calls(again.log, "small") == []

    longer = write_parquet(tmp_path / "in.parquet", records(COUNT + 5, kind=["k"] * (COUNT + 5)))
    job = cascade.job.model_copy(
        update={"input": cascade.job.input.model_copy(update={"path": str(longer)})}
    )
    more = execute(job, tmp_path, "more")
    assert Counter(more.rows["id"].to_pylist()) == {f"r{i:04d}": 1 for i in range(COUNT + 5)}
    seen = {name for batch in calls(more.log, "small") for name in batch}
    assert seen == {f"r{i:04d}" for i in range(COUNT, COUNT + 5)}


@pytest.mark.parametrize("mode", ["small", "large"])
def test_one_model_alone(mode: str, tmp_path: Path) -> None:
    columns = records(20)
    columns["question"][2] = ""
    job = job_of(write_parquet(tmp_path / "in.parquet", columns), tmp_path / "out", mode=mode)
    finished = execute(job, tmp_path)
    assert sorted(finished.rows["id"].to_pylist()) == columns["id"]
    assert Counter(finished.rows["route"].to_pylist()) == {mode: 19, "failed": 1}
    other = {"small": "large", "large": "small"}[mode]
    assert calls(finished.log, other) == []
    assert finished.rows["threshold"].null_count == 20


def test_lost_devices_cost_no_rows(tmp_path: Path) -> None:
    columns = records(40)
    job = job_of(write_parquet(tmp_path / "in.parquet", columns), tmp_path / "out")
    finished = execute(job, tmp_path, small=DyingSmall, large=DyingLarge)
    assert {path.stem for path in finished.log.glob("*.died")} == {"small", "large"}
    assert sorted(finished.rows["id"].to_pylist()) == columns["id"]
    assert finished.rows["answer"].null_count == 0
    doubtful = {name for name in columns["id"] if score_of(name) < 0.6}
    assert {n for n, row in by_id(finished.rows).items() if row["route"] == "large"} == doubtful


def test_a_model_is_loaded_on_what_its_replica_has_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(*_args: Any, gpus: int, gpu_share: float, **_more: Any) -> tuple[int, float]:
        return gpus, gpu_share

    monkeypatch.setattr("pipeline.build.SmallVLM", told)
    monkeypatch.setattr("pipeline.build.LargeVLM", told)
    job = job_of("in", "out", pools={"small": {"num_gpus": 0.5}, "large": {"num_gpus": 2}})
    nodes = [{"Alive": True, "Resources": {"CPU": 4, "GPU": 4}}]
    loaders = pickle.loads(pickle.dumps(loaders_of(job, resolve(job, nodes))))
    assert (loaders.small(), loaders.large()) == ((1, 0.5), (2, 1.0))
