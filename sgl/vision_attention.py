"""What the vision tower attends to: the attention in its last layer, per visual token.

Of towers with a class token the row of that token, the mean over heads (FasterVLM, arXiv
2412.01818; the dominant tokens of VisionZip, arXiv 2412.04467); of others the mean over all rows
(VisionZip's rule for them). What patches receive is averaged over those that become one visual
token.

Departures: VisionZip merges what it drops into a few more tokens, which is left out; its CLIP tower
is read at the layer before the last, because its features are taken there.

Shapes: B images or tiles that a call of attention is about, H heads, P patches, T tokens of the
tower (class token included), D head dimension.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from sgl.attention import fastest_column_sums
from sgl.errors import UnsupportedModelError
from sgl.families.base import Family
from sgl.types import TokenGrid

_NAME = "sgl_fused_with_vision_capture"


class VisionAttention:
    """Watches one pass of a native vision tower: `with VisionAttention(model, family) as seen`.

    Raises (on construction):
        UnsupportedModelError: the family's patches cannot be followed to its visual tokens.
    """

    def __init__(self, model: Any, family: Family) -> None:
        if family.vision_obstacle:
            raise UnsupportedModelError(f"{family.vision_obstacle}; choose another pruner")
        self._family = family
        self._tower = family.vision_tower(model)
        self._layer = family.last_vision_attention(self._tower)
        self._looks: list[Tensor] = []
        self._flops: list[float] = []

    def __enter__(self) -> "VisionAttention":
        self._native = self._tower.config._attn_implementation
        self._tower.set_attn_implementation(_NAME)
        self._layer.sgl_watch = self
        return self

    def __exit__(self, *_error: object) -> None:
        del self._layer.sgl_watch
        self._tower.set_attn_implementation(self._native)

    def add(
        self, query_BHTD: Tensor, key_BHTD: Tensor, mask: Tensor | None, scaling: float
    ) -> None:
        """Keep what the patches of some images or tiles receive."""
        batch, heads, tokens, dim = query_BHTD.shape
        if mask is None:
            mask = torch.ones(1, 1, tokens, tokens, dtype=torch.bool, device=query_BHTD.device)
        first = int(self._family.class_token)
        rows = 1 if first else tokens
        query_BHTD, mask = query_BHTD[:, :, :rows], mask[:, :, :rows]
        weight_BT = torch.full((batch, rows), 1 / (heads * rows), device=query_BHTD.device)
        column_sums = fastest_column_sums(query_BHTD)
        sums_BT = column_sums(query_BHTD, key_BHTD, mask, scaling, weight_BT, 0)
        self._looks += sums_BT[:, first:].unbind()
        self._flops += [2.0 * heads * (dim + 1) * rows * tokens] * batch

    def importance_BT(self, grids: Sequence[TokenGrid], visual_BT: Tensor) -> Tensor:  # noqa: N802
        """(B, T) float32 over the prompts: one look after the other, one per grid."""
        found_BT = torch.zeros(visual_BT.shape, device=visual_BT.device)
        tokens = [
            self._family.token_attention(look_P, grid)
            for look_P, grid in zip(self._looks, grids, strict=True)
        ]
        if tokens:
            found_BT[visual_BT] = torch.cat(tokens).to(found_BT)
        return found_BT

    def flops(self, looks: Sequence[int]) -> list[float]:
        """Per record, from how many images or tiles each has."""
        flops = iter(self._flops)
        return [sum(next(flops) for _ in range(count)) for count in looks]


def _fused_attention_with_vision_capture(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    watch = getattr(module, "sgl_watch", None)
    if watch is not None:
        watch.add(query, key, attention_mask, scaling)
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **kwargs
    )


AttentionInterface.register(_NAME, _fused_attention_with_vision_capture)
AttentionMaskInterface.register(_NAME, sdpa_mask)
