"""What the Qwen-VL families share: native resolution, patches merged into tokens, M-RoPE."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
    Qwen2VLImageProcessorPil,
    smart_resize,
)

from sgl.errors import ImageError
from sgl.families.base import WHOLE, Family, ImageLayout, Size
from sgl.types import ImageInput, TokenGrid

LONGEST = 200
"""Sides in proportion, the native image processor's own limit."""


class QwenVL(Family):
    """One grid per image, (patch rows / merge) x (patch columns / merge) tokens."""

    placeholder = "<|image_pad|>"
    position_axes = 3
    image_processor_class = Qwen2VLImageProcessorPil

    def layouts(self, sizes: Sequence[Size]) -> list[ImageLayout]:
        """The grid of the image resized to multiples of the merged patch.

        Raises:
            ImageError: an image is longer than the image processor takes.
        """
        return [self._layout(index, size) for index, size in enumerate(sizes)]

    def _layout(self, index: int, size: Size) -> ImageLayout:
        height, width = size
        if max(height, width) > LONGEST * min(height, width):
            raise ImageError(
                f"an image of {width} x {height} pixels is more than {LONGEST} times as long "
                "as wide; the model takes none such, crop it"
            )
        processor = self.image_processor
        unit = processor.patch_size * processor.merge_size
        limits = processor.size
        resized = smart_resize(height, width, unit, limits["shortest_edge"], limits["longest_edge"])
        grid = TokenGrid(index, resized[0] // unit, resized[1] // unit, WHOLE)
        patches = grid.rows * grid.columns * processor.merge_size**2
        return ImageLayout((grid,), patches, self.image_flops(grid))

    def model_inputs(
        self, images: Sequence[ImageInput], images_per_record: Sequence[int]
    ) -> dict[str, Tensor]:
        """Flat patches and their grid sizes."""
        encoded = self.preprocess(images)
        return {name: encoded[name] for name in ("pixel_values", "image_grid_thw")}

    @abstractmethod
    def image_flops(self, grid: TokenGrid) -> float:
        """Vision tower and merger, on one image."""

    def placeholder_tokens(self, grids: tuple[TokenGrid, ...]) -> str:
        """One pad token per visual token."""
        return self.placeholder * sum(grid.rows * grid.columns for grid in grids)

    def text_inputs(self, input_ids_BT: Tensor) -> dict[str, Tensor]:
        """`mm_token_type_ids`, 1 on image tokens: M-RoPE cannot be computed without."""
        return {"mm_token_type_ids": (input_ids_BT == self.config.image_token_id).int()}

    def reset(self, model: Any) -> None:
        """Native forward keeps the last batch's position offsets on the model."""
        model.model.rope_deltas = None
