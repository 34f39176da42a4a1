"""Dropping tokens from a ragged, left-padded batch, and adding some behind.

What stays keeps its order and its position ids; the batch shrinks to the width of the longest
survivor. Shapes: B records, T tokens before, W tokens after, S added tokens, D hidden,
A position axes.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from sgl.language_model import Prompt


def prune_prompt(prompt: Prompt, keep_BT: Tensor) -> Prompt:
    """Drop tokens; positions, and that of the first answer token, stay as they were.

    Args:
        prompt: B prompts of T tokens.
        keep_BT: (B, T) bool; padding is never kept.
    """
    return take_tokens(prompt, *compaction(keep_BT & prompt.valid_BT))


def compaction(keep_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Left-padded indices (B, W) of the kept tokens in their order, and their validity."""
    width = int(keep_BT.sum(dim=1).max())
    index_BW = keep_BT.sort(dim=1, stable=True).indices[:, -width:]
    return index_BW, keep_BT.gather(1, index_BW)


def take_tokens(prompt: Prompt, index_BW: Tensor, valid_BW: Tensor) -> Prompt:
    """The prompts' tokens at the indices of `compaction`, all that is known of them included."""
    axes = prompt.position_ids_ABT.shape[0]
    return replace(
        prompt,
        embeds_BTD=take(prompt.embeds_BTD, index_BW),
        position_ids_ABT=prompt.position_ids_ABT.gather(2, index_BW.expand(axes, -1, -1)),
        valid_BT=valid_BW,
        visual_BT=prompt.visual_BT.gather(1, index_BW) & valid_BW,
        deepstack=tuple(take(added_BTD, index_BW) for added_BTD in prompt.deepstack),
        block_BT=None if prompt.block_BT is None else prompt.block_BT.gather(1, index_BW),
    )


def take_records(prompt: Prompt, index_R: Tensor) -> Prompt:
    """Some records of a batch: (R,) int64, its rows in the order to come."""
    return replace(
        prompt,
        embeds_BTD=prompt.embeds_BTD[index_R],
        position_ids_ABT=prompt.position_ids_ABT[:, index_R],
        valid_BT=prompt.valid_BT[index_R],
        visual_BT=prompt.visual_BT[index_R],
        next_position_B=prompt.next_position_B[index_R],
        deepstack=tuple(added_BTD[index_R] for added_BTD in prompt.deepstack),
        block_BT=None if prompt.block_BT is None else prompt.block_BT[index_R],
    )


def right_padded(prompt: Prompt) -> tuple[Prompt, Tensor]:
    """Left-padded prompts padded on the right, and indices (B, T) that lead back by `take`."""
    length = prompt.valid_BT.shape[1]
    step_T = torch.arange(length, device=prompt.valid_BT.device)
    padding_B1 = (~prompt.valid_BT).sum(dim=1, keepdim=True)
    index_BT = (step_T + padding_B1) % length
    turned = take_tokens(prompt, index_BT, prompt.valid_BT.gather(1, index_BT))
    return turned, (step_T - padding_B1) % length


def add_text(prompt: Prompt, embeds_BSD: Tensor, valid_BS: Tensor) -> Prompt:
    """Put text tokens behind the prompts, right-padded, at the positions that follow.

    Args:
        prompt: B prompts of T tokens.
        embeds_BSD: (B, S, D).
        valid_BS: (B, S) bool, False behind a record's last token.
    """
    added = embeds_BSD.shape[1]
    steps_S = torch.arange(added, device=embeds_BSD.device)
    position_BS = prompt.next_position_B[:, None] + steps_S
    axes = prompt.position_ids_ABT.shape[0]
    no_image_BS = torch.zeros_like(valid_BS)
    return replace(
        prompt,
        embeds_BTD=torch.cat([prompt.embeds_BTD, embeds_BSD], dim=1),
        position_ids_ABT=torch.cat(
            [prompt.position_ids_ABT, position_BS.expand(axes, -1, -1)], dim=2
        ),
        valid_BT=torch.cat([prompt.valid_BT, valid_BS], dim=1),
        visual_BT=torch.cat([prompt.visual_BT, no_image_BS], dim=1),
        next_position_B=prompt.next_position_B + valid_BS.sum(dim=1),
        deepstack=tuple(pad(added_BTD, (0, 0, 0, added)) for added_BTD in prompt.deepstack),
        block_BT=None if prompt.block_BT is None else pad(prompt.block_BT, (0, added), value=-1),
    )


def take(hidden_BTD: Tensor, index_BW: Tensor) -> Tensor:
    """(B, W, D), the tokens at some places of each record."""
    return hidden_BTD.gather(1, index_BW[..., None].expand(-1, -1, hidden_BTD.shape[2]))
