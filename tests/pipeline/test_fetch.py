from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.fetch import WRITES
from pipeline.handover import questions
from pipeline.schema import IMAGES, OUTPUT
from pipeline.stage import replace_columns
from tests.pipeline.inputs import picture
from tests.pipeline.tables import fetch_stage, read_table


def test_pictures_become_pixels(tmp_path: Path) -> None:
    fetched = fetch_stage()(read_table(tmp_path, 3))
    assert set(WRITES) <= set(fetched.column_names)
    assert "image" not in fetched.column_names
    for row, record in enumerate(questions(fetched, [0, 1, 2])):
        assert np.array_equal(record.images[0], picture(row))
        assert record.question == f"what is {row}?"


def test_every_output_column_is_there_with_its_type(tmp_path: Path) -> None:
    fetched = fetch_stage()(read_table(tmp_path, 2))
    for field in OUTPUT:
        assert fetched.schema.field(field.name).type == field.type
    assert fetched.schema.field("images").type == IMAGES.type
    assert fetched["threshold"].to_pylist() == [0.6, 0.6]
    assert fetched["run_id"].to_pylist() == ["run", "run"]
    assert fetched["route"].null_count == 2


def test_bad_rows_fail_alone(tmp_path: Path) -> None:
    table = read_table(tmp_path, 6, questions=["", None, "  "])
    images = table["image"].to_pylist()
    images[3] = {"bytes": b"junk", "uri": None, "base": None}
    images[4] = None
    table = replace_columns(table, {"image": pa.array(images, table.schema.field("image").type)})
    stage = fetch_stage()
    rows = stage(table).to_pylist()
    assert [row["route"] for row in rows] == ["failed"] * 5 + [None]
    kinds = [row["error"]["type"] for row in rows[:5]]
    assert kinds == ["EmptyQuestionError"] * 3 + ["ImageError"] * 2
    assert {row["error"]["stage"] for row in rows[:5]} == {"fetch"}
    assert [row["images"] is None for row in rows] == [True] * 5 + [False]
    counts = stage.reporter.board.counts()["fetch"]  # type: ignore[attr-defined]
    assert (counts.rows, counts.failed) == (6, 5)


def test_a_record_without_an_image_passes_where_that_is_allowed(tmp_path: Path) -> None:
    table = read_table(tmp_path, 2)
    without = pa.array([None, *table["image"].to_pylist()[1:]], table["image"].type)
    table = replace_columns(table, {"image": without})
    refused, allowed = fetch_stage()(table), fetch_stage(text_only=True)(table)
    assert refused["route"].to_pylist() == ["failed", None]
    assert refused["error"][0].as_py()["message"] == "the record has no image"
    assert allowed["route"].to_pylist() == [None, None]
    first, second = questions(allowed, [0, 1])
    assert first.images == ()
    assert len(second.images) == 1


def test_an_impossible_token_limit_fails_its_row(tmp_path: Path) -> None:
    table = read_table(tmp_path, 3)
    limits = pa.array([0, None, 1], pa.int64())
    rows = fetch_stage()(replace_columns(table, {"max_new_tokens": limits})).to_pylist()
    assert [row["route"] for row in rows] == ["failed", None, None]
    assert rows[0]["error"]["type"] == "RecordError"


def test_too_many_pixels_fail_their_row(tmp_path: Path) -> None:
    stage = fetch_stage()
    table = read_table(tmp_path, 1)
    small = type(stage)(**{**vars(stage), "max_image_pixels": 23})
    assert small(table)["route"].to_pylist() == ["failed"]
    assert type(stage)(**{**vars(stage), "max_image_pixels": 24})(table)["route"].null_count == 1
