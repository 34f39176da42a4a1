"""Schemas that drift between the files of one input."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import InputConfig
from pipeline.drift import common, conform
from pipeline.source import open_source
from sgl.errors import ConfigurationError
from tests.pipeline.inputs import checked_ids, png


def write(folder: Path, *tables: dict[str, Any]) -> Path:
    for number, columns in enumerate(tables):
        base = {"id": [f"r{number}"], "image": ["a.png"], "question": ["q"]}
        kept = {k: v for k, v in (base | columns).items() if v is not None}
        pq.write_table(pa.table(kept), folder / f"{number}.parquet")
    return folder


def rows_of(folder: Path) -> list[dict[str, Any]]:
    source = open_source(InputConfig(path=str(folder)))
    tables = [table for part in source.parts for table in source.tables(part)]
    rows = pa.concat_tables(tables).to_pylist()
    assert checked_ids(source) == [row["id"] for row in rows]
    return rows


@pytest.mark.parametrize(
    ("ids", "seen"),
    [
        (pa.array([7], pa.int64()), "7"),
        (pa.array([7], pa.uint8()), "7"),
        (pa.array(["7"], pa.large_string()), "7"),
        (pa.array(["7"]).dictionary_encode(), "7"),
        (pa.array(["7"]).cast(pa.string_view()), "7"),
    ],
)
def test_ids_of_any_layout_become_text(ids: pa.Array, seen: str, tmp_path: Path) -> None:
    write(tmp_path, {"id": ["a"]}, {"id": ids})
    assert [row["id"] for row in rows_of(tmp_path)] == ["a", seen]


def test_pictures_of_any_layout_become_references(tmp_path: Path) -> None:
    swapped = pa.struct([("path", pa.large_string()), ("bytes", pa.large_binary())])
    data = png(1)
    write(
        tmp_path,
        {"image": pa.array([{"path": "p", "bytes": data}], swapped)},
        {"image": pa.array([data], pa.binary())},
        {"image": pa.array(["p"]).dictionary_encode()},
        {"image": pa.array([[{"bytes": data, "path": None, "size": 3}, None]])},
        {"image": pa.array([["p", "o"]], pa.large_list(pa.large_string()))},
        {"image": pa.array([{"path": "p"}])},
        {"image": pa.nulls(1)},
    )
    seen = [
        [None if one is None else (one["bytes"], one["uri"]) for one in row["image"] or []]
        for row in rows_of(tmp_path)
    ]
    assert seen == [
        [(data, "p")],
        [(data, None)],
        [(None, "p")],
        [(data, None), None],
        [(None, "p"), (None, "o")],
        [(None, "p")],
        [None],
    ]


@pytest.mark.parametrize(
    ("left", "right", "seen"),
    [
        (pa.array([1], pa.int8()), pa.array([2**40]), [1, 2**40]),
        (pa.array([0.5], pa.float32()), pa.array([0.1]), [0.5, 0.1]),
        (pa.array(["a"]), pa.array(["b"]).dictionary_encode(), ["a", "b"]),
        (pa.array(["a"]), pa.array(["b"], pa.large_string()), ["a", "b"]),
        (pa.nulls(1), pa.array([[1]]), [None, [1]]),
        (pa.array([[1, None]]), pa.array([[2]], pa.large_list(pa.int8())), [[1, None], [2]]),
        (
            pa.array([{"a": 1, "b": {"c": "x"}}]),
            pa.array([{"b": {"d": 2}, "a": None}]),
            [{"a": 1, "b": {"c": "x", "d": None}}, {"a": None, "b": {"c": None, "d": 2}}],
        ),
        (None, pa.array([5]), [None, 5]),
    ],
)
def test_carried_columns_are_brought_together_where_nothing_is_lost(
    left: pa.Array | None, right: pa.Array, seen: list[Any], tmp_path: Path
) -> None:
    write(tmp_path, {"kind": left}, {"kind": right})
    assert [row["kind"] for row in rows_of(tmp_path)] == seen


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (pa.array([1]), pa.array(["1"])),
        (pa.array([1]), pa.array([0.5])),
        (pa.array([1]), pa.array([1], pa.uint64())),
        (pa.array([[1]]), pa.array([1])),
        (pa.array([{"a": 1}]), pa.array([{"a": "x"}])),
        (pa.array([True]), pa.array([1])),
    ],
)
def test_where_something_would_be_lost_file_and_column_are_named(
    left: pa.Array, right: pa.Array, tmp_path: Path
) -> None:
    write(tmp_path, {"kind": left}, {"kind": right})
    with pytest.raises(ConfigurationError, match=r"'kind': 0\.parquet.*1\.parquet.*input\.drop"):
        rows_of(tmp_path)
    source = open_source(InputConfig(path=str(tmp_path), drop=("kind",)))
    assert source.carried == ()


@pytest.mark.parametrize("role", ["id", "question", "image"])
def test_a_file_that_lacks_a_needed_column_is_named(role: str, tmp_path: Path) -> None:
    write(tmp_path, {}, {role: None})
    with pytest.raises(ConfigurationError, match=rf"columns\.{role}: 1\.parquet has no column"):
        rows_of(tmp_path)


def test_answers_of_several_layouts_become_lists(tmp_path: Path) -> None:
    write(tmp_path, {"answers": ["x"]}, {"answers": [["y", "z"]]}, {}, {"answers": pa.nulls(1)})
    assert [row["answers"] for row in rows_of(tmp_path)] == [["x"], ["y", "z"], None, None]


def test_common_is_symmetric_and_conform_keeps_values() -> None:
    types = [
        *(pa.null(), pa.int8(), pa.int64(), pa.uint64(), pa.float32(), pa.float64(), pa.string()),
        *(pa.large_string(), pa.binary(), pa.bool_(), pa.list_(pa.int8()), pa.list_(pa.int64())),
        *(pa.struct([("a", pa.int8())]), pa.struct([("b", pa.string())]), pa.date32()),
    ]
    for left in types:
        assert common(left, left) == left
        for right in types:
            one, other = common(left, right), common(right, left)
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                names = {field.name for field in one} if pa.types.is_struct(one) else None
                same = {field.name for field in other} if pa.types.is_struct(other) else None
                assert names == same
                assert conform(pa.nulls(2, left), one).null_count == 2


def test_conform_heeds_slices_and_nulls() -> None:
    values = pa.array([{"a": [1]}, None, {"a": None}, {"a": [2, None]}])
    type_ = pa.struct([("b", pa.string()), ("a", pa.list_(pa.int8()))])
    out = conform(values.slice(1), type_)
    out.validate(full=True)
    assert out.to_pylist() == [None, {"b": None, "a": None}, {"b": None, "a": [2, None]}]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"columns": {"id": "key"}}, r"columns\.id: .*no column 'key'"),
        ({"columns": {"answers": "gold"}}, r"columns\.answers: .*no column 'gold'"),
        ({"columns": {"max_new_tokens": "n"}}, r"columns\.max_new_tokens: .*no column 'n'"),
        ({"drop": ["kindd"]}, r"input\.drop: .*no column 'kindd'"),
    ],
)
def test_a_name_that_no_file_knows_stops_the_job(
    settings: dict[str, Any], says: str, tmp_path: Path
) -> None:
    write(tmp_path, {"kind": ["k"]})
    with pytest.raises(ConfigurationError, match=says):
        open_source(InputConfig.model_validate({"path": str(tmp_path), **settings}))
