"""Carried columns of text files, whose types are what their cells look like."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.carried import check_unchanged
from pipeline.config import InputConfig
from pipeline.source import Source, open_source
from sgl.errors import ConfigurationError
from tests.pipeline.inputs import checked_ids, png, records, write_jsonl, write_parquet
from tests.pipeline.test_source import csv, jsonl, llava
from tests.pipeline.test_webdataset import sample, write_shard


def rows_of(source: Source) -> list[dict[str, Any]]:
    tables = [table for part in source.parts for table in source.tables(part)]
    rows = pa.concat_tables(tables).to_pylist()
    assert checked_ids(source) == [row["id"] for row in rows]
    return rows


def carried(folder: Path, *files: list[Any], name: str = "kind") -> list[dict[str, Any]]:
    """The rows of JSONL files whose column of that name holds some values."""
    for number, values in enumerate(files):
        rows = [
            {"id": f"{number}-{i}", "image": "a.png", "question": "q", name: value}
            for i, value in enumerate(values)
        ]
        write_jsonl(folder / f"{number}.jsonl", rows)
    return rows_of(open_source(InputConfig(path=str(folder))))


@pytest.fixture(params=["whole", "in pieces"])
def _pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "in pieces":
        monkeypatch.setattr("pipeline.cells.PIECE_BYTES", 1)
        monkeypatch.setattr("pipeline.delimited.PIECE_BYTES", 60)


@pytest.mark.usefixtures("_pieces")
@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ([1, 0.5, None], [1.0, 0.5, None]),
        (["a", 7, None, "7"], ["a", "7", None, "7"]),
        ([1, "x", 1.0, 2.5], ["1", "x", "1.0", "2.5"]),
        ([True, 1], ["true", "1"]),
        (["é", ["é", {"b": None}]], ["é", '["é", {"b": null}]']),
        ([[1], {"a": 1}], ["[1]", '{"a": 1}']),
        ([["a"], ["b", 3]], ['["a"]', '["b", 3]']),
        ([{"a": 1}, {"a": "x"}], ['{"a": 1}', '{"a": "x"}']),
        ([{"a": 1}, {"a": 0.5, "b": [2]}], [{"a": 1.0, "b": None}, {"a": 0.5, "b": [2]}]),
        ([2**70, 1], [str(2**70), "1"]),
        ([[{}], [], [None]], [[None], [], [None]]),
    ],
)
def test_one_odd_cell_makes_a_column_text_and_refuses_nothing(
    values: list[Any], seen: list[Any], tmp_path: Path
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "many").mkdir()
    for rows in (
        carried(tmp_path / "one", values),
        carried(tmp_path / "many", *([value] for value in values)),
    ):
        assert [row["kind"] for row in rows] == seen
        assert {row["read_error"] for row in rows} == {None}


def test_an_integer_that_a_float_cannot_hold_fails_its_record_alone(tmp_path: Path) -> None:
    rows = carried(tmp_path, [2**53 + 1, 2], [0.5])
    assert [row["kind"] for row in rows] == [None, 2.0, 0.5]
    assert rows[0]["read_error"] == "'kind' does not fit double, as others do"
    assert [row["read_error"] for row in rows[1:]] == [None, None]


@pytest.mark.usefixtures("_pieces")
def test_an_answer_that_is_no_text_fails_its_record_alone(tmp_path: Path) -> None:
    rows = carried(tmp_path, ["a", 7, ["b", 0.5, None]], [{"text": "c"}, True], name="answers")
    assert [row["answers"] for row in rows] == [["a"], ["7"], ["b", "0.5", None], None, None]
    errors = [row["read_error"] for row in rows]
    assert errors[:3] == [None] * 3
    assert errors[3] == "'answers' is or holds an object, not a text"


def test_instants_of_different_precision_keep_the_finer_one(tmp_path: Path) -> None:
    instants = {"us": [1_000_001, 253_402_214_400_000_000], "ns": [1_000_000_001, None]}
    for unit, values in instants.items():
        columns = records(2) | {"id": [f"{unit}0", f"{unit}1"]}
        columns["when"] = pa.array(values, pa.timestamp(unit))
        write_parquet(tmp_path / f"{unit}.parquet", columns)
    fine, _, coarse, far = rows_of(open_source(InputConfig(path=str(tmp_path))))
    assert fine["when"].value == 1_000_000_001
    assert coarse["when"].value == 1_000_001_000
    # The year 9999 is beyond what nanoseconds reach.
    assert (far["when"], far["read_error"]) == (
        None,
        "'when' does not fit timestamp[ns], as others do",
    )
    write_parquet(tmp_path / "ns.parquet", columns | {"when": ["today"] * 2})
    with pytest.raises(ConfigurationError, match="disagree"):
        open_source(InputConfig(path=str(tmp_path)))


def shard(folder: Path) -> Path:
    kinds: list[Any] = [1, 0.5, "x"]
    parts = [part for i, kind in enumerate(kinds) for part in sample(f"{i}", i, kind=kind)]
    return write_shard(folder / "s.tar", *parts)


def long_csv(folder: Path) -> Path:
    path = folder / "long.csv"
    lines = [f'r{i},{i}.png,"what\nis {i}?",{i}' for i in range(9)]
    lines[4] = 'r4,4.png,"stray,4'
    path.write_text("\n".join(["id,image,question,n", *lines]))
    return path


def references(folder: Path) -> Path:
    rows: list[dict[str, Any]] = [
        {"id": "a", "image": "a.png", "question": "q"},
        {"id": "b", "image": ["a.png", {"path": "b.png"}], "question": "q", "kind": 1},
        {"id": "c", "question": "q", "kind": "x"},
    ]
    path = write_jsonl(folder / "in.jsonl", rows)
    path.write_text("\ufeff" + path.read_text() + "\n\nno JSON\n")
    return path


@pytest.mark.parametrize("make", [jsonl, csv, llava, shard, long_csv, references])
def test_a_file_says_the_same_in_pieces_as_in_one(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = InputConfig(path=str(make(tmp_path)))
    source = open_source(config)
    whole = rows_of(source)
    monkeypatch.setattr("pipeline.cells.PIECE_BYTES", 1)
    pieces = open_source(config)
    assert pieces.carried_schema.equals(source.carried_schema)
    assert pieces.rows == source.rows == len(whole)
    if make is not shard:
        assert len(list(pieces.tables(pieces.parts[0]))) == len(whole)
    for row, same in zip(rows_of(pieces), whole, strict=True):
        if row["read_error"] is None:
            assert row == same
        assert (row["id"], row["read_error"]) == (same["id"], same["read_error"])


def test_no_table_holds_much_more_than_a_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cells.PIECE_BYTES", 10_000)
    picture = "data:image/png," + png(1).hex() * 10
    rows = [{"id": f"{i}", "image": picture, "question": "q"} for i in range(100)]
    source = open_source(InputConfig(path=str(write_jsonl(tmp_path / "in.jsonl", rows))))
    sizes = [table.nbytes for table in source.tables(source.parts[0])]
    assert sum(sizes) > 100_000
    assert max(sizes) < 20_000


def test_types_that_changed_since_the_rows_were_written_are_told_by_name(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", [{"id": "a", "image": "x", "question": "q", "n": 1}])
    before = open_source(InputConfig(path=str(path))).carried_schema
    check_unchanged(before, before)
    with path.open("a") as file:
        file.write(json.dumps({"id": "b", "image": "x", "question": "q", "n": "two", "m": 1}))
    now = open_source(InputConfig(path=str(path))).carried_schema
    assert now.names == ["n", "m"]
    with pytest.raises(ConfigurationError, match=r"'n' holds string now, and int64 in the rows"):
        check_unchanged(before, now)
