"""Packed training sequences: questions share the image and do not see each other."""

import numpy as np
import torch

from testbed.architecture import build_model
from testbed.packing import IGNORE, Difficulty, draw_batch
from testbed.page import Label, Page
from testbed.questions import SHARES
from testbed.train import _forward
from testbed.vision import draw_pool, neighbour_attributes, slot_attributes
from testbed.vocabulary import TOKEN_ID


def test_a_packed_question_is_answered_as_if_it_were_alone() -> None:
    model = build_model("small").eval()
    pool = draw_pool(model, 3, (2, 1))
    difficulty = Difficulty(36, SHARES, whole_images=False)
    with torch.inference_mode():
        packed = draw_batch(pool, np.random.default_rng(4), difficulty, pages=3, questions=4)
        alone = draw_batch(pool, np.random.default_rng(4), difficulty, pages=3, questions=1)
        from_packed, from_alone = _forward(model, packed), _forward(model, alone)
    # Page indices are drawn first, so the first page and its first question agree.
    first = int((alone.labels_BT[0] != IGNORE).sum())
    expected = alone.labels_BT[0][alone.labels_BT[0] != IGNORE]
    assert from_alone.targets_X[:first].tolist() == expected.tolist()
    torch.testing.assert_close(
        from_packed.logits_XN[:first], from_alone.logits_XN[:first], atol=1e-4, rtol=1e-4
    )


def test_labels_are_the_next_tokens_of_answers() -> None:
    model = build_model("small").eval()
    pool = draw_pool(model, 3, (2, 1))
    difficulty = Difficulty(8, SHARES, whole_images=False)
    batch = draw_batch(pool, np.random.default_rng(5), difficulty, pages=2, questions=5)
    for ids, labels in zip(batch.input_ids_BT.tolist(), batch.labels_BT.tolist(), strict=True):
        ends = [index for index, label in enumerate(labels) if label == TOKEN_ID["<|im_end|>"]]
        assert len(ends) == 5
        for index, label in enumerate(labels[:-1]):
            if label != IGNORE and index not in ends:
                assert ids[index + 1] == label
    assert int((batch.input_ids_BT == TOKEN_ID["<IMG_CONTEXT>"]).sum()) == len(batch.features_XF)
    assert len(batch.features_XF) <= 16


def test_neighbours_are_those_of_the_page() -> None:
    page = Page(16, (Label(7, 2, 0, 1, 42), Label(7, 3, 2, 3, 57), Label(8, 3, 4, 5, 60)))
    around = neighbour_attributes(slot_attributes(page, 192), page)
    beside, below = around[7 * 8 + 3].tolist(), around[8 * 8 + 3].tolist()
    assert beside == [0, 1, 4, 2, *[IGNORE] * 4]
    assert below == [*[IGNORE] * 4, 2, 3, 5, 7]
    assert (around != IGNORE).any(dim=1).sum() == 6  # right of and below each label


def test_labels_that_stay_on_a_page_can_be_close_together() -> None:
    model = build_model("small").eval()
    pool = draw_pool(model, 3, (6, 0))
    spans = []
    for together in (True, False):
        difficulty = Difficulty(4, SHARES, whole_images=False, together=together)
        batch = draw_batch(pool, np.random.default_rng(6), difficulty, pages=20, questions=1)
        image = batch.input_ids_BT == TOKEN_ID["<IMG_CONTEXT>"]
        slots = (batch.positions_BT - 3)[image].view(20, 4)
        spans.append(
            float((slots % 8).max(dim=1).values.sub((slots % 8).min(dim=1).values).float().mean())
        )
    assert spans[0] < spans[1]
