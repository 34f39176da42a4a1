"""Who attends to whom, over a ragged batch whose tokens may have been pruned.

Where plain causal attention over all cached tokens is right, the mask is None: fused attention
then runs without one, on its fast path. Shapes: B records, T tokens, R rows that stay.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sgl.language_model import Prompt


@dataclass(frozen=True)
class Attended:
    """What masks must know of the tokens that can be attended to: a prompt's, then cached ones.

    Attributes:
        valid_BT: (B, T) bool, False on padding and on what was taken back; None: all are valid.
    """

    valid_BT: Tensor | None

    @classmethod
    def of(cls, prompt: Prompt) -> "Attended":
        """The tokens of a prompt."""
        return cls(None if bool(prompt.valid_BT.all()) else prompt.valid_BT)

    def prefill_mask(self) -> Tensor | None:
        """(B, 1, T, T) bool, of every token over every token.

        A padding row attends to itself: a row without any key would turn into NaN.
        """
        if self.valid_BT is None:
            return None
        length, device = self.valid_BT.shape[1], self.valid_BT.device
        causal_TT = torch.ones(length, length, dtype=torch.bool, device=device).tril()
        itself_TT = torch.eye(length, dtype=torch.bool, device=device)
        return (causal_TT & self.valid_BT[:, None, None, :]) | itself_TT

    def decode_mask(self) -> Tensor | None:
        """(B, 1, 1, T) bool, of the last token over every token."""
        return None if self.valid_BT is None else self.valid_BT[:, None, None, :]

    def with_next(self) -> "Attended":
        """One more token per record, valid."""
        if self.valid_BT is None:
            return self
        one_B1 = self.valid_BT.new_ones(self.valid_BT.shape[0], 1)
        return replace(self, valid_BT=torch.cat([self.valid_BT, one_B1], dim=1))

    def without_last(self, count_B: Tensor, width: int) -> "Attended":
        """Each record's last `count` of `width` tokens are taken back."""
        stays_BT = torch.arange(width, device=count_B.device) < (width - count_B)[:, None]
        return replace(
            self, valid_BT=stays_BT if self.valid_BT is None else self.valid_BT & stays_BT
        )

    def keep_rows(self, index_R: Tensor) -> "Attended":
        """Of the records that stay in the batch."""
        return self if self.valid_BT is None else replace(self, valid_BT=self.valid_BT[index_R])
