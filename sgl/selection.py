"""What stays of a batch from which layer on: chosen beforehand, or by attention on the way there.

Shapes: B records, T prompt tokens, W tokens after others have gone or come.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from sgl.attention import RowCapture
from sgl.ranking import Cut, top_visual_counts


@dataclass(frozen=True)
class Selection:
    """What stays from which layer on.

    Attributes:
        layer: K, 0 to L; tokens leave the sequence at this layer's input.
        keep_BT: (B, T) bool over the prompt; padding is never kept.
    """

    layer: int
    keep_BT: Tensor

    def moved(self, index_BW: Tensor, valid_BW: Tensor) -> "Selection":
        """The same over prompts whose tokens have moved, as `sgl.compaction.compaction` says it."""
        return replace(self, keep_BT=self.keep_BT.gather(1, index_BW) & valid_BW)

    def with_draft(self, valid_BT: Tensor, drafted_BS: Tensor) -> "Selection":
        """The same with a draft behind the prompts, which stays: (B, T) and (B, S) bool."""
        return replace(self, keep_BT=torch.cat([self.keep_BT & valid_BT, drafted_BS], dim=1))


@dataclass(frozen=True)
class AttentionSelection:
    """As `Selection`, ranked by the attention that the last prompt token pays, summed over heads.

    Attributes:
        layer: K, below L.
        kept_B: (B,) int64, visual tokens that stay.
        before: ranked by layer K - 1, which runs anyway, and not by layer K on what enters it.
        complete: completes an importance, (B, T), that was summed over this process's heads only.
        draft_B: (B,) int64, draft tokens behind the prompt's last one; None where there are none.
    """

    layer: int
    kept_B: Tensor
    before: bool
    complete: Callable[[Tensor], Tensor]
    draft_B: Tensor | None = None

    def moved(self, _index_BW: Tensor, _valid_BW: Tensor) -> "AttentionSelection":
        """The same: what stays is not decided yet."""
        return self

    def with_draft(self, _valid_BT: Tensor, drafted_BS: Tensor) -> "AttentionSelection":
        """The same with a draft behind the prompts, (B, S) bool, whose tokens rank nothing."""
        return replace(self, draft_B=drafted_BS.sum(dim=1))

    def capture(self, valid_BT: Tensor) -> RowCapture:
        """Watches the last prompt token of each record of a left-padded batch, (B, T) bool."""
        batch, width = valid_BT.shape
        last_B = torch.full((batch,), width - 1, device=valid_BT.device)
        if self.draft_B is not None:
            last_B = last_B - self.draft_B
        weight_BT = (torch.arange(width, device=valid_BT.device) == last_B[:, None]).float()
        capture = RowCapture(batch, width, valid_BT.device)
        capture.watch(weight_BT, int(last_B.min()))
        return capture

    def choose(self, importance_BT: Tensor, visual_BT: Tensor) -> Tensor:
        """(B, T) bool: all text, and the visual tokens that the captured rows rank first."""
        ranked_BT = self.complete(importance_BT)
        return top_visual_counts(ranked_BT, visual_BT, self.kept_B) | ~visual_BT


AnySelection: TypeAlias = Selection | AttentionSelection


@dataclass(frozen=True)
class Plan:
    """How a batch is pruned.

    Attributes:
        selections: by layer.
        cuts: per record, what they leave of its visual tokens.
        flops: per record, what it cost to choose them.
    """

    selections: Sequence[AnySelection]
    cuts: Sequence[Sequence[Cut]]
    flops: Sequence[float]

    def kept(self, visual_tokens: Sequence[int]) -> list[int]:
        """How many of each record's V visual tokens are left in the last layer."""
        return [
            cuts[-1].kept if cuts else visual
            for cuts, visual in zip(self.cuts, visual_tokens, strict=True)
        ]

    @classmethod
    def of_nothing(cls, records: int) -> "Plan":
        """Everything stays."""
        return cls([], [[]] * records, [0.0] * records)
