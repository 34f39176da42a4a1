"""Packed training sequences: questions share the image and do not see each other."""

import numpy as np
import torch

from testbed.architecture import build_model
from testbed.packing import IGNORE, Difficulty, draw_batch
from testbed.questions import SHARES
from testbed.train import _forward
from testbed.vision import draw_pool
from testbed.vocabulary import TOKEN_ID


def test_a_packed_question_is_answered_as_if_it_were_alone() -> None:
    model = build_model("small").eval()
    pool = draw_pool(model, 3, (2, 1))
    difficulty = Difficulty(36, SHARES, whole_images=False)
    with torch.inference_mode():
        packed = draw_batch(pool, np.random.default_rng(4), difficulty, pages=3, questions=4)
        alone = draw_batch(pool, np.random.default_rng(4), difficulty, pages=3, questions=1)
        logits_packed, _, _ = _forward(model, packed)
        logits_alone, targets_alone, _ = _forward(model, alone)
    # Page indices are drawn first, so the first page and its first question agree.
    first = int((alone.labels_BT[0] != IGNORE).sum())
    expected = alone.labels_BT[0][alone.labels_BT[0] != IGNORE]
    assert targets_alone[:first].tolist() == expected.tolist()
    torch.testing.assert_close(logits_packed[:first], logits_alone[:first], atol=1e-4, rtol=1e-4)


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
