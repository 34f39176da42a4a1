from pathlib import Path

import pytest

from pipeline.ids import Spill
from pipeline.output import Output
from pipeline.reconcile import Repairs
from pipeline.resume import Start, begin, finish
from pipeline.rowfiles import write_tasks
from sgl.errors import AuditError, ConfigurationError, IncompleteError
from tests.pipeline.outputs import (
    LATER,
    base_of,
    expected,
    ids_in,
    output_at,
    remove,
    write_task,
)

IDS = list("abcdef")


@pytest.fixture
def output(tmp_path: Path) -> Output:
    made = output_at(tmp_path)
    write_task(made, 0, ["a", "b"], failed=["b"])
    write_task(made, 1, ["c", "d"])
    return made


def start(output: Output, ids: list[str] = IDS, retry_errors: bool = False) -> Start:
    with expected(ids) as spill:
        return begin(output, spill, retry_errors=retry_errors)


def test_what_is_left_is_what_has_no_row(output: Output) -> None:
    begun = start(output)
    assert (begun.left, begun.retried, begun.repairs) == (2, 0, Repairs())
    assert begun.tasks == {base_of(0), base_of(1)}


def test_failed_rows_are_left_again_on_request(output: Output) -> None:
    begun = start(output, retry_errors=True)
    assert (begun.left, begun.retried) == (3, 1)
    assert ids_in(output, output.rows) == ["a", "c", "d"]


def test_doubled_rows_are_mended_before_they_are_counted(output: Output) -> None:
    write_task(output, 2, ["d", "e"])
    begun = start(output)
    assert (begun.left, begun.repairs.doubled) == (1, 1)
    assert ids_in(output, output.rows) == ["a", "b", "c", "d", "e"]


def test_rows_of_another_input_are_refused_and_named_and_kept(output: Output) -> None:
    with pytest.raises(ConfigurationError, match=r"2 rows are of records .* \(c, d\)"):
        start(output, ["a", "b", "z"], retry_errors=True)
    assert ids_in(output, output.rows) == ["a", "b", "c", "d"]


def test_a_failed_row_of_a_line_that_was_mended_goes_on_request(output: Output) -> None:
    write_task(output, 2, ["in.jsonl:6", "e"], failed=["in.jsonl:6"])
    with pytest.raises(ConfigurationError, match=r"in.jsonl:6.* --retry-errors takes them out"):
        start(output)
    begun = start(output, retry_errors=True)
    assert (begun.left, begun.retried) == (2, 2)
    assert ids_in(output, output.rows) == ["a", "c", "d", "e"]


def test_of_a_failed_and_two_settled_rows_a_settled_one_stays(output: Output) -> None:
    write_task(output, 2, ["b", "e"])
    write_task(output, 3, ["b", "f"])
    begun = start(output, retry_errors=True)
    assert (begun.left, begun.retried, begun.repairs.doubled) == (0, 1, 1)
    assert ids_in(output, output.rows) == list("abcdef")


def end(output: Output, begun: Start) -> None:
    with expected(IDS) as spill:
        finish(output, spill, begun, LATER)


def test_a_complete_output_is_marked(output: Output) -> None:
    begun = start(output)
    write_task(output, 0, ["e", "f"], run=LATER)
    end(output, begun)
    success = output.success()
    assert success is not None
    assert (success.run_id, success.records) == (LATER, 6)
    assert success.routes == {"failed": 1, "small": 5}


def test_a_record_without_a_row_is_an_error_and_no_success(output: Output) -> None:
    begun = start(output)
    write_task(output, 0, ["e"], run=LATER)
    with pytest.raises(IncompleteError, match="1 records have no row; the same command again"):
        end(output, begun)
    assert output.success() is None


def test_a_row_that_the_run_wrote_twice_is_an_error(output: Output) -> None:
    begun = start(output)
    write_task(output, 0, ["e", "f"], run=LATER)
    write_task(output, 1, ["f"], run=LATER)
    with pytest.raises(AuditError, match=r"1 rows stand once too often \(f\)") as doubled:
        end(output, begun)
    assert not isinstance(doubled.value, IncompleteError)
    again = start(output)
    assert (again.left, again.repairs.doubled) == (0, 1)
    end(output, again)


def test_what_a_dead_runs_workers_commit_late_does_not_count(output: Output) -> None:
    begun = start(output)
    write_task(output, 5, ["e"])
    write_task(output, 0, ["e", "f"], run=LATER)
    end(output, begun)
    assert [t.base for t in write_tasks(output)] == [base_of(0), base_of(1), base_of(0, LATER)]


def test_an_uncommitted_file_of_the_run_itself_is_no_row(output: Output) -> None:
    begun = start(output)
    write_task(output, 0, ["e", "f"], run=LATER, committed=False, pending=True)
    with pytest.raises(AuditError, match="2 records have no row"):
        end(output, begun)


def test_the_audit_counts_what_a_reader_finds(output: Output) -> None:
    begun = start(output)
    write_task(output, 0, ["e", "f"], run=LATER)
    remove(output, output.rows, f"{base_of(1)}-0.parquet")
    with pytest.raises(AuditError, match="2 records have no row"):
        end(output, begun)


def test_an_empty_output_is_all_left(tmp_path: Path) -> None:
    with Spill() as spill:
        begun = begin(output_at(tmp_path), spill, retry_errors=True)
    assert (begun.left, begun.tasks) == (0, frozenset())
    assert start(output_at(tmp_path)).left == len(IDS)
