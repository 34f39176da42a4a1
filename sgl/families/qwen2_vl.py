"""Qwen2-VL: the whole image in one attention."""

from sgl.families.qwen_vl import QwenVL
from sgl.flops import attention_flops, linear_flops
from sgl.types import TokenGrid


class Qwen2VL(QwenVL):
    """Vision width and text width are `embed_dim` and `hidden_size` of the vision config."""

    model_types = frozenset({"qwen2_vl"})

    def image_flops(self, grid: TokenGrid) -> float:
        """Vision tower and merger."""
        vision = self.config.vision_config
        unit, dim = vision.spatial_merge_size**2, vision.embed_dim
        patches = grid.rows * grid.columns * unit
        patch_values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        layer = (
            4 * linear_flops(patches, dim, dim)
            + attention_flops(patches, patches, dim)
            + 2 * linear_flops(patches, dim, int(dim * vision.mlp_ratio))
        )
        merged, joined = patches // unit, dim * unit
        return (
            linear_flops(patches, patch_values, dim)
            + vision.depth * layer
            + linear_flops(merged, joined, joined)
            + linear_flops(merged, joined, vision.hidden_size)
        )
