"""Visual tokens drawn over a picture: how important each is, and which are kept.

Plain arrays, no model: a ranking (V,) and the grids that say where its tokens lie.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image

from sgl.types import TokenGrid

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_DIMMED = 0.28
"""Of the brightness that is left to a dropped token, in grey."""
_HEAT = 0.85
"""How much of the hottest colour covers the picture; the coldest does not cover it."""
_UNDER_HEAT = 0.55
"""Of the brightness of the picture below, in grey, so that no colour of its own looks hot."""
_STOPS = (0.0, 0.35, 0.7, 1.0)
_COLOURS = np.array([(24, 32, 120), (190, 40, 130), (250, 130, 50), (255, 240, 130)], np.float32)
"""Blue over red to yellow, each lighter than the one before, so that it also reads in grey."""


def scaled(pixels: Pixels, longest: int) -> Pixels:
    """A picture of at most so many pixels a side.

    Args:
        pixels: (height, width, 3) RGB.
        longest: side wanted; a smaller picture is left as it is.
    """
    height, width = pixels.shape[:2]
    factor = longest / max(height, width)
    if factor >= 1:
        return pixels
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def kept_tokens(importance: npt.ArrayLike, kept: int) -> npt.NDArray[np.bool_]:
    """(V,) the tokens of highest importance, ties going to the lower index.

    Args:
        importance: (V,).
        kept: how many.
    """
    ranking = np.asarray(importance, dtype=np.float32)
    chosen = np.zeros(len(ranking), dtype=bool)
    chosen[np.argsort(-ranking, kind="stable")[:kept]] = True
    return chosen


def draw_kept(
    pixels: Pixels, grids: Sequence[TokenGrid], kept: npt.NDArray[np.bool_], image: int = 0
) -> Pixels:
    """The picture with its dropped tokens dimmed and grey.

    Args:
        pixels: (height, width, 3) RGB, at any scale.
        grids: of the whole record, in prompt order.
        kept: (V,) which of their tokens are.
        image: index of the picture within the record.
    """
    mask = token_map(grids, kept.astype(np.float32), pixels.shape[:2], image)[..., None]
    picture = pixels.astype(np.float32)
    grey = picture.mean(axis=2, keepdims=True) * _DIMMED
    return np.clip(picture * mask + grey * (1 - mask), 0, 255).astype(np.uint8)


def draw_heat(
    pixels: Pixels, grids: Sequence[TokenGrid], importance: npt.ArrayLike, image: int = 0
) -> Pixels:
    """The picture under the importance of its tokens, as colours.

    Args:
        pixels: (height, width, 3) RGB, at any scale.
        grids: of the whole record, in prompt order.
        importance: (V,), any scale; told by its square root, as few tokens hold most of it.
        image: index of the picture within the record.
    """
    values = np.asarray(importance, dtype=np.float32).clip(0)
    values = np.sqrt(values / (values.max() or 1.0))
    heat = token_map(grids, values, pixels.shape[:2], image)
    colours = np.stack([np.interp(heat, _STOPS, _COLOURS[:, c]) for c in range(3)], axis=-1)
    weight = _HEAT * heat[..., None]
    grey = pixels.astype(np.float32).mean(axis=2, keepdims=True) * _UNDER_HEAT
    drawn = grey * (1 - weight) + colours * weight
    return np.clip(drawn, 0, 255).astype(np.uint8)


def token_map(
    grids: Sequence[TokenGrid], values: Floats, size: tuple[int, int], image: int = 0
) -> Floats:
    """Values of tokens laid over a picture: (height, width), 0 where no token lies.

    Where a family adds an overview to its tiles, the tiles are shown: they are what it looks at
    more closely. An overview alone is shown.

    Args:
        grids: of the whole record, in prompt order.
        values: (V,) of their tokens.
        size: height and width wanted.
        image: index of the picture within the record.

    Raises:
        ValueError: there are more or fewer values than tokens.
    """
    if len(values) != sum(grid.rows * grid.columns for grid in grids):
        raise ValueError("there must be one value per visual token")
    own = [(grid, part) for grid, part in _parts(grids, values) if grid.image == image]
    tiles = [(grid, part) for grid, part in own if not grid.thumbnail]
    found = np.zeros(size, dtype=np.float32)
    height, width = size
    for grid, part in tiles or own:
        left, top, right, bottom = grid.box
        rows = _edges(top, bottom, grid.rows, height)
        columns = _edges(left, right, grid.columns, width)
        for row, (y, y_end) in enumerate(pairwise(rows)):
            for column, (x, x_end) in enumerate(pairwise(columns)):
                found[y:y_end, x:x_end] = part[row, column]
    return found


def _parts(grids: Sequence[TokenGrid], values: Floats) -> Iterator[tuple[TokenGrid, Floats]]:
    start = 0
    for grid in grids:
        count = grid.rows * grid.columns
        yield grid, values[start : start + count].reshape(grid.rows, grid.columns)
        start += count


def _edges(low: float, high: float, count: int, pixels: int) -> list[int]:
    """Pixels where cells begin and end."""
    return [round(float(one) * pixels) for one in np.linspace(low, high, count + 1)]
