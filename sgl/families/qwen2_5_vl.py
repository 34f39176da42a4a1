"""Qwen2.5-VL: native resolution, 2 x 2 patches merged into a token, M-RoPE."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from sgl.families.base import EncodedImages, Family
from sgl.flops import attention_flops, linear_flops
from sgl.types import ImageInput, TokenGrid


class Qwen25VL(Family):
    """One grid per image, (patch rows / merge) x (patch columns / merge) tokens."""

    model_types = frozenset({"qwen2_5_vl"})
    placeholder = "<|image_pad|>"
    position_axes = 3
    image_processor_class = Qwen2VLImageProcessorPil

    def encode_images(self, images: Sequence[ImageInput]) -> EncodedImages:
        """Resize to multiples of the merged patch: flat patches and their grid sizes."""
        encoded = self.preprocess(images)
        merge = self.config.vision_config.spatial_merge_size
        grids: list[tuple[TokenGrid, ...]] = [
            (TokenGrid(index, int(rows) // merge, int(columns) // merge, (0.0, 0.0, 1.0, 1.0)),)
            for index, (_, rows, columns) in enumerate(encoded["image_grid_thw"])
        ]
        inputs = {name: encoded[name] for name in ("pixel_values", "image_grid_thw")}
        return EncodedImages(inputs, grids)

    def placeholder_tokens(self, grids: tuple[TokenGrid, ...]) -> str:
        """One pad token per visual token."""
        return self.placeholder * sum(grid.rows * grid.columns for grid in grids)

    def vision_flops(self, grids: tuple[TokenGrid, ...]) -> float:
        """Vision tower (attention in windows but for a few layers) and merger."""
        return sum(_image_flops(self.config.vision_config, grid) for grid in grids)

    def text_inputs(self, input_ids_BT: Tensor) -> dict[str, Tensor]:
        """`mm_token_type_ids`, 1 on image tokens: M-RoPE cannot be computed without."""
        return {"mm_token_type_ids": (input_ids_BT == self.config.image_token_id).int()}

    def reset(self, model: Any) -> None:
        """Native forward keeps the last batch's position offsets on the model."""
        model.model.rope_deltas = None


def _image_flops(vision: Any, grid: TokenGrid) -> float:
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
