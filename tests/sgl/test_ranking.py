"""Laws of keep sets."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sgl.ranking import (
    Cut,
    average_retention,
    keep_count,
    keep_ratio_for,
    spread,
    staged_retention,
    top_visual_tokens,
)

masks = st.lists(st.lists(st.booleans(), min_size=12, max_size=12), min_size=1, max_size=4)
ratios = st.floats(0.01, 1.0)


@given(masks, ratios, st.integers(0, 1000))
def test_the_kept_are_visual_and_at_least_as_important_as_the_dropped(
    mask: list[list[bool]], ratio: float, seed: int
) -> None:
    visual_BT = torch.tensor(mask)
    # Few distinct values, so that ties occur.
    generator = torch.Generator().manual_seed(seed)
    importance_BT = torch.randint(0, 4, visual_BT.shape, generator=generator).float()
    kept_BT = top_visual_tokens(importance_BT, visual_BT, ratio)
    assert not bool((kept_BT & ~visual_BT).any())
    for kept, visual, importance in zip(kept_BT, visual_BT, importance_BT, strict=True):
        assert int(kept.sum()) == keep_count(int(visual.sum()), ratio)
        dropped = visual & ~kept
        for d in dropped.nonzero()[:, 0].tolist():
            for k in kept.nonzero()[:, 0].tolist():
                assert (importance[k], -k) > (importance[d], -d)


@given(masks)
def test_keeping_everything_keeps_everything(mask: list[list[bool]]) -> None:
    visual_BT = torch.tensor(mask)
    assert torch.equal(top_visual_tokens(torch.rand(visual_BT.shape), visual_BT, 1.0), visual_BT)


@pytest.mark.parametrize(
    ("visual", "ratio", "kept"), [(0, 0.5, 0), (1, 0.01, 1), (64, 0.05, 3), (64, 0.2, 12)]
)
def test_keep_count_is_the_papers(visual: int, ratio: float, kept: int) -> None:
    assert keep_count(visual, ratio) == kept


@pytest.mark.parametrize(
    ("fraction", "ratio", "retention"), [(0.4, 0.4, 0.64), (0.19, 0.2, 0.35), (0.04, 0.05, 0.09)]
)
def test_the_papers_presets_have_the_papers_retention(
    fraction: float, ratio: float, retention: float
) -> None:
    layers, visual = 100, 1000
    kept = keep_count(visual, ratio)
    assert average_retention(int(layers * fraction), layers, kept, visual) == pytest.approx(
        retention, abs=0.005
    )


def test_spread_lays_importance_over_visual_columns() -> None:
    visual_BT = torch.tensor([[False, True, True, False], [False, False, False, True]])
    spread_BT = spread([np.array([1, 2], np.float32), np.array([3], np.float32)], visual_BT)
    assert spread_BT.tolist() == [[0, 1, 2, 0], [0, 0, 0, 3]]


@given(st.integers(0, 30), st.floats(0.01, 1.0))
def test_the_keep_ratio_for_a_retention_gives_it(layer: int, ratio: float) -> None:
    layers, visual = 31, 100_000
    retention = average_retention(layer, layers, keep_count(visual, ratio), visual)
    assert keep_ratio_for(retention, layer, layers) == pytest.approx(ratio, abs=1e-4)


@pytest.mark.parametrize(("retention", "layer"), [(0.09, 2), (0.1, 1), (1.1, 0)])
def test_a_retention_that_a_layer_cannot_give_is_refused(retention: float, layer: int) -> None:
    with pytest.raises(ValueError, match="cannot be had"):
        keep_ratio_for(retention, layer, 10)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 50)), max_size=4))
def test_staged_retention_is_the_mean_over_layers(drawn: list[tuple[int, int]]) -> None:
    layers, visual = 12, 50
    cuts = [Cut(layer, kept) for layer, kept in sorted(drawn)]
    seen = []
    for layer in range(layers):
        before = [cut.kept for cut in cuts if cut.layer <= layer]
        seen.append(before[-1] if before else visual)
    found = staged_retention(cuts, layers, visual)
    assert found == pytest.approx(np.mean(seen) / visual)
