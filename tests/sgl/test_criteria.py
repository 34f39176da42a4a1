"""Criteria on tiny models: what is run, what is skipped, and what it costs."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch

from sgl.answers import Limits
from sgl.cascade import run_cascade
from sgl.decoder import prefill
from sgl.early_exit import exit_score, needs_consistency
from sgl.flops import scoring_flops
from sgl.generation import Generating
from sgl.ranking import keep_count
from sgl.types import Criterion, Route
from sgl.vlm import VLM
from tests.tiny_models import internvl, ragged_records

MAX_NEW = 4
SKIPPING = [one for one in Criterion if not needs_consistency(one)]


@pytest.fixture
def vlm() -> VLM:
    return internvl(seed=0)


@pytest.fixture
def layer_runs(vlm: VLM) -> list[int]:
    """Grows by one with every forward pass through the decoder's first layer."""
    runs: list[int] = []
    layer = vlm.language_model.text_model.layers[0]
    layer.register_forward_hook(lambda *_: runs.append(1))
    return runs


def test_only_these_two_need_the_pass() -> None:
    assert {one for one in Criterion if needs_consistency(one)} == {"mean", "consistency"}


def test_the_pass_is_skipped_where_no_one_reads_it(vlm: VLM, layer_runs: list[int]) -> None:
    records = ragged_records()
    passes = {}
    for criterion in Criterion:
        layer_runs.clear()
        vlm.guide(records, max_new_tokens=MAX_NEW, criterion=criterion)
        passes[criterion] = len(layer_runs)
    full = passes[Criterion.MEAN]
    assert passes == {one: full - (one in SKIPPING) for one in Criterion}
    layer_runs.clear()
    vlm.guide(records, max_new_tokens=MAX_NEW, criterion=Criterion.MARGIN, all_criteria=True)
    assert len(layer_runs) == full


@pytest.mark.parametrize("criterion", SKIPPING)
def test_without_it_all_else_is_the_same(vlm: VLM, criterion: Criterion) -> None:
    records = ragged_records()
    every = vlm.guide(records, max_new_tokens=MAX_NEW, criterion=criterion, all_criteria=True)
    some = vlm.guide(records, max_new_tokens=MAX_NEW, criterion=criterion)
    for one, other in zip(every, some, strict=True):
        assert one.certainty.consistency is not None
        assert asdict(other.certainty) == asdict(one.certainty) | {"consistency": None}
        assert one.exit_score == other.exit_score
        assert other.exit_score == exit_score(criterion, other.certainty, other.id)
        assert (one.token_ids, one.criterion) == (other.token_ids, criterion)
        np.testing.assert_array_equal(one.importance, other.importance)


def test_its_flops_are_saved(vlm: VLM) -> None:
    records = ragged_records()
    paper, short = (
        vlm.guide(records, max_new_tokens=MAX_NEW, criterion=one)
        for one in (Criterion.MEAN, Criterion.CONFIDENCE)
    )
    for one, other in zip(paper, short, strict=True):
        visual = one.usage.visual_tokens
        seen = one.usage.prompt_tokens - visual + keep_count(visual, 0.05)
        saved = scoring_flops(vlm.meter.shape, prompt=seen, new_tokens=len(one.token_ids))
        assert one.usage.flops - other.usage.flops == pytest.approx(saved)


def test_its_seconds_are_a_part_of_the_records_own(vlm: VLM) -> None:
    for one in vlm.guide(ragged_records(), max_new_tokens=MAX_NEW):
        assert one.usage.consistency_s is not None
        assert 0 < one.usage.consistency_s < one.usage.device_s
    skipped = vlm.guide(ragged_records(), max_new_tokens=MAX_NEW, criterion=Criterion.MARGIN)
    assert {one.usage.consistency_s for one in skipped} == {None}


def test_scores_are_of_the_distributions_that_chose_the_tokens(vlm: VLM) -> None:
    """Against a decode by hand, one token and one record at a time."""
    record = ragged_records()[0]
    (guidance,) = vlm.guide([record], max_new_tokens=1)
    with torch.inference_mode():
        logits_BN, _ = prefill(vlm.language_model, vlm.prompts([record]).prompt)
    logits_N = logits_BN[0].clone()
    logits_N[sorted(vlm.end_token_ids)] = float("-inf")
    probability_N = logits_N.softmax(dim=0).double()
    entropy = -torch.special.xlogy(probability_N, probability_N).sum().item()
    first, second = probability_N.sort(descending=True).values[:2].tolist()
    found = guidance.certainty
    assert found.confidence == found.quantile == pytest.approx(first, rel=1e-5)
    assert found.margin == pytest.approx(first - second, rel=1e-4)
    assert found.entropy == pytest.approx(1 - entropy / np.log(len(probability_N)), abs=1e-5)


def test_uncertainty_changes_no_token_and_costs_nothing_where_not_asked_for(
    vlm: VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = ragged_records()
    batch = vlm.prompts(records)
    limits = Limits(vlm.end_token_ids, [MAX_NEW] * len(records))

    def answers(**settings: Any) -> Any:
        with torch.inference_mode():
            return Generating(vlm.language_model, batch.prompt, limits, **settings).finish()

    told, untold = answers(uncertainty=True), answers()
    assert (told.token_ids, told.log_probs) == (untold.token_ids, untold.log_probs)
    lengths = [len(one) for one in told.token_ids]
    assert [len(one) for one in told.entropies] == lengths
    assert [len(one) for one in told.margins] == lengths
    assert not any(untold.entropies + untold.margins)

    def refuse(*_: Any) -> None:
        raise AssertionError("nobody asked")

    monkeypatch.setattr("sgl.answers.entropy_and_margin", refuse)
    vlm.answer(records, max_new_tokens=MAX_NEW)


def test_scores_of_a_batch_are_those_of_its_records(vlm: VLM) -> None:
    records = ragged_records()
    for record, one in zip(records, vlm.guide(records, max_new_tokens=MAX_NEW), strict=True):
        (alone,) = vlm.guide([record], max_new_tokens=MAX_NEW)
        for name, score in asdict(one.certainty).items():
            assert score == pytest.approx(asdict(alone.certainty)[name], rel=1e-3)


def test_the_cascade_exits_by_the_criterion(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the pass is not needed")

    monkeypatch.setattr("sgl.guiding.score_answers", refuse)
    records = ragged_records()
    guidance = vlm.guide(records, max_new_tokens=MAX_NEW, criterion=Criterion.MARGIN)
    threshold = float(np.median([one.certainty.margin for one in guidance]))
    answers = run_cascade(
        vlm,
        internvl(seed=1),
        records,
        threshold=threshold,
        criterion=Criterion.MARGIN,
        max_new_tokens=MAX_NEW,
    )
    exited = [answer.route is Route.SMALL for answer in answers]
    assert exited == [one.certainty.margin >= threshold for one in guidance]
    assert len(set(exited)) == 2
