import time
from pathlib import Path

import pytest

from infra.storage import write_bytes
from pipeline.lease import LIMIT_S, Lease
from pipeline.output import JobRecord, Output, Success
from pipeline.status import Status, digest_of_files, status
from sgl.errors import ConfigurationError
from tests.pipeline.outputs import FINGERPRINT, base_of, output_at, remove, write_task


@pytest.fixture
def output(tmp_path: Path) -> Output:
    made = output_at(tmp_path)
    record = JobRecord(
        fingerprint=FINGERPRINT,
        run_id="r",
        records=8,
        identity={},
        precision={},
        versions={},
        job={"mode": "cascade"},
    )
    made.tell(record)
    write_task(made, 0, ["a", "b", "c"], failed=["b"])
    write_task(made, 1, ["d", "e"])
    return made


def mark(output: Output, records: int) -> None:
    output.tell(
        Success(
            run_id="r",
            fingerprint=FINGERPRINT,
            finished_at="now",
            records=records,
            routes={},
            files=digest_of_files(output),
        )
    )


def look(output: Output) -> Status:
    return status(output.path, time.time())


def test_done_failed_and_missing_are_counted(output: Output) -> None:
    found = look(output)
    assert (found.state, found.records, found.missing) == ("stopped", 8, 3)
    assert found.done == {"small": 4}
    assert found.failed == {"fetch": {"ImageError": 1}}
    assert (found.mode, found.run_id, found.fingerprint) == ("cascade", "r", FINGERPRINT)


def test_what_is_not_committed_does_not_count(output: Output) -> None:
    write_task(output, 2, ["f", "g"], committed=False, pending=True)
    found = look(output)
    assert (found.done, found.missing, found.uncommitted) == ({"small": 4}, 3, 1)


@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_what_is_broken_is_missing(output: Output, how: str) -> None:
    mark(output, 5)
    name = f"{base_of(1)}-0.parquet"
    if how == "gone":
        remove(output, output.rows, name)
    else:
        write_bytes(f"{output.rows}/{name}", b"PAR1")
    found = look(output)
    assert (found.state, found.broken, found.missing) == ("stopped", 1, 5)


def test_an_output_is_complete_when_it_is_marked_and_whole(output: Output) -> None:
    write_task(output, 2, ["f", "g", "h"])
    assert look(output).state == "stopped"
    mark(output, 8)
    assert (look(output).state, look(output).finished_at) == ("complete", "now")


def test_rows_that_came_behind_the_audit_are_surplus_and_no_completeness(output: Output) -> None:
    write_task(output, 2, ["f", "g", "h"])
    mark(output, 8)
    write_task(output, 3, ["g", "h"])
    found = look(output)
    assert (found.state, found.missing, found.surplus) == ("stopped", 0, 2)


def test_files_that_changed_behind_the_audit_are_no_completeness(output: Output) -> None:
    """As many rows as before, of other records."""
    write_task(output, 2, ["f", "g", "h"])
    mark(output, 8)
    remove(output, output.rows, f"{base_of(2)}-0.parquet")
    write_task(output, 2, ["ffff", "gggg", "gggg"])
    found = look(output)
    assert (found.state, found.missing, found.surplus) == ("stopped", 0, 0)


def test_a_writer_is_told_while_it_lives(output: Output) -> None:
    with Lease(output, "r"):
        found = look(output)
        assert found.state == "running"
        assert found.writer is not None
        assert status(output.path, time.time() + 2 * LIMIT_S).state == "stopped"


def test_looking_changes_nothing(output: Output) -> None:
    write_task(output, 2, ["f"], committed=False, pending=True)
    write_task(output, 3, ["g"], committed=True, pending=True)
    files = sorted(Path(output.path).rglob("*"))
    look(output)
    assert sorted(Path(output.path).rglob("*")) == files


def test_a_folder_that_is_no_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no output of sgl run"):
        status(str(tmp_path), 0.0)
