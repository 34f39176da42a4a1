"""A run's probe against what was promised."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.measured import Measured, measure
from pipeline.output import Output
from pipeline.probe import Promise
from pipeline.schema import OUTPUT, PROBE
from sgl.statistics import wilson
from tests.pipeline.outputs import base_of, output_at, put

PROMISE = Promise(agreement=0.9, delta=0.05)


def row(number: int, agrees: bool, *, probed: bool = True, **cells: Any) -> dict[str, Any]:
    unpruned = {"prune_layer": 0.0, "keep_ratio": 1.0, "answer": "Yes.", "flops": 10.0}
    other = {"prune_layer": 0.4, "keep_ratio": 0.5, "answer": "no", "flops": 5.0}
    found = {"id": f"r{number}", "route": "small", "answer": "yes" if agrees else "no"}
    return found | {"flops": 4.0, "probe": [other, unpruned] if probed else None} | cells


def output_of(folder: Path, rows: list[dict[str, Any]]) -> Output:
    output = output_at(folder)
    schema = OUTPUT.append(PROBE)
    for number, start in enumerate(range(0, len(rows), 50)):
        table = pa.Table.from_pylist(rows[start : start + 50], schema)
        put(output, output.rows, f"{base_of(number)}-0.parquet", table)
    return output


def measured(folder: Path, rows: list[dict[str, Any]]) -> Measured:
    found = measure(output_of(folder, rows), PROMISE)
    assert found is not None
    return found


def test_agreement_and_what_the_large_model_alone_would_have_cost(tmp_path: Path) -> None:
    rows = [row(i, i % 20 != 0) for i in range(100)]
    rows += [row(i, False, probed=False) for i in range(100, 300)]
    rows += [row(300, False, route="failed", answer=None)]
    rows += [row(301, False, probe=[{"prune_layer": 0.0, "keep_ratio": 1.0, "answer": None}])]
    found = measured(tmp_path, rows)
    assert found.records == 100
    assert found.agreement.value == pytest.approx(0.95)
    assert found.agreement.low < 0.95 < found.agreement.high
    assert found.saved.value == pytest.approx(0.6)
    assert found.fail_safe is None
    assert found.cascade is not None
    assert (found.cascade.records, found.cascade.agreement.value) == (100, pytest.approx(0.95))
    assert not found.breaks(PROMISE)


def test_a_few_that_all_agree_are_no_certainty(tmp_path: Path) -> None:
    """Resamples of eight agreements cannot differ."""
    found = measured(tmp_path, [row(i, True) for i in range(8)])
    assert found.agreement == wilson(8, 8)
    assert found.agreement.low == pytest.approx(0.676, abs=1e-3)


def test_an_answer_of_another_pruner_is_not_the_large_model_alone(tmp_path: Path) -> None:
    """Its own first pass costs as much again, and cells from before have no pruner."""
    own = {"pruner": "own", "prune_layer": 0.0, "keep_ratio": 1.0, "answer": "no", "flops": 90.0}
    plain = {**own, "pruner": "guided", "answer": "yes", "flops": 10.0}
    rows = [row(i, True, probe=[own, plain]) for i in range(20)]
    rows += [row(i, True) for i in range(20, 40)]
    rows += [row(40, True, probe=[own])]
    found = measured(tmp_path, rows)
    assert (found.records, found.agreement.value) == (40, 1.0)
    assert found.saved.value == pytest.approx(0.6)


def test_a_promise_is_broken_at_its_own_delta(tmp_path: Path) -> None:
    found = measured(tmp_path, [row(i, i % 3 != 0) for i in range(300)])
    assert found.breaks(PROMISE)
    assert not found.breaks(Promise(agreement=0.9, delta=1e-30))
    assert found.broken_p is not None
    # The other half of delta is for the test while the run goes on.
    assert found.breaks(Promise(agreement=0.9, delta=found.broken_p * 2.01))
    assert not found.breaks(Promise(agreement=0.9, delta=found.broken_p * 1.99))


def test_fail_safe_answers_hide_nothing(tmp_path: Path) -> None:
    """They agree by construction."""
    before = [row(i, i % 3 != 0, decision="exited") for i in range(300)]
    after = [row(i, True, decision="fail_safe") for i in range(300, 6000)]
    found = measured(tmp_path, before + after)
    assert found.agreement.value > 0.98
    assert found.cascade is not None
    assert found.fail_safe is not None
    assert (found.cascade.records, found.fail_safe.records) == (300, 5700)
    assert found.cascade.agreement.value == pytest.approx(2 / 3, abs=1e-3)
    assert found.fail_safe.agreement.value == 1
    assert found.broken_p == measured(tmp_path / "alone", before).broken_p


def test_ids_in_order_of_difficulty_break_no_promise(tmp_path: Path) -> None:
    rows = [row(10_000 + i, i % 2 == 0) for i in range(60)]
    rows += [row(20_000 + i, True) for i in range(440)]
    found = measured(tmp_path, rows)
    assert found.agreement.value == pytest.approx(0.94)
    assert not found.breaks(PROMISE)


def test_a_promise_that_holds_is_broken_as_seldom_as_it_says(tmp_path: Path) -> None:
    """However often one looks: here after every fifty records."""
    random = np.random.default_rng(3)
    alarms, trials = 0, 40
    for trial in range(trials):
        rows = [row(i, bool(random.random() < 0.9)) for i in range(150)]
        looks = [
            measured(tmp_path / f"{trial}-{end}", rows[:end]).breaks(PROMISE)
            for end in (50, 100, 150)
        ]
        alarms += any(looks)
    # Ville's inequality is generous; 0.05 of 40 are two.
    assert alarms <= 6


def test_without_a_probe_nothing_is_measured(tmp_path: Path) -> None:
    assert measure(output_of(tmp_path, [row(1, True, probed=False)]), PROMISE) is None
    found = measure(output_of(tmp_path / "other", [row(1, True)]), None)
    assert found is not None
    assert found.broken_p is None
    assert not found.breaks(PROMISE)
