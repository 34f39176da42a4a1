"""Qwen2.5-VL: vision attention in windows, but for a few layers."""

import torch
from torch import Tensor

from sgl.families.qwen_vl import QwenVL
from sgl.flops import attention_flops, linear_flops
from sgl.types import TokenGrid


class Qwen25VL(QwenVL):
    """A gated MLP in the vision tower, and windows of its own."""

    model_types = frozenset({"qwen2_5_vl"})

    @property
    def vision_obstacle(self) -> str | None:
        """The last layer looks into windows."""
        vision = self.config.vision_config
        if vision.depth - 1 in vision.fullatt_block_indexes:
            return None
        return (
            "the vision tower's last layer attends within windows, which does not tell tokens of "
            "different windows apart"
        )

    def token_attention(self, received_P: Tensor, grid: TokenGrid) -> Tensor:
        """Tokens stand in the tower's order, window by window."""
        side = self._window_tokens
        cells = torch.arange(grid.rows * grid.columns, device=received_P.device)
        bands = cells.view(grid.rows, grid.columns).split(side)
        windows = [window.flatten() for band in bands for window in band.split(side, dim=1)]
        found = torch.empty(len(cells), device=received_P.device)
        found[torch.cat(windows)] = super().token_attention(received_P, grid)
        return found

    @property
    def _window_tokens(self) -> int:
        """Of one side of a window."""
        vision = self.config.vision_config
        return int(vision.window_size // vision.spatial_merge_size // vision.patch_size)

    def mlp_flops(self, patches: int) -> float:
        """A gated MLP."""
        inner = self.config.vision_config.intermediate_size
        return 3 * linear_flops(patches, self.vision_width, inner)

    def all_attention_flops(self, grid: TokenGrid, patches: int) -> float:
        """In windows, and in a few layers over the whole image."""
        vision, width = self.config.vision_config, self.vision_width
        unit = vision.spatial_merge_size**2
        window = self._window_tokens
        windows = [
            rows * columns * unit
            for rows in _segments(grid.rows, window)
            for columns in _segments(grid.columns, window)
        ]
        windowed = sum(attention_flops(length, length, width) for length in windows)
        whole = len(vision.fullatt_block_indexes)
        return float(
            whole * attention_flops(patches, patches, width) + (vision.depth - whole) * windowed
        )


def _segments(length: int, window: int) -> list[int]:
    return [min(window, length - start) for start in range(0, length, window)]
