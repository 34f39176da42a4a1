import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import ColumnsConfig, InputConfig
from pipeline.delimited import fields_of, read_csv
from pipeline.files import InputFile
from pipeline.source import open_source
from tests.pipeline.inputs import checked_ids

HEADER = b"id,image,question,n\n"


def rows_of(folder: Path, body: bytes) -> list[dict[str, Any]]:
    path = folder / "in.csv"
    path.write_bytes(HEADER + body)
    source = open_source(InputConfig(path=str(path)))
    (table,) = (table for part in source.parts for table in source.tables(part))
    assert checked_ids(source) == table["id"].to_pylist()
    return table.to_pylist()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"b,b.png", "has 2 fields, and the header 4"),
        (b"b,b.png,q,1,2", "has 5 fields"),
        (b"caf\xe9,b.png,q,1", "no valid UTF-8"),
        (b'b,b.png,"q,1', "a quote"),
        (b'b,b.png,"q"x,1', "a quote"),
        (b"\xff\xfe\x00", "no valid UTF-8"),
    ],
)
def test_a_bad_line_is_a_failed_row_in_its_place(line: bytes, says: str, tmp_path: Path) -> None:
    rows = rows_of(tmp_path, b"a,a.png,q,1\n" + line + b"\nc,c.png,q,3\nd,d.png,q,4")
    assert [row["id"] for row in rows] == ["a", "in.csv:3", "c", "d"]
    assert [row["n"] for row in rows] == ["1", None, "3", "4"]
    assert says in rows[1]["read_error"]
    assert [row["read_error"] is None for row in rows] == [True, False, True, True]


def test_a_stray_quote_swallows_no_other_record(tmp_path: Path) -> None:
    rows = rows_of(
        tmp_path, b'a,a.png,"q,1\nb,b.png,5" disk,2\nc,c.png,"two\nlines",3\nd,d.png,"q,4\ne,e,q,5'
    )
    ids = ["in.csv:2", "b", "c", "in.csv:6", "e"]
    assert [row["id"] for row in rows] == ids
    assert [row["question"] for row in rows] == [None, '5" disk', "two\nlines", None, "q"]


def test_a_bad_limit_fails_its_row(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("id,image,question,max_new_tokens\na,x,q,5\nb,x,q,many\nc,x,q,\nd,x,q,1e3\n")
    source = open_source(InputConfig(path=str(path)))
    rows = [r for p in source.parts for t in source.tables(p) for r in t.to_pylist()]
    assert [row["max_new_tokens"] for row in rows] == [5, None, None, None]
    assert [row["read_error"] is None for row in rows] == [True, False, True, False]


def test_long_questions_and_null_bytes_come_through(tmp_path: Path) -> None:
    long = b"why? " * 100_000
    rows = rows_of(tmp_path, b"a,a.png," + long + b",1\r\nb,b.png,x\0y,2\r\n\r\n")
    assert [row["question"] for row in rows] == [long.decode(), "x\0y"]
    assert [row["n"] for row in rows] == ["1", "2"]


@given(st.text(alphabet="ab,\t\n\0é '", max_size=12))
def test_fields_without_quotes_are_those_of_the_csv_module(text: str) -> None:
    for delimiter in ",\t":
        record = text.replace("\n", "")
        (expected,) = csv.reader([record], delimiter=delimiter, strict=True) if record else ([],)
        assert fields_of(record.encode(), delimiter) == expected


FIELDS = st.lists(st.text(alphabet='ab",\n\r\0é', max_size=4), min_size=1, max_size=5)


@given(st.lists(FIELDS, max_size=6), st.binary(max_size=30))
def test_no_bytes_make_it_raise_and_each_line_is_in_at_most_one_record(
    lines: list[list[str]], junk: bytes
) -> None:
    text = "\n".join(",".join(fields) for fields in lines).encode() + b"\n" + junk
    data = b"id,image,question\n" + text + b"\ngood,a.png,q"
    from sgl.errors import ConfigurationError

    class Held(InputFile):
        pass

    try:
        chunks = list(read_csv(io.BytesIO(data), ColumnsConfig(), Held("in.csv", "in.csv")))
    except ConfigurationError:
        # Arrow and Python tell records apart differently; then the file is refused, not misread.
        return
    (chunk,) = chunks
    numbers = list(chunk.numbers)
    assert numbers == sorted(set(numbers))
    assert chunk.table.num_rows == len(numbers)
    assert numbers[-1] == data.count(b"\n") + 1
