"""What a study comes to, from rows whose figures are known."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from actors.config import PruningConfig
from pipeline.output import Output
from pipeline.schema import OUTPUT, PROBE
from pipeline.study import UNLABELLED, Study, study_of
from sgl.errors import ConfigurationError
from tests.pipeline.outputs import base_of, output_at, put

GUIDED, RANDOM = (
    PruningConfig(prune_layer=0.4, keep_ratio=0.5, pruner=name) for name in ("guided", "random")
)
WAYS = {GUIDED: 0.7, RANDOM: 0.7}
ANSWERS = pa.field("answers", pa.list_(pa.string()))


def cell(answer: str | None, flops: float = 5.0) -> dict[str, Any]:
    failed = {"stage": "large", "type": "NumericalError", "message": "not finite"}
    if answer is None:
        return {"error": failed}
    return {"answer": answer, "average_retention": 0.6875, "flops": flops}


def row(number: int, guided: str | None, random: str, **cells: Any) -> dict[str, Any]:
    """The unpruned model says yes."""
    found = {"id": f"r{number}", "route": "large", "answer": "yes", "small_answer": "no"}
    found |= {"small_flops": 1.0, "large_flops": 10.0, "page": number // 10, "answers": ["yes"]}
    return found | {"probe": [cell(guided), cell(random, 6.0)]} | cells


def output_of(folder: Path, rows: list[dict[str, Any]]) -> Output:
    output = output_at(folder)
    schema = pa.schema([*OUTPUT, PROBE, ANSWERS, pa.field("page", pa.int32())])
    for number, start in enumerate(range(0, len(rows), 30)):
        table = pa.Table.from_pylist(rows[start : start + 30], schema)
        put(output, output.rows, f"{base_of(number)}-0.parquet", table)
    return output


def studied(folder: Path, rows: list[dict[str, Any]], cluster: str | None = None) -> Study:
    return study_of(output_of(folder, rows), WAYS, "exact_match", cluster)


def test_every_way_is_held_against_the_unpruned_model(tmp_path: Path) -> None:
    rows = [row(i, "yes" if i % 10 else None, "yes" if i % 2 else "no") for i in range(100)]
    found = studied(tmp_path, rows)
    guided, random = found.lines
    assert (found.records, found.labelled) == (100, True)
    assert (found.unpruned.value, found.small.value) == (1.0, 0.0)
    assert (guided.pruning, random.pruning) == (GUIDED, RANDOM)
    assert (guided.score.value, guided.failed) == (0.9, 10)
    assert (random.score.value, random.share.value, random.failed) == (0.5, 0.5, 0)
    assert random.share.low < 0.5 < random.share.high
    assert (guided.asked, guided.retention) == (0.7, 0.6875)
    assert guided.flops == pytest.approx(0.5)
    assert guided.flops_with_small == pytest.approx(0.6)
    assert random.flops == pytest.approx(0.6)
    assert random.flops_with_small is None


def test_the_comparison_is_paired(tmp_path: Path) -> None:
    """Where both are wrong on the same records, the share of the unpruned score is sure."""
    rows = [row(i, "yes", "no", answers=["yes" if i % 3 else "maybe"]) for i in range(90)]
    share = studied(tmp_path, rows).lines[0].share
    assert (share.low, share.value, share.high) == (1.0, 1.0, 1.0)


def test_images_count_and_not_records(tmp_path: Path) -> None:
    """All records of a page are right, or none: ten times fewer, and wider intervals."""
    rows = [row(i, "yes" if i // 10 % 2 else "no", "no") for i in range(200)]
    alone, clustered = (studied(tmp_path / str(c), rows, c).lines[0] for c in (None, "page"))
    width, wider = (one.share.high - one.share.low for one in (alone, clustered))
    assert wider > 2 * width
    assert alone.score.value == clustered.score.value
    with pytest.raises(ConfigurationError, match="--cluster leaf: the rows have no such column"):
        studied(tmp_path / "leaf", rows, "leaf")


def test_without_answers_it_is_agreement_with_the_unpruned_model(tmp_path: Path) -> None:
    rows = [row(i, "yes", "no" if i % 4 else "yes", answers=None) for i in range(40)]
    found = studied(tmp_path, rows)
    assert not found.labelled
    assert found.unpruned.value == 1.0
    assert [line.score.value for line in found.lines] == [1.0, 0.25]


def test_what_cannot_be_compared_is_left_out_and_counted(tmp_path: Path) -> None:
    error = {"stage": "fetch", "type": "ImageError", "message": "no such file"}
    rows = [row(i, "yes", "no") for i in range(10)]
    rows += [row(10, None, "no", answer=None, probe=None, route="failed", error=error)]
    rows += [row(11, "yes", "no", answers=None)]
    found = studied(tmp_path, rows)
    assert found.records == 10
    assert found.left_out == {"ImageError": 1, UNLABELLED: 1}
    with pytest.raises(ConfigurationError, match="no record that was answered: 1 ImageError"):
        studied(tmp_path / "none", rows[10:11])
