from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.fetch import WRITES
from pipeline.handover import questions
from pipeline.references import Fetcher
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
    images[3] = [{"bytes": b"junk", "uri": None, "base": None}]
    images[4] = None
    table = replace_columns(table, {"image": pa.array(images, table.schema.field("image").type)})
    stage = fetch_stage()
    rows = stage(table).to_pylist()
    assert [row["route"] for row in rows] == ["failed"] * 5 + [None]
    kinds = [row["error"]["type"] for row in rows[:5]]
    assert kinds == ["EmptyQuestionError"] * 3 + ["ImageError"] * 2
    assert {row["error"]["stage"] for row in rows[:5]} == {"fetch"}
    assert [row["images"] is None for row in rows] == [True] * 5 + [False]
    counts = stage.stage.reporter.board.counts()["fetch"]  # type: ignore[attr-defined]
    assert (counts.rows, counts.failed) == (6, 5)


def test_an_impossible_token_limit_fails_its_row(tmp_path: Path) -> None:
    table = read_table(tmp_path, 3)
    limits = pa.array([0, None, 1], pa.int64())
    rows = fetch_stage()(replace_columns(table, {"max_new_tokens": limits})).to_pylist()
    assert [row["route"] for row in rows] == ["failed", None, None]
    assert rows[0]["error"]["type"] == "RecordError"


def test_too_many_pixels_fail_their_row(tmp_path: Path) -> None:
    table = read_table(tmp_path, 1)
    assert fetch_stage(max_image_pixels=23)(table)["route"].to_pylist() == ["failed"]
    assert fetch_stage(max_image_pixels=24)(table)["route"].null_count == 1


def test_large_blocks_go_out_in_parts_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = picture(0).nbytes
    monkeypatch.setattr("pipeline.fetch.IN_FLIGHT_BYTES", 3 * one)
    table = read_table(tmp_path, 10, questions=["", None])
    parts = list(fetch_stage().stage(table))
    assert [part.num_rows for part in parts] == [5, 3, 2]
    assert pa.concat_tables(parts)["id"].equals(table["id"])
    for part in parts:
        (images,) = part["images"].chunks
        assert images.nbytes < 4 * one


def test_an_empty_block_keeps_its_columns(tmp_path: Path) -> None:
    table = read_table(tmp_path, 2)
    assert fetch_stage()(table.slice(2)).schema.equals(fetch_stage()(table).schema)


def test_what_nobody_foresaw_fails_its_row_alone(tmp_path: Path) -> None:
    class Broken(Fetcher):
        def fetch(self, reference: dict[str, Any] | None) -> bytes:
            raise MemoryError("at 0x7f00")

    rows = fetch_stage(fetcher=Broken(1))(read_table(tmp_path, 2)).to_pylist()
    assert {row["error"]["type"] for row in rows} == {"MemoryError"}
    assert not any("0x" in row["error"]["message"] for row in rows)
