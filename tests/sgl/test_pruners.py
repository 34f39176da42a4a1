"""Laws of all pruners on tiny models of every family, and parity of each with its paper's rule."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sgl.attention import ATTENTION_NAME
from sgl.compaction import add_text
from sgl.decoder import DecodeState, decode_step, prefill
from sgl.errors import ConfigurationError
from sgl.language_model import LanguageModel, Prompt
from sgl.masks import Attended
from sgl.prompt import native_inputs
from sgl.pruners import PRUNERS, FastV, OwnGlobal, PyramidDrop, Random
from sgl.pruning import Pruner
from sgl.ranking import keep_count
from sgl.selection import Selection
from sgl.types import Guidance, ImageQuestion
from sgl.vlm import VLM
from tests.tiny_models import FAMILIES, internvl, llava_onevision, ragged_records

MAX_NEW = 4
LAYER, SHARE, KEEP = 2, 0.4, 0.3
"""K of five layers, as a share, and the keep ratio."""


class Subject:
    """A model, records of all kinds, and a guide's word on them."""

    def __init__(self, family: str) -> None:
        self.family = family
        self.vlm: VLM = FAMILIES[family]()
        text_only = replace(ragged_records()[0], id="text", images=())
        self.records = [*ragged_records(limit=MAX_NEW), replace(text_only, max_new_tokens=3)]
        self.guidance = self.vlm.guide(self.records)

    def answers(self, pruner: Pruner, order: slice | None = None, **changed: Any) -> list[Any]:
        rows = order or slice(None)
        settings: dict[str, Any] = {"prune_layer": SHARE, "keep_ratio": KEEP, **changed}
        return self.vlm.answer(self.records[rows], self.guidance[rows], pruner=pruner, **settings)


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def subject(request: pytest.FixtureRequest) -> Subject:
    return Subject(request.param)


@pytest.fixture(params=sorted(PRUNERS))
def pruner(request: pytest.FixtureRequest, subject: Subject) -> Pruner:
    if request.param == "vision" and subject.family == "llava_onevision":
        pytest.skip("refused, see below")
    return PRUNERS[request.param]


def cached(state: DecodeState) -> list[tuple[int, list[int]]]:
    """First layer of each segment, and how many tokens of each record its caches hold."""
    found = []
    for segment in state.segments:
        keys = state.cache.layers[segment.layers[0]].keys
        valid_BT = segment.attended.valid_BT
        if valid_BT is None:
            valid_BT = torch.ones(len(keys), keys.shape[2], dtype=torch.bool)
        found.append((segment.layers.start, valid_BT.sum(dim=1).tolist()))
    return found


@torch.inference_mode()
def test_as_many_stay_as_are_told_and_no_text_goes(subject: Subject, pruner: Pruner) -> None:
    scene = subject.vlm.scene(subject.records, subject.guidance, watch_vision=pruner.watches_vision)
    plan = pruner.plan(scene, LAYER, KEEP)
    for selection in plan.selections:
        if isinstance(selection, Selection):
            assert bool((selection.keep_BT | scene.visual_BT).all())
    _, state = prefill(scene.lm, scene.batch.prompt, plan.selections)
    layouts = scene.batch.layouts
    expected = [(0, [layout.length for layout in layouts])]
    for stage, cut in enumerate(plan.cuts[0]):
        left = [
            layout.length - layout.visual_tokens + cuts[stage].kept
            for layout, cuts in zip(layouts, plan.cuts, strict=True)
        ]
        expected.append((cut.layer, left))
    # The last layer before the cut may have caches of its own, as long as those before it.
    found = dict(cached(state))
    assert {start: found[start] for start, _ in expected} == dict(expected)
    if not isinstance(pruner, PyramidDrop):
        wanted = [keep_count(layout.visual_tokens, KEEP) for layout in layouts]
        assert [[cut.kept for cut in cuts] for cuts in plan.cuts] == [[count] for count in wanted]


