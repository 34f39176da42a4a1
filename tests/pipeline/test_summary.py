from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.schema import OUTPUT
from pipeline.summary import Summary, read_rows, summarise
from tests.pipeline.outputs import base_of, output_at, put


def at(second: float) -> datetime:
    return datetime.fromtimestamp(1_000_000 + second, UTC)


def rows(*cells: dict[str, Any], answers: list[Any] | None = None) -> pa.Table:
    common = {"run_id": "run", "threshold": 0.5}
    table = pa.Table.from_pylist([common | one for one in cells], schema=OUTPUT)
    if answers is None:
        return table
    return table.append_column("answers", pa.array(answers, pa.list_(pa.string())))


def small(answer: str = "a", **cells: Any) -> dict[str, Any]:
    return {
        "route": "small",
        "answer": answer,
        "small_answer": answer,
        "exit_score": 0.9,
        "small_gpu_s": 1.0,
        "small_flops": 10.0,
        "small_prompt_tokens": 60,
        "small_padded_tokens": 80,
        "small_started_at": at(0),
        "small_finished_at": at(10),
        **cells,
    }


def large(answer: str = "b", small_answer: str = "a", batch: int = 2, **cells: Any) -> Any:
    return small(small_answer) | {
        "route": "large",
        "answer": answer,
        "exit_score": 0.1,
        "large_gpu_s": 2.0,
        "large_flops": 100.0,
        "large_batch_rows": batch,
        "large_prompt_tokens": 90,
        "large_padded_tokens": 100,
        "large_started_at": at(4),
        "large_finished_at": at(14),
        "prune_layer": 0.2,
        "keep_ratio": 0.3,
        "average_retention": 0.4,
        **cells,
    }


def failed(kind: str = "ImageError") -> dict[str, Any]:
    error = {"stage": "fetch", "type": kind, "message": "m"}
    return {"route": "failed", "error": error}


def summary_of(table: pa.Table, run_id: str) -> Summary:
    """Of one table, which may come row by row."""
    whole = summarise([table], run_id)
    parts = summarise([table.slice(row, 1) for row in range(len(table))], run_id)
    assert_same(parts, whole)
    return whole


def assert_same(one: Summary, other: Summary) -> None:
    """Counts exactly, sums but for the order of their terms."""
    found = asdict(one)
    for name, value in asdict(other).items():
        assert found[name] == (pytest.approx(value) if isinstance(value, float) else value)


def test_records_are_counted_by_their_fate() -> None:
    table = rows(small(), small(), large(), large(), large(batch=1), failed(), failed("Other"))
    total = summary_of(table, "run")
    assert (total.records, total.exits, total.escalated, total.doubtful) == (7, 2, 3, 3)
    assert total.failed == {"ImageError": 1, "Other": 1}
    assert (total.small_gpu_s, total.large_gpu_s) == (5.0, 6.0)
    assert (total.small_flops, total.large_flops) == (50.0, 300.0)
    assert (total.prune_layer, total.keep_ratio) == (0.2, 0.3)
    assert total.average_retention == pytest.approx(0.4)


def test_batches_and_their_fill_come_from_the_rows() -> None:
    total = summary_of(rows(*[large(batch=4)] * 4, *[large(batch=3)] * 3), "run")
    assert total.large_batches == pytest.approx(2)
    assert total.fill(4) == pytest.approx(7 / 8)
    assert summary_of(rows(small()), "run").fill(4) is None
    started = {"large_started_at": at(1)}
    half = summary_of(rows(large(batch=2), large(batch=2), failed() | started), "run")
    assert (half.escalated, half.fill(4)) == (3, pytest.approx(1 / 2))


def test_padding_is_told_of_the_models_that_ran() -> None:
    total = summary_of(rows(small(), large(), failed()), "run")
    assert total.padding == {"small": pytest.approx(0.25), "large": pytest.approx(0.1)}
    assert summary_of(rows(small()), "run").padding.keys() == {"small"}


def test_accuracy_is_exact_match_with_any_accepted_answer() -> None:
    table = rows(
        small(" right "),
        small("wrong"),
        large("right", small_answer="wrong"),
        large("wrong", small_answer="right"),
        failed(),
        small("unscored"),
        answers=[["x", "right"], ["right"], ["right"], ["right"], ["right"], None],
    )
    accuracy = summary_of(table, "run").accuracy
    assert accuracy is not None
    assert accuracy.overall == pytest.approx(2 / 5)
    assert accuracy.by_route == {"small": 0.5, "large": 0.5}
    assert accuracy.small_alone == pytest.approx(2 / 5)


def test_there_is_no_accuracy_without_accepted_answers() -> None:
    assert summary_of(rows(small()), "run").accuracy is None
    assert summary_of(rows(small(), answers=[None]), "run").accuracy is None


def test_the_small_model_alone_is_told_only_where_it_ran() -> None:
    table = rows(large(small_answer=None, threshold=None), answers=[["b"]])
    accuracy = summary_of(table, "run").accuracy
    assert accuracy is not None
    assert accuracy.small_alone is None
    assert summary_of(table, "run").doubtful == 0


def test_times_are_of_the_run_and_overlap_is_large_start_to_small_end() -> None:
    earlier = {"run_id": "old", "small_started_at": at(-100), "small_finished_at": at(-90)}
    total = summary_of(rows(small(), large(), small(**earlier)), "run")
    assert (total.run_records, total.timed_records, total.stream_s) == (2, 2, 14.0)
    assert total.overlap_s == pytest.approx(6)
    again = summary_of(rows(small(), large()), "a run that wrote nothing")
    assert (again.run_records, again.timed_records, again.stream_s) == (0, 2, 14.0)


def test_fail_safe_rows_are_counted_and_rows_of_before_have_none() -> None:
    decided = [small(decision="exited"), large(decision="escalated"), large(decision="fail_safe")]
    assert summary_of(rows(*decided, failed()), "run").fail_safe == 1
    assert summary_of(rows(*decided).drop_columns(["decision"]), "run").fail_safe == 0


def test_nan_scores_are_doubtful() -> None:
    assert summary_of(rows(large(exit_score=float("nan"))), "run").doubtful == 1


def test_an_output_is_read_some_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.summary._ROWS", 4)
    monkeypatch.setattr("pipeline.summary._FILES", 1)
    table = rows(*[small()] * 10, *[large()] * 8, failed(), answers=[["a"]] * 19)
    # A path is no pattern.
    output = output_at(tmp_path / "out [1]*")
    for number, start in enumerate((0, 9)):
        name = f"{base_of(number)}-0.parquet"
        put(output, output.rows, name, table.slice(start, 9 + number))
    read = list(read_rows(output))
    assert max(len(one) for one in read) <= 4
    assert_same(summarise(read, "run"), summary_of(table, "run"))
