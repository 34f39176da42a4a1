"""The whole method on tiny models."""

import numpy as np
import pytest

from sgl.cascade import run_cascade
from sgl.types import ImageQuestion, Route
from sgl.vlm import VLM
from tests.tiny_models import internvl, ragged_records

MAX_NEW = 4


class CountingVLM(VLM):
    """Notes the ids of the records that it answers."""

    answered: list[str]

    def answer(self, records: list[ImageQuestion], *args: object, **options: object) -> list:  # type: ignore[override,type-arg]
        self.answered += [record.id for record in records]
        return super().answer(records, *args, **options)  # type: ignore[arg-type]


@pytest.fixture
def small() -> VLM:
    return internvl(seed=0)


@pytest.fixture
def large() -> CountingVLM:
    vlm = internvl(seed=1, text={"num_hidden_layers": 8, "hidden_size": 64})
    counting = CountingVLM(vlm.model, vlm.tokenizer, vlm.family)
    counting.answered = []
    return counting


def test_the_large_model_sees_escalated_records_only(small: VLM, large: CountingVLM) -> None:
    records = ragged_records()
    guidance = small.guide(records, max_new_tokens=MAX_NEW)
    threshold = float(np.median([one.exit_score for one in guidance]))
    answers = run_cascade(small, large, records, threshold=threshold, max_new_tokens=MAX_NEW)
    escalated = [one.id for one in guidance if one.exit_score < threshold]
    assert 0 < len(escalated) < len(records)
    assert large.answered == escalated
    assert [answer.id for answer in answers] == [record.id for record in records]
    for answer, one in zip(answers, guidance, strict=True):
        assert (answer.route is Route.LARGE) == (answer.id in escalated)
        if answer.route is Route.SMALL:
            assert answer.text == one.answer
            assert answer.usage.flops == one.usage.flops


def test_escalated_answers_are_the_pruned_large_models(small: VLM, large: CountingVLM) -> None:
    records = ragged_records()
    answers = run_cascade(
        small,
        large,
        records,
        threshold=1.1,
        prune_layer=0.25,
        keep_ratio=0.25,
        max_new_tokens=MAX_NEW,
    )
    guidance = small.guide(records, max_new_tokens=MAX_NEW)
    expected = large.answer(
        records, guidance, prune_layer=0.25, keep_ratio=0.25, max_new_tokens=MAX_NEW
    )
    assert [answer.token_ids for answer in answers] == [one.token_ids for one in expected]
    assert all(answer.pruning == one.pruning for answer, one in zip(answers, expected, strict=True))


@pytest.mark.parametrize(("threshold", "route"), [(0.0, Route.SMALL), (1.1, Route.LARGE)])
def test_extreme_thresholds(small: VLM, large: CountingVLM, threshold: float, route: Route) -> None:
    answers = run_cascade(
        small, large, ragged_records(), threshold=threshold, max_new_tokens=MAX_NEW
    )
    assert {answer.route for answer in answers} == {route}
    assert bool(large.answered) == (route is Route.LARGE)
