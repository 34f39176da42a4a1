"""InternVL (2.5, 3, 3.5 in native format): tiles row-major, a thumbnail last, 1-D positions."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor

# The arrangement of an image's tiles is not among the processor's outputs.
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import (
    GotOcr2ImageProcessorPil,
    get_optimal_tiled_canvas,
)

from sgl.families.base import WHOLE, Family, ImageLayout, Size
from sgl.flops import linear_flops, pair, vision_tower_flops
from sgl.types import ImageInput, TokenGrid


class InternVL(Family):
    """Every tile has the same number of tokens: (image size / patch size * downsample ratio)^2."""

    model_types = frozenset({"internvl"})
    placeholder = "<IMG_CONTEXT>"
    region_marks = frozenset({"<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>"})
    class_token = True
    image_processor_class = GotOcr2ImageProcessorPil
    # Published checkpoints leave it out or say false; the native InternVLProcessor always tiles.
    image_processor_settings = MappingProxyType({"crop_to_patches": True})

    def layouts(self, sizes: Sequence[Size]) -> list[ImageLayout]:
        """Tiles, and a thumbnail behind them where there is more than one."""
        patches = _tile_patches(self.config)
        flops = _tile_flops(self.config, patches)
        grids = [self._grids(index, size) for index, size in enumerate(sizes)]
        return [
            ImageLayout(tiles, len(tiles) * (patches + 1), len(tiles) * flops) for tiles in grids
        ]

    def model_inputs(
        self, images: Sequence[ImageInput], images_per_record: Sequence[int]
    ) -> dict[str, Tensor]:
        """Tile, resize and normalise: `pixel_values` (tiles, 3, height, width) float32."""
        return {"pixel_values": self.preprocess(images)["pixel_values"]}

    def placeholder_tokens(self, grids: tuple[TokenGrid, ...]) -> str:
        """`<img>`, one context token per visual token, `</img>`."""
        count = sum(grid.rows * grid.columns for grid in grids)
        return f"<img>{self.placeholder * count}</img>"

    @property
    def vision_obstacle(self) -> str | None:
        """The visual tokens are made of another layer than the last."""
        layer = self.config.vision_feature_layer
        if layer == -1:
            return None
        return f"vision_feature_layer {layer}: the attention is read in the last layer only"

    def last_vision_attention(self, tower: Any) -> Any:
        """Its layers have other names."""
        return tower.encoder.layer[-1].attention

    def _grids(self, image: int, size: Size) -> tuple[TokenGrid, ...]:
        side = int(self.config.image_seq_length**0.5)
        columns, rows = self._canvas(size)
        if columns * rows == 1:
            return (TokenGrid(image, side, side, WHOLE),)
        boxes = [
            (c / columns, r / rows, (c + 1) / columns, (r + 1) / rows)
            for r in range(rows)
            for c in range(columns)
        ]
        thumbnail = TokenGrid(image, side, side, WHOLE, thumbnail=True)
        return (*(TokenGrid(image, side, side, box) for box in boxes), thumbnail)

    def _canvas(self, size: Size) -> tuple[int, int]:
        """Columns and rows of tiles."""
        processor = self.image_processor
        if not processor.crop_to_patches or processor.max_patches == 1:
            return 1, 1
        tile = (processor.size["height"], processor.size["width"])
        canvas: tuple[int, int] = get_optimal_tiled_canvas(
            size, tile, processor.min_patches, processor.max_patches
        )
        return canvas


def _tile_patches(config: Any) -> int:
    vision = config.vision_config
    (height, width), (patch_h, patch_w) = pair(vision.image_size), pair(vision.patch_size)
    return (height // patch_h) * (width // patch_w)


def _tile_flops(config: Any, patches: int) -> float:
    vision, text_width = config.vision_config, config.text_config.hidden_size
    joined = int(vision.hidden_size / config.downsample_ratio**2)
    seq = config.image_seq_length
    projector = linear_flops(seq, joined, text_width) + linear_flops(seq, text_width, text_width)
    return vision_tower_flops(vision, patches, class_tokens=1) + projector
