"""Importance between grids: laws of mass and place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgl.errors import GridMismatchError
from sgl.resampling import Grids, resample
from sgl.types import TokenGrid

WHOLE = (0.0, 0.0, 1.0, 1.0)
sides = st.integers(1, 9)


def tiled(rows: int, columns: int, side: int, *, thumbnail: bool = True, image: int = 0) -> Grids:
    boxes = [
        (c / columns, r / rows, (c + 1) / columns, (r + 1) / rows)
        for r in range(rows)
        for c in range(columns)
    ]
    tiles = tuple(TokenGrid(image, side, side, box) for box in boxes)
    overview = TokenGrid(image, side, side, WHOLE, thumbnail=True)
    return (*tiles, overview) if thumbnail else tiles


def importance_of(grids: Grids, seed: int) -> np.ndarray:
    count = sum(grid.rows * grid.columns for grid in grids)
    return np.random.default_rng(seed).random(count, dtype=np.float32)


def test_equal_grids_change_nothing() -> None:
    grids = tiled(2, 3, 4)
    importance = importance_of(grids, 0)
    assert resample(importance, grids, tiled(2, 3, 4)) is importance


@given(sides, sides, sides, sides, st.integers(0, 99))
def test_mass_is_kept(rows: int, columns: int, other: int, side: int, seed: int) -> None:
    source = (TokenGrid(0, rows, columns, WHOLE),)
    importance = importance_of(source, seed)
    for target in ((TokenGrid(0, other, side, WHOLE),), tiled(2, 3, side, thumbnail=False)):
        received = resample(importance, source, target)
        assert received.shape == (sum(grid.rows * grid.columns for grid in target),)
        assert received.sum() == pytest.approx(importance.sum(), rel=1e-4)


@given(st.integers(0, 3), st.integers(0, 5), st.integers(1, 3))
def test_what_is_important_stays_in_its_place(row: int, column: int, finer: int) -> None:
    source = (TokenGrid(0, 4, 6, WHOLE),)
    importance = np.zeros(24, np.float32)
    importance[row * 6 + column] = 1.0
    target = (TokenGrid(0, 4 * finer, 6 * finer, WHOLE),)
    received = resample(importance, source, target)[: 24 * finer**2].reshape(4 * finer, 6 * finer)
    expected = np.zeros_like(received)
    expected[row * finer : (row + 1) * finer, column * finer : (column + 1) * finer] = 1 / finer**2
    np.testing.assert_allclose(received, expected, atol=1e-5)


def test_tiles_go_to_tiles_and_overviews_to_overviews() -> None:
    source, target = tiled(1, 2, 2), tiled(2, 1, 2)
    importance = np.array([1, 1, 1, 1, 0, 0, 0, 0, 5, 0, 0, 0], np.float32)
    received = resample(importance, source, target)
    np.testing.assert_allclose(received[:8], [2 / 2, 0, 1, 0, 1, 0, 1, 0], atol=1e-6)
    np.testing.assert_allclose(received[8:], [5, 0, 0, 0], atol=1e-6)


def test_a_model_without_an_overview_lends_its_tokens_to_both() -> None:
    source, target = (TokenGrid(0, 2, 2, WHOLE),), tiled(1, 2, 1)
    received = resample(np.array([1, 2, 3, 4], np.float32), source, target)
    np.testing.assert_allclose(received, [4, 6, 10], atol=1e-5)


def test_several_images_stay_apart() -> None:
    source = (TokenGrid(0, 1, 2, WHOLE), TokenGrid(1, 1, 2, WHOLE))
    target = (TokenGrid(0, 1, 1, WHOLE), TokenGrid(1, 2, 1, WHOLE))
    received = resample(np.array([1, 2, 10, 20], np.float32), source, target)
    np.testing.assert_allclose(received, [3, 15, 15], atol=1e-5)


def test_other_images_are_refused_and_no_images_are_fine() -> None:
    one = (TokenGrid(0, 1, 1, WHOLE),)
    with pytest.raises(GridMismatchError, match="guide and answer the same record"):
        resample(np.ones(1, np.float32), one, (*one, TokenGrid(1, 1, 1, WHOLE)))
    empty = np.zeros(0, np.float32)
    assert resample(empty, (), ()) is empty


def test_line_breaks_give_nothing_and_get_nothing() -> None:
    """Rows of two tokens, each with a token without area behind it."""
    lines = tuple(
        TokenGrid(0, 1, columns, (left, row / 2, 1.0, (row + 1) / 2))
        for row in (0, 1)
        for columns, left in ((2, 0.0), (1, 1.0))
    )
    plain = (TokenGrid(0, 2, 2, WHOLE),)
    importance = np.arange(1, 5, dtype=np.float32)
    with_breaks = np.array([1, 2, 0, 3, 4, 0], np.float32)
    np.testing.assert_allclose(resample(importance, plain, lines), with_breaks)
    with_breaks[2::3] = 9
    np.testing.assert_allclose(resample(with_breaks, lines, plain), importance)
