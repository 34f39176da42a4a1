"""What records could have exited by, from rows made by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.criteria import Candidates, read_candidates
from pipeline.schema import PROBE
from pipeline.scores import Wanted
from sgl.early_exit import random
from sgl.errors import ConfigurationError
from sgl.types import Criterion
from tests.pipeline.test_scoring import ANSWERS, failed, large, make_output, small

SURE = {
    "criterion": "mean",
    "confidence": 0.9,
    "consistency": 0.5,
    "entropy": 0.8,
    "margin": 0.7,
    "quantile": 0.6,
}
TYPES = {"answers": ANSWERS, "page": pa.int64(), "kind": pa.string(), PROBE.name: PROBE.type}


def candidates(folder: Path, *rows: dict[str, Any], **wanted: Any) -> Candidates:
    output = make_output(folder / "out", list(rows), types=TYPES)
    return read_candidates(str(output), Wanted(**wanted))


def sure(row: dict[str, Any], **more: Any) -> dict[str, Any]:
    return SURE | row | {"answers": ["cat"]} | more


def probed(answer: str | None, keep_ratio: float = 1.0) -> list[dict[str, Any]]:
    return [{"prune_layer": 0.0, "keep_ratio": keep_ratio, "answer": answer}]


def test_every_score_of_every_record(tmp_path: Path) -> None:
    found = candidates(
        tmp_path, sure(small("a", "cat")), sure(small("b", "dog"), confidence=0.2, consistency=0.1)
    )
    assert found.scores.keys() == set(Criterion)
    assert not found.left_out
    assert found.right.tolist() == [True, False]
    assert found.scores[Criterion.MEAN].tolist() == pytest.approx([0.7, 0.15])
    assert found.scores[Criterion.RANDOM].tolist() == [random("a"), random("b")]
    for name, value in SURE.items():
        if name not in ("criterion", "confidence", "consistency"):
            assert found.scores[Criterion(name)].tolist() == [value, value]
    assert (found.used, found.large) == (("mean",), None)


def test_without_the_consistency_pass_two_criteria_are_left_out(tmp_path: Path) -> None:
    rows = [sure(small(name, "cat"), consistency=None, criterion="margin") for name in "abc"]
    found = candidates(tmp_path, *rows)
    assert found.left_out == {Criterion.MEAN: 3, Criterion.CONSISTENCY: 3}
    assert not found.scores.keys() & found.left_out.keys()
    assert found.used == ("margin",)


def test_the_small_models_own_answer_counts_whatever_the_route(tmp_path: Path) -> None:
    found = candidates(
        tmp_path,
        sure(large("a", "cat", "dog")),
        sure(large("b", "dog", "cat")),
        sure(failed("c", small_answer="cat")),
        failed("d", answers=["cat"]),
        small("e", "cat"),
    )
    assert found.right.tolist() == [False, True, True]
    assert (found.unanswered, found.unscored) == (1, 1)
    assert found.large is not None
    assert found.large.tolist() == [True, False, False]  # a failure is no right answer
    assert not found.pruned


def test_unpruned_answers_of_the_probe_come_before_pruned_ones(tmp_path: Path) -> None:
    pruned = {"average_retention": 0.35}
    rows = [
        sure(large("a", "dog", "dog"), **pruned, probe=probed("cat")),
        sure(small("b", "cat"), probe=probed("cat")),
        sure(large("c", "cat", "dog"), **pruned, probe=[*probed("cat", 0.2), *probed(None)]),
    ]
    found = candidates(tmp_path / "all", *rows)
    assert found.large is not None
    assert (found.large.tolist(), found.pruned) == ([True, True, False], False)
    some = candidates(tmp_path / "some", *rows, sure(small("d", "cat")))
    assert some.large is None
    own = candidates(tmp_path / "own", rows[0], sure(large("e", "cat", "dog"), **pruned))
    assert own.large is not None
    assert (own.large.tolist(), own.pruned) == ([False, True], True)


def test_graded_measures_are_right_from_a_half_on(tmp_path: Path) -> None:
    rows = [sure(small(name, said), answers=["abcd"]) for name, said in (("a", "abcx"), ("b", "x"))]
    assert candidates(tmp_path / "anls", *rows, metric="anls").right.tolist() == [True, False]
    assert candidates(tmp_path / "exact", *rows).right.tolist() == [False, False]
    rows = [sure(small(kind, "abcx"), answers=["abcd"], kind=kind) for kind in ("text", "word")]
    kinds = candidates(tmp_path / "kinds", *rows, metrics={"text": "anls"}, by="kind")
    assert kinds.right.tolist() == [True, False]


def test_records_of_one_image_are_one_cluster(tmp_path: Path) -> None:
    rows = [sure(small(str(i), "cat"), page=i // 3) for i in range(9)]
    assert len(np.unique(candidates(tmp_path / "a", *rows, cluster="page").clusters)) == 3
    assert len(np.unique(candidates(tmp_path / "b", *rows).clusters)) == 9


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    rows = [{"id": "a", "route": "large", "answer": "cat", "answers": ["cat"]}]
    with pytest.raises(ConfigurationError, match="no row has an answer of the small model's"):
        candidates(tmp_path / "a", *rows)
    with pytest.raises(ConfigurationError, match="no single answer is right or wrong"):
        candidates(tmp_path / "b", *rows, metric="cider_d")
    with pytest.raises(ConfigurationError, match="no column 'group'"):
        candidates(tmp_path / "c", *rows, cluster="group")
