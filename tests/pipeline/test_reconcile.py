"""Every state that a death can leave, on the local disk and on a real S3 server."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.storage import read_bytes, write_bytes
from pipeline import reconcile as module
from pipeline import rowfiles
from pipeline.ids import Spill
from pipeline.journal import Event, Journal
from pipeline.output import Output, Success
from pipeline.reconcile import drop_doubled, drop_failed, reconcile, settle
from pipeline.rowfiles import write_tasks
from sgl.errors import ConfigurationError
from tests.pipeline.outputs import (
    LATER,
    base_of,
    ids_in,
    output_at,
    put,
    remove,
    rows_of,
    write_task,
)
from tests.s3 import SLOW_DOWN, Faults, Server

DONE = Success(run_id="r", fingerprint="f", finished_at="now", records=1, routes={}, files="")


@pytest.fixture(params=["disk", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Output:
    """An output with two committed write tasks: a, b and c, d."""
    if request.param == "disk":
        made = output_at(tmp_path / "out")
    else:
        server: Server = request.getfixturevalue("s3_server")
        bucket: str = request.getfixturevalue("bucket")
        made = output_at(f"{bucket}/out", endpoint_url=server.url, region="us-east-1")
    write_task(made, 0, ["a", "b"])
    write_task(made, 1, ["c", "d"])
    return made


def done(output: Output) -> list[str]:
    """Ids that are done; rows and checkpoint have to agree about them, and nothing is pending."""
    rows, checkpoint = ids_in(output, output.rows), ids_in(output, output.checkpoint)
    assert rows == checkpoint
    assert not [name for name in output.names(output.checkpoint) if "pending" in name]
    return rows


def test_a_whole_output_is_left_alone(output: Output) -> None:
    output.tell(DONE)
    before = {f: output.names(f) for f in (output.rows, output.checkpoint)}
    repairs = reconcile(output)
    assert repairs.lines() == []
    assert {f: output.names(f) for f in before} == before
    assert output.success() == DONE


def test_rows_of_a_driver_killed_between_data_and_commit_are_done_again(output: Output) -> None:
    write_task(output, 2, ["e", "f"], committed=False, pending=True)
    assert reconcile(output).uncommitted == 1
    assert done(output) == ["a", "b", "c", "d"]


def test_a_pending_checkpoint_without_data_is_dropped(output: Output) -> None:
    write_task(output, 2, ["e"], committed=False, pending=True, data=False)
    reconcile(output)
    assert done(output) == ["a", "b", "c", "d"]


def test_a_pending_checkpoint_cut_short_is_dropped(output: Output) -> None:
    write_bytes(f"{output.checkpoint}/{base_of(2)}.pending.parquet", b"PAR1", output.storage)
    reconcile(output)
    assert done(output) == ["a", "b", "c", "d"]


def test_a_rename_killed_between_copy_and_delete_keeps_its_rows(output: Output) -> None:
    # Ray alone deletes the data file and keeps the ids: rows that are lost for ever.
    write_task(output, 2, ["e", "f"], committed=True, pending=True)
    reconcile(output)
    assert done(output) == ["a", "b", "c", "d", "e", "f"]


def test_rows_that_were_deleted_are_no_longer_done(output: Output) -> None:
    output.tell(DONE)
    remove(output, output.rows, f"{base_of(0)}-0.parquet")
    assert reconcile(output).lost == 2
    assert done(output) == ["c", "d"]
    assert output.success() is None


def test_all_rows_may_be_gone(output: Output) -> None:
    for name in output.names(output.rows):
        remove(output, output.rows, name)
    assert reconcile(output).lost == 4
    assert done(output) == []
    assert write_tasks(output) == []


@pytest.mark.parametrize("cut", [0, 4, 100, -1, -10])
def test_a_truncated_data_file_is_dropped_and_done_again(output: Output, cut: int) -> None:
    uri = f"{output.rows}/{base_of(1)}-0.parquet"
    write_bytes(uri, read_bytes(uri, output.storage)[:cut], output.storage)
    assert reconcile(output).lost == 2
    assert done(output) == ["a", "b"]


def test_one_of_a_tasks_files_may_be_gone(output: Output) -> None:
    base = write_task(output, 2, ["e"], said=["e", "f", "g"])
    put(output, output.rows, f"{base}-1.parquet", rows_of(["f"]))
    assert reconcile(output).lost == 1
    assert done(output) == ["a", "b", "c", "d", "e", "f"]


def test_data_without_a_checkpoint_are_rows_that_nobody_committed(output: Output) -> None:
    write_task(output, 2, ["a", "x"], committed=False)
    assert reconcile(output).uncommitted == 1
    assert done(output) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("said", [["e"], ["e", "other"], ["e", "f", "f"]])
def test_a_checkpoint_is_corrected_from_its_rows(output: Output, said: list[str]) -> None:
    write_task(output, 2, ["e", "f"], said=said)
    assert reconcile(output).corrected == 1
    assert done(output) == ["a", "b", "c", "d", "e", "f"]


def test_a_damaged_checkpoint_is_written_anew(output: Output) -> None:
    write_bytes(f"{output.checkpoint}/{base_of(0)}.parquet", b"PAR1", output.storage)
    assert reconcile(output).corrected == 1
    assert done(output) == ["a", "b", "c", "d"]


def test_what_a_killed_rewrite_left_is_swept(output: Output) -> None:
    write_bytes(f"{output.rows}/.{base_of(0)}-0.parquet.part", b"PAR1", output.storage)
    reconcile(output)
    assert list(output.names(output.rows)) == [f"{base_of(i)}-0.parquet" for i in (0, 1)]


def test_a_stranger_among_the_rows_is_refused_and_kept(output: Output) -> None:
    put(output, output.rows, "mine.parquet", rows_of(["z"]))
    with pytest.raises(ConfigurationError, match=r"mine.parquet .* is not of this pipeline"):
        reconcile(output)
    assert "mine.parquet" in output.names(output.rows)


@pytest.mark.parametrize("output", ["s3"], indirect=True)
def test_a_storage_that_fails_is_no_damage(
    output: Output, faulty_s3: tuple[Server, Faults]
) -> None:
    server, faults = faulty_s3
    away = output_at(output.path, endpoint_url=server.url, region="us-east-1", max_attempts=1)
    faults.plan([SLOW_DOWN] * 100, "GET", base_of(1))
    with pytest.raises(OSError, match="AWS Error"):
        reconcile(away)
    faults.forget()
    assert done(output) == ["a", "b", "c", "d"]


def twice(output: Output) -> set[int]:
    with Spill() as spill:
        for table in (pa.array(ids_in(output, output.rows)),):
            spill.add(table)
        return spill.twice()


def test_of_doubled_rows_the_first_stays(output: Output) -> None:
    write_task(output, 0, ["b", "e", "c"], run=LATER)
    write_task(output, 1, ["b"], run=LATER)
    reconcile(output)
    assert drop_doubled(output, twice(output)) == 3
    assert done(output) == ["a", "b", "c", "d", "e"]
    assert [task.base for task in write_tasks(output)] == [
        base_of(0),
        base_of(1),
        base_of(0, LATER),
    ]


def test_failed_rows_are_taken_out_and_the_others_stay_as_they_are(output: Output) -> None:
    write_task(output, 2, ["e", "f", "g"], failed=["f"])
    write_task(output, 3, ["h"], failed=["h"])
    assert drop_failed(output) == 2
    assert done(output) == ["a", "b", "c", "d", "e", "g"]
    filesystem, path = output.located(f"{output.rows}/{base_of(2)}-0.parquet")
    assert pq.read_table(path, filesystem=filesystem) == rows_of(["e", "g"])
    assert drop_failed(output) == 0


def test_the_deaths_of_failed_rows_are_forgotten_with_them(output: Output) -> None:
    journal = Journal(output)
    journal.append(Event(kind="death", ids=("a", "f", "g"), stage="small"))
    write_task(output, 2, ["e", "f"], failed=["e", "f"])
    drop_failed(output)
    assert journal.dead() == {"a", "g"}
    assert len(journal.read()) == 2


def test_rows_committed_by_a_run_taken_for_dead_go(output: Output) -> None:
    known = {task.base for task in write_tasks(output)}
    write_task(output, 0, ["x", "y"], run=LATER)
    write_task(output, 7, ["x"])  # by the earlier run, which outlived its driver
    write_task(output, 8, ["y"], committed=False, pending=True)
    assert settle(output, known, LATER).uncommitted == 2
    assert done(output) == ["a", "b", "c", "d", "x", "y"]


class Killed(BaseException):
    """The process ends here."""


def dying(before: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its so-many-th change of the output on, the process makes no more."""
    left = [before]
    opened = module._Mender._open

    def open_(mender: module._Mender) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        opened(mender)

    monkeypatch.setattr(module._Mender, "_open", open_)


