"""Outputs of a calibration, made by hand, and others that are not such ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.answered import AGREEMENT, FLOPS, SECONDS, USD, read_sampled
from pipeline.schema import PROBE
from sgl.calibration import UNPRUNED, Pruned
from sgl.errors import ConfigurationError
from tests.pipeline.outputs import output_at
from tests.pipeline.test_scoring import ANSWERS, failed, make_output

METRIC = "exact_match"
TYPES = {"answers": ANSWERS, "page": pa.string(), PROBE.name: PROBE.type}
HALF = Pruned(0.4, 0.5)


def probed(name: str, *texts: str | None, flops: float = 6.0) -> list[dict[str, Any]]:
    ratios = (HALF.keep_ratio, 0.1)
    return [
        {"prune_layer": 0.4, "keep_ratio": ratio, "answer": text, "flops": flops, "gpu_s": 0.5}
        | {"average_retention": 0.4 + 0.6 * ratio}
        if text is not None
        else {"prune_layer": 0.4, "keep_ratio": ratio, "error": {"stage": "large", "type": name}}
        for ratio, text in zip(ratios, texts, strict=False)
    ]


def record(name: str, large: str, small: str, *pruned: str | None, **more: Any) -> dict[str, Any]:
    """One that both models answered in every way."""
    figures = {"small_flops": 3.0, "large_flops": 10.0, "small_gpu_s": 0.25, "large_gpu_s": 1.0}
    row = {"id": name, "route": "large", "answer": large, "small_answer": small, **figures}
    told = {"exit_score": 0.5, "keep_ratio": 1.0, PROBE.name: probed(name, *pruned)}
    return row | told | {"answers": ["yes"], "page": name[0]} | more


def sample(*more: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        record("b1", "yes", "no", "yes", "no", exit_score=0.2),
        record("a1", "yes", "yes", "Yes.", None, exit_score=0.9),
        record("a2", "no", "yes", "no", "yes"),
        *more,
    ]


def test_qualities_costs_and_pages_of_every_record(tmp_path: Path) -> None:
    make_output(tmp_path, sample(failed("c1", error={"type": "ImageError"})), types=TYPES)
    found = read_sampled(str(tmp_path), METRIC, "page")
    assert (found.reference, found.left_out) == ("answers", {"ImageError": 1})
    assert found.answered.keys() == {FLOPS, SECONDS}
    one = found.answered[FLOPS]
    assert one.sample.prunings == (UNPRUNED, HALF, Pruned(0.4, 0.1))
    assert one.sample.scores.tolist() == [0.9, 0.5, 0.2]
    assert one.clusters.tolist() == ["a", "a", "b"]
    assert one.small.tolist() == [1, 1, 0]
    assert one.large.tolist() == [[1, 0, 1], [1, 0, 1], [0, 1, 0]]
    assert one.sample.small_cost.tolist() == [3, 3, 3]
    # What failed has the mean of the others: it was spent and not written down.
    assert one.sample.large_cost.tolist() == [[10] * 3, [6] * 3, [6] * 3]
    assert found.retention == pytest.approx({UNPRUNED: 1.0, HALF: 0.7, Pruned(0.4, 0.1): 0.46})
    assert found.answered[SECONDS].large_cost.tolist() == [1, 1, 1]
    assert len(np.unique(read_sampled(str(tmp_path), METRIC).answered[FLOPS].clusters)) == 3


def test_without_accepted_answers_it_is_agreement_with_the_large_model(tmp_path: Path) -> None:
    rows = [{**row, "answers": None} for row in sample()]
    make_output(tmp_path, rows, types=TYPES)
    found = read_sampled(str(tmp_path), METRIC)
    assert found.reference == AGREEMENT
    one = found.answered[FLOPS]
    assert one.large_quality.tolist() == [1, 1, 1]
    assert (one.small.tolist(), one.large[1].tolist()) == ([1, 0, 0], [1, 1, 1])


def test_records_without_accepted_answers_are_left_out_where_others_have_some(
    tmp_path: Path,
) -> None:
    make_output(tmp_path, sample(record("d1", "x", "x", "x", "x", answers=[])), types=TYPES)
    found = read_sampled(str(tmp_path), METRIC)
    assert len(found.rows) == 3
    assert found.left_out == {"no accepted answers": 1}


def test_prices_of_the_job_make_dollars(tmp_path: Path) -> None:
    make_output(tmp_path, sample(), types=TYPES)
    output = output_at(tmp_path)
    record_ = output.record()
    assert record_ is not None
    pools = {"small": {"usd_per_hour": 3600.0}, "large": {"usd_per_hour": 7200.0}}
    output.tell(record_.model_copy(update={"job": {"pools": pools}}))
    one = read_sampled(str(tmp_path), METRIC).answered[USD]
    assert one.sample.small_cost.tolist() == [0.25] * 3
    assert one.large_cost.tolist() == [2.0] * 3


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"route": "small"}, "1 records exited at the small model"),
        ({"keep_ratio": 0.5}, "1 records had the large model's answer pruned"),
        ({PROBE.name: None}, "1 records were not probed"),
    ],
)
def test_other_outputs_are_refused(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    make_output(tmp_path, sample({**record("e1", "x", "x", "x", "x"), **row}), types=TYPES)
    with pytest.raises(ConfigurationError, match=f"{told}; .* sgl calibrate"):
        read_sampled(str(tmp_path), METRIC)


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    plain = make_output(tmp_path / "plain", [failed("a")])
    with pytest.raises(ConfigurationError, match=r"in one way only; .* sgl calibrate"):
        read_sampled(str(plain), METRIC)
    output = make_output(tmp_path / "one", sample()[1:], types=TYPES)
    with pytest.raises(ConfigurationError, match="two records that share no image"):
        read_sampled(str(output), METRIC, "page")
    with pytest.raises(ConfigurationError, match="no column 'pages'; it carries answers, page"):
        read_sampled(str(output), METRIC, "pages")
    with pytest.raises(ConfigurationError, match="no metric 'bleu'"):
        read_sampled(str(output), "bleu")
    wrong = make_output(
        tmp_path / "wrong", [{**row, "answers": ["cat"]} for row in sample()], types=TYPES
    )
    with pytest.raises(ConfigurationError, match="not one answer of the large model is right"):
        read_sampled(str(wrong), METRIC)
    with pytest.raises(ConfigurationError, match=r"no output of sgl run"):
        read_sampled(str(tmp_path / "nowhere"), METRIC)
    empty = make_output(tmp_path / "empty", [failed("c1", error={"type": "Bad"})], types=TYPES)
    with pytest.raises(ConfigurationError, match=r"no record that was answered: 1 Bad"):
        read_sampled(str(empty), METRIC)
