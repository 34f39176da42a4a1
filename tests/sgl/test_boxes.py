"""The boxes of visual tokens against the pixels that the tokens are made of."""

import numpy as np
import pytest
import torch

from sgl.prompt import PromptBatch
from sgl.types import ImageInput, ImageQuestion, TokenGrid
from sgl.vlm import VLM
from tests.tiny_models import FAMILIES, picture

Box = tuple[float, float, float, float]
SPOT: Box = (0.25, 0.4, 0.7, 0.8)
BLUR = 0.12
"""How far resizing and thinning out may carry a change, in image coordinates."""


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize(
    ("height", "width", "others"), [(48, 96, 0), (90, 40, 0), (80, 80, 0), (64, 40, 1)]
)
def test_a_spot_changes_the_tokens_whose_boxes_it_lies_in(
    name: str, height: int, width: int, others: int
) -> None:
    vlm = FAMILIES[name]()
    blind_to_neighbours(vlm)
    blank = np.full((height, width, 3), 100, np.uint8)
    spotted = blank.copy()
    left, top, right, bottom = (int(SPOT[i] * (width, height)[i % 2]) for i in range(4))
    spotted[top:bottom, left:right] = 220
    more = (picture(0, 32, 32),) * others
    without, with_spot = (prompt_of(vlm, (image, *more)) for image in (blank, spotted))
    grids = without.layouts[0].grids
    assert with_spot.layouts[0].grids == grids
    embeds = [batch.prompt.embeds_BTD[batch.prompt.visual_BT] for batch in (without, with_spot)]
    changed = ((embeds[0] - embeds[1]).abs().amax(dim=1) > 1e-4).tolist()
    tokens = [(grid.image, box) for grid in grids for box in boxes(grid)]
    assert len(tokens) == len(changed)
    for (image, box), differs in zip(tokens, changed, strict=True):
        if image == 0 and overlap(box, SPOT) > 0.3:
            assert differs, box
        if image == 1 or apart(box, SPOT) > BLUR:
            assert not differs, box
    assert any(changed)


def prompt_of(vlm: VLM, images: tuple[ImageInput, ...]) -> PromptBatch:
    record = ImageQuestion("a", "w1", images)
    with torch.inference_mode():
        return vlm.prompts([record])


def blind_to_neighbours(vlm: VLM) -> None:
    """Attention and MLPs of the vision tower add nothing to what a patch says of itself."""
    towers = {"visual", "vision_tower", "vision_model"}
    (tower,) = (module for name, module in vlm.model.model.named_children() if name in towers)
    blocks = {"blocks", "layers", "layer"}
    for name, weight in tower.named_parameters():
        if blocks & set(name.split(".")):
            weight.data.zero_()


def boxes(grid: TokenGrid) -> list[Box]:
    """Of every token, row-major."""
    left, top, right, bottom = grid.box
    x = np.linspace(left, right, grid.columns + 1).tolist()
    y = np.linspace(top, bottom, grid.rows + 1).tolist()
    return [(x[c], y[r], x[c + 1], y[r + 1]) for r in range(grid.rows) for c in range(grid.columns)]


def overlap(box: Box, spot: Box) -> float:
    """The share of the box's area that lies in the spot."""
    shared = [max(0.0, min(box[i + 2], spot[i + 2]) - max(box[i], spot[i])) for i in (0, 1)]
    area = (box[2] - box[0]) * (box[3] - box[1])
    return shared[0] * shared[1] / area if area else 0.0


def apart(box: Box, spot: Box) -> float:
    """The distance between them along the axis where it is largest; 1 of a box without area."""
    if box[0] == box[2]:
        return 1.0
    return max(max(box[i] - spot[i + 2], spot[i] - box[i + 2]) for i in (0, 1))