def test_a_keep_ratio_of_1_is_the_unpruned_answer(subject: Subject, pruner: Pruner) -> None:
    whole = subject.vlm.answer(subject.records)
    kept_all = subject.answers(pruner, keep_ratio=1.0)
    assert [one.token_ids for one in kept_all] == [one.token_ids for one in whole]
    assert [one.usage.kept_tokens for one in kept_all] == [one.usage.visual_tokens for one in whole]


def test_a_batch_in_any_order_equals_each_record_alone(subject: Subject, pruner: Pruner) -> None:
    together = subject.answers(pruner)
    backwards = subject.answers(pruner, slice(None, None, -1))
    for b, one in enumerate(together):
        (alone,) = subject.answers(pruner, slice(b, b + 1))
        for other in (alone, backwards[-1 - b]):
            assert other.token_ids == one.token_ids
            assert other.usage.kept_tokens == one.usage.kept_tokens
            assert other.usage.flops == pytest.approx(one.usage.flops)
            assert other.pruning == one.pruning


def test_drafts_rank_nothing(subject: Subject, pruner: Pruner) -> None:
    drafted, plain = (subject.answers(pruner, use_drafts=use) for use in (True, False))
    assert [one.token_ids for one in drafted] == [one.token_ids for one in plain]


def test_the_retention_is_what_was_asked_for(subject: Subject, pruner: Pruner) -> None:
    """Counts are whole numbers, rounded down, at each stage: so a little less, never more."""
    asked = (LAYER + (5 - LAYER) * 0.5) / 5
    for answer in subject.answers(pruner, keep_ratio=0.5)[:-1]:
        rounding = 1 / answer.usage.visual_tokens
        assert asked - rounding <= answer.pruning.average_retention <= asked + 1e-9


def logits_of(subject: Subject, pruner: Pruner, layer: int, keep_ratio: float) -> Tensor:
    """(B, N) of the records with images, in one ragged batch."""
    scene = subject.vlm.scene(subject.records[:-1])
    plan = pruner.plan(scene, layer, keep_ratio)
    return prefill(scene.lm, scene.batch.prompt, plan.selections)[0]


def eager_attention(vlm: VLM, record: ImageQuestion) -> tuple[Any, Tensor]:
    """Maps of all layers, (1, H, T, T) each, and where the visual tokens are, (T,) bool."""
    layout = vlm.encoder.lay_out(record)
    inputs = native_inputs(vlm.encoder, [record], [layout])
    vlm.family.reset(vlm.model)
    text_model = vlm.language_model.text_model
    text_model.set_attn_implementation("eager")
    maps = vlm.model(**inputs, output_attentions=True).attentions
    text_model.set_attn_implementation(ATTENTION_NAME)
    return maps, inputs["input_ids"][0] == vlm.family.config.image_token_id


@torch.inference_mode()
def test_fastv_ranks_by_the_eager_attention_of_the_layer_before(subject: Subject) -> None:
    found_BN = logits_of(subject, FastV(), LAYER, KEEP)
    for record, found_N in zip(subject.records, found_BN, strict=False):
        maps, visual_T = eager_attention(subject.vlm, record)
        paid_T = maps[LAYER - 1][0].mean(dim=0)[-1].masked_fill(~visual_T, -1)
        count = keep_count(int(visual_T.sum()), KEEP)
        keep_T = ~visual_T
        keep_T[top(paid_T, count)] = True
        prompt = subject.vlm.prompts([record]).prompt
        selections = [Selection(LAYER, keep_T[None])]
        expected_BN, _ = prefill(subject.vlm.language_model, prompt, selections)
        np.testing.assert_allclose(found_N.numpy(), expected_BN[0].numpy(), atol=2e-4)


def top(paid_T: Tensor, count: int) -> Tensor:
    """Ties to the lower index: what a sliding window does not show gets nothing at all."""
    return paid_T.sort(descending=True, stable=True).indices[:count]


