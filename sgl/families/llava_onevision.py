"""LLaVA-OneVision: an overview, then the image at a higher resolution with line breaks.

An image that is alone in its record is looked at twice: whole, and cut into the tiles of the
resolution that suits it best. Of the tiles' tokens those in the padding are dropped, too large
grids are thinned out, and behind every row stands a newline token. Images among several are padded
to a square and looked at once, with one newline behind.

Newlines are visual tokens like all others: they stand in the prompt as image tokens, are ranked
by their own importance and can be pruned. Their box is the right end of their row, without area: a
ranking by another family says nothing about them, so that they go first, and theirs says nothing
about the image.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.image_processing_utils import select_best_resolution
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)

from sgl.errors import UnsupportedModelError
from sgl.families.base import WHOLE, Family, ImageLayout, Size
from sgl.flops import linear_flops, vision_tower_flops
from sgl.types import ImageInput, TokenGrid

Box = tuple[float, float, float, float]


class LlavaOnevision(Family):
    """Tiles of (image size / patch size)^2 tokens.

    Raises:
        UnsupportedModelError: the vision features are packed in another way than this one.
    """

    model_types = frozenset({"llava_onevision"})
    placeholder = "<image>"
    image_processor_class = LlavaOnevisionImageProcessorPil

    def __init__(self, config: Any, image_processor: Any) -> None:
        super().__init__(config, image_processor)
        if config.vision_feature_select_strategy != "full":
            raise UnsupportedModelError(
                "vision_feature_select_strategy must be 'full': a dropped first token would shift "
                "the grid of visual tokens"
            )
        if not config.vision_aspect_ratio.startswith("anyres_max_"):
            raise UnsupportedModelError(
                f"vision_aspect_ratio {config.vision_aspect_ratio!r} is not supported; "
                "'anyres_max_' and a number of tiles is"
            )
        if list(image_processor.image_grid_pinpoints) != list(config.image_grid_pinpoints):
            raise UnsupportedModelError(
                "image_grid_pinpoints of the model and of its image processor differ"
            )

    @property
    def vision_obstacle(self) -> str | None:
        """Tokens are interpolated between patches."""
        return (
            "LlavaOnevision: its visual tokens are not made of whole patches each, so that the "
            "vision tower's attention says nothing about one"
        )

    def layouts(self, sizes: Sequence[Size]) -> list[ImageLayout]:
        """Overview and lines of an image that is alone, else one square and a newline."""
        alone = len(sizes) == 1
        found = []
        for index, size in enumerate(sizes):
            grids = self._anyres(index, size) if alone else self._square(index, size)
            tiles = 1 + math.prod(self._tiling(size)) if alone else 1
            found.append(ImageLayout(grids, tiles * self._side**2, tiles * self._tile_flops()))
        return found

    def model_inputs(
        self, images: Sequence[ImageInput], images_per_record: Sequence[int]
    ) -> dict[str, Tensor]:
        """`pixel_values` (images, tiles, 3, height, width) float32, and the images' sizes."""
        arrays = iter(self.arrays(images))
        nested = [[next(arrays) for _ in range(count)] for count in images_per_record if count]
        encoded = self.image_processor(
            images=nested, input_data_format="channels_last", return_tensors="pt"
        )
        names = ("pixel_values", "image_sizes", "batch_num_images")
        return {name: encoded[name] for name in names}

    def placeholder_tokens(self, grids: tuple[TokenGrid, ...]) -> str:
        """One image token per visual token, newlines included."""
        return self.placeholder * sum(grid.rows * grid.columns for grid in grids)

    @property
    def _side(self) -> int:
        vision = self.config.vision_config
        return int(vision.image_size // vision.patch_size)

    def _tiling(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of tiles."""
        tile = self.config.vision_config.image_size
        height, width = select_best_resolution(size, self.config.image_grid_pinpoints)
        return height // tile, width // tile

    def _anyres(self, image: int, size: tuple[int, int]) -> tuple[TokenGrid, ...]:
        side = self._side
        tile_rows, tile_columns = self._tiling(size)
        rows, columns, box = _unpadded(size, side * tile_rows, side * tile_columns)
        limit = int(self.config.vision_aspect_ratio.removeprefix("anyres_max_"))
        ratio = math.sqrt(rows * columns / (limit * side**2))
        if ratio > 1.1:
            rows, columns = int(rows // ratio), int(columns // ratio)
        overview = TokenGrid(image, side, side, WHOLE, thumbnail=True)
        return (overview, *_lines(image, rows, columns, box))

    def _square(self, image: int, size: tuple[int, int]) -> tuple[TokenGrid, ...]:
        """Box of the square that the image lies in the middle of, to the pixel."""
        (height, width), side = size, max(size)
        left, top = -((side - width) // 2) / width, -((side - height) // 2) / height
        right, bottom = left + side / width, top + side / height
        looked_at = TokenGrid(image, self._side, self._side, (left, top, right, bottom))
        return looked_at, TokenGrid(image, 1, 1, (right, top, right, bottom))

    def _tile_flops(self) -> float:
        vision, text_width = self.config.vision_config, self.config.text_config.hidden_size
        patches = self._side**2
        projector = linear_flops(patches, vision.hidden_size, text_width) + linear_flops(
            patches, text_width, text_width
        )
        return vision_tower_flops(vision, patches) + projector


def _unpadded(size: tuple[int, int], rows: int, columns: int) -> tuple[int, int, Box]:
    """What is left of a canvas of tokens without its padding, and its box in the image.

    Whole rows or columns go, the same number on both sides: the box may begin just inside the image
    or reach into the padding, by less than a token.
    """
    height, width = size
    if width / height > columns / rows:
        covered = height * (columns / width)
        padding = (rows - int(round(covered, 7))) // 2
        edge = (padding - (rows - covered) / 2) / covered
        return rows - 2 * padding, columns, (0.0, edge, 1.0, 1.0 - edge)
    covered = width * (rows / height)
    padding = (columns - int(round(covered, 7))) // 2
    edge = (padding - (columns - covered) / 2) / covered
    return rows, columns - 2 * padding, (edge, 0.0, 1.0 - edge, 1.0)


def _lines(image: int, rows: int, columns: int, box: Box) -> list[TokenGrid]:
    """Row by row: its tokens and the newline behind them."""
    left, top, right, bottom = box
    edges = [top + (bottom - top) * row / max(rows, 1) for row in range(rows + 1)]
    grids = []
    for upper, lower in itertools.pairwise(edges):
        grids.append(TokenGrid(image, 1, columns, (left, upper, right, lower)))
        grids.append(TokenGrid(image, 1, 1, (right, upper, right, lower)))
    return grids
