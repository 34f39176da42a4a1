"""The judge can say no: every kind of damage is found."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.lease import Lease
from pipeline.output import JobRecord, Output, Success
from pipeline.schema import OUTPUT
from pipeline.status import digest_of_files
from tests.chaos.judge import Row, Verdict, judge, margin, rows_in
from tests.pipeline.outputs import FINGERPRINT, base_of, output_at, put, remove

IDS = ("a", "b", "c", "d")
SCORE = {"exit_score": 0.5, "confidence": 0.4, "consistency": 0.6}


def row(name: str, **changes: Any) -> dict[str, Any]:
    answers = {"route": "small", "answer": f"answer {name}", "small_answer": f"answer {name}"}
    return {"id": name} | answers | SCORE | changes


def commit(output: Output, task: int, *rows: dict[str, Any]) -> None:
    put(output, output.rows, f"{base_of(task)}-0.parquet", pa.Table.from_pylist(rows, OUTPUT))
    ids = pa.table({"id": [one["id"] for one in rows]})
    put(output, output.checkpoint, f"{base_of(task)}.parquet", ids)


@pytest.fixture
def output(tmp_path: Path) -> Output:
    """Finished: two write tasks of two rows, and the marker."""
    output = output_at(tmp_path)
    commit(output, 0, row("a"), row("b"))
    commit(output, 1, row("c"), row("d"))
    output.tell(
        JobRecord(
            fingerprint=FINGERPRINT,
            run_id="r",
            records=len(IDS),
            identity={},
            precision={},
            versions={},
            job={},
        )
    )
    output.tell(marker(output))
    return output


def marker(output: Output) -> Success:
    return Success(
        run_id="r",
        fingerprint=FINGERPRINT,
        finished_at="then",
        records=len(IDS),
        routes={"small": len(IDS)},
        files=digest_of_files(output),
    )


def verdict(output: Output) -> Verdict:
    if output.success():
        # Of the files as they are: the marker alone would betray every other damage.
        output.tell(marker(output))
    undisturbed: dict[str, Row] = {name: row(name) for name in IDS}
    return judge(output, undisturbed, 0.0)


def test_an_output_like_the_undisturbed_one_passes(output: Output) -> None:
    assert verdict(output) == Verdict(0, 0, 0, ())


def test_rounding_passes(output: Output) -> None:
    commit(output, 1, row("c", exit_score=0.5 + 5e-5), row("d", confidence=0.4 - 5e-5))
    assert verdict(output) == Verdict(0, 0, 0, ())


def test_a_lost_row_is_found(output: Output) -> None:
    commit(output, 1, row("c"))
    found = verdict(output)
    assert (found.lost, found.doubled, found.changed) == (1, 0, 0)
    assert "1 records have no row: d" in found.problems
    assert "missing of the output: 1, not 0" in found.problems


def test_a_row_that_stands_twice_is_found(output: Output) -> None:
    commit(output, 2, row("a"))
    found = verdict(output)
    assert (found.lost, found.doubled, found.changed) == (0, 1, 0)
    assert "1 ids stand too often: a" in found.problems


def test_a_row_that_nobody_committed_is_found(output: Output) -> None:
    rows = pa.Table.from_pylist([row("b")], OUTPUT)
    put(output, output.rows, f"{base_of(2)}-0.parquet", rows)
    found = verdict(output)
    assert found.doubled == 1
    assert "uncommitted files of the output: 1, not 0" in found.problems


def test_a_row_of_an_unknown_record_is_found(output: Output) -> None:
    commit(output, 2, row("e"))
    assert verdict(output).doubled == 1


@pytest.mark.parametrize(
    "change",
    [
        {"answer": "another"},
        {"small_answer": "another"},
        {"route": "large"},
        {"exit_score": 0.5003},
        {"confidence": 0.4003},
        {"consistency": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_row_is_found(output: Output, change: dict[str, Any]) -> None:
    commit(output, 1, row("c", **change), row("d"))
    found = verdict(output)
    assert (found.lost, found.doubled, found.changed) == (0, 0, 1)
    assert found.problems == ("1 records have another answer, route or score: c",)


def test_a_pending_checkpoint_is_found(output: Output) -> None:
    put(output, output.checkpoint, f"{base_of(1)}.pending.parquet", pa.table({"id": ["c", "d"]}))
    found = verdict(output)
    assert (found.lost, found.doubled, found.changed) == (0, 0, 0)
    assert found.problems == (
        f"pending checkpoints of the output: ['{base_of(1)}.pending.parquet'], not []",
    )


def test_a_file_half_written_is_found(output: Output) -> None:
    (Path(output.rows) / f".{base_of(3)}-0.parquet.part").write_bytes(b"PAR1")
    assert any("half-written files" in problem for problem in verdict(output).problems)


def test_a_damaged_file_is_found(output: Output) -> None:
    (Path(output.rows) / f"{base_of(1)}-0.parquet").write_bytes(b"PAR1")
    found = verdict(output)
    assert (found.lost, found.doubled) == (2, 1)


def test_a_missing_marker_is_found(output: Output) -> None:
    remove(output, output.path, "_SUCCESS.json")
    assert verdict(output).problems == (
        "state of the output: stopped, not complete",
        "there is no success marker",
    )


def test_a_lease_that_is_held_is_found(output: Output) -> None:
    with Lease(output, "r"):
        assert any("holder of the lease" in problem for problem in verdict(output).problems)


def test_the_margin_is_to_the_nearest_score(output: Output) -> None:
    commit(output, 1, row("c", exit_score=0.58), row("d", exit_score=0.61))
    assert margin(rows_in(output), 0.6) == pytest.approx(0.01)
