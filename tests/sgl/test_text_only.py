"""Records without an image: answered and scored as all others, with nothing to rank or prune."""

import math

import numpy as np
import pytest

from sgl.types import ImageQuestion
from tests.tiny_models import FAMILIES, picture

WITH_IMAGE = [
    ImageQuestion("a", "w1 w2 w3", (picture(0, 32, 64),)),
    ImageQuestion("c", "w5", (picture(1, 48, 48), picture(2, 32, 32))),
]
WITHOUT = ImageQuestion("b", "w4 w5 w6 w7")
MIXED = [WITH_IMAGE[0], WITHOUT, WITH_IMAGE[1]]


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_they_share_batches_with_records_that_have_images(name: str) -> None:
    vlm = FAMILIES[name]()
    mixed = vlm.guide(MIXED, max_new_tokens=4)
    for one, record in zip(mixed, MIXED, strict=True):
        (alone,) = vlm.guide([record], max_new_tokens=4)
        assert one.token_ids == alone.token_ids
        assert one.exit_score == pytest.approx(alone.exit_score, rel=1e-3)
        np.testing.assert_allclose(one.importance, alone.importance, rtol=1e-3)
    answers = vlm.answer(MIXED, mixed, prune_layer=0.5, keep_ratio=0.25, max_new_tokens=4)
    for answer, guidance, record in zip(answers, mixed, MIXED, strict=True):
        (alone_answer,) = vlm.answer(
            [record], [guidance], prune_layer=0.5, keep_ratio=0.25, max_new_tokens=4
        )
        assert answer.token_ids == alone_answer.token_ids


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_nothing_is_ranked_or_pruned(name: str) -> None:
    vlm = FAMILIES[name]()
    (guidance,) = vlm.guide([WITHOUT], max_new_tokens=4, min_new_tokens=0)
    assert guidance.importance.shape == (0,)
    assert guidance.grids == ()
    # The consistency pass sees the whole prompt again.
    assert math.log(guidance.certainty.consistency or 0) == pytest.approx(
        len(guidance.token_ids) * math.log(guidance.certainty.confidence), rel=1e-3
    )
    (answer,) = vlm.answer([WITHOUT], [guidance], prune_layer=0.0, keep_ratio=0.05)
    (unpruned,) = vlm.answer([WITHOUT])
    assert answer.token_ids == unpruned.token_ids
    assert (answer.usage.visual_tokens, answer.usage.kept_tokens) == (0, 0)
    assert answer.pruning is None
