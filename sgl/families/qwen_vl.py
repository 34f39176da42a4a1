"""What the Qwen-VL families share: native resolution, patches merged into tokens, M-RoPE."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from sgl.errors import ImageError
from sgl.families.base import WHOLE, EncodedImages, Family, size_of
from sgl.types import ImageInput, TokenGrid

LONGEST = 200
"""Sides in proportion, the native image processor's own limit."""


class QwenVL(Family):
    """One grid per image, (patch rows / merge) x (patch columns / merge) tokens."""

    placeholder = "<|image_pad|>"
    position_axes = 3
    image_processor_class = Qwen2VLImageProcessorPil

    def encode_images(
        self, images: Sequence[ImageInput], images_per_record: Sequence[int]
    ) -> EncodedImages:
        """Resize to multiples of the merged patch: flat patches and their grid sizes.

        Raises:
            ImageError: an image is longer than the image processor takes.
        """
        for height, width in map(size_of, images):
            if max(height, width) > LONGEST * min(height, width):
                raise ImageError(
                    f"an image of {width} x {height} pixels is more than {LONGEST} times as long "
                    "as wide; the model takes none such, crop it"
                )
        encoded = self.preprocess(images)
        merge = self.config.vision_config.spatial_merge_size
        grids = [
            TokenGrid(index, int(rows) // merge, int(columns) // merge, WHOLE)
            for index, (_, rows, columns) in enumerate(encoded["image_grid_thw"])
        ]
        inputs = {name: encoded[name] for name in ("pixel_values", "image_grid_thw")}
        flops = [self.image_flops(grid) for grid in grids]
        return EncodedImages(inputs, [(grid,) for grid in grids], flops)

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
