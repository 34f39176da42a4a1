"""Static caches against growing ones; on a GPU the recorded graph too."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from sgl import generation
from sgl.decoder import DecodeState, decode_step, prefill
from sgl.errors import UnsupportedModelError
from sgl.language_model import LanguageModel, Prompt
from sgl.selection import AnySelection, AttentionSelection, Selection
from sgl.static_decode import StaticDecode
from tests.tiny_models import FAMILIES, ragged_records

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
STEPS = 6


@pytest.fixture(scope="module", params=sorted(set(FAMILIES) - {"gemma3"}))
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    vlm = FAMILIES[request.param]()
    vlm.model.to(DEVICE)
    return vlm.language_model


def ragged_prompt(lm: LanguageModel, length: int, seed: int = 0) -> Prompt:
    """Three prompts, two of them padded, with visual tokens in their middle."""
    torch.manual_seed(seed)
    valid = torch.arange(length) >= torch.tensor([[0], [3], [5]])
    positions = (valid.cumsum(1) - 1).clamp(min=0)
    visual = (torch.arange(length) >= 6) & (torch.arange(length) < length - 4)
    return Prompt(
        embeds_BTD=torch.randn(3, length, lm.text_model.config.hidden_size).to(DEVICE),
        position_ids_ABT=positions[None].to(DEVICE),
        valid_BT=valid.to(DEVICE),
        visual_BT=visual.expand(3, -1).to(DEVICE),
        next_position_B=positions[:, -1].to(DEVICE) + 1,
    )


def half_of_the_visual_tokens(prompt: Prompt, layer: int) -> Selection:
    places = torch.arange(prompt.visual_BT.shape[1], device=DEVICE)
    return Selection(layer, ~prompt.visual_BT | (places % 2 == 0))


def decode(step: Callable[[torch.Tensor], torch.Tensor], logits_BN: torch.Tensor) -> torch.Tensor:
    """(B, S, N): the logits of every greedy step."""
    steps = [logits_BN]
    for _ in range(STEPS):
        steps.append(step(steps[-1].argmax(dim=-1)).clone())
    return torch.stack(steps, dim=1)


@torch.inference_mode()
def both_ways(
    lm: LanguageModel, prompt: Prompt, selections: Sequence[AnySelection]
) -> tuple[torch.Tensor, torch.Tensor]:
    logits, state = prefill(lm, prompt, selections)
    static = StaticDecode(lm, state, STEPS)
    fixed = decode(static.step, logits)
    grown = decode(lambda token: decode_step(lm, state, token), logits)
    return fixed, grown


@pytest.mark.parametrize("layer", [None, 0, 2, 5])
def test_it_decodes_what_the_growing_cache_decodes(lm: LanguageModel, layer: int | None) -> None:
    prompt = ragged_prompt(lm, length=20)
    selections = [] if layer is None else [half_of_the_visual_tokens(prompt, layer)]
    fixed, grown = both_ways(lm, prompt, selections)
    assert torch.equal(fixed.argmax(dim=-1), grown.argmax(dim=-1))
    torch.testing.assert_close(fixed, grown, rtol=1e-4, atol=1e-4)


def test_caches_of_many_lengths(lm: LanguageModel) -> None:
    """Pruned at three layers, twice by attention on the way."""
    prompt = ragged_prompt(lm, length=20)
    left = [torch.full((3,), count, device=DEVICE) for count in (5, 2)]
    on_the_way = [
        AttentionSelection(layer, kept_B, layer == 3, lambda sums_BT: sums_BT)
        for layer, kept_B in zip((3, 4), left, strict=True)
    ]
    selections = [half_of_the_visual_tokens(prompt, 1), *on_the_way]
    fixed, grown = both_ways(lm, prompt, selections)
    torch.testing.assert_close(fixed, grown, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_another_batch_of_its_shape_leaves_no_trace_of_the_last(lm: LanguageModel) -> None:
    def prefilled(length: int) -> tuple[torch.Tensor, DecodeState]:
        prompt = ragged_prompt(lm, length, seed=length)
        return prefill(lm, prompt, [half_of_the_visual_tokens(prompt, 2)])

    logits, state = prefilled(24)
    static = StaticDecode(lm, state, STEPS)
    decode(static.step, logits)
    logits, state = prefilled(17)
    static.load(state)
    fixed = decode(static.step, logits)
    grown = decode(lambda token: decode_step(lm, state, token), logits)
    torch.testing.assert_close(fixed, grown, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_sliding_windows_are_refused() -> None:
    lm = FAMILIES["gemma3"]().language_model
    with torch.inference_mode():
        _, state = prefill(lm, ragged_prompt(lm, 20))
        with pytest.raises(UnsupportedModelError, match="sliding windows"):
            StaticDecode(lm, state, STEPS)


def test_what_does_not_fit_is_refused(lm: LanguageModel) -> None:
    _, state = prefill(lm, ragged_prompt(lm, length=63))
    static = StaticDecode(lm, state, new_tokens=1)
    token = torch.zeros(3, dtype=torch.int64, device=DEVICE)
    static.step(token)
    with pytest.raises(ValueError, match="full"):
        static.step(token)
    prompt = ragged_prompt(lm, length=63)
    _, pruned = prefill(lm, prompt, [half_of_the_visual_tokens(prompt, 2)])
    with pytest.raises(ValueError, match=r"at layers \[0, 2\], not at \[0\]"):
        static.load(pruned)
    _, longer = prefill(lm, ragged_prompt(lm, length=70))
    with pytest.raises(ValueError, match="room for 64"):
        static.load(longer)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_answers_are_the_same_in_a_graph(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pruned, ragged and begun from drafts; some families have windows and go on as always."""
    vlm, records = FAMILIES[name](), ragged_records()
    vlm.model.to(DEVICE)
    limits = [24, 3, 17, 30]
    records = [
        replace(record, max_new_tokens=limit) for record, limit in zip(records, limits, strict=True)
    ]
    guidance = vlm.guide(records)
    told = [replace(one, answer=" ".join(one.answer.split()[:2])) for one in guidance]
    plain = [vlm.answer(records, given, prune_layer=0.5) for given in (None, guidance, told)]
    used = []

    class Counted(StaticDecode):
        def step(self, token_B: torch.Tensor) -> torch.Tensor:
            used.append(token_B)
            return super().step(token_B)

    monkeypatch.setattr(generation, "StaticDecode", Counted)
    vlm.cuda_graphs = True
    graphed = [vlm.answer(records, given, prune_layer=0.5) for given in (None, guidance, told)]
    for one, other in zip(plain, graphed, strict=True):
        assert [a.token_ids for a in one] == [a.token_ids for a in other]
    assert bool(used) != vlm.language_model.has_windows
    used.clear()
    vlm.answer([replace(record, max_new_tokens=8) for record in records])
    assert not used  # short answers are not worth a graph