class MaskedPyramid:
    """The slow oracle, one record: nothing leaves the sequence, what is dropped is masked."""

    def __init__(self, lm: LanguageModel, prompt: Prompt, cuts: Any) -> None:
        self.lm, self.prompt, self.cuts = lm, prompt, cuts

    def logits(self, fed: list[int]) -> Tensor:
        lm, last = self.lm, self.prompt.valid_BT.shape[1] - 1
        embeds_BSD = lm.text_model.embed_tokens(torch.tensor([fed], dtype=torch.int64))
        valid_BS = torch.ones(1, len(fed), dtype=torch.bool)
        whole = add_text(self.prompt, embeds_BSD, valid_BS)
        attended = Attended.of(whole, windows=lm.has_windows)
        length = whole.valid_BT.shape[1]
        causal, itself = torch.ones(length, length).tril().bool(), torch.eye(length).bool()
        seen_T = torch.ones(length, dtype=torch.bool)
        hidden = whole.embeds_BTD
        for index, layer in enumerate(lm.text_model.layers):
            kind = lm.layer_type(index)
            rope = lm.rope(hidden, whole.position_ids_ABT, kind)
            base = attended.prefill_mask(lm.window(kind))
            base = causal[None, None] if base is None else base
            for cut in self.cuts:
                if cut.layer == index:
                    probs = self.eager(layer, hidden, base & seen_T | itself, rope)
                    paid_T = probs[0].mean(dim=0)[last]
                    paid_T = paid_T.masked_fill(~(whole.visual_BT[0] & seen_T), -1)
                    seen_T = seen_T & ~whole.visual_BT[0]
                    seen_T[top(paid_T, cut.kept)] = True
            mask = base & seen_T | itself
            hidden = layer(hidden, attention_mask=mask, position_embeddings=rope, position_ids=None)
            if index < len(whole.deepstack):
                hidden = hidden + whole.deepstack[index]
        return lm.lm_head(lm.text_model.norm(hidden[:, -1]))[0]

    def eager(self, layer: Any, hidden: Tensor, mask: Tensor, rope: Any) -> Tensor:
        additive = torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))
        self.lm.text_model.set_attn_implementation("eager")
        normed = layer.input_layernorm(hidden)
        _, probs = layer.self_attn(
            hidden_states=normed, position_embeddings=rope, attention_mask=additive
        )
        self.lm.text_model.set_attn_implementation(ATTENTION_NAME)
        return probs


@pytest.mark.parametrize("layer", [0, 1])
@torch.inference_mode()
def test_pyramid_equals_full_length_with_dropped_tokens_masked(
    subject: Subject, layer: int
) -> None:
    scene = subject.vlm.scene(subject.records[:-1])
    plan = PyramidDrop().plan(scene, layer, 0.5)
    assert len(plan.selections) == 3
    assert all(first.kept > second.kept for first, second, _ in plan.cuts)
    logits_BN, state = prefill(scene.lm, scene.batch.prompt, plan.selections)
    oracles = [
        MaskedPyramid(scene.lm, subject.vlm.prompts([record]).prompt, cuts)
        for record, cuts in zip(subject.records, plan.cuts, strict=False)
    ]
    fed: list[list[int]] = [[] for _ in oracles]
    for _ in range(3):
        for oracle, tokens, logits_N in zip(oracles, fed, logits_BN, strict=True):
            expected_N = oracle.logits(tokens)
            np.testing.assert_allclose(logits_N.numpy(), expected_N.numpy(), atol=3e-4)
        token_B = logits_BN.argmax(dim=-1)
        for tokens, token in zip(fed, token_B.tolist(), strict=True):
            tokens.append(token)
        logits_BN = decode_step(scene.lm, state, token_B)


