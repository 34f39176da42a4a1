"""From importance to keep sets (paper, section 3.2: the visual tokens that survive pruning).

Shapes: B records, T prompt tokens, V visual tokens of one record.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def keep_count(visual_tokens: int, keep_ratio: float) -> int:
    """How many of V visual tokens survive: max(1, int(V * keep_ratio)), and 0 of 0."""
    return min(visual_tokens, max(1, int(visual_tokens * keep_ratio)))


class Cut(NamedTuple):
    """So many visual tokens of a record are left from a layer on."""

    layer: int
    kept: int


class Stage(NamedTuple):
    """Such a share of any record's visual tokens is left from a layer on."""

    layer: int
    share: float


def staged_retention(cuts: Sequence[Cut], layers: int, visual_tokens: int) -> float:
    """The share of visual token-layers that is computed, whatever the number of cuts.

    Args:
        cuts: by layer.
        layers: L.
        visual_tokens: V; of none, all are computed.
    """
    if not visual_tokens:
        return 1.0
    starts = [*(cut.layer for cut in cuts), layers]
    computed = visual_tokens * starts[0]  # below the first cut, or in all layers
    for cut, stop in zip(cuts, starts[1:], strict=True):
        computed += cut.kept * (stop - cut.layer)
    return computed / (visual_tokens * layers)


def keep_ratio_for(retention: float, prune_layer: int, layers: int) -> float:
    """The keep ratio that gives an average retention when K is given.

    Args:
        retention: wanted, the share of visual token-layers that is computed.
        prune_layer: K, below L.
        layers: L.

    Raises:
        ValueError: the layers below K alone compute as much, or all layers together not enough.
    """
    ratio = (retention * layers - prune_layer) / (layers - prune_layer)
    if not 0 < ratio <= 1:
        raise ValueError(
            f"an average retention of {retention} cannot be had by pruning at layer {prune_layer} "
            f"of {layers}; it lies between {prune_layer / layers:.3f} and 1"
        )
    return ratio


def average_retention(prune_layer: int, layers: int, kept: int, visual_tokens: int) -> float:
    """The share of visual token-layers that is computed, (K + (L - K) * kept / V) / L."""
    return staged_retention([Cut(prune_layer, kept)], layers, visual_tokens)


def top_visual_tokens(importance_BT: Tensor, visual_BT: Tensor, keep_ratio: float) -> Tensor:
    """Mark the visual tokens of highest importance, ties going to the lower index.

    Args:
        importance_BT: (B, T) float32, read at visual positions only.
        visual_BT: (B, T) bool.
        keep_ratio: share of each record's visual tokens to keep, see `keep_count`.

    Returns:
        (B, T) bool, a subset of `visual_BT`.
    """
    counts = [keep_count(v, keep_ratio) for v in visual_BT.sum(dim=1).tolist()]
    counts_B = torch.tensor(counts, device=visual_BT.device)
    return top_visual_counts(importance_BT, visual_BT, counts_B)


def top_visual_counts(importance_BT: Tensor, visual_BT: Tensor, kept_B: Tensor) -> Tensor:
    """As `top_visual_tokens`, (B,) int64 of each record's; at most all there are."""
    ranked_BT = importance_BT.masked_fill(~visual_BT, float("-inf"))
    order_BT = ranked_BT.sort(dim=1, descending=True, stable=True).indices
    chosen_BT = torch.arange(visual_BT.shape[1], device=visual_BT.device) < kept_B[:, None]
    return torch.zeros_like(visual_BT).scatter(1, order_BT, chosen_BT)


def spread(importance: Sequence[npt.NDArray[np.float32]], visual_BT: Tensor) -> Tensor:
    """Lay each record's (V,) importance over its prompt columns: (B, T) float32, 0 elsewhere."""
    flat = torch.from_numpy(np.concatenate(importance)).to(visual_BT.device, torch.float32)
    spread_BT = torch.zeros(visual_BT.shape, device=visual_BT.device)
    spread_BT[visual_BT] = flat
    return spread_BT
