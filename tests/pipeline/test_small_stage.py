import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.handover import Rate, unpack_guidance
from pipeline.small_stage import WRITES, SmallSettings, SmallStage
from tests.pipeline.fakes import (
    POISON,
    FakeSmall,
    LocalReporter,
    ended_of,
    guard_of,
    guidance_of,
    score_of,
)
from tests.pipeline.tables import fetch_stage, question_of, read_table

THRESHOLD = 0.6


def run(
    table: pa.Table, settings: SmallSettings | None = None, model: type[FakeSmall] = FakeSmall
) -> pa.Table:
    settings = settings or SmallSettings(THRESHOLD)
    stage = SmallStage(model, settings, LocalReporter(), guard_of("small"))
    return stage(fetch_stage()(table))


def test_records_above_the_threshold_exit_and_the_others_carry_their_guidance(
    tmp_path: Path,
) -> None:
    table = read_table(tmp_path, 30)
    out = run(table)
    routes = out["route"].to_pylist()
    assert {"small", None} == set(routes)
    for row, (name, route) in enumerate(zip(out["id"].to_pylist(), routes, strict=True)):
        expected = guidance_of(question_of(table, row))
        exits = score_of(name) >= THRESHOLD
        assert route == ("small" if exits else None)
        assert out["answer"][row].as_py() == (expected.answer if exits else None)
        assert out["small_answer"][row].as_py() == expected.answer
        assert out["exit_score"][row].as_py() == expected.exit_score
        assert out["images"][row].is_valid == (not exits)
        assert out["guidance"][row].is_valid == (not exits)


def test_guidance_survives_the_table_whole(tmp_path: Path) -> None:
    table = read_table(tmp_path, 30)
    out = run(table)
    escalated = [i for i, route in enumerate(out["route"].to_pylist()) if route is None]
    assert escalated
    for row in escalated:
        expected, found = guidance_of(question_of(table, row)), unpack_guidance(out, row)
        assert found is not None
        assert np.array_equal(found.importance, expected.importance)
        assert found.importance.dtype == np.float32
        for name in ("id", "answer", "token_ids", "certainty", "criterion", "exit_score", "ended"):
            assert getattr(found, name) == getattr(expected, name)
        assert found.grids == expected.grids
        assert found.usage == expected.usage


def test_what_failed_before_is_not_touched_and_not_run(tmp_path: Path) -> None:
    table = read_table(tmp_path, 4, questions=[""])
    before = fetch_stage()(table)
    model = FakeSmall(log=tmp_path)
    stage = SmallStage(lambda: model, SmallSettings(THRESHOLD), LocalReporter(), guard_of("small"))
    out = stage(before)
    untouched = [name for name in before.column_names if name not in ("images",)]
    assert out.select(untouched).slice(0, 1).equals(before.select(untouched).slice(0, 1))
    (call,) = tmp_path.glob("small-*.txt")
    assert call.read_text().split() == ["r0001", "r0002", "r0003"]


def test_a_record_that_the_model_refuses_fails_alone(tmp_path: Path) -> None:
    rows = run(read_table(tmp_path, 4, questions=[POISON])).to_pylist()
    assert rows[0]["route"] == "failed"
    assert rows[0]["error"] == {
        "stage": "small",
        "type": "PromptTooLongError",
        "message": "too long",
    }
    assert rows[0]["images"] is None
    assert all(row["error"] is None for row in rows[1:])


def test_a_block_without_open_rows_runs_no_model(tmp_path: Path) -> None:
    before = fetch_stage()(read_table(tmp_path, 2, questions=["", ""]))
    model = FakeSmall(log=tmp_path)
    SmallStage(lambda: model, SmallSettings(THRESHOLD), LocalReporter(), guard_of("small"))(before)
    assert list(tmp_path.glob("small-*.txt")) == []


def test_a_score_that_is_no_number_never_exits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.pipeline.fakes.score_of", lambda _: math.nan)
    out = run(read_table(tmp_path, 3), SmallSettings(threshold=0.0))
    assert out["route"].to_pylist() == [None, None, None]
    assert all(math.isnan(score) for score in out["exit_score"].to_pylist())


def test_an_answer_that_was_cut_says_so(tmp_path: Path) -> None:
    out = run(read_table(tmp_path, 12, questions=[POISON]))
    routes, ids = out["route"].to_pylist(), out["id"].to_pylist()
    expected = [
        ended_of("small", name) if route == "small" else None
        for name, route in zip(ids, routes, strict=True)
    ]
    assert out["answer_ended"].to_pylist() == expected
    assert set(expected) == {True, False, None}


def test_without_a_threshold_every_answer_stands_and_this_is_the_end(tmp_path: Path) -> None:
    out = run(read_table(tmp_path, 12), SmallSettings(threshold=None))
    assert set(out["route"].to_pylist()) == {"small"}
    assert not {"images", "guidance", "max_new_tokens"} & set(out.column_names)


def test_the_importance_is_written_on_request(tmp_path: Path) -> None:
    table = read_table(tmp_path, 12, questions=[""])
    assert "importance" not in run(table).column_names
    out = run(table, SmallSettings(THRESHOLD, write_importance=True))
    assert out.schema.field("importance").type == pa.list_(pa.float16())
    assert not out["importance"][0].is_valid
    expected = guidance_of(question_of(table, 5)).importance
    written = np.array(out["importance"][5].as_py())
    np.testing.assert_allclose(written, expected / expected.max(), rtol=1e-3)


def test_no_importance_is_too_large_to_be_written(tmp_path: Path) -> None:
    class Deep(FakeSmall):
        def run(self, *args: Any) -> list[Any]:
            return [replace(one, importance=one.importance * 1e6) for one in super().run(*args)]

    settings = SmallSettings(THRESHOLD, write_importance=True)
    column = run(read_table(tmp_path, 2), settings, Deep)["importance"].to_pylist()
    assert [max(row) for row in column] == [1.0, 1.0]
    assert all(np.isfinite(row).all() for row in column)


def test_costs_are_seconds_times_devices_times_price(tmp_path: Path) -> None:
    rate = Rate(devices=2, usd_per_hour=7.2)
    out = run(read_table(tmp_path, 2), SmallSettings(THRESHOLD, rate=rate))
    assert out["small_gpu_s"].to_pylist() == [1.0, 1.0]
    assert out["cost_usd"].to_pylist() == pytest.approx([0.002, 0.002])
    assert out["flops"].to_pylist() == [1e6, 1e6]
    assert out["consistency_gpu_s"].null_count == 2, "the fake runs no such pass"


def test_only_declared_columns_change(tmp_path: Path) -> None:
    before = fetch_stage()(read_table(tmp_path, 12))
    out = SmallStage(FakeSmall, SmallSettings(THRESHOLD), LocalReporter(), guard_of("small"))(
        before
    )
    for name in before.column_names:
        if name not in WRITES:
            assert out[name].equals(before[name])
    assert set(out.column_names) - set(before.column_names) == {"guidance"}
