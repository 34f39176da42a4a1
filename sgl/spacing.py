"""Cells spread evenly over token grids, exactly as many as are wanted."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sgl.types import TokenGrid


def even_cells(grids: Sequence[TokenGrid], count: int) -> npt.NDArray[np.bool_]:
    """Choose cells evenly, in two dimensions.

    Every grid gets its share of them by its number of cells, and within a grid they stand in rows
    and columns of about equal distance.

    Args:
        grids: of V cells together.
        count: at most V.

    Returns:
        (V,) bool, in prompt order, exactly `count` of them True.
    """
    sizes = [grid.rows * grid.columns for grid in grids]
    shares = np.diff(_shared(count, np.cumsum([0, *sizes])))
    parts = [
        _in_grid(grid.rows, grid.columns, int(share))
        for grid, share in zip(grids, shares, strict=True)
    ]
    return np.concatenate([np.zeros(0, dtype=bool), *parts])


def _shared(count: int, borders: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many of `count` come before each border, by cells: in whole numbers, halves down."""
    total = max(1, int(borders[-1]))
    shared: npt.NDArray[np.int64] = (2 * borders * count + total - 1) // (2 * total)
    return shared


def _in_grid(rows: int, columns: int, count: int) -> npt.NDArray[np.bool_]:
    chosen = np.zeros((rows, columns), dtype=bool)
    if count:
        # As far from row to row as from cell to cell, as far as whole numbers allow.
        lines = round((count * rows / columns) ** 0.5)
        lines = max(-(-count // columns), min(lines, rows, count), 1)
        in_line = np.diff(_shared(count, np.arange(lines + 1)))
        for row, cells in zip(_middles(rows, lines), in_line, strict=True):
            chosen[row, _middles(columns, int(cells))] = True
    return chosen.ravel()


def _middles(length: int, parts: int) -> npt.NDArray[np.int64]:
    """The middle place of each of so many equal parts of a length, at most as many as places."""
    middles: npt.NDArray[np.int64] = (2 * np.arange(parts) + 1) * length // (2 * max(parts, 1))
    return middles
