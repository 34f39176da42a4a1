"""The benchmarks' arithmetic, and that each runs to its table on small shapes. Nothing is timed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import capture, pruning
from benchmarks.decoders import Decoder
from benchmarks.measure import Ratio, peak_bytes, take_turns
from benchmarks.record import write_result

TINY = Decoder(hidden=32, heads=4, kv_heads=2, intermediate=64, layers=6, vocabulary=100)


def test_a_ratio_is_taken_round_by_round() -> None:
    ratio = Ratio.of([2.0, 30.0, 8.0], [1.0, 10.0, 2.0])
    assert (ratio.low, ratio.value, ratio.high) == (2.0, 3.0, 4.0)
    many = Ratio.of([1.0, 2.0, 3.0, 4.0, 100.0], [1.0] * 5)
    assert many.value == 3.0
    assert 1.0 < many.low < many.value < many.high < 100.0


def test_variants_take_turns_and_the_first_round_does_not_count() -> None:
    ran: list[str] = []
    times = take_turns({name: lambda name=name: ran.append(name) for name in "ab"}, rounds=2)
    assert "".join(ran) == "ab" + "ba" + "ab"
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 2, "b": 2}


def _allocate(mebibytes: int) -> object:
    return lambda: len(bytearray(mebibytes << 20))


def test_a_peak_is_what_the_work_needs_at_once() -> None:
    small, large = (peak_bytes(_allocate, size) for size in (8, 64))
    assert large - small == pytest.approx(56 << 20, rel=0.1)


def test_capture() -> None:
    rows = capture.measure(visual=(64,), rounds=1, decoder=TINY)
    assert set(rows[0]["time"]) == {"capture", "eager"}
    assert "eager" in capture.report(rows)
    huge = replace(TINY, layers=48)
    assert capture.eager_bytes(huge, 4096) == 4 * 48 * 4 * 4160**2


def test_pruning(tmp_path: Path) -> None:
    rows = pruning.measure(
        visual=64,
        rounds=1,
        decode_visual=64,
        decode_batch=2,
        prefill_decoder=TINY,
        decode_decoder=TINY,
    )
    assert [row["phase"] for row in rows] == ["prefill"] * 3 + ["decode"] * 3
    ideals = [row["ideal"] for row in rows[:3]]
    assert 1 < ideals[0] < ideals[1] < ideals[2]
    assert "realised" in pruning.report(rows)
    path = write_result("pruning", {"rounds": 1}, rows, tmp_path)
    assert json.loads(path.read_text())["rows"] == rows
