"""Qwen3-VL, dense and mixture of experts: features of lower vision layers enter the text layers."""

from sgl.families.qwen_vl import QwenVL
from sgl.flops import attention_flops, linear_flops
from sgl.types import TokenGrid


class Qwen3VL(QwenVL):
    """Deepstack: one more merger for every vision layer whose features the text model gets."""

    model_types = frozenset({"qwen3_vl", "qwen3_vl_moe"})

    def image_flops(self, grid: TokenGrid) -> float:
        """Vision tower and mergers."""
        vision = self.config.vision_config
        unit, dim = vision.spatial_merge_size**2, vision.hidden_size
        patches = grid.rows * grid.columns * unit
        patch_values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        layer = (
            4 * linear_flops(patches, dim, dim)
            + attention_flops(patches, patches, dim)
            + 2 * linear_flops(patches, dim, vision.intermediate_size)
        )
        merged, joined = patches // unit, dim * unit
        merger = linear_flops(merged, joined, joined) + linear_flops(
            merged, joined, vision.out_hidden_size
        )
        mergers = 1 + len(vision.deepstack_visual_indexes)
        return linear_flops(patches, patch_values, dim) + vision.depth * layer + mergers * merger
