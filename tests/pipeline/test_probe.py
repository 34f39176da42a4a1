"""A slice of the records through the large model in other ways besides."""

import asyncio
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from actors.config import PruningConfig
from actors.large_vlm import GuidedQuestion
from pipeline.config import InputConfig
from pipeline.draw import Lowest, hashes_of
from pipeline.handover import Rate
from pipeline.large_stage import LargeSettings, LargeStage
from pipeline.probe import UNPRUNED, ProbeConfig
from pipeline.progress import Board
from pipeline.schema import OUTPUT, PROBE
from pipeline.small_stage import SmallSettings, SmallStage
from tests.pipeline.fakes import (
    POISON,
    FakeLarge,
    FakeSmall,
    LocalReporter,
    guard_of,
    guidance_of,
    score_of,
)
from tests.pipeline.tables import fetch_stage, question_of, read_table

THRESHOLD = 0.6
TWO = (UNPRUNED, PruningConfig(prune_layer=0.4, keep_ratio=0.5))
RATE = Rate(usd_per_hour=7.2)


def run(table: pa.Table, probe: ProbeConfig, model: FakeLarge, block: int = 5) -> pa.Table:
    small = SmallStage(
        FakeSmall,
        SmallSettings(THRESHOLD, probe=probe),
        LocalReporter(),
        guard_of("small"),
    )(fetch_stage()(table))
    settings = LargeSettings(4, concurrent_blocks=100, linger_s=3600, rate=RATE, probe=probe)

    async def scenario() -> list[pa.Table]:
        reporter = LocalReporter(Board(expected=len(table)))
        stage = LargeStage(lambda: model, settings, reporter, guard_of("large"))
        blocks = [small.slice(start, block) for start in range(0, len(small), block)]
        return await asyncio.wait_for(asyncio.gather(*map(stage, blocks)), 60)

    return pa.concat_tables(asyncio.run(scenario()))


def test_probed_records_have_all_answers_and_their_row_is_as_without(tmp_path: Path) -> None:
    table, model = read_table(tmp_path, 40), FakeLarge()
    out = run(table, ProbeConfig(share=0.5, prunings=TWO), model)
    plain = run(table, ProbeConfig(share=1e-9), FakeLarge())
    untimed = [name for name in OUTPUT.names if "_at" not in name and name != "large_batch_rows"]
    assert out.select(untimed).equals(plain.select(untimed))
    chosen = [ProbeConfig(share=0.5).chooses(name) for name in out["id"].to_pylist()]
    assert 10 < sum(chosen) < 30
    routes = set()
    for row, probed in enumerate(chosen):
        cell = out["probe"][row].as_py()
        assert (cell is not None) == probed
        if probed:
            routes.add(out["route"][row].as_py())
            guidance = guidance_of(question_of(table, row))
            common = f"large {guidance.answer.split()[1]} {guidance.importance.sum():.4f}"
            assert [one["answer"] for one in cell] == [f"{common} at 1.0", f"{common} at 0.5"]
            assert [one["keep_ratio"] for one in cell] == [1.0, 0.5]
            assert {one["gpu_s"] for one in cell} == {0.5}
            assert {one["cost_usd"] for one in cell} == {0.001}
    assert routes == {"small", "large"}


def test_ways_that_differ_only_in_their_pruner_are_told_apart(tmp_path: Path) -> None:
    ways = tuple(
        PruningConfig(prune_layer=0.4, keep_ratio=0.5, pruner=name)
        for name in ("guided", "random", "pyramid")
    )
    model = FakeLarge()
    out = run(read_table(tmp_path, 20), ProbeConfig(share=1, prunings=ways), model)
    for cell in out["probe"].to_pylist():
        assert [one["pruner"] for one in cell] == ["guided", "random", "pyramid"]
    probed = [one for one in model.seen if one.probe is not None]
    assert all(one.pruning == ways[one.probe or 0] for one in probed)


def test_no_batch_mixes_ways_and_they_are_full(tmp_path: Path) -> None:
    batches: list[set[int | None]] = []
    sizes: list[int] = []

    class Watched(FakeLarge):
        def run(self, requests: list[GuidedQuestion], *watch: object) -> list[object]:  # type: ignore[override]
            batches.append({request.probe for request in requests})
            sizes.append(len(requests))
            assert len({request.id for request in requests}) == len(requests)
            return super().run(requests, *watch)  # type: ignore[arg-type, return-value]

    run(read_table(tmp_path, 40), ProbeConfig(share=1.0, prunings=TWO), Watched())
    assert {len(kinds) for kinds in batches} == {1}
    assert set().union(*batches) == {None, 0, 1}
    assert sum(size < 4 for size in sizes) <= 3


def test_what_fails_in_a_probe_costs_its_row_nothing(tmp_path: Path) -> None:
    class Fragile(FakeLarge):
        def _answer(self, request: GuidedQuestion, records: int):  # type: ignore[no-untyped-def]
            if request.probe == 0:
                record = request.record
                request = GuidedQuestion(type(record)(record.id, POISON, record.images))
            return super()._answer(request, records)

    table = read_table(tmp_path, 20, questions=["", POISON])
    out = run(table, ProbeConfig(share=1.0, prunings=TWO), Fragile())
    assert out["route"].to_pylist()[:2] == ["failed", "failed"]
    assert out["probe"].to_pylist()[:2] == [None, None]
    for row in range(2, 20):
        first, second = out["probe"][row].as_py()
        assert (first["answer"], first["error"]["type"]) == (None, "PromptTooLongError")
        assert (second["answer"] is None, second["error"]) == (False, None)
        assert out["route"][row].as_py() != "failed"


def test_the_slice_is_as_large_as_asked_the_same_again_and_another_by_seed() -> None:
    names = [f"r{i}" for i in range(20_000)]
    slices = [
        {name for name in names if ProbeConfig(share=share, seed=seed).chooses(name)}
        for share, seed in ((0.01, 0), (0.01, 1), (0.05, 0), (1.0, 0))
    ]
    assert [
        abs(len(one) - wanted) < 4 * wanted**0.5
        for one, wanted in zip(slices[:3], (200, 200, 1000), strict=True)
    ] == [True] * 3
    assert slices[0] < slices[2] < slices[3] == set(names)
    assert len(slices[0] & slices[1]) < 20
    # Not those that a score would choose.
    mean = sum(map(score_of, slices[2])) / len(slices[2])
    assert abs(mean - 0.5) < 0.05


def test_a_sample_and_a_probe_of_the_same_seed_have_nothing_to_do_with_each_other() -> None:
    """As by default: else the probe would hold a policy against the records that it was made by."""
    names = pa.chunked_array([[f"r{i}" for i in range(20_000)]])
    lowest = Lowest(1000)
    lowest.add(hashes_of(names, InputConfig(path="in").sample_seed))
    sample = lowest.draw(InputConfig(path="in").sample_seed).chosen(names)
    probe = np.array([ProbeConfig(share=0.05).chooses(name) for name in names.to_pylist()])
    assert sample.sum() == 1000
    # 50 by chance.
    assert 20 < (sample & probe).sum() < 90


@pytest.mark.parametrize(
    "settings",
    [{"share": 0}, {"share": 2}, {"share": 0.1, "prunings": []}, {"share": 1, "seed": -1}],
)
def test_impossible_slices_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ProbeConfig.model_validate(settings)


def test_the_column_is_there_only_on_request(tmp_path: Path) -> None:
    out = run(read_table(tmp_path, 5), ProbeConfig(share=1e-9), FakeLarge())
    assert out.schema.field("probe").type == PROBE.type
    assert out["probe"].null_count == 5
