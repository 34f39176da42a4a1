"""Idefics3 and SmolVLM: square tiles row-major, an overview last, marks between in the text."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from sgl.errors import UnsupportedModelError
from sgl.families.base import WHOLE, Family, ImageLayout, Size
from sgl.flops import linear_flops, vision_tower_flops
from sgl.types import ImageInput, TokenGrid

_MARK = "<fake_token_around_image>"
_OVERVIEW = "<global-img>"
_TINY = 1e-7


class Idefics3(Family):
    """Every tile has (image size / patch size / scale factor)^2 tokens.

    Raises:
        UnsupportedModelError: the image processor's tiles are not of the vision tower's size.
    """

    model_types = frozenset({"idefics3"})
    placeholder = "<image>"
    image_processor_class = Idefics3ImageProcessorPil

    def __init__(self, config: Any, image_processor: Any) -> None:
        super().__init__(config, image_processor)
        tile, size = image_processor.max_image_size["longest_edge"], config.vision_config.image_size
        if tile != size:
            raise UnsupportedModelError(
                f"the image processor cuts tiles of {tile} pixels (max_image_size) and the vision "
                f"tower takes {size}; their tokens could not be counted"
            )
        longest = image_processor.size["longest_edge"]
        if longest % tile:
            raise UnsupportedModelError(
                f"size.longest_edge ({longest}) of the image processor is no multiple of its tiles "
                f"({tile}); their number could not be told from an image's size"
            )

    def layouts(self, sizes: Sequence[Size]) -> list[ImageLayout]:
        """Rows and columns of tiles, and the overview."""
        vision = self.config.vision_config
        patches = (vision.image_size // vision.patch_size) ** 2
        flops = self._tile_flops(patches)
        found = []
        for index, (height, width) in enumerate(sizes):
            _, rows, columns = self.image_processor.get_number_of_image_patches(height, width)
            grids = self._grids(index, rows, columns)
            found.append(ImageLayout(grids, len(grids) * patches, len(grids) * flops))
        return found

    def model_inputs(
        self, images: Sequence[ImageInput], images_per_record: Sequence[int]
    ) -> dict[str, torch.Tensor]:
        """`pixel_values` (1, tiles of all images, 3, size, size) float32."""
        return {"pixel_values": _never_zero(self.preprocess(images)["pixel_values"])}

    def placeholder_tokens(self, grids: tuple[TokenGrid, ...]) -> str:
        """Each tile's tokens behind a mark and its place, each row of tiles on a line."""
        *tiles, overview = grids
        text = ""
        for row, (_, line) in enumerate(itertools.groupby(tiles, lambda tile: tile.box[1])):
            for column, tile in enumerate(line):
                text += f"{_MARK}<row_{row + 1}_col_{column + 1}>" + self._tokens(tile)
            text += "\n"
        start = "\n" if tiles else ""
        return f"{text}{start}{_MARK}{_OVERVIEW}{self._tokens(overview)}{_MARK}"

    def vision_tower(self, model: Any) -> Any:
        """The native one."""
        return model.model.vision_model

    def _tokens(self, grid: TokenGrid) -> str:
        return self.placeholder * (grid.rows * grid.columns)

    @property
    def _side(self) -> int:
        vision = self.config.vision_config
        return int(vision.image_size // vision.patch_size // self.config.scale_factor)

    def _grids(self, image: int, rows: int, columns: int) -> tuple[TokenGrid, ...]:
        side = self._side
        tiles = [
            TokenGrid(
                image,
                side,
                side,
                (c / columns, r / rows, (c + 1) / columns, (r + 1) / rows),
            )
            for r in range(rows)
            for c in range(columns)
        ]
        return (*tiles, TokenGrid(image, side, side, WHOLE, thumbnail=bool(tiles)))

    def _tile_flops(self, patches: int) -> float:
        vision, scale = self.config.vision_config, self.config.scale_factor
        connector = linear_flops(
            self._side**2, vision.hidden_size * scale**2, self.config.text_config.hidden_size
        )
        return vision_tower_flops(vision, patches) + connector


class SmolVLM(Idefics3):
    """Idefics3 with an image processor of its own name."""

    model_types = frozenset({"smolvlm"})
    image_processor_class = SmolVLMImageProcessorPil


def _never_zero(pixels: torch.Tensor) -> torch.Tensor:
    """The native model takes tiles of zeros alone for padding and would drop them."""
    zero = (pixels == 0).flatten(2).all(dim=2)
    pixels[zero] = _TINY
    return pixels
