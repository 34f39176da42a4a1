"""Qwen2.5-VL: vision attention in windows, but for a few layers."""

from sgl.families.qwen_vl import QwenVL
from sgl.flops import attention_flops, linear_flops
from sgl.types import TokenGrid


class Qwen25VL(QwenVL):
    """A gated MLP in the vision tower, and windows of its own."""

    model_types = frozenset({"qwen2_5_vl"})

    def image_flops(self, grid: TokenGrid) -> float:
        """Vision tower and merger."""
        vision = self.config.vision_config
        unit, dim = vision.spatial_merge_size**2, vision.hidden_size
        patches = grid.rows * grid.columns * unit
        patch_values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        window = vision.window_size // vision.spatial_merge_size // vision.patch_size
        windows = [
            rows * columns * unit
            for rows in _segments(grid.rows, window)
            for columns in _segments(grid.columns, window)
        ]
        full_layers = len(vision.fullatt_block_indexes)
        per_layer = 4 * linear_flops(patches, dim, dim) + 3 * linear_flops(
            patches, dim, vision.intermediate_size
        )
        windowed = sum(attention_flops(length, length, dim) for length in windows)
        merged, joined = patches // unit, dim * unit
        return (
            linear_flops(patches, patch_values, dim)
            + vision.depth * per_layer
            + full_layers * attention_flops(patches, patches, dim)
            + (vision.depth - full_layers) * windowed
            + linear_flops(merged, joined, joined)
            + linear_flops(merged, joined, vision.out_hidden_size)
        )


def _segments(length: int, window: int) -> list[int]:
    return [min(window, length - start) for start in range(0, length, window)]
