import numpy as np
import pytest

from jobs.token_map import draw_heat, draw_kept, kept_tokens, scaled, token_map
from sgl.types import TokenGrid

WHOLE = (0.0, 0.0, 1.0, 1.0)
TILES = (
    TokenGrid(0, 2, 2, (0.0, 0.0, 0.5, 1.0)),
    TokenGrid(0, 2, 2, (0.5, 0.0, 1.0, 1.0)),
    TokenGrid(0, 1, 1, WHOLE, thumbnail=True),
)


def grey(height: int = 40, width: int = 80) -> np.ndarray:
    return np.full((height, width, 3), 200, np.uint8)


def test_every_token_covers_its_part_of_the_picture() -> None:
    found = token_map(TILES, np.arange(9, dtype=np.float32), (40, 80))
    assert found[::20, ::20].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert 8 not in found


def test_an_overview_alone_is_shown() -> None:
    alone = (TokenGrid(0, 1, 2, WHOLE, thumbnail=True),)
    assert set(token_map(alone, np.array([1, 2], np.float32), (4, 4)).ravel()) == {1, 2}


def test_each_picture_has_its_own_tokens() -> None:
    two = (TokenGrid(0, 1, 1, WHOLE), TokenGrid(1, 1, 1, WHOLE))
    values = np.array([3, 7], np.float32)
    assert (token_map(two, values, (2, 2), 1) == 7).all()


@pytest.mark.parametrize("size", [(7, 5), (3, 3), (101, 64)])
def test_no_pixel_is_left_out_at_any_size(size: tuple[int, int]) -> None:
    grids = (TokenGrid(0, 4, 6, WHOLE),)
    assert (token_map(grids, np.ones(24, np.float32), size) == 1).all()


def test_as_many_are_kept_as_asked_for_ties_to_the_lower_index() -> None:
    chosen = kept_tokens([0.5, 0.9, 0.5, 0.5], 2)
    assert chosen.tolist() == [True, True, False, False]


def test_kept_tokens_keep_their_colours_and_dropped_ones_are_dimmed() -> None:
    picture = grey()
    picture[..., 0] = 90
    kept = np.zeros(9, bool)
    kept[0] = True
    drawn = draw_kept(picture, TILES, kept)
    assert (drawn[:20, :20] == picture[:20, :20]).all()
    dropped = drawn[25:, 45:]
    assert dropped.max() < picture.min()
    assert (dropped[..., 0] == dropped[..., 1]).all()


def test_the_most_important_token_is_the_lightest() -> None:
    drawn = draw_heat(grey() // 4, TILES, [0, 0, 0, 0.2, 0, 0, 1.0, 0, 0.5]).astype(int).sum(2)
    assert drawn[30, 50] == drawn.max()
    assert drawn[30, 30] > drawn[5, 5]
    assert np.isfinite(draw_heat(grey(), TILES, np.zeros(9))).all()


def test_a_ranking_of_other_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="one value per visual token"):
        token_map(TILES, np.ones(8, np.float32), (4, 4))


def test_pictures_are_made_smaller_and_never_larger() -> None:
    assert scaled(grey(400, 100), 50).shape == (50, 12, 3)
    assert scaled(grey(40, 10), 50).shape == (40, 10, 3)
