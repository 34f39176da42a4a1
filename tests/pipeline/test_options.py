"""One measure of multiple choice in every part that compares answers: the options go with them.

Here a model names an option by its text and another one by its letter, which only a reader who has
the options knows to be the same.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from actors.config import PruningConfig
from pipeline.answered import FLOPS, read_sampled
from pipeline.evaluation import evaluate
from pipeline.measured import measure
from pipeline.monitor import Monitor
from pipeline.observations import observe
from pipeline.output import Output
from pipeline.probe import OnAlarm, Promise
from pipeline.schema import OUTPUT, PROBE
from pipeline.scores import Wanted
from pipeline.scoring import score_output
from pipeline.study import study_of
from sgl.types import Answer, Failure, Route
from tests.pipeline.fakes import FakeLarge, usage
from tests.pipeline.outputs import base_of, output_at, put
from tests.pipeline.tables import read_table
from tests.pipeline.test_answered import record
from tests.pipeline.test_fail_safe import FakeMonitor, large, small
from tests.pipeline.test_scoring import make_output

METRIC = "multiple_choice"
PETS = ["cat", "dog"]
TEXTS = pa.list_(pa.string())
TYPES = {"answers": TEXTS, "options": TEXTS, "page": pa.string(), PROBE.name: PROBE.type}
WAYS = [PruningConfig(prune_layer=0.4, keep_ratio=ratio) for ratio in (0.5, 0.1)]


@pytest.fixture
def sampled(tmp_path: Path) -> Output:
    """The small model is right by an option's text on two of three."""
    cells = {"answers": ["B"], "options": PETS}
    rows = [
        record("a1", "B", "dog", "dog", "cat", **cells),
        record("a2", "dog", "(b)", "A", "B", **cells),
        record("b1", "B", "cat", "It is the dog.", "A", **cells),
    ]
    make_output(tmp_path, rows, types=TYPES)
    return output_at(tmp_path)


def test_evaluation_frontier_calibration_and_study_agree(sampled: Output) -> None:
    right = [1, 1, 0]
    scored = score_output(sampled.path, Wanted(metric=METRIC))
    assert scored.scores["small_answer"].tolist() == right
    assert evaluate(scored).overall.answer.value == 1
    found = read_sampled(sampled.path, METRIC).answered[FLOPS]
    assert found.small.tolist() == right
    assert found.large.tolist() == [[1, 1, 1], [1, 0, 1], [0, 1, 0]]
    seen = observe(sampled, WAYS, None)
    for losses in (seen.disagreement(METRIC), seen.accuracy_drop(METRIC)):
        assert losses.small.tolist() == [0, 0, 1]
        assert losses.large.tolist() == (1 - found.large).tolist()
    study = study_of(sampled, dict.fromkeys(WAYS, 0.5), METRIC, None)
    assert study.small.value == pytest.approx(2 / 3)
    assert [line.score.value for line in study.lines] == pytest.approx([2 / 3, 1 / 3])


def test_columns_of_that_name_that_hold_no_texts_are_no_options(tmp_path: Path) -> None:
    rows = [record(name, "B", "dog", "B", "B", answers=["B"], options=2) for name in ("a1", "b1")]
    make_output(tmp_path, rows, types=TYPES | {"options": pa.int64()})
    assert not read_sampled(str(tmp_path), METRIC).answered[FLOPS].small.any()
    assert evaluate(score_output(str(tmp_path), Wanted(metric=METRIC))).overall.answer.value == 1


def test_a_promise_is_held_against_the_same_measure(tmp_path: Path) -> None:
    output = output_at(tmp_path)
    unpruned = {"prune_layer": 0.0, "keep_ratio": 1.0, "answer": "B", "flops": 10.0}
    rows: list[dict[str, Any]] = [
        {"id": f"r{i}", "answer": "dog", "flops": 4.0, "probe": [unpruned], "options": PETS}
        for i in range(100)
    ]
    schema = pa.schema([*OUTPUT, PROBE, pa.field("options", TEXTS)])
    put(output, output.rows, f"{base_of(0)}-0.parquet", pa.Table.from_pylist(rows, schema))
    promise = Promise(agreement=0.9, metric=METRIC)
    found = measure(output, promise)
    assert found is not None
    assert found.agreement.value == 1
    assert Monitor(output, "run", promise, OnAlarm.WARN).alarm() is None


class Choosing(FakeLarge):
    """Says the letter where it is asked for the probe, and else the option's text."""

    def _answer(self, request: Any, records: int) -> Answer | Failure:
        text = "dog" if request.probe is None else "B"
        return Answer(request.id, text, (4, 5), Route.LARGE, usage(2, 1, records))


def test_the_stage_that_tells_the_monitor_has_the_options_too(tmp_path: Path) -> None:
    table = read_table(tmp_path, 20)
    block = small(table, None)
    options = pa.array([PETS] * len(block), TEXTS)
    monitor = FakeMonitor(metric=METRIC)
    out = large(block.append_column("options", options), Choosing(), monitor)
    escalated = np.array([route == "large" for route in out["route"].to_pylist()])
    agreed = dict(monitor.outcomes)
    assert escalated.any()
    assert [agreed[name] for name in out["id"].to_pylist()] == escalated.astype(float).tolist()
