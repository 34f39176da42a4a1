from pathlib import Path

import pytest

from pipeline.report.compare import compare, difference
from pipeline.report.gathering import facts_of
from sgl.statistics import Estimate, wilson
from tests.pipeline.report.made import rows, write_output


def test_a_difference_has_newcombes_interval() -> None:
    # Newcombe 1998, example (a) of table II: 56/70 - 48/80.
    found = difference(wilson(48, 80), wilson(56, 70))
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    alike = difference(Estimate(0.5, 0.4, 0.6), Estimate(0.5, 0.4, 0.6))
    assert alike.value == 0
    assert alike.low == pytest.approx(-alike.high)


def test_runs_are_held_against_the_first(tmp_path: Path) -> None:
    some = rows(300)
    better = [one | {"answer": "right"} for one in some]
    cheap = [one | {"small_gpu_s": 0.05} for one in some]
    every = [
        facts_of(str(write_output(tmp_path / name, of)))
        for name, of in (("a", some), ("b", better), ("c", cheap))
    ]
    found = compare(every)
    lines = {line.name: line.cells for line in found.lines}
    assert found.names == ("a", "b", "c")
    assert lines["quality"][1].direction == "good"
    assert lines["quality"][1].value.startswith("100.0%")
    assert lines["quality"][2].direction == ""
    seconds = lines["small model, device-seconds per record"]
    assert (seconds[2].difference, seconds[2].direction) == ("-50.0%", "good")
    assert "average retention" in lines


def test_measures_that_differ_are_not_compared(tmp_path: Path) -> None:
    first = facts_of(str(write_output(tmp_path / "a", rows(50))))
    other = facts_of(str(write_output(tmp_path / "b", rows(50))), metric="anls")
    found = compare([first, other])
    assert "quality" not in [line.name for line in found.lines]
    assert "measured differently" in found.remark
