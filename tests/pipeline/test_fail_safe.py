"""Stages that are told of an alarm: nobody exits, nothing is pruned, and rows say so."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.fail_safe import Decision, FailSafe, Outcome
from pipeline.large_stage import LargeSettings, LargeStage
from pipeline.probe import UNPRUNED, ProbeConfig
from pipeline.progress import Board
from pipeline.schema import OUTPUT
from pipeline.small_stage import SmallSettings, SmallStage
from tests.pipeline.fakes import (
    POISON,
    FakeLarge,
    FakeSmall,
    LocalReporter,
    guard_of,
    score_of,
)
from tests.pipeline.tables import fetch_stage, read_table

THRESHOLD = 0.6
EVERY = ProbeConfig(share=1.0)


@dataclass
class FakeMonitor:
    """Answers at once, or never."""

    safe: bool | None = False
    safe_from_start: bool = False
    metric: str = "exact_match"
    asked: list[Future[bool]] = field(default_factory=list)
    announced: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def announce(self, ids: Sequence[str]) -> None:
        assert not set(ids) & {name for name, _ in self.outcomes}
        self.announced += ids

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes += outcomes

    def failing_safe(self) -> "Future[bool]":
        self.asked.append(Future())
        if self.safe is not None:
            self.asked[-1].set_result(self.safe)
        return self.asked[-1]


def test_a_stage_asks_once_a_second_and_never_waits() -> None:
    now = [0.0]
    monitor = FakeMonitor(safe=None)
    ear = FailSafe(monitor, lambda: now[0])
    for _ in range(5):
        ear.ask()
        assert not ear.active()
    assert len(monitor.asked) == 1
    now[0] = 5.0
    ear.ask()
    assert len(monitor.asked) == 1, "a question is still open"
    monitor.asked[0].set_result(False)
    ear.ask()
    ear.ask()
    assert len(monitor.asked) == 2
    monitor.asked[1].set_result(True)
    assert ear.active()
    now[0] = 9.0
    ear.ask()
    assert ear.active()
    assert len(monitor.asked) == 2, "what is known needs no question"


def test_a_monitor_that_cannot_be_reached_is_no_alarm_and_asked_again() -> None:
    now = [0.0]
    monitor = FakeMonitor(safe=None)
    ear = FailSafe(monitor, lambda: now[0])
    ear.ask()
    monitor.asked[0].set_exception(RuntimeError("it died"))
    now[0] = 1.0
    ear.ask()
    assert not ear.active()
    monitor.asked[1].set_result(True)
    assert ear.active()


def test_an_alarm_of_before_holds_from_the_first_row() -> None:
    assert FailSafe(FakeMonitor(safe=None, safe_from_start=True)).active()
    assert not FailSafe(None).active()


def small(table: pa.Table, monitor: FakeMonitor | None, threshold: float | None = THRESHOLD) -> Any:
    settings = SmallSettings(threshold, probe=EVERY)
    stage = SmallStage(FakeSmall, settings, LocalReporter(), guard_of("small"), monitor)
    return stage(fetch_stage(threshold)(table))


def large(table: pa.Table, model: FakeLarge, monitor: FakeMonitor | None) -> pa.Table:
    settings = LargeSettings(4, concurrent_blocks=100, linger_s=3600, probe=EVERY)

    async def scenario() -> list[pa.Table]:
        reporter = LocalReporter(Board(expected=len(table)))
        stage = LargeStage(lambda: model, settings, reporter, guard_of("large"), monitor)
        blocks = [table.slice(start, 5) for start in range(0, len(table), 5)]
        return await asyncio.wait_for(asyncio.gather(*map(stage, blocks)), 60)

    return pa.concat_tables(asyncio.run(scenario()))


def test_every_row_says_what_was_decided(tmp_path: Path) -> None:
    table = read_table(tmp_path, 30, questions=["", POISON])
    out = large(small(table, None), FakeLarge(), None)
    for row in out.to_pylist():
        expected = {"small": Decision.EXITED, "large": Decision.ESCALATED}.get(row["route"])
        assert row["decision"] == expected
        if expected:
            assert (row["exit_score"] >= THRESHOLD) == (expected is Decision.EXITED)
    assert set(out["decision"].to_pylist()) == {None, "exited", "escalated"}


def test_without_a_cascade_nothing_is_decided(tmp_path: Path) -> None:
    out = small(read_table(tmp_path, 4), None, threshold=None)
    assert out["decision"].null_count == 4


def test_a_monitor_without_alarm_changes_no_row(tmp_path: Path) -> None:
    table = read_table(tmp_path, 30)
    untimed = [name for name in OUTPUT.names if "_at" not in name and name != "large_batch_rows"]
    plain = large(small(table, None), FakeLarge(), None).select(untimed)
    watched = large(small(table, FakeMonitor()), FakeLarge(), FakeMonitor()).select(untimed)
    assert watched.equals(plain)


def test_after_the_alarm_the_unpruned_large_model_answers_all(tmp_path: Path) -> None:
    table, model = read_table(tmp_path, 30, questions=["", POISON]), FakeLarge()
    block = small(table, FakeMonitor(safe=True))
    assert block["route"].to_pylist() == ["failed", "failed"] + [None] * 28
    # The large stage takes the small one's word, whatever it has heard itself.
    out = large(block, model, FakeMonitor(safe=None))
    assert set(out["decision"].to_pylist()[2:]) == {"fail_safe"}
    assert out["decision"].to_pylist()[:2] == [None, None]
    for row in out.to_pylist()[2:]:
        assert row["route"] == "large"
        assert row["answer"].endswith("at 1.0")
        assert row["threshold"] == THRESHOLD
        for name in ("prune_layer", "keep_ratio", "average_retention", "kept_tokens"):
            assert row[name] is None
        # Its probe says the same, and agreement by construction is no outcome.
        assert row["probe"][0]["answer"] == row["answer"]
    main = [request for request in model.seen if request.probe is None]
    assert {request.pruning for request in main} == {UNPRUNED}


def test_what_is_on_its_way_is_not_pruned_and_what_has_exited_stays(tmp_path: Path) -> None:
    table = read_table(tmp_path, 30)
    monitor = FakeMonitor(safe_from_start=True)
    out = large(small(table, None), FakeLarge(), monitor)
    for row in out.to_pylist():
        exited = score_of(row["id"]) >= THRESHOLD
        assert row["decision"] == ("exited" if exited else "fail_safe")
        assert row["keep_ratio"] is None
    assert dict(monitor.outcomes).keys() == set(table["id"].to_pylist())
    known = {name for name, agreed in monitor.outcomes if agreed is not None}
    assert known == {row["id"] for row in out.to_pylist() if row["decision"] == "exited"}


def test_no_batch_is_pruned_in_two_ways(tmp_path: Path) -> None:
    class Watched(FakeLarge):
        def run(self, requests: Any, *watch: Any) -> Any:
            assert len({(one.pruning, one.probe) for one in requests}) == 1
            assert len({one.id for one in requests}) == len(requests)
            return super().run(requests, *watch)

    table = read_table(tmp_path, 40)
    calm, alarmed = small(table.slice(0, 20), None), small(table.slice(20), FakeMonitor(safe=True))
    out = large(pa.concat_tables([calm, alarmed]), Watched(), FakeMonitor())
    assert set(out["decision"].to_pylist()) == {"exited", "escalated", "fail_safe"}


def test_outcomes_are_announced_before_and_told_after(tmp_path: Path) -> None:
    table, monitor = read_table(tmp_path, 20, questions=[POISON]), FakeMonitor()
    out = large(small(table, FakeMonitor()), FakeLarge(), monitor)
    rows = {row["id"]: row for row in out.to_pylist()}
    probed = [name for name, row in rows.items() if row["probe"] is not None]
    assert sorted(monitor.announced) == sorted(probed)
    known = dict(monitor.outcomes)
    assert known.keys() == rows.keys()
    for name in probed:
        assert known[name] == float(rows[name]["answer"] == rows[name]["probe"][0]["answer"])


def test_a_record_that_fails_in_its_next_life_is_not_waited_for(tmp_path: Path) -> None:
    """Announced before its block was lost; done again, it fails ahead of the large stage."""
    table, monitor = read_table(tmp_path, 10, questions=["", POISON]), FakeMonitor()
    out = large(small(table, None), FakeLarge(), monitor)
    failed = [row["id"] for row in out.to_pylist() if row["route"] == "failed"]
    assert len(failed) == 2
    assert not set(failed) & set(monitor.announced)
    assert [dict(monitor.outcomes).get(name, "silence") for name in failed] == [None, None]


@pytest.mark.parametrize("metric", ["exact_match", "anls"])
def test_answers_are_compared_by_the_promised_metric(tmp_path: Path, metric: str) -> None:
    monitor = FakeMonitor(metric=metric)
    large(small(read_table(tmp_path, 20), None), FakeLarge(), monitor)
    partly = {agreed for _, agreed in monitor.outcomes if agreed not in (0, 1, None)}
    assert bool(partly) == (metric == "anls")