def test_the_papers_pyramid_is_a_setting_of_ours() -> None:
    """Half of the tokens at layers 8, 16 and 24 of 32."""
    pyramid = PyramidDrop(stages=3)
    cut_layers = pyramid.cut_layers(8, 32)
    assert cut_layers == [8, 16, 24]
    assert pyramid.share(cut_layers, 32, (0.5 + 0.25 + 0.125) / 3) == pytest.approx(0.5)


@torch.inference_mode()
def test_own_is_the_importance_that_the_model_would_guide_with(subject: Subject) -> None:
    scene = subject.vlm.scene(subject.records)
    importance_BT, _ = OwnGlobal().rank(scene)
    for b, one in enumerate(subject.guidance):
        found = importance_BT[b, scene.visual_BT[b]].numpy()
        np.testing.assert_allclose(found, one.importance, rtol=1e-4)


def test_without_a_pruner_guidance_prunes_and_nothing_else_does() -> None:
    subject = Subject("internvl")
    settings = {"prune_layer": SHARE, "keep_ratio": KEEP}
    by_default = subject.vlm.answer(subject.records, subject.guidance, **settings)
    guided = subject.answers(PRUNERS["guided"])
    assert [one.token_ids for one in by_default] == [one.token_ids for one in guided]
    assert [one.pruning for one in by_default] == [one.pruning for one in guided]
    assert all(one.pruning is None for one in subject.vlm.answer(subject.records, **settings))


def test_random_is_drawn_by_id_and_seed() -> None:
    subject = Subject("internvl")
    with torch.inference_mode():
        scene = subject.vlm.scene(subject.records[:1] * 2)
        renamed = replace(scene, ids=["one", "other"])
        same_BT, _ = Random().rank(scene)
        differ_BT, _ = Random().rank(renamed)
        seeded_BT, _ = Random(seed=1).rank(scene)
    assert torch.equal(same_BT[0], same_BT[1])
    assert not torch.equal(differ_BT[0], differ_BT[1])
    assert not torch.equal(same_BT, seeded_BT)


def test_what_a_pruner_cannot_do_is_refused() -> None:
    vlm, records = internvl(), ragged_records(limit=1)
    with pytest.raises(ConfigurationError, match="needs the small model's guidance"):
        vlm.answer(records, pruner=PRUNERS["guided"])
    with pytest.raises(ConfigurationError, match="layers must come to 1 or more"):
        vlm.answer(records, pruner=PRUNERS["fastv"], prune_layer=0.1)
    with pytest.raises(ConfigurationError, match="LlavaOnevision"):
        llava_onevision().answer(records, pruner=PRUNERS["vision"])


def test_pruning_at_the_end_drops_nothing_that_anyone_reads() -> None:
    subject = Subject("internvl")
    whole = [one.token_ids for one in subject.vlm.answer(subject.records)]
    for name in sorted(PRUNERS):
        late = subject.answers(PRUNERS[name], prune_layer=1.0, keep_ratio=0.1)
        assert [one.token_ids for one in late] == whole
        assert all(one.pruning.average_retention == 1 for one in late[:-1])


def guided_by_position(guidance: Guidance) -> Guidance:
    """The first tokens of the prompt first."""
    falling = np.linspace(1, 0, len(guidance.importance), dtype=np.float32)
    return replace(guidance, importance=falling)


@torch.inference_mode()
def test_guided_keeps_the_first_where_the_guide_says_so() -> None:
    subject = Subject("internvl")
    first = [guided_by_position(one) for one in subject.guidance]
    scene = subject.vlm.scene(subject.records, first)
    plan = PRUNERS["guided"].plan(scene, LAYER, KEEP)
    (selection,) = plan.selections
    assert isinstance(selection, Selection)
    for b, (cut,) in enumerate(plan.cuts):
        kept = selection.keep_BT[b, scene.visual_BT[b]].nonzero().ravel().tolist()
        assert kept == list(range(cut.kept))
