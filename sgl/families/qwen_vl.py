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
from sgl.flops import attention_flops, linear_flops
from sgl.types import ImageInput, TokenGrid

LONGEST = 200
"""Sides in proportion, the native image processor's own limit."""


class QwenVL(Family):
    """One grid per image, (patch rows / merge) x (patch columns / merge) tokens."""

    placeholder = "<|image_pad|>"
    region_marks = frozenset(
        f"<|{kind}_{end}|>" for kind in ("object_ref", "box", "quad") for end in ("start", "end")
    )
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

    def image_flops(self, grid: TokenGrid) -> float:
        """Vision tower and mergers, on one image."""
        vision, dim = self.config.vision_config, self.vision_width
        unit = vision.spatial_merge_size**2
        tokens, joined = grid.rows * grid.columns, dim * unit
        patches = tokens * unit
        patch_values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        layer = 4 * linear_flops(patches, dim, dim) + self.mlp_flops(patches)
        merger = linear_flops(tokens, joined, joined) + linear_flops(
            tokens, joined, self.config.text_config.hidden_size
        )
        return (
            linear_flops(patches, patch_values, dim)
            + vision.depth * layer
            + self.all_attention_flops(grid, patches)
            + self.mergers * merger
        )

    def vision_tower(self, model: Any) -> Any:
        """The native one."""
        return model.model.visual

    def last_vision_attention(self, tower: Any) -> Any:
        """Its layers have other names."""
        return tower.blocks[-1].attn

    def token_attention(self, received_P: Tensor, grid: TokenGrid) -> Tensor:
        """The patches of a token stand together."""
        return received_P.view(grid.rows * grid.columns, -1).mean(dim=1)

    @property
    def vision_width(self) -> int:
        """Of the vision tower's hidden states."""
        return int(self.config.vision_config.hidden_size)

    @property
    def mergers(self) -> int:
        """How many times patches are merged into tokens."""
        return 1

    @abstractmethod
    def mlp_flops(self, patches: int) -> float:
        """Of one layer."""

    def all_attention_flops(self, grid: TokenGrid, patches: int) -> float:
        """Of all layers; the whole image in one attention, unless a family says otherwise."""
        depth = self.config.vision_config.depth
        return float(depth * attention_flops(patches, patches, self.vision_width))

    def placeholder_tokens(self, grids: tuple[TokenGrid, ...]) -> str:
        """One pad token per visual token."""
        return self.placeholder * sum(grid.rows * grid.columns for grid in grids)

    def text_inputs(self, input_ids_BT: Tensor) -> dict[str, Tensor]:
        """`mm_token_type_ids`, 1 on image tokens: M-RoPE cannot be computed without."""
        return {"mm_token_type_ids": (input_ids_BT == self.config.image_token_id).int()}

    def reset(self, model: Any) -> None:
        """Native forward keeps the last batch's position offsets on the model."""
        model.model.rope_deltas = None
