"""Tokens that differ most from each other (DivPrune, arXiv 2503.02175, section 3.2).

The max-min diversity problem, solved greedily: first the token whose nearest neighbour is farthest,
then each time the one whose nearest chosen token is farthest. The distance is 1 - cosine.

Departure from the paper's code: a token is chosen once, where the code may choose one again that
others equal exactly, and keep fewer.

Shapes: B records, T prompt tokens, V most visual tokens of a record, D hidden.
"""

import torch
from torch import Tensor

MAX_DISTANCES = 1 << 26
"""Distances held at once, 256 MiB in float32: larger batches are worked off in parts."""


def most_diverse(embeds_BTD: Tensor, visual_BT: Tensor, kept_B: Tensor) -> Tensor:
    """Mark the visual tokens that differ most from each other; ties go to the lower index.

    Args:
        embeds_BTD: (B, T, D), read at visual positions only.
        visual_BT: (B, T) bool.
        kept_B: (B,) int64, at most as many as each record has.

    Returns:
        (B, T) bool, a subset of `visual_BT`.
    """
    width = int(visual_BT.sum(dim=1).max())
    if width == 0:
        return visual_BT
    index_BV = visual_BT.sort(dim=1, descending=True, stable=True).indices[:, :width]
    valid_BV = visual_BT.gather(1, index_BV)
    records = max(1, MAX_DISTANCES // max(1, width * width))
    chosen_BV = torch.zeros_like(valid_BV)
    for start in range(0, len(kept_B), records):
        part = slice(start, start + records)
        index_BVD = index_BV[part, :, None].expand(-1, -1, embeds_BTD.shape[2])
        chosen_BV[part] = _greedy(
            embeds_BTD[part].gather(1, index_BVD).float(), valid_BV[part], kept_B[part]
        )
    return torch.zeros_like(visual_BT).scatter(1, index_BV, chosen_BV)


def _greedy(embeds_BVD: Tensor, valid_BV: Tensor, kept_B: Tensor) -> Tensor:
    unit_BVD = torch.nn.functional.normalize(embeds_BVD, dim=2)
    distance_BVV = 1 - unit_BVD @ unit_BVD.transpose(1, 2)
    # The product's last digits depend on the side that is looked from, and would decide ties.
    distance_BVV = (distance_BVV + distance_BVV.transpose(1, 2)) / 2
    chosen_BV = torch.zeros_like(valid_BV)
    itself_VV = torch.eye(valid_BV.shape[1], dtype=torch.bool, device=valid_BV.device)
    nearest_BV = distance_BVV.masked_fill(itself_VV | ~valid_BV[:, None], float("inf")).amin(dim=2)
    for step in range(int(kept_B.max())):
        open_BV = nearest_BV.masked_fill(chosen_BV | ~valid_BV, float("-inf"))
        next_B1 = open_BV.argmax(dim=1, keepdim=True)
        chosen_BV.scatter_(1, next_B1, chosen_BV.gather(1, next_B1) | (step < kept_B)[:, None])
        index_B1V = next_B1[..., None].expand(-1, -1, valid_BV.shape[1])
        to_next_BV = distance_BVV.gather(1, index_B1V)[:, 0]
        nearest_BV = to_next_BV if step == 0 else nearest_BV.minimum(to_next_BV)
    return chosen_BV