def broken(output: Output) -> None:
    """All states at once."""
    write_task(output, 2, ["e", "f"], committed=False, pending=True)
    write_task(output, 3, ["g", "h"], pending=True)
    write_task(output, 4, ["i"], said=["i", "j"])
    write_task(output, 5, ["k"], data=False)
    write_task(output, 6, ["l", "m"], committed=False)
    write_task(output, 7, ["n", "o", "p"], failed=["o"])
    write_task(output, 8, ["q"], failed=["q"])


@pytest.mark.parametrize("output", ["disk"], indirect=True)
@pytest.mark.parametrize("retry_errors", [False, True])
def test_killed_at_any_moment_it_doubles_nothing_loses_nothing_and_goes_on(
    output: Output, retry_errors: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rowfiles, "_THREADS", 1)
    broken(output)
    good = set("abcdghinp")
    deaths = 0
    while True:
        with monkeypatch.context() as patch:
            dying(1, patch)
            try:
                reconcile(output)
                if retry_errors:
                    drop_failed(output)
                break
            except Killed:
                deaths += 1
        rows = ids_in(output, output.rows)
        assert len(rows) == len(set(rows))
        assert good <= set(rows)
    assert deaths >= (9 if retry_errors else 5)
    assert done(output) == sorted(good | (set() if retry_errors else {"o", "q"}))


