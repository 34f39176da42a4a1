"""The overhead benchmark: its arithmetic, and that the bare loop says what the cascade says."""

from pathlib import Path

import pyarrow.parquet as pq

from benchmarks import pipeline, pipeline_runs
from benchmarks.arithmetic_models import ArithmeticLarge, ArithmeticSmall, score_of
from benchmarks.bare_loop import answer_all
from jobs.demo import demo_job
from pipeline.config import Mode
from testbed.generate import write_parquet


def test_the_bare_loop_answers_every_record_by_its_score(tmp_path: Path) -> None:
    write_parquet("heldout", 150, tmp_path / "in.parquet")
    job = demo_job(Mode.CASCADE, tmp_path, tmp_path / "in.parquet")
    answer_all(job, ArithmeticSmall(), ArithmeticLarge(), tmp_path / "rows.parquet")
    rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert len({row["id"] for row in rows}) == len(rows) == 150
    for row in rows:
        exits = score_of(row["id"]) >= job.threshold
        assert row["route"] == ("small" if exits else "large")
        assert row["answer"].split()[0] == row["route"]
        assert row["answer"].split()[1] == row["small_answer"].split()[1]


def test_cost_is_what_was_spent_between_two_moments() -> None:
    seen = [(0.0, {"driver": 1.0}), (10.0, {"driver": 3.0}), (20.0, {"driver": 9.0})]
    assert pipeline_runs.at_moment(seen, 5.0) == {"driver": 2.0}
    assert pipeline_runs.at_moment(seen, 15.0) == {"driver": 6.0}
    assert pipeline_runs.at_moment(seen, 25.0) == {"driver": 12.0}


def test_the_table_tells_rates_and_ratios() -> None:
    ratio = {"value": 1.25, "low": 1.2, "high": 1.3}
    row = {
        "cores": 1,
        "records": 100,
        "rounds": 3,
        "time": ratio,
        "cpu": ratio,
        "loop_s": 4.0,
        "pipeline_s": 5.0,
        "loop_start_s": 1.0,
        "pipeline_start_s": 9.0,
        "loop_cpu_s": 4.0,
        "pipeline_cpu_s": {"driver": 1.0, "workers": 4.0},
    }
    told = pipeline.report([row])
    for part in ("25.0", "20.0", "1.250 [1.200, 1.300]", "9.0 s", "driver 1.0, workers 4.0"):
        assert part in told
