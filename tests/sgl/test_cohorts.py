"""Cohorts: a batch that goes on one pass at a time answers as the batch does."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sgl
from sgl.cohort import Cohort, Done, Said
from sgl.types import Criterion, ImageQuestion, Sampling
from testbed import model_path
from testbed.records import draw_records
from tests.tiny_models import FAMILIES, internvl, ragged_records

LIMITS = (6, 2, 4, 4)


def of_unlike_lengths() -> list[ImageQuestion]:
    return [
        replace(record, max_new_tokens=limit)
        for record, limit in zip(ragged_records(), LIMITS, strict=True)
    ]


def run(cohort: Cohort[Any]) -> tuple[dict[int, Any], dict[int, str], list[list[int]]]:
    """Results, texts that were said, and who was done after each step."""
    results: dict[int, Any] = {}
    texts: dict[int, str] = {}
    order: list[list[int]] = []
    while cohort.unfinished:
        events = cohort.step()
        order.append([event.record for event in events if isinstance(event, Done)])
        for event in events:
            if isinstance(event, Said):
                assert event.record not in results, "nothing is said behind the result"
                texts[event.record] = texts.get(event.record, "") + event.text
            else:
                results[event.record] = event.result
    return results, texts, order


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_records_finish_by_themselves_with_the_guidance_of_the_batch(family: str) -> None:
    vlm, records = FAMILIES[family](), of_unlike_lengths()
    settings: dict[str, Any] = {"min_new_tokens": 6, "criterion": Criterion.MEAN}
    whole = vlm.guide(records, **settings)
    results, texts, order = run(vlm.guiding(records, heard=range(4), **settings))
    for place, expected in enumerate(whole):
        got = results[place]
        assert (got.answer, got.token_ids) == (expected.answer, expected.token_ids)
        assert got.exit_score == pytest.approx(expected.exit_score, rel=1e-3)
        np.testing.assert_allclose(got.importance, expected.importance, rtol=1e-3, atol=1e-6)
        assert got.usage.flops == expected.usage.flops
        assert texts.get(place, "") == expected.answer
    assert [sorted(done) for done in order if done] == [[1], [2, 3], [0]]
    assert [bool(done) for done in order] == [step + 1 in LIMITS for step in range(6)]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_pruned_answers_are_those_of_the_batch(family: str) -> None:
    vlm, records = FAMILIES[family](), of_unlike_lengths()
    guidance = vlm.guide(records)
    whole = vlm.answer(records, guidance, keep_ratio=0.3, min_new_tokens=6)
    cohort = vlm.answering(records, guidance, heard=[0], keep_ratio=0.3, min_new_tokens=6)
    results, texts, _ = run(cohort)
    for place, expected in enumerate(whole):
        assert results[place].token_ids == expected.token_ids
        assert results[place].pruning == expected.pruning
    assert texts == ({0: whole[0].text} if whole[0].text else {})


def test_seconds_are_the_records_own() -> None:
    """A record that decodes on alone pays for that alone."""
    vlm, records = internvl(), [replace(ragged_records()[0], id=str(n)) for n in range(2)]
    records = [replace(records[0], max_new_tokens=40), replace(records[1], max_new_tokens=1)]
    long, short = vlm.guide(records, min_new_tokens=40)
    assert long.usage.device_s > 3 * short.usage.device_s


def test_who_leaves_is_never_heard_of_again_and_the_others_are_answered() -> None:
    vlm, records = internvl(), ragged_records()
    whole = vlm.guide(records, max_new_tokens=6, min_new_tokens=6)
    cohort = vlm.guiding(records, heard=range(4), max_new_tokens=6, min_new_tokens=6)
    cohort.cancel(2)  # before the prefill
    cohort.cancel(3)
    seen = [*cohort.step(), *cohort.step()]
    cohort.cancel(0)
    while cohort.unfinished:
        seen += [event for event in cohort.step() if event.record != 1 or isinstance(event, Done)]
    (last,) = [event for event in seen if isinstance(event, Done)]
    assert (last.record, last.result.token_ids) == (1, whole[1].token_ids)
    assert not any(event.record in (2, 3) for event in seen)


def test_a_cohort_that_everybody_left_is_finished() -> None:
    cohort = internvl().guiding(ragged_records(), max_new_tokens=6)
    cohort.step()
    for place in range(4):
        cohort.cancel(place)
    assert not cohort.unfinished


def sampled(records: Sequence[ImageQuestion], seed: int, **how: float) -> list[ImageQuestion]:
    way = Sampling(**({"temperature": 1.0, "top_p": 1.0} | how), seed=seed)
    return [replace(record, sampling=way) for record in records]


def test_a_seed_decides_whoever_else_is_in_the_batch() -> None:
    vlm, records = internvl(), ragged_records()
    greedy = [one.token_ids for one in vlm.guide(records, max_new_tokens=6)]
    first = [one.token_ids for one in vlm.guide(sampled(records, 1), max_new_tokens=6)]
    alone = [vlm.guide([record], max_new_tokens=6)[0].token_ids for record in sampled(records, 1)]
    other = [one.token_ids for one in vlm.guide(sampled(records, 2), max_new_tokens=6)]
    assert first == alone
    assert len({tuple(greedy), tuple(first), tuple(other)}) == 3


def test_a_cold_or_narrow_draw_is_greedy() -> None:
    vlm, records = internvl(), ragged_records()
    greedy = [one.token_ids for one in vlm.guide(records, max_new_tokens=6)]
    for how in ({"temperature": 1e-4}, {"top_p": 1e-9}):
        drawn = vlm.guide(sampled(records, 1, **how), max_new_tokens=6)
        assert [one.token_ids for one in drawn] == greedy


def test_drafts_change_no_drawn_token() -> None:
    vlm, records = internvl(), sampled(ragged_records(), 3)
    guidance = vlm.guide(records, max_new_tokens=6)
    with_drafts = vlm.answer(records, guidance, keep_ratio=1.0, max_new_tokens=6)
    without = vlm.answer(records, guidance, keep_ratio=1.0, max_new_tokens=6, use_drafts=False)
    assert [one.token_ids for one in with_drafts] == [one.token_ids for one in without]
    # The same seed, model and (unpruned) picture: drafts are what it would have drawn.
    assert any(one.accepted_draft_tokens for one in with_drafts)


def test_a_stop_text_ends_the_answer_before_it() -> None:
    vlm, record = internvl(), ragged_records()[0]
    (whole,) = vlm.guide([record], max_new_tokens=6, min_new_tokens=6)
    words = whole.answer.split()
    stop = words[2]
    results, texts, _ = run(
        vlm.guiding([replace(record, stop=(stop, "never said"))], heard=[0], max_new_tokens=6)
    )
    assert results[0].answer == texts.get(0, "") == whole.answer.partition(stop)[0].strip()
    assert results[0].ended
    assert len(results[0].token_ids) < len(whole.token_ids)


def test_an_answer_tells_whether_it_was_cut() -> None:
    vlm, record = internvl(), ragged_records()[0]
    (cut,) = vlm.guide([record], max_new_tokens=2, min_new_tokens=2)
    assert not cut.ended
    (said,) = sgl.load(model_path("small")).guide(drawn(1))
    assert said.ended


def drawn(count: int) -> list[ImageQuestion]:
    return [
        ImageQuestion(one.id, one.question.text, (one.image,))
        for one in draw_records("heldout", count)
    ]


def test_the_trained_models_text_comes_in_parts_that_are_its_answer() -> None:
    vlm = sgl.load(model_path("small"))
    records = drawn(8)
    results, texts, _ = run(vlm.guiding(records, heard=range(8)))
    assert [texts.get(place, "") for place in range(8)] == [results[p].answer for p in range(8)]
    assert any(" " in text for text in texts.values())
