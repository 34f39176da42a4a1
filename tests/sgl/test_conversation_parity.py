"""Conversations with pictures in several turns: what the native model makes of them, every family.

The expected prompt is made by hand of transformers' own rendering, not by `sgl.conversation`.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import sgl
from sgl.attention import ATTENTION_NAME
from sgl.decoder import prefill
from sgl.families.base import size_of
from sgl.types import Guidance, ImageQuestion, Role, Route, Turn
from sgl.vlm import VLM
from tests.tiny_models import FAMILIES, picture, ragged_records

MAX_NEW = 5
TALK = ImageQuestion(
    id="talk",
    question="never looked at",
    images=(picture(0, 32, 64), picture(1, 48, 48), picture(2, 32, 32)),
    turns=(
        Turn(Role.SYSTEM, ("w70 w71",)),
        Turn(Role.USER, ("w1 w2 ", None, " w3")),
        Turn(Role.ASSISTANT, ("w4 w5",)),
        Turn(Role.USER, (None, "w6 ", None, " w7 w8")),
    ),
)
TEXT_FIRST = replace(
    TALK,
    turns=(
        Turn(Role.USER, ("w1 w2 ", " w3 ", None, None)),
        Turn(Role.ASSISTANT, ("w4 w5",)),
        Turn(Role.USER, ("w6 ", None)),
    ),
)
ORDERS = {
    "as written": "message['content'] %}",
    "pictures first": "message['content'] | sort(attribute='type') %}",
    "texts first": "message['content'] | sort(attribute='type', reverse=true) %}",
}
"""In which templates go through the parts of a turn; the second is LLaVA-OneVision's."""
WORDS_ONLY = replace(
    TALK,
    id="words",
    images=(),
    turns=(
        Turn(Role.USER, ("w1 w2",)),
        Turn(Role.ASSISTANT, ("w3",)),
        Turn(Role.USER, ("w4",)),
    ),
)


@pytest.fixture(params=sorted(FAMILIES))
def vlm(request: Any) -> VLM:
    return FAMILIES[request.param]()


def messages_of(record: ImageQuestion) -> list[dict[str, Any]]:
    """What chat templates are given."""
    return [
        {
            "role": turn.role.value,
            "content": [
                {"type": "image"} if part is None else {"type": "text", "text": part}
                for part in turn.parts
            ],
        }
        for turn in record.turns
    ]


def native_ids(vlm: VLM, record: ImageQuestion = TALK) -> list[int]:
    """Of the conversation, which has three pictures."""
    family = vlm.family
    text = vlm.tokenizer.apply_chat_template(
        messages_of(record), add_generation_prompt=True, tokenize=False
    )
    pieces = text.split(family.placeholder)
    assert len(pieces) == 4
    prompt = pieces[0]
    layouts = family.layouts([size_of(image) for image in record.images])
    for layout, piece in zip(layouts, pieces[1:], strict=True):
        prompt += family.placeholder_tokens(layout.grids) + piece
    ids: list[int] = vlm.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    return ids


def native_inputs(vlm: VLM, answer: tuple[int, ...] = ()) -> dict[str, torch.Tensor]:
    """Of the conversation, and perhaps tokens of its answer."""
    input_ids = torch.tensor([[*native_ids(vlm), *answer]])
    vlm.family.reset(vlm.model)
    return {
        "input_ids": input_ids,
        "attention_mask": torch.ones_like(input_ids),
        **vlm.family.model_inputs(TALK.images, [len(TALK.images)]),
        **vlm.family.text_inputs(input_ids),
    }


