"""Even spacing: exact counts, and no part of an image left out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgl.spacing import even_cells
from sgl.types import TokenGrid

SIDES = st.integers(1, 9)


def grid(rows: int, columns: int) -> TokenGrid:
    return TokenGrid(0, rows, columns, (0.0, 0.0, 1.0, 1.0))


@given(st.lists(st.tuples(SIDES, SIDES), max_size=6), st.floats(0, 1))
def test_counts_are_exact_and_shared_by_size(sides: list[tuple[int, int]], share: float) -> None:
    grids = [grid(rows, columns) for rows, columns in sides]
    sizes = [rows * columns for rows, columns in sides]
    count = int(sum(sizes) * share)
    chosen = even_cells(grids, count)
    assert chosen.sum() == count
    parts = np.split(chosen, np.cumsum(sizes))[: len(sizes)]
    for size, part in zip(sizes, parts, strict=True):
        assert abs(part.sum() - size * count / sum(sizes)) < 1 + 1e-9


@pytest.mark.parametrize("count", [4, 9, 16, 25, 36, 60])
def test_every_quarter_gets_about_its_quarter(count: int) -> None:
    chosen = even_cells([grid(16, 24)], count).reshape(16, 24)
    for rows in (slice(0, 8), slice(8, 16)):
        for columns in (slice(0, 12), slice(12, 24)):
            assert abs(chosen[rows, columns].sum() - count / 4) <= 0.1 * count + 1


@given(SIDES, SIDES)
def test_rows_and_columns_are_alike(rows: int, columns: int) -> None:
    """A square number of a square grid stands in as many rows as columns."""
    side = max(rows, columns)
    count = min(rows, columns) ** 2
    chosen = even_cells([grid(side, side)], count).reshape(side, side)
    assert chosen.any(axis=0).sum() == chosen.any(axis=1).sum() == min(rows, columns)
