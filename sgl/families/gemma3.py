"""Gemma 3: one square per image, bidirectional attention in it, sliding windows in most layers."""

from collections.abc import Sequence
from types import MappingProxyType

from torch import Tensor
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

from sgl.families.base import WHOLE, Family, ImageLayout, Size
from sgl.flops import linear_flops, vision_tower_flops
from sgl.types import ImageInput, TokenGrid

_SOFT_TOKEN = "<image_soft_token>"
_END = "<end_of_image>"


class Gemma3(Family):
    """Every image is resized to a square; its patches are pooled into `mm_tokens_per_image`."""

    model_types = frozenset({"gemma3"})
    placeholder = "<start_of_image>"
    bidirectional_images = True
    image_processor_class = Gemma3ImageProcessorPil
    # Published checkpoints leave it open; the native Gemma3Processor does not crop unless asked.
    image_processor_settings = MappingProxyType({"do_pan_and_scan": False})

    def layouts(self, sizes: Sequence[Size]) -> list[ImageLayout]:
        """The same for every size."""
        vision = self.config.vision_config
        patches = (vision.image_size // vision.patch_size) ** 2
        side = int(self.config.mm_tokens_per_image**0.5)
        flops = self._image_flops(patches)
        return [
            ImageLayout((TokenGrid(index, side, side, WHOLE),), patches, flops)
            for index in range(len(sizes))
        ]

    def model_inputs(
        self, images: Sequence[ImageInput], images_per_record: Sequence[int]
    ) -> dict[str, Tensor]:
        """`pixel_values` (images, 3, size, size) float32."""
        return {"pixel_values": self.preprocess(images)["pixel_values"]}

    def placeholder_tokens(self, grids: tuple[TokenGrid, ...]) -> str:
        """The soft tokens between marks, a paragraph of its own."""
        count = sum(grid.rows * grid.columns for grid in grids)
        return f"\n\n{self.placeholder}{_SOFT_TOKEN * count}{_END}\n\n"

    def text_inputs(self, input_ids_BT: Tensor) -> dict[str, Tensor]:
        """`token_type_ids`, 1 on image tokens: natively they make the blocks."""
        return {"token_type_ids": (input_ids_BT == self.config.image_token_id).long()}

    def _image_flops(self, patches: int) -> float:
        vision = self.config.vision_config
        projection = linear_flops(
            self.config.mm_tokens_per_image, vision.hidden_size, self.config.text_config.hidden_size
        )
        return vision_tower_flops(vision, patches) + projection
