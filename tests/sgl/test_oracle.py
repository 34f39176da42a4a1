"""Parity with numbers that the paper's own code computed on random tiny models."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from sgl.answers import Generation, Limits
from sgl.attention import RowCapture
from sgl.compaction import prune_prompt
from sgl.decoder import decode_step, prefill
from sgl.early_exit import confidence, consistency
from sgl.generation import Generating
from sgl.language_model import LanguageModel, Prompt
from sgl.ranking import spread, top_visual_tokens
from sgl.scoring import score_answers
from sgl.selection import Selection
from sgl.types import ConsistencyForm

FIXTURE = Path(__file__).parents[1] / "fixtures" / "sgl_reference_oracle.npz"
CASES = ["case0", "case1", "case2"]
PRUNINGS = [(0.4, 0.4), (0.19, 0.2), (0.25, 0.05), (0.0, 0.5)]


@dataclass(frozen=True)
class Oracle:
    arrays: dict[str, np.ndarray]
    small: LanguageModel
    large: LanguageModel
    end_token: int


@cache
def oracle() -> Oracle:
    with np.load(FIXTURE) as file:
        arrays = {name: file[name] for name in file.files}
    meta = json.loads(str(arrays["meta"]))
    models = {size: language_model(arrays, meta, size) for size in ("small", "large")}
    return Oracle(arrays, models["small"], models["large"], meta["eos"])


def language_model(arrays: dict[str, np.ndarray], meta: dict[str, Any], size: str) -> LanguageModel:
    shape = meta[size]
    model = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=shape["hidden"],
            intermediate_size=shape["inter"],
            num_hidden_layers=shape["layers"],
            num_attention_heads=shape["heads"],
            num_key_value_heads=shape["kv"],
            vocab_size=shape["vocab"],
            rms_norm_eps=meta["rms_norm_eps"],
            rope_parameters={"rope_type": "default", "rope_theta": meta["rope_theta"]},
        )
    ).eval()
    prefix = f"{size}/w/"
    weights = {
        name.removeprefix(prefix): torch.from_numpy(array)
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
    model.load_state_dict(weights)
    return LanguageModel(model.model, model.lm_head)


def prompt(case: str, size: str) -> Prompt:
    arrays, lm = oracle().arrays, getattr(oracle(), size)
    visual = torch.from_numpy(arrays[f"{case}/vis_{size}"])
    before, after = (
        lm.text_model.embed_tokens(torch.from_numpy(arrays[f"{case}/{part}"]))
        for part in ("pre_ids", "post_ids")
    )
    embeds_BTD = torch.cat([before, visual, after])[None]
    length = embeds_BTD.shape[1]
    visual_BT = torch.zeros(1, length, dtype=torch.bool)
    visual_BT[:, len(before) : len(before) + len(visual)] = True
    return Prompt(
        embeds_BTD=embeds_BTD,
        position_ids_ABT=torch.arange(length)[None, None],
        valid_BT=torch.ones(1, length, dtype=torch.bool),
        visual_BT=visual_BT,
        next_position_B=torch.tensor([length]),
    )


def guide(case: str) -> tuple[Prompt, Generation, Tensor]:
    batch = prompt(case, "small")
    capture = RowCapture(1, batch.embeds_BTD.shape[1], torch.device("cpu"))
    answer = Generating(
        oracle().small,
        batch,
        Limits({oracle().end_token}, [6]),
        capture=capture,
        include_last_visual_row=True,
    ).finish()
    return batch, answer, capture.importance_BT


@pytest.fixture(autouse=True)
def _no_grad() -> Any:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("case", CASES)
def test_importance_answer_and_confidence(case: str) -> None:
    arrays = oracle().arrays
    batch, answer, importance_BT = guide(case)
    expected = arrays[f"{case}/importance"]
    np.testing.assert_allclose(importance_BT[batch.visual_BT].numpy(), expected, rtol=1e-4)
    assert answer.token_ids[0] == arrays[f"{case}/answer"].tolist()
    probs = np.exp(answer.log_probs[0])
    np.testing.assert_allclose(probs, arrays[f"{case}/token_max_prob"], rtol=1e-4)
    assert confidence(answer.log_probs[0]) == pytest.approx(
        float(arrays[f"{case}/confidence"]), rel=1e-4
    )


@pytest.mark.parametrize("case", CASES)
def test_consistency(case: str) -> None:
    arrays = oracle().arrays
    batch, answer, importance_BT = guide(case)
    kept_BT = top_visual_tokens(importance_BT, batch.visual_BT, 0.05)
    pruned = prune_prompt(batch, kept_BT | ~batch.visual_BT)
    log_probs = score_answers(oracle().small, pruned, answer.token_ids)[0]
    expected = arrays[f"{case}/consistency_token_prob"]
    np.testing.assert_allclose(np.exp(log_probs), expected, rtol=1e-3)
    assert consistency(log_probs, ConsistencyForm.PRODUCT) == pytest.approx(
        float(arrays[f"{case}/consistency"]), rel=1e-3
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("pruning", [None, *PRUNINGS])
def test_pruned_large_model(case: str, pruning: tuple[float, float] | None) -> None:
    arrays, lm, batch = oracle().arrays, oracle().large, prompt(case, "large")
    selections, name = [], f"{case}/large_full"
    if pruning:
        prune_layer, keep_ratio = pruning
        name = f"{case}/large_{prune_layer}_{keep_ratio}"
        importance_BT = spread([arrays[f"{case}/importance"]], batch.visual_BT)
        kept_BT = top_visual_tokens(importance_BT, batch.visual_BT, keep_ratio)
        selections = [Selection(int(lm.layers * prune_layer), kept_BT | ~batch.visual_BT)]
    answer = Generating(
        lm,
        batch,
        Limits({oracle().end_token}, [6]),
        selections=selections,
    ).finish()
    assert answer.token_ids[0] == arrays[f"{name}/answer"].tolist()
    logits_BN, state = prefill(lm, batch, selections)
    steps = [logits_BN] + [
        decode_step(lm, state, torch.tensor([token])) for token in answer.token_ids[0][:-1]
    ]
    expected = arrays[f"{name}/logits"]
    compared = np.isfinite(expected)  # the end token is barred at the first step
    assert compared.sum() >= expected.size - 1
    np.testing.assert_allclose(
        torch.cat(steps).numpy()[compared], expected[compared], atol=1e-3, rtol=1e-3
    )
