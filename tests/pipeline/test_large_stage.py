import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.handover import Rate
from pipeline.large_stage import WRITES, LargeModel, LargeSettings, LargeStage
from pipeline.progress import Board
from pipeline.schema import IN_FLIGHT, OUTPUT
from pipeline.small_stage import SmallSettings, SmallStage
from tests.pipeline.fakes import (
    POISON,
    FakeLarge,
    FakeSmall,
    LocalReporter,
    ended_of,
    guard_of,
    guidance_of,
)
from tests.pipeline.tables import fetch_stage, question_of, read_table

THRESHOLD = 0.6


def small_rows(table: pa.Table, rate: Rate | None = None) -> pa.Table:
    settings = SmallSettings(THRESHOLD, rate=rate or Rate())
    return SmallStage(FakeSmall, settings, LocalReporter(), guard_of("small"))(fetch_stage()(table))


def run(
    blocks: list[pa.Table], load: Callable[[], LargeModel] = FakeLarge, rate: Rate | None = None
) -> list[pa.Table]:
    settings = LargeSettings(4, concurrent_blocks=100, linger_s=3600, rate=rate or Rate())
    rows = sum(len(block) for block in blocks)

    async def scenario() -> list[pa.Table]:
        stage = LargeStage(load, settings, LocalReporter(Board(expected=rows)), guard_of("large"))
        return await asyncio.wait_for(asyncio.gather(*map(stage, blocks)), 60)

    return asyncio.run(scenario())


def split(table: pa.Table, size: int) -> list[pa.Table]:
    return [table.slice(start, size) for start in range(0, len(table), size)]


def test_open_rows_are_answered_with_their_own_guidance(tmp_path: Path) -> None:
    table = read_table(tmp_path, 30)
    model = FakeLarge()
    out = pa.concat_tables(run(split(small_rows(table), 5), lambda: model))
    assert out["id"].equals(table["id"])
    for row, route in enumerate(out["route"].to_pylist()):
        guidance = guidance_of(question_of(table, row))
        if route == "large":
            expected = f"large {guidance.answer.split()[1]} {guidance.importance.sum():.4f}"
            assert out["answer"][row].as_py() == expected
        name = out["id"][row].as_py()
        assert out["answer_ended"][row].as_py() == ended_of(str(route), name)
    escalated = [name for name, route in routes(out) if route == "large"]
    assert sorted(request.id for request in model.seen) == escalated
    pruners = dict(zip(out["route"].to_pylist(), out["pruner"].to_pylist(), strict=True))
    assert pruners == {"small": None, "large": "guided"}
    for request in model.seen:
        assert request.guidance is not None
        row = table["id"].to_pylist().index(request.id)
        assert np.array_equal(request.record.images[0], question_of(table, row).images[0])


def routes(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["id"].to_pylist(), table["route"].to_pylist(), strict=True))


def test_batches_are_full_across_blocks_and_the_rows_tell(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    out = pa.concat_tables(
        run(split(small_rows(read_table(tmp_path, 40)), 3), lambda: FakeLarge(log=log))
    )
    sizes = [len(path.read_text().split()) for path in log.glob("large-*.txt")]
    escalated = [rows for rows in out["large_batch_rows"].to_pylist() if rows]
    assert sum(sizes) == len(escalated) > 8
    assert sum(size < 4 for size in sizes) <= 1
    assert sum(1 / rows for rows in escalated) == pytest.approx(len(sizes))


def test_settled_rows_only_pass(tmp_path: Path) -> None:
    block = small_rows(read_table(tmp_path, 12, questions=["", POISON]))
    (out,) = run([block])
    for row, route in enumerate(block["route"].to_pylist()):
        if route is not None:
            kept = [name for name in block.column_names if name not in IN_FLIGHT]
            assert out.select(kept).slice(row, 1).equals(block.select(kept).slice(row, 1))
            assert not out["large_started_at"][row].is_valid


def test_a_block_of_settled_rows_waits_for_nothing(tmp_path: Path) -> None:
    block = small_rows(read_table(tmp_path, 2, questions=["", ""]))

    async def scenario() -> pa.Table:
        settings = LargeSettings(4, concurrent_blocks=9, linger_s=3600)
        never_drained = LocalReporter(Board(expected=10**6))
        stage = LargeStage(FakeLarge, settings, never_drained, guard_of("large"))
        return await asyncio.wait_for(stage(block), 60)

    assert asyncio.run(scenario())["route"].to_pylist() == ["failed", "failed"]


def test_without_a_small_stage_everything_runs_unpruned(tmp_path: Path) -> None:
    table = read_table(tmp_path, 6, questions=[POISON])
    (out,) = run([fetch_stage(threshold=None)(table)])
    assert out["route"].to_pylist() == ["failed"] + ["large"] * 5
    assert out["error"][0].as_py()["stage"] == "large"
    assert all(text.endswith("alone") for text in out["answer"].to_pylist()[1:])
    for name in ("exit_score", "small_answer", "kept_tokens", "keep_ratio", "average_retention"):
        assert out[name].null_count == 6


def test_costs_of_both_models_add_up(tmp_path: Path) -> None:
    rate = Rate(usd_per_hour=7.2)
    (out,) = run([small_rows(read_table(tmp_path, 30), rate)], rate=Rate(2, usd_per_hour=3.6))
    for row in out.to_pylist():
        large = row["route"] == "large"
        assert row["large_gpu_s"] == (1.0 if large else None)
        assert row["cost_usd"] == pytest.approx(0.001 + (0.001 if large else 0))
        assert row["flops"] == (2e6 if large else 1e6)
        assert row["kept_tokens"] == (1 if large else None)


def test_the_output_is_the_schema_and_the_carried_columns(tmp_path: Path) -> None:
    block = small_rows(read_table(tmp_path, 12))
    (out,) = run([block])
    assert out.column_names == [*OUTPUT.names, "kind"]
    assert all(out.schema.field(f.name).type == f.type for f in OUTPUT)
    for name in out.column_names:
        if name not in WRITES:
            assert out[name].equals(block[name])
