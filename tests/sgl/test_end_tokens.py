"""Answers that end: end tokens, ragged ends within a batch, the barred first token."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sgl.types import Guidance
from sgl.vlm import VLM
from tests.tiny_models import FAMILIES, ragged_records

MAX_NEW = 6


@pytest.fixture(params=sorted(FAMILIES))
def vlm(request: Any) -> VLM:
    return FAMILIES[request.param]()


def ending_with(vlm: VLM, *tokens: int) -> VLM:
    vlm.model.generation_config.eos_token_id = [1, *tokens]
    return VLM(vlm.model, vlm.tokenizer, vlm.family)


def end_place(answers: Sequence[Guidance]) -> int:
    """Where the first answer says what it has not said before, nor any answer to begin with."""
    answer = answers[0].token_ids
    begun = {one.token_ids[0] for one in answers}
    return next(p for p in range(1, len(answer)) if answer[p] not in begun | {*answer[:p]})


def test_an_end_token_ends_its_record_alone(vlm: VLM) -> None:
    records = ragged_records()
    endless = vlm.guide(records, max_new_tokens=MAX_NEW)
    place = end_place(endless)
    end = endless[0].token_ids[place]
    expected = [
        one.token_ids[: one.token_ids.index(end, 1) + 1]
        if end in one.token_ids[1:]
        else one.token_ids
        for one in endless
    ]
    guidance = ending_with(vlm, end).guide(records, max_new_tokens=MAX_NEW)
    assert [one.token_ids for one in guidance] == expected
    assert len(guidance[0].token_ids) == place + 1
    assert any(len(one.token_ids) == MAX_NEW for one in guidance)


def test_the_last_token_is_never_fed_so_importance_stops_before_it(vlm: VLM) -> None:
    record = ragged_records()[0]
    endless = vlm.guide([record], max_new_tokens=MAX_NEW)
    place = end_place(endless)
    ending = ending_with(vlm, endless[0].token_ids[place])
    until_end = ending.guide([record], max_new_tokens=MAX_NEW)[0]
    until_limit = vlm.guide([record], max_new_tokens=place + 1)[0]
    assert until_end.token_ids == until_limit.token_ids
    np.testing.assert_array_equal(until_end.importance, until_limit.importance)


def test_the_first_token_is_not_an_end_token_unless_allowed(vlm: VLM) -> None:
    record = ragged_records()[0]
    first = vlm.guide([record], max_new_tokens=1)[0]
    strict = ending_with(vlm, first.token_ids[0])
    barred = strict.guide([record], max_new_tokens=MAX_NEW)[0]
    assert barred.token_ids[0] != first.token_ids[0]
    allowed = strict.guide([record], max_new_tokens=MAX_NEW, min_new_tokens=0)[0]
    assert allowed.token_ids == first.token_ids
    # Barring spreads the end tokens' probability over the rest, so it never lowers the first one.
    confidence = first.certainty.confidence
    assert 0.9 * confidence < allowed.certainty.confidence < confidence
    assert math.isfinite(barred.certainty.confidence)
    # Nor is the entropy of a distribution with barred tokens lost: nought log nought is nought.
    assert 0 <= barred.certainty.entropy <= 1
