"""InternVL (2.5, 3, 3.5 in native format): tiles row-major, a thumbnail last, 1-D positions."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

# The arrangement of an image's tiles is not among the processor's outputs.
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import (
    GotOcr2ImageProcessorPil,
    get_optimal_tiled_canvas,
)

from sgl.families.base import WHOLE, EncodedImages, Family, size_of
from sgl.flops import linear_flops, pair, vision_tower_flops
from sgl.types import ImageInput, TokenGrid


class InternVL(Family):
    """Every tile has the same number of tokens: (image size / patch size * downsample ratio)^2."""

    model_types = frozenset({"internvl"})
    placeholder = "<IMG_CONTEXT>"
    image_processor_class = GotOcr2ImageProcessorPil
    # Published checkpoints leave it out or say false; the native InternVLProcessor always tiles.
    image_processor_settings = MappingProxyType({"crop_to_patches": True})

    def encode_images(
        self, images: Sequence[ImageInput], images_per_record: Sequence[int]
    ) -> EncodedImages:
        """Tile, resize and normalise: `pixel_values` (tiles, 3, height, width) float32."""
        encoded = self.preprocess(images)
        tiles = [int(count) for count in encoded["num_patches"]]
        sizes = [size_of(image) for image in images]
        grids = [
            self._grids(index, size, count)
            for index, (size, count) in enumerate(zip(sizes, tiles, strict=True))
        ]
        flops = [len(of_image) * _tile_flops(self.config) for of_image in grids]
        return EncodedImages({"pixel_values": encoded["pixel_values"]}, grids, flops)

    def placeholder_tokens(self, grids: tuple[TokenGrid, ...]) -> str:
        """`<img>`, one context token per visual token, `</img>`."""
        count = sum(grid.rows * grid.columns for grid in grids)
        return f"<img>{self.placeholder * count}</img>"

    def _grids(self, image: int, size: tuple[int, int], tiles: int) -> tuple[TokenGrid, ...]:
        side = int(self.config.image_seq_length**0.5)
        processor = self.image_processor
        whole = TokenGrid(image, side, side, WHOLE)
        if tiles == 1:
            return (whole,)
        columns, rows = get_optimal_tiled_canvas(
            size,
            (processor.size["height"], processor.size["width"]),
            processor.min_patches,
            processor.max_patches,
        )
        assert tiles == columns * rows + 1, "the processor tiled the image in another way"
        boxes = [
            (c / columns, r / rows, (c + 1) / columns, (r + 1) / rows)
            for r in range(rows)
            for c in range(columns)
        ]
        thumbnail = TokenGrid(image, side, side, WHOLE, thumbnail=True)
        return (*(TokenGrid(image, side, side, box) for box in boxes), thumbnail)


def _tile_flops(config: Any) -> float:
    vision, text_width = config.vision_config, config.text_config.hidden_size
    (height, width), (patch_h, patch_w) = pair(vision.image_size), pair(vision.patch_size)
    patches = (height // patch_h) * (width // patch_w)
    joined = int(vision.hidden_size / config.downsample_ratio**2)
    seq = config.image_seq_length
    projector = linear_flops(seq, joined, text_width) + linear_flops(seq, text_width, text_width)
    return vision_tower_flops(vision, patches, class_tokens=1) + projector
