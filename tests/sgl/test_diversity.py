"""Greedy max-min diversity against the rule written out."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from sgl import diversity
from sgl.diversity import most_diverse


def written_out(embeds_VD: Tensor, count: int) -> list[int]:
    """DivPrune's two rules, token by token."""
    unit = [one / one.norm() for one in embeds_VD.double()]
    distance = [[1 - float(a @ b) for b in unit] for a in unit]
    everyone = range(len(unit))
    if count == 0:
        return []
    nearest = [min((distance[v][w] for w in everyone if w != v), default=1.0) for v in everyone]
    chosen = [max(everyone, key=lambda v: nearest[v])]
    while len(chosen) < count:
        left = [v for v in everyone if v not in chosen]
        chosen.append(max(left, key=lambda v: min(distance[v][w] for w in chosen)))
    return sorted(chosen)


@settings(deadline=None, max_examples=40)
@example(99, [(2, 0.5), (0, 0.0), (0, 0.0), (0, 0.0), (9, 0.0)])  # two are each other's nearest
@given(st.integers(0, 10_000), st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1)), min_size=1))
def test_it_is_the_papers_greedy_rule(seed: int, records: list[tuple[int, float]]) -> None:
    torch.manual_seed(seed)
    width = 12
    embeds_BTD = torch.randn(len(records), width, 6)
    visual_BT = torch.zeros(len(records), width, dtype=torch.bool)
    for b, (visual, _) in enumerate(records):
        visual_BT[b, torch.randperm(width)[:visual]] = True
    counts = [int(visual * share) for visual, share in records]
    chosen_BT = most_diverse(embeds_BTD, visual_BT, torch.tensor(counts))
    assert not bool((chosen_BT & ~visual_BT).any())
    for b, count in enumerate(counts):
        found = chosen_BT[b, visual_BT[b]].nonzero().ravel().tolist()
        assert found == written_out(embeds_BTD[b, visual_BT[b]], count)


def test_equal_tokens_are_counted_once_each() -> None:
    embeds_BTD = torch.ones(1, 6, 3)
    visual_BT = torch.ones(1, 6, dtype=torch.bool)
    chosen_BT = most_diverse(embeds_BTD, visual_BT, torch.tensor([4]))
    assert int(chosen_BT.sum()) == 4


def test_a_batch_too_large_for_its_distances_is_worked_off_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    embeds_BTD, visual_BT = torch.randn(5, 8, 4), torch.rand(5, 8) < 0.8
    kept_B = visual_BT.sum(dim=1) // 2
    whole_BT = most_diverse(embeds_BTD, visual_BT, kept_B)
    monkeypatch.setattr(diversity, "MAX_DISTANCES", 130)
    assert torch.equal(most_diverse(embeds_BTD, visual_BT, kept_B), whole_BT)
