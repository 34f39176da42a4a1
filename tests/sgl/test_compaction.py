"""Laws of moving tokens within ragged batches."""

import torch

from sgl.compaction import right_padded, take
from sgl.language_model import Prompt


def ragged_prompt(lengths: tuple[int, ...], width: int) -> Prompt:
    valid_BT = torch.arange(width) >= width - torch.tensor(lengths)[:, None]
    return Prompt(
        embeds_BTD=torch.randn(len(lengths), width, 3),
        position_ids_ABT=(valid_BT.long().cumsum(dim=1) - 1).clamp(min=0)[None],
        valid_BT=valid_BT,
        visual_BT=valid_BT & (torch.rand(valid_BT.shape) < 0.5),
        next_position_B=torch.tensor(lengths),
    )


def test_padding_goes_to_the_right_and_back() -> None:
    prompt = ragged_prompt((5, 2, 3), width=5)
    turned, back_BT = right_padded(prompt)
    for b, length in enumerate((5, 2, 3)):
        assert turned.valid_BT[b].tolist() == [True] * length + [False] * (5 - length)
        assert torch.equal(turned.embeds_BTD[b, :length], prompt.embeds_BTD[b, 5 - length :])
        assert turned.position_ids_ABT[0, b, :length].tolist() == list(range(length))
        assert turned.visual_BT[b].sum() == prompt.visual_BT[b].sum()
    assert torch.equal(take(turned.embeds_BTD, back_BT), prompt.embeds_BTD)
