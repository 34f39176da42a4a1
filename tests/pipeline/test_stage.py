import pyarrow as pa
import pytest

from pipeline.schema import IMAGES, OUTPUT
from pipeline.stage import (
    check_columns,
    check_conserved,
    edit_rows,
    keep_only,
    replace_columns,
    to_output,
)


def test_lost_or_reordered_rows_are_noticed() -> None:
    before = pa.table({"id": ["a", "b"]})
    check_conserved("x", before, pa.table({"id": ["a", "b"], "more": [1, 2]}))
    for ids in (["a"], ["b", "a"], ["a", "b", "b"]):
        with pytest.raises(AssertionError, match="x stage lost"):
            check_conserved("x", before, pa.table({"id": ids}))


def test_a_missing_column_is_noticed() -> None:
    with pytest.raises(AssertionError, match=r"x stage misses the columns \['b'\]"):
        check_columns("x", pa.table({"a": [1]}), ("a", "b"))


def test_edits_touch_their_cells_only() -> None:
    table = pa.table({"id": ["a", "b"], "answer": ["old", None], "kind": ["x", "y"]})
    edited = edit_rows(table, {1: {"answer": "new", "kind": "no"}}, ["answer"])
    assert edited["answer"].to_pylist() == ["old", "new"]
    assert edited["kind"].to_pylist() == ["x", "y"]


def test_columns_that_are_replaced_keep_their_place() -> None:
    table = pa.table({"a": [1], "b": [2]})
    replaced = replace_columns(table, {"a": pa.array([3]), "c": pa.array([4])})
    assert replaced.to_pylist() == [{"a": 3, "b": 2, "c": 4}]


def test_pixels_of_dropped_rows_are_released() -> None:
    image = {"height": 100, "width": 100, "pixels": bytes(30_000)}
    images = pa.array([[image]] * 4, IMAGES.type)
    kept = keep_only(images, [2])
    assert [value is not None for value in kept.to_pylist()] == [False, False, True, False]
    assert kept.nbytes < images.nbytes / 3


def test_the_output_has_its_columns_first_and_the_carried_ones_behind() -> None:
    names = ["kind", *reversed(OUTPUT.names), "guidance", "images", "importance"]
    table = pa.table({name: pa.array([None]) for name in names})
    assert to_output(table).column_names == [*OUTPUT.names, "importance", "kind"]
