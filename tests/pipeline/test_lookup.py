from pathlib import Path

import pytest

from pipeline.lookup import find_row
from pipeline.output import Output
from sgl.errors import ConfigurationError
from tests.pipeline.outputs import base_of, output_at, remove, write_task


def output_of(folder: Path) -> Output:
    output = output_at(folder)
    for task in range(4):
        ids = [f"r{task}{n}" for n in range(5)]
        write_task(output, task, ids, failed=ids[4:])
    return output


@pytest.mark.parametrize("name", ["r00", "r23", "r33"])
def test_every_row_is_found_by_its_id(tmp_path: Path, name: str) -> None:
    row = find_row(output_of(tmp_path), name)
    assert row["id"] == name
    assert row["answer"] == f"answer {name}"


def test_a_failed_row_is_found_with_its_error(tmp_path: Path) -> None:
    assert find_row(output_of(tmp_path), "r14")["error"]["type"] == "ImageError"


def test_rows_that_are_not_committed_are_not_found(tmp_path: Path) -> None:
    output = output_of(tmp_path)
    write_task(output, 9, ["late"], committed=False, pending=True)
    with pytest.raises(ConfigurationError, match="no committed row has the id 'late'"):
        find_row(output, "late")


def test_files_of_other_tasks_are_not_read(tmp_path: Path) -> None:
    output = output_of(tmp_path)
    for task in (0, 1, 3):
        remove(output, output.rows, f"{base_of(task)}-0.parquet")
    assert find_row(output, "r20")["answer"] == "answer r20"


def test_a_data_file_that_is_gone_is_not_called_an_unknown_id(tmp_path: Path) -> None:
    output = output_of(tmp_path)
    remove(output, output.rows, f"{base_of(2)}-0.parquet")
    with pytest.raises(ConfigurationError, match="the data file of 'r21' is gone or damaged"):
        find_row(output, "r21")


@pytest.mark.parametrize(
    ("wrong", "near"), [("r21x", "r21"), ("R21", "r21"), ("x21", "r21"), ("21", "r21")]
)
def test_near_ids_are_named(tmp_path: Path, wrong: str, near: str) -> None:
    with pytest.raises(ConfigurationError, match=f"near are '{near}'"):
        find_row(output_of(tmp_path), wrong)


def test_where_nothing_is_near_some_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ids are such as 'r00', 'r01', 'r02'"):
        find_row(output_of(tmp_path), "picture 7")


def test_an_output_without_committed_rows_says_so(tmp_path: Path) -> None:
    output = output_at(tmp_path)
    write_task(output, 0, ["a"], committed=False, pending=True)
    with pytest.raises(ConfigurationError, match="no rows are committed yet"):
        find_row(output, "a")
