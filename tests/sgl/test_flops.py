"""Counted operations against torch's own counter on the real modules."""

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sgl.compaction import prune_prompt
from sgl.decoder import decode_step, prefill
from sgl.flops import DecoderShape, generation_flops, scoring_flops
from sgl.pruners import PRUNERS
from sgl.ranking import top_visual_tokens
from sgl.scoring import score_answers
from sgl.selection import Selection
from sgl.vlm import VLM
from tests.tiny_models import FAMILIES, ragged_records


@pytest.fixture(params=sorted(FAMILIES))
def vlm(request: Any) -> VLM:
    vlm = FAMILIES[request.param]()
    if request.param.endswith("moe"):
        # Grouped matrix products are not in the counter's registry.
        vlm.model.set_experts_implementation("eager")
    return vlm


class Counter(FlopCounterMode):
    """CPU flash attention is not in the counter's registry, so the maths kernel runs."""

    def __init__(self) -> None:
        super().__init__(display=False)
        self.kernel = sdpa_kernel([SDPBackend.MATH])

    def __enter__(self) -> "Counter":
        self.kernel.__enter__()
        return super().__enter__()

    def __exit__(self, *args: Any) -> Any:
        self.kernel.__exit__(*args)
        return super().__exit__(*args)


def test_pruned_generation(vlm: VLM) -> None:
    record, lm, split = ragged_records()[1], vlm.language_model, 2
    shape = DecoderShape.of(vlm.family.config.text_config)
    with torch.inference_mode():
        prompt = vlm.prompts([record]).prompt
        visual = prompt.visual_BT
        keep = top_visual_tokens(torch.rand(visual.shape), visual, 0.25) | ~visual
        with Counter() as counter:
            _, state = prefill(lm, prompt, [Selection(split, keep)])
            for token in (5, 6):
                decode_step(lm, state, torch.tensor([token]))
    expected = generation_flops(
        shape,
        prompt=visual.shape[1],
        pruned_prompt=int(keep.sum()),
        prune_layer=split,
        new_tokens=3,
    )
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.02)


def test_consistency_pass(vlm: VLM) -> None:
    record, lm = ragged_records()[1], vlm.language_model
    shape = DecoderShape.of(vlm.family.config.text_config)
    with torch.inference_mode():
        prompt = vlm.prompts([record]).prompt
        pruned = prune_prompt(prompt, ~prompt.visual_BT)
        with Counter() as counter:
            score_answers(lm, pruned, [[4, 5, 6]])
    expected = scoring_flops(shape, prompt=pruned.valid_BT.shape[1], new_tokens=3)
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", sorted(PRUNERS))
@pytest.mark.parametrize("family", ["internvl", "qwen2_5_vl"])
def test_pruned_answers_and_what_choosing_cost(family: str, name: str) -> None:
    vlm, record = FAMILIES[family](), ragged_records(limit=4)[3]
    guidance = vlm.guide([record])
    with Counter() as counter:
        (answer,) = vlm.answer(
            [record],
            guidance,
            pruner=PRUNERS[name],
            prune_layer=0.2,
            keep_ratio=0.25,
            use_drafts=False,
        )
    assert counter.get_total_flops() == pytest.approx(answer.usage.flops, rel=0.02)


@pytest.mark.parametrize("index", range(4))
def test_vision(vlm: VLM, index: int) -> None:
    record = ragged_records()[index]
    with torch.inference_mode(), Counter() as counter:
        batch = vlm.prompts([record])
    assert counter.get_total_flops() == pytest.approx(batch.layouts[0].vision_flops, rel=0.02)