def test_prompts_and_first_logits_are_the_native_ones(vlm: VLM) -> None:
    layout = vlm.encoder.lay_out(TALK)
    assert layout.token_ids == native_ids(vlm)
    assert [grid.image for grid in layout.grids] == sorted(grid.image for grid in layout.grids)
    image_token = vlm.family.config.image_token_id
    assert layout.visual_tokens == layout.token_ids.count(image_token)
    assert image_token not in layout.token_ids[-layout.rows_after_image :]
    assert layout.token_ids[-layout.rows_after_image - 1] == image_token
    with torch.inference_mode():
        expected = vlm.model(**native_inputs(vlm)).logits[:, -1]
        logits_BN, _ = prefill(vlm.language_model, vlm.prompts([TALK]).prompt, [])
    np.testing.assert_allclose(logits_BN.numpy(), expected.numpy(), atol=2e-4)


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_text_first_turns_are_written_in_the_order_of_the_template(vlm: VLM, order: str) -> None:
    before = vlm.tokenizer.chat_template
    vlm.tokenizer.chat_template = before.replace(ORDERS["as written"], ORDERS[order])
    assert (vlm.tokenizer.chat_template == before) == (order == "as written")
    layout = vlm.encoder.lay_out(TEXT_FIRST)
    assert layout.token_ids == native_ids(vlm, TEXT_FIRST)
    word, image = vlm.tokenizer.convert_tokens_to_ids("w1"), vlm.family.config.image_token_id
    words_lead = layout.token_ids.index(word) < layout.token_ids.index(image)
    assert words_lead == (order != "pictures first")


def test_answers_are_those_of_generate(vlm: VLM) -> None:
    inputs = native_inputs(vlm)
    output = vlm.model.generate(**inputs, max_new_tokens=MAX_NEW, min_new_tokens=1, do_sample=False)
    expected = output[0, inputs["input_ids"].shape[1] :].tolist()
    (guidance,) = vlm.guide([TALK], max_new_tokens=MAX_NEW)
    (answer,) = vlm.answer([TALK], max_new_tokens=MAX_NEW)
    assert [*guidance.token_ids] == [*answer.token_ids] == expected


def test_importance_is_the_summed_eager_attention_to_all_pictures(vlm: VLM) -> None:
    (guidance,) = vlm.guide([TALK], max_new_tokens=MAX_NEW)
    inputs = native_inputs(vlm, guidance.token_ids[:-1])
    text_model = vlm.language_model.text_model
    text_model.set_attn_implementation("eager")
    with torch.inference_mode():
        maps = vlm.model(**inputs, output_attentions=True).attentions
    text_model.set_attn_implementation(ATTENTION_NAME)
    total_TT = sum(layer[0].sum(dim=0) for layer in maps)
    visual = (inputs["input_ids"][0] == vlm.family.config.image_token_id).nonzero()[:, 0]
    assert len(guidance.importance) == len(visual)
    assert np.isfinite(guidance.importance).all()
    expected = total_TT[int(visual[-1]) + 1 :, visual].sum(dim=0)
    np.testing.assert_allclose(guidance.importance, expected.numpy(), rtol=1e-4)


def test_they_share_batches_with_questions_and_are_pruned(vlm: VLM) -> None:
    records = [ragged_records()[0], TALK, WORDS_ONLY]
    together = vlm.guide(records, max_new_tokens=MAX_NEW)
    pruning = {"prune_layer": 0.4, "keep_ratio": 0.2}
    answers = vlm.answer(records, together, **pruning, max_new_tokens=MAX_NEW)
    for record, one, answer in zip(records, together, answers, strict=True):
        (alone,) = vlm.guide([record], max_new_tokens=MAX_NEW)
        assert one.token_ids == alone.token_ids
        np.testing.assert_allclose(one.importance, alone.importance, rtol=1e-3)
        assert answer.token_ids == pruned(vlm, record, one, pruning)
    assert answers[1].usage.kept_tokens == int(0.2 * len(together[1].importance))
    assert answers[2].pruning is None


def pruned(
    vlm: VLM, record: ImageQuestion, guidance: Guidance, pruning: dict[str, float]
) -> tuple[int, ...]:
    (answer,) = vlm.answer([record], [guidance], **pruning, max_new_tokens=MAX_NEW)
    return answer.token_ids


@pytest.mark.parametrize("large", sorted(FAMILIES))
def test_a_cascade_takes_them(large: str) -> None:
    small = FAMILIES["internvl"]()
    exited, escalated = (
        sgl.run_cascade(small, FAMILIES[large](1), [TALK], threshold=t, max_new_tokens=2)[0]
        for t in (0.0, 1.1)
    )
    assert (exited.route, escalated.route) == (Route.SMALL, Route.LARGE)
    assert 0 < escalated.usage.kept_tokens < escalated.usage.visual_tokens
