"""The engine's benchmark: that it compares equals, and runs to its table. Nothing is timed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import engine, papers_way, trained
from sgl.attention import ATTENTION_NAME

TINY = engine.Setup(
    rounds=1, records=4, singles=2, batch_sizes=(3,), draft_batch=2, leaving_batch=8
)


@pytest.fixture(scope="module")
def pair() -> trained.Pair:
    return trained.load_pair()


def test_batches_hold_every_record_once_and_little_padding(pair: trained.Pair) -> None:
    records = trained.heldout(24)
    parts = trained.batches(pair.small.encoder, records, 5)
    assert sorted(one.id for part in parts for one in part) == sorted(one.id for one in records)
    for part in parts:
        lengths = [pair.small.encoder.lay_out(one).length for one in part]
        assert len(part) <= 5
        assert max(lengths) <= 1.05 * min(lengths)


def test_only_the_kinds_that_are_asked_for() -> None:
    captions = {one.question for one in trained.heldout(4, trained.CAPTION)}
    short = {one.question for one in trained.heldout(4, trained.SHORT)}
    assert len(captions | short) > len(captions)
    assert not captions & short


def test_the_papers_way_says_and_ranks_the_same(pair: trained.Pair) -> None:
    (record,) = trained.heldout(1)
    (guidance,) = pair.small.guide([record])
    prompt = pair.small.prompts([record]).prompt
    with torch.inference_mode(), papers_way.eager_attention(pair.small):
        tokens, confidence, importance_BT = papers_way.answer_with_maps(pair.small, prompt, 64)
    assert tuple(tokens) == guidance.token_ids
    assert confidence == pytest.approx(guidance.certainty.confidence, rel=1e-4)
    np.testing.assert_allclose(
        importance_BT[prompt.visual_BT].numpy(), guidance.importance, rtol=1e-4
    )
    text_model = pair.small.language_model.text_model
    assert text_model.config._attn_implementation == ATTENTION_NAME


def test_it_runs_to_its_table(pair: trained.Pair) -> None:
    setup = replace(TINY)
    setup.__dict__["pair"] = pair
    rows = engine.measure(setup=setup)
    assert {row["part"] for row in rows} == {"paper", "generate", "drafts", "leaving"}
    paper = [row for row in rows if row["part"] == "paper"]
    assert paper[0]["ratio"]["value"] == 1
    assert all(row["same_answers"] == 1 for row in paper)
    assert all(row["tokens_per_pass"] >= 1 for row in rows if row["part"] == "drafts")
    assert len(engine.report(rows).splitlines()) == len(rows)
