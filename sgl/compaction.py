"""Dropping tokens from a ragged, left-padded batch.

What stays keeps its order and its position ids; the batch shrinks to the width of the longest
survivor. Shapes: B records, T tokens before, W tokens after, D hidden, A position axes.
"""

from dataclasses import dataclass, replace

from torch import Tensor

from sgl.language_model import Prompt


@dataclass(frozen=True)
class Selection:
    """What stays from which layer on.

    Attributes:
        layer: K, 0 to L; tokens leave the sequence at this layer's input.
        keep_BT: (B, T) bool over the prompt; padding is never kept.
    """

    layer: int
    keep_BT: Tensor


def prune_prompt(prompt: Prompt, keep_BT: Tensor) -> Prompt:
    """Drop tokens before layer 0; positions, and that of the first answer token, stay as they were.

    Args:
        prompt: B prompts of T tokens.
        keep_BT: (B, T) bool; padding is never kept.
    """
    index_BW, valid_BW = compaction(keep_BT & prompt.valid_BT)
    return replace(
        prompt,
        embeds_BTD=take(prompt.embeds_BTD, index_BW),
        position_ids_ABT=take_positions(prompt.position_ids_ABT, index_BW),
        valid_BT=valid_BW,
        visual_BT=prompt.visual_BT.gather(1, index_BW) & valid_BW,
    )


def compaction(keep_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Left-padded indices (B, W) of the kept tokens in their order, and their validity."""
    width = int(keep_BT.sum(dim=1).max())
    index_BW = keep_BT.sort(dim=1, stable=True).indices[:, -width:]
    return index_BW, keep_BT.gather(1, index_BW)


def take(hidden_BTD: Tensor, index_BW: Tensor) -> Tensor:
    """(B, W, D): the hidden states at the indices."""
    return hidden_BTD.gather(1, index_BW[..., None].expand(-1, -1, hidden_BTD.shape[2]))


def take_positions(position_ids_ABT: Tensor, index_BW: Tensor) -> Tensor:
    """(A, B, W): the position ids at the indices."""
    return position_ids_ABT.gather(2, index_BW.expand(position_ids_ABT.shape[0], -1, -1))
