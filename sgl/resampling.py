"""Importance carried over from one model's visual tokens to another's.

Two models may cut an image into different tokens: other tile counts, resolutions or families. Both
know where their tokens lie in the image (`TokenGrid.box`), so importance moves as mass over area: a
token's importance is spread evenly over its box, and every token of the other model gets what falls
into its own. Importance between equal grids stays as it is, to the last bit.

An overview (thumbnail) is a second look at the same area. It is matched with the other model's
overview; a model without one lends its tiles to both. What has no area (line breaks) gives nothing
and gets nothing.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sgl.errors import GridMismatchError
from sgl.types import TokenGrid

Grids = tuple[TokenGrid, ...]
Box = tuple[float, float, float, float]


def resample(
    importance: npt.NDArray[np.float32], source: Grids, target: Grids
) -> npt.NDArray[np.float32]:
    """Importance of another model's visual tokens.

    Args:
        importance: (V,) of the source's tokens, in prompt order.
        source: the grids of those V tokens.
        target: grids of the other model, of the same images.

    Returns:
        (W,) float32, of the target's tokens, in prompt order.

    Raises:
        GridMismatchError: the two are not of the same images.
    """
    if source == target:
        return importance
    images = [sorted({grid.image for grid in grids}) for grids in (source, target)]
    if images[0] != images[1]:
        raise GridMismatchError(
            f"the ranking is of {len(images[0])} images and the prompt has {len(images[1])}; guide "
            "and answer the same record"
        )
    sizes = [grid.rows * grid.columns for grid in source]
    parts = np.split(importance, np.cumsum(sizes)[:-1])
    looks = [
        (grid, part.reshape(grid.rows, grid.columns))
        for grid, part in zip(source, parts, strict=True)
    ]
    return np.concatenate([_received(grid, looks).ravel() for grid in target])


def _received(
    target: TokenGrid, looks: Sequence[tuple[TokenGrid, npt.NDArray[np.float32]]]
) -> npt.NDArray[np.float32]:
    of_image = [(grid, part) for grid, part in looks if grid.image == target.image]
    same_kind = [look for look in of_image if look[0].thumbnail == target.thumbnail]
    received = np.zeros((target.rows, target.columns), np.float32)
    for grid, part in same_kind or of_image:
        if not _overlap(grid.box, target.box):
            continue
        down_TS = _shares(_edges(target, 1), _edges(grid, 1))
        across_TS = _shares(_edges(target, 0), _edges(grid, 0))
        received += down_TS @ part @ across_TS.T
    return received


def _overlap(one: Box, other: Box) -> bool:
    """Whether two boxes have area in common; a box without any never does."""
    return all(max(one[axis], other[axis]) < min(one[axis + 2], other[axis + 2]) for axis in (0, 1))


def _edges(grid: TokenGrid, axis: int) -> npt.NDArray[np.float32]:
    """Borders of a grid's columns (axis 0) or rows (axis 1) in image coordinates."""
    count = grid.rows if axis else grid.columns
    return np.linspace(grid.box[axis], grid.box[axis + 2], count + 1, dtype=np.float32)


def _shares(
    target: npt.NDArray[np.float32], source: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """(T, S): the share of every source interval that lies in every target interval."""
    low = np.maximum(target[:-1, None], source[None, :-1])
    high = np.minimum(target[1:, None], source[None, 1:])
    shares: npt.NDArray[np.float32] = np.clip(high - low, 0, None) / np.diff(source)
    return shares