@pytest.mark.parametrize("column", ["answer", "cost_usd", "route"])
def test_damage_is_found_in_whatever_column_it_is(column: str, tmp_path: Path) -> None:
    """As zeros in the place of a page that a machine without power never wrote."""
    made = output_at(tmp_path / "out")
    write_task(made, 0, ["a", "b"])
    write_task(made, 1, ["c", "d"])
    path = Path(made.rows) / f"{base_of(0)}-0.parquet"
    with pq.ParquetFile(path) as file:
        group = file.metadata.row_group(0)
        places = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    chunk = places[column]
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data = bytearray(path.read_bytes())
    # The last bytes are values, be they compressed or not.
    end = start + chunk.total_compressed_size
    data[end - 4 : end] = bytes(255 - byte for byte in data[end - 4 : end])
    path.write_bytes(data)
    assert reconcile(made).lost == 2
    assert done(made) == ["c", "d"]


def test_a_checkpoint_that_was_deleted_is_written_anew(output: Output) -> None:
    for name in output.names(output.checkpoint):
        remove(output, output.checkpoint, name)
    assert reconcile(output).lost == 0
    assert done(output) == ["a", "b", "c", "d"]


def test_a_checkpoint_that_holds_anything_is_believed(output: Output) -> None:
    """One with a pending file alone is that of a run killed in its first commit."""
    for task in range(2):
        remove(output, output.checkpoint, f"{base_of(task)}.parquet")
    write_task(output, 2, ["e"], committed=False, pending=True)
    reconcile(output)
    assert done(output) == []
