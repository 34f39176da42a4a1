"""Laws of the engine on tiny random models of every family, float32."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sgl import generation
from sgl import prompt as prompts
from sgl.answers import Limits
from sgl.attention import ATTENTION_NAME
from sgl.compaction import prune_prompt
from sgl.decoder import decode_step, prefill
from sgl.errors import EmptyQuestionError, GridMismatchError, PromptTooLongError, RecordError
from sgl.generation import Generating
from sgl.language_model import LanguageModel, Prompt
from sgl.pruners import Guided
from sgl.ranking import top_visual_tokens
from sgl.scoring import score_answers
from sgl.selection import Selection
from sgl.types import Guidance, ImageQuestion
from sgl.vlm import VLM
from tests.tiny_models import FAMILIES, internvl, picture, ragged_records

MAX_NEW = 6


@pytest.fixture(params=sorted(FAMILIES))
def vlm(request: Any) -> VLM:
    return FAMILIES[request.param]()


def native_inputs(
    vlm: VLM, record: ImageQuestion, answer: tuple[int, ...] = ()
) -> dict[str, torch.Tensor]:
    """What the native model takes: one record, unpadded, and perhaps tokens of its answer."""
    layout = vlm.encoder.lay_out(record)
    read = replace(layout, token_ids=[*layout.token_ids, *answer])
    return prompts.native_inputs(vlm.encoder, [record], [read])


def test_importance_equals_summed_eager_attention(vlm: VLM) -> None:
    records = ragged_records()
    text_model = vlm.language_model.text_model
    for record, guidance in zip(records, vlm.guide(records, max_new_tokens=MAX_NEW), strict=True):
        inputs = native_inputs(vlm, record, guidance.token_ids[:-1])
        vlm.family.reset(vlm.model)
        text_model.set_attn_implementation("eager")
        with torch.inference_mode():
            maps = vlm.model(**inputs, output_attentions=True).attentions
        text_model.set_attn_implementation(ATTENTION_NAME)
        assert len(maps) == vlm.layers
        total_TT = sum(layer[0].sum(dim=0) for layer in maps)
        visual = (inputs["input_ids"][0] == vlm.family.config.image_token_id).nonzero()[:, 0]
        expected = total_TT[int(visual[-1]) + 1 :, visual].sum(dim=0)
        np.testing.assert_allclose(guidance.importance, expected.numpy(), rtol=1e-4)


def native_answers(vlm: VLM, records: list[ImageQuestion]) -> list[list[int]]:
    """`model.generate` on one record at a time."""
    answers = []
    for record in records:
        inputs = native_inputs(vlm, record)
        output = vlm.model.generate(
            **inputs, max_new_tokens=MAX_NEW, min_new_tokens=1, do_sample=False
        )
        answers.append(output[0, inputs["input_ids"].shape[1] :].tolist())
    return answers


def test_unpruned_equals_generate_token_for_token(vlm: VLM) -> None:
    records = ragged_records()
    native = native_answers(vlm, records)
    guidance = vlm.guide(records, max_new_tokens=MAX_NEW)
    assert [list(one.token_ids) for one in guidance] == native
    unguided = vlm.answer(records, max_new_tokens=MAX_NEW)
    assert [list(one.token_ids) for one in unguided] == native
    kept_all = vlm.answer(
        records, guidance, prune_layer=0.4, keep_ratio=1.0, max_new_tokens=MAX_NEW
    )
    assert [list(one.token_ids) for one in kept_all] == native


def test_windows_of_a_text_model_with_one_frequency_are_its_native_ones() -> None:
    window = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 2}
    vlm, records = internvl(text=window), ragged_records()
    assert vlm.language_model.has_windows
    guidance = vlm.guide(records, max_new_tokens=MAX_NEW)
    assert [list(one.token_ids) for one in guidance] == native_answers(vlm, records)
    unbounded = internvl().guide(records, max_new_tokens=MAX_NEW)
    assert [one.token_ids for one in guidance] != [one.token_ids for one in unbounded]


@pytest.mark.parametrize(("layer", "keep_ratio"), [(0, 0.5), (2, 0.2), (4, 0.05)])
def test_pruned_equals_full_length_with_dropped_tokens_masked(
    vlm: VLM, layer: int, keep_ratio: float
) -> None:
    records = ragged_records()
    lm = vlm.language_model
    with torch.inference_mode():
        prompt = vlm.prompts(records).prompt
        importance_BT = torch.rand(prompt.visual_BT.shape)
        keep_BT = top_visual_tokens(importance_BT, prompt.visual_BT, keep_ratio)
        keep_BT |= ~prompt.visual_BT
        logits_BN, state = prefill(lm, prompt, [Selection(layer, keep_BT)])
        fed: list[torch.Tensor] = []
        for _ in range(4):
            np.testing.assert_allclose(
                logits_BN.numpy(), masked_logits(lm, prompt, fed, layer, keep_BT).numpy(), atol=2e-4
            )
            fed.append(logits_BN.argmax(dim=-1))
            logits_BN = decode_step(lm, state, fed[-1])


def masked_logits(
    lm: LanguageModel,
    prompt: Prompt,
    fed: list[torch.Tensor],
    layer: int,
    keep_BT: torch.Tensor,
) -> torch.Tensor:
    """The slow oracle: nothing leaves the sequence, layers from K on do not see the dropped."""
    embeds_BTD, positions, keep = prompt.embeds_BTD, prompt.position_ids_ABT, keep_BT
    valid = prompt.valid_BT
    for step, token_B in enumerate(fed):
        new = lm.text_model.embed_tokens(token_B[:, None])
        embeds_BTD = torch.cat([embeds_BTD, new], dim=1)
        position = (prompt.next_position_B + step)[None, :, None]
        positions = torch.cat([positions, position.expand(positions.shape[0], -1, -1)], dim=2)
        keep = torch.cat([keep, torch.ones(len(token_B), 1, dtype=torch.bool)], dim=1)
        valid = torch.cat([valid, torch.ones(len(token_B), 1, dtype=torch.bool)], dim=1)
    length = embeds_BTD.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    itself = torch.eye(length, dtype=torch.bool)
    behind = positions[0][:, None, :, None] - positions[0][:, None, None, :]
    if prompt.block_BT is not None:
        block = torch.nn.functional.pad(prompt.block_BT, (0, len(fed)), value=-1)[:, None]
        causal = causal | (block[..., None] == block[..., None, :]) & (block >= 0)[..., None]
    hidden = embeds_BTD
    for index, layer_of in enumerate(lm.text_model.layers):
        kind = lm.layer_type(index)
        visible = valid & keep if index >= layer else valid
        mask = causal & visible[:, None, None, :]
        if kind == "sliding_attention":
            mask = mask & (behind < lm.text_model.config.sliding_window)
        rope = lm.rope(embeds_BTD, positions, kind)
        hidden = layer_of(
            hidden, attention_mask=mask | itself, position_embeddings=rope, position_ids=None
        )
        if index < len(prompt.deepstack):
            hidden[:, : -len(fed) or None] += prompt.deepstack[index]
    return lm.lm_head(lm.text_model.norm(hidden[:, -1]))


def assert_same_guidance(one: Guidance, other: Guidance) -> None:
    assert one.token_ids == other.token_ids
    assert one.answer == other.answer
    assert one.grids == other.grids
    assert one.certainty.confidence == pytest.approx(other.certainty.confidence, rel=1e-4)
    assert one.certainty.consistency == pytest.approx(other.certainty.consistency, rel=1e-3)
    np.testing.assert_allclose(one.importance, other.importance, rtol=1e-4)
    assert one.usage.flops == other.usage.flops


@pytest.mark.parametrize("keep_ratio", [1.0, 0.3])
def test_scores_of_an_answer_are_those_of_its_generation(vlm: VLM, keep_ratio: float) -> None:
    lm = vlm.language_model
    with torch.inference_mode():
        prompt = vlm.prompts(ragged_records()).prompt
        importance_BT = torch.rand(prompt.visual_BT.shape)
        keep_BT = top_visual_tokens(importance_BT, prompt.visual_BT, keep_ratio)
        keep_BT |= ~prompt.visual_BT
        limits = Limits(frozenset(), [3, 6, 1, 4], min_new_tokens=0)
        answers = Generating(lm, prompt, limits, selections=[Selection(0, keep_BT)]).finish()
        scored = score_answers(lm, prune_prompt(prompt, keep_BT), answers.token_ids)
    for score, log_probs in zip(scored, answers.log_probs, strict=True):
        np.testing.assert_allclose(score, log_probs, atol=1e-4)


def test_ragged_batch_equals_single(vlm: VLM) -> None:
    records = ragged_records()
    together = vlm.guide(records, max_new_tokens=MAX_NEW)
    assert len({len(one.importance) for one in together}) > 1
    for record, guidance in zip(records, together, strict=True):
        assert_same_guidance(vlm.guide([record], max_new_tokens=MAX_NEW)[0], guidance)
    pruned: Callable[..., Any] = vlm.answer
    options = {"prune_layer": 0.4, "keep_ratio": 0.2, "max_new_tokens": MAX_NEW}
    answers = pruned(records, together, **options)
    for b, record in enumerate(records):
        alone = pruned([record], [together[b]], **options)[0]
        assert alone.token_ids == answers[b].token_ids
        assert alone.usage.kept_tokens == answers[b].usage.kept_tokens
        assert alone.pruning == answers[b].pruning


def test_answer_limits_of_records_are_their_own(vlm: VLM) -> None:
    long, short = ragged_records(limit=MAX_NEW)[0], ragged_records(limit=1)[1]
    guidance = vlm.guide([long, short], max_new_tokens=3)
    assert len(guidance[1].token_ids) == 1
    assert_same_guidance(guidance[1], vlm.guide([short])[0])
    assert guidance[0].token_ids == vlm.guide([long])[0].token_ids


def test_usage_and_pruning_are_stated(vlm: VLM) -> None:
    record = ragged_records()[1]
    guidance = vlm.guide([record], max_new_tokens=MAX_NEW)
    answer = vlm.answer(
        [record], guidance, prune_layer=0.4, keep_ratio=0.25, max_new_tokens=MAX_NEW
    )[0]
    visual = len(guidance[0].importance)
    assert sum(grid.rows * grid.columns for grid in guidance[0].grids) == visual
    assert answer.usage.visual_tokens == visual
    assert answer.usage.kept_tokens == int(visual * 0.25)
    assert answer.usage.completion_tokens == len(answer.token_ids)
    assert answer.usage.device_s > 0
    assert answer.pruning is not None
    assert answer.pruning.average_retention == pytest.approx((2 + 3 * 0.25) / 5)
    full = vlm.answer([record], max_new_tokens=MAX_NEW)[0]
    assert full.pruning is None
    assert full.usage.kept_tokens == visual
    assert answer.usage.flops < full.usage.flops


def test_bad_records_are_refused_with_typed_errors(vlm: VLM) -> None:
    image = picture(0, 32, 32)
    with pytest.raises(EmptyQuestionError, match="empty"):
        vlm.guide([ImageQuestion("a", "  ", (image,))])
    with pytest.raises(RecordError, match="placeholder"):
        vlm.guide([ImageQuestion("a", f"w1 {vlm.family.placeholder}", (image,))])
    image_token = vlm.tokenizer.convert_ids_to_tokens(vlm.family.config.image_token_id)
    with pytest.raises(RecordError, match="placeholder"):
        vlm.guide([ImageQuestion("a", f"w1 {image_token}", (image,))])
    with pytest.raises(RecordError, match="at least 1"):
        vlm.guide([ImageQuestion("a", "w1", (image,), max_new_tokens=0)])
    with pytest.raises(PromptTooLongError, match="512"):
        vlm.guide([ImageQuestion("a", "w1 " * 510, (image,))])


def test_a_ranking_of_other_images_is_refused() -> None:
    vlm = internvl()
    one, two = ragged_records()[0], replace(ragged_records()[0], images=(picture(1, 32, 32),) * 2)
    guidance = vlm.guide([one], max_new_tokens=1)
    with pytest.raises(GridMismatchError, match="of 1 images and the prompt has 2"):
        vlm.answer([two], guidance, max_new_tokens=1)


PAIRS = [(name, "qwen2_5_vl") for name in sorted(FAMILIES)]
PAIRS += [("internvl", name) for name in sorted(FAMILIES)]


@pytest.mark.parametrize(("small", "large"), PAIRS)
def test_models_that_cut_images_differently_guide_each_other(small: str, large: str) -> None:
    """Another family with other tokens: the large model keeps what covers the hot spot."""
    guide, guided = FAMILIES[small](), FAMILIES[large]()
    record = ImageQuestion("a", "w1 w2", (picture(3, 64, 96),))
    (guidance,) = guide.guide([record], max_new_tokens=2)
    batch = guided.prompts([record])
    grids = batch.layouts[0].grids
    hot = np.zeros_like(guidance.importance)
    hot[0] = 1.0  # the top left corner
    scene = guided.scene([record], [replace(guidance, importance=hot)])
    kept_BT, _ = Guided().choose(scene, [1])
    kept = kept_BT[batch.prompt.visual_BT].nonzero().ravel().tolist()
    firsts = np.cumsum([0, *(grid.rows * grid.columns for grid in grids)])
    assert len(kept) == 1
    assert kept[0] in firsts
    assert grids[firsts.tolist().index(kept[0])].box[:2] == pytest.approx((0, 0), abs=0.1)
    (answer,) = guided.answer([record], [guidance], keep_ratio=0.5, max_new_tokens=2)
    assert 0 < answer.usage.kept_tokens < answer.usage.visual_tokens


@pytest.mark.parametrize("setting", [{"prune_layer": 1.5}, {"keep_ratio": -0.1}])
def test_shares_that_are_none_are_refused(setting: dict[str, float]) -> None:
    vlm, records = internvl(), ragged_records()
    guidance = vlm.guide(records, max_new_tokens=1)
    with pytest.raises(ValueError, match="are shares"):
        vlm.answer(records, guidance, **setting)


def test_finished_records_leave_the_decode_batch_and_nothing_changes(
    vlm: VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = (1, 6, 2, 1, 3, 1, 6, 1)
    records = [
        replace(ragged_records()[index % 3], id=str(index), max_new_tokens=limit)
        for index, limit in enumerate(limits)
    ]
    widths = []
    step = generation.decode_step

    def noted(lm: Any, state: Any, token_B: torch.Tensor, capture: Any = None) -> torch.Tensor:
        widths.append(len(token_B))
        return step(lm, state, token_B, capture)

    monkeypatch.setattr(generation, "decode_step", noted)
    together = vlm.guide(records, min_new_tokens=6)
    assert widths == [4, 4, 2, 2, 2]
    pruned = vlm.answer(records, together, min_new_tokens=6)
    for record, guidance, answer in zip(records, together, pruned, strict=True):
        assert len(guidance.token_ids) == record.max_new_tokens
        assert_same_guidance(vlm.guide([record], min_new_tokens=6)[0], guidance)
        alone = vlm.answer([record], [guidance], min_new_tokens=6)[0]
        assert alone.token_ids == answer.token_ids


@pytest.mark.parametrize("leave_at", [0.0, 0.5, 1.0])
def test_when_they_leave_changes_no_answer(vlm: VLM, leave_at: float) -> None:
    with torch.inference_mode():
        prompt = vlm.prompts(ragged_records()).prompt
        limits = Limits(frozenset(), [1, 6, 3, 2])
        answers = Generating(vlm.language_model, prompt, limits, leave_at=leave_at).finish()
        usual = Generating(vlm.language_model, prompt, limits).finish()
    assert answers.token_ids == usual.token_ids
    assert answers.passes == usual.passes == 6


def other(token: int) -> int:
    """Another token of the vocabulary."""
    return (token + 1) % 50


@pytest.mark.parametrize("layer_share", [0.0, 0.4, 1.0])
def test_drafts_change_no_token_of_the_answers(
    vlm: VLM, layer_share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drafts that are right, wrong from the start, wrong in the middle, too long, or empty."""
    records = [
        replace(ragged_records()[index % 3], id=str(index), max_new_tokens=limit)
        for index, limit in enumerate((6, 6, 6, 3, 1, 6))
    ]
    guidance = vlm.guide(records)
    options: dict[str, Any] = {
        "prune_layer": layer_share,
        "keep_ratio": 0.3,
        "min_new_tokens": 6,
    }
    plain = vlm.answer(records, guidance, use_drafts=False, **options)
    said = [list(one.token_ids) for one in plain]
    drafts = [
        said[0],
        [other(said[1][0])],
        [*said[2][:2], other(said[2][2])],
        said[3] * 3,
        said[4],
        [],
    ]
    monkeypatch.setattr(vlm, "draft", lambda one: drafts[int(one.id)])
    drafted = vlm.answer(records, guidance, **options)
    for one, other_one in zip(plain, drafted, strict=True):
        assert one.token_ids == other_one.token_ids
    accepted = [one.accepted_draft_tokens for one in drafted]
    assert accepted[:5] == [5, 0, 2, 2, 0]
    assert [one.accepted_draft_tokens for one in plain] == [0] * 6
    assert drafted[1].usage.flops > plain[1].usage.flops


def test_a_right_draft_needs_one_pass(vlm: VLM) -> None:
    (record,) = ragged_records(limit=6)[:1]
    batch = vlm.prompts([record])
    limits = Limits(frozenset(), [6])
    plain = Generating(vlm.language_model, batch.prompt, limits).finish()
    drafted = Generating(
        vlm.language_model, batch.prompt, limits, drafts=[plain.token_ids[0]]
    ).finish()
    assert drafted.token_ids == plain.token_ids
    np.testing.assert_allclose(drafted.log_probs[0], plain.log_probs[0], atol=1e-5)
    assert (plain.passes, drafted.passes) == (6, 1)
    assert (drafted.drafted, drafted.accepted) == ([5], [5])
