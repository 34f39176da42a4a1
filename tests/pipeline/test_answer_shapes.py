"""Answers and options in the shapes that lmms-eval's and Hugging Face's datasets have."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sgl.errors import ConfigurationError
from tests.pipeline.inputs import records, write_jsonl, write_parquet
from tests.pipeline.test_formats import rows_of, source_of

VQA = pa.list_(pa.struct([("answer", pa.string()), ("answer_confidence", pa.string())]))


def rows(folder: Path, columns: dict[str, Any], **settings: Any) -> list[dict[str, Any]]:
    count = len(next(iter(columns.values())))
    path = write_parquet(folder / "in.parquet", records(count, **columns))
    return rows_of(source_of(path, **settings))


def test_ten_annotators_as_structs(tmp_path: Path) -> None:
    said = [{"answer": f"a{i}", "answer_confidence": "yes"} for i in range(10)]
    found = rows(tmp_path, {"answers": pa.array([said, None, [None]], VQA)})
    assert [row["answers"] for row in found] == [[f"a{i}" for i in range(10)], None, [None]]


def test_a_struct_that_stands_alone(tmp_path: Path) -> None:
    found = rows(tmp_path, {"answers": pa.array([{"answer": "x"}, None])})
    assert [row["answers"] for row in found] == [["x"], None]


@pytest.mark.parametrize("values", [["a", "b"], [["a"], ["b"]]])
def test_the_only_answer_may_be_called_answer(values: list[Any], tmp_path: Path) -> None:
    found = rows(tmp_path, {"answer": values})
    assert [row["answers"] for row in found] == [["a"], ["b"]]
    assert "answer" not in found[0]


def test_answer_is_taken_in_texts_too_and_stays_text(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("image,question,answer\na.png,q,007\n")
    (row,) = rows_of(source_of(tmp_path / "in.csv"))
    assert row["answers"] == ["007"]
    path = write_jsonl(tmp_path / "in.jsonl", [{"image": "a", "question": "q", "answer": "x"}])
    (row,) = rows_of(source_of(path))
    assert row["answers"] == ["x"]


def test_answer_beside_answers_is_not_guessed_about(tmp_path: Path) -> None:
    columns = {"answer": ["a"], "answers": [["b"]]}
    with pytest.raises(ConfigurationError, match="input: answer: an output column has this name"):
        rows(tmp_path, columns)
    (row,) = rows(tmp_path, columns, drop=["answer"])
    assert row["answers"] == ["b"]
    write_parquet(tmp_path / "in.parquet", records(1, answer=["a"], kind=["b"]))
    with pytest.raises(ConfigurationError, match="input: answer: an output column has this name"):
        rows_of(source_of(tmp_path / "in.parquet", columns={"answers": "kind"}))


def test_options_in_one_column_and_answers_by_number(tmp_path: Path) -> None:
    columns = {"choices": [["cat", "dog"], ["x", "y"]], "answer": [1, 0]}
    first, second = rows(tmp_path, columns, options=["choices"])
    assert first["question"] == (
        "Question: what is 0?\nOptions:\nA. cat\nB. dog\n"
        "Please select the correct answer from the options above."
    )
    assert (first["answers"], second["answers"]) == (["B"], ["A"])
    assert (first["options"], second["options"]) == (["cat", "dog"], ["x", "y"])
    assert "choices" not in first


def test_options_in_columns_of_their_own(tmp_path: Path) -> None:
    columns = {"A": ["cat", None], "B": ["dog", None], "answer": ["B", "free"]}
    first, second = rows(tmp_path, columns, options=["A", "B"])
    assert (first["options"], first["answers"]) == (["cat", "dog"], ["B"])
    assert (second["options"], second["answers"]) == (None, ["free"])
    assert second["question"] == "what is 1?"


def test_a_column_called_options_becomes_a_list(tmp_path: Path) -> None:
    columns = {"options": ["['cat', 'dog']"], "answer": ["A"]}
    (row,) = rows(tmp_path, columns, options=["options"])
    assert row["options"] == ["cat", "dog"]
    (untouched,) = rows(tmp_path, columns)
    assert untouched["options"] == "['cat', 'dog']"
    assert untouched["question"] == "what is 0?"


def test_options_that_are_not_there_or_taken_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"input\.options: the input has no column 'C'"):
        rows(tmp_path, {"A": ["x"]}, options=["A", "C"])
    with pytest.raises(ConfigurationError, match="input: options: an output column"):
        rows(tmp_path, {"A": ["x"], "options": ["y"]}, options=["A"])


def test_made_ids_do_not_depend_on_options(tmp_path: Path) -> None:
    lines = [{"image": "a.png", "question": "q", "choices": ["x", "y"]}]
    path = write_jsonl(tmp_path / "in.jsonl", lines)
    (bare,), (with_options,) = (
        rows_of(source_of(path)),
        rows_of(source_of(path, options=["choices"])),
    )
    assert bare["id"] == with_options["id"]


@pytest.mark.parametrize("size", [1, 64 << 20])
def test_texts_have_the_same_shapes_piece_by_piece(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cells.PIECE_BYTES", size)
    path = write_lines(
        tmp_path,
        {"answer": [{"answer": "a", "answer_confidence": "yes"}, {"answer": 2}]},
        {"answer": "b"},
        {"answer": 3},
        {"answer": ["c"]},
    )
    found = rows_of(source_of(path))
    assert [row["answers"] for row in found] == [["a", "2"], ["b"], ["3"], ["c"]]
    assert all(row["read_error"] is None for row in found)


@pytest.mark.parametrize("size", [1, 64 << 20])
def test_options_of_texts_piece_by_piece(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cells.PIECE_BYTES", size)
    path = write_lines(
        tmp_path,
        {"choices": ["cat", "it's"], "answer": 1},
        {"choices": "['x', 'y']", "answer": "0"},
        {"choices": [1, "b", None], "answer": None},
        {"answer": 1},
    )
    found = rows_of(source_of(path, options=["choices"]))
    assert [row["options"] for row in found] == [["cat", "it's"], ["x", "y"], ["1", "b"], None]
    assert [row["answers"] for row in found] == [["B"], ["A"], None, ["1"]]
    assert "choices" not in found[0]


@pytest.mark.parametrize("size", [1, 64 << 20])
def test_options_in_columns_that_not_all_records_have(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cells.PIECE_BYTES", size)
    path = write_lines(tmp_path, {"A": "x", "B": "y"}, {"A": 1, "B": 2, "C": 3})
    for drop in ([], ["A", "B", "C"]):
        found = rows_of(source_of(path, options=["A", "B", "C"], drop=drop))
        assert [row["options"] for row in found] == [["x", "y"], ["1", "2", "3"]]
        assert ("C" in found[0]) == (not drop)


def write_lines(folder: Path, *lines: dict[str, Any]) -> Path:
    rows = [{"id": str(i), "image": "a", "question": "q"} | line for i, line in enumerate(lines)]
    return write_jsonl(folder / "in.jsonl", rows)
