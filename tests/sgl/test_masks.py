"""Laws of who attends to whom."""

import pytest
import torch

from sgl.masks import Attended


@pytest.mark.parametrize(
    ("valid", "left"),
    [
        ([False, True, True, True], [False, True, False, False]),
        ([True, True, True, False], [True, False, False, False]),
        ([True, True, True, True], [True, True, False, False]),
    ],
)
def test_the_last_tokens_are_taken_back_wherever_the_padding_is(
    valid: list[bool], left: list[bool]
) -> None:
    attended = Attended(torch.tensor([valid, valid]), None, None)
    shorter = attended.without_last(torch.tensor([2, 0]), width=4)
    assert shorter.valid_BT is not None
    assert shorter.valid_BT.tolist() == [left, valid]


def test_where_all_are_valid_the_width_tells_which_are_last() -> None:
    shorter = Attended(None, None, None).without_last(torch.tensor([1, 0]), width=3)
    assert shorter.valid_BT is not None
    assert shorter.valid_BT.tolist() == [[True, True, False], [True] * 3]
