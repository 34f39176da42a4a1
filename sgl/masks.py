"""Who attends to whom, over a ragged batch whose tokens may have been pruned.

A token attends to itself and to what stands before it; in some families also to the rest of its
image block, and in some of their layers only to what lies within a sliding window. Distances are
those of the full sequence, whatever has been pruned in between. Where plain causal attention over
all cached tokens is right, the mask is None: fused attention then runs without one, on its fast
path.

Shapes: B records, T tokens, R rows that stay, X either 1 or B.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from sgl.language_model import Prompt


@dataclass(frozen=True)
class Attended:
    """What masks must know of the tokens that can be attended to: a prompt's, then cached ones.

    Attributes:
        valid_BT: (B, T) bool, False on padding and on what was taken back; None: all are valid.
        position_BT: (B, T) int64, places in the full sequence; None where no layer has a window.
        block_BT: (B, T) int64, see `Prompt`.
    """

    valid_BT: Tensor | None
    position_BT: Tensor | None
    block_BT: Tensor | None

    @classmethod
    def of(cls, prompt: Prompt, *, windows: bool) -> "Attended":
        """The tokens of a prompt; `windows`: some layer has a sliding one."""
        return cls(
            valid_BT=None if bool(prompt.valid_BT.all()) else prompt.valid_BT,
            position_BT=prompt.position_ids_ABT[0] if windows else None,
            block_BT=prompt.block_BT,
        )

    @property
    def only_padding_hidden(self) -> bool:
        """Whether there is padding, and attention is plainly causal but for it."""
        return self.valid_BT is not None and self.position_BT is None and self.block_BT is None

    def prefill_mask(self, window: int | None) -> Tensor | None:
        """(X, 1, T, T) bool, of every token over every token.

        A padding row attends to itself: a row without any key would turn into NaN.

        Args:
            window: how many tokens are seen, the token itself included; None: all.
        """
        needed = (self.valid_BT, self.block_BT, None if window is None else self.position_BT)
        known_BT = next((part for part in needed if part is not None), None)
        if known_BT is None:
            return None
        length, device = known_BT.shape[1], known_BT.device
        seen_XTT = torch.ones(1, length, length, dtype=torch.bool, device=device).tril()
        if self.block_BT is not None:
            same_BTT = self.block_BT[:, :, None] == self.block_BT[:, None, :]
            seen_XTT = seen_XTT | (same_BTT & (self.block_BT >= 0)[:, None, :])
        if window is not None:
            assert self.position_BT is not None, "windows are counted in positions"
            behind_BTT = self.position_BT[:, :, None] - self.position_BT[:, None, :]
            seen_XTT = seen_XTT & (behind_BTT < window)
        if self.valid_BT is not None:
            seen_XTT = seen_XTT & self.valid_BT[:, None, :]
        itself_TT = torch.eye(length, dtype=torch.bool, device=device)
        return (seen_XTT | itself_TT)[:, None]

    def decode_mask(self, window: int | None) -> Tensor | None:
        """(B, 1, 1, T) bool, of the last token over every token."""
        seen_BT = self.valid_BT
        if window is not None:
            assert self.position_BT is not None, "windows are counted in positions"
            near_BT = self.position_BT[:, -1:] - self.position_BT < window
            seen_BT = near_BT if seen_BT is None else near_BT & seen_BT
        return None if seen_BT is None else seen_BT[:, None, None, :]

    def with_next(self, position_B: Tensor) -> "Attended":
        """One more text token per record, valid."""
        return Attended(
            valid_BT=None if self.valid_BT is None else pad(self.valid_BT, (0, 1), value=True),
            position_BT=None
            if self.position_BT is None
            else torch.cat([self.position_BT, position_B[:, None]], dim=1),
            block_BT=None,
        )

    def without_last(self, count_B: Tensor, width: int) -> "Attended":
        """Each record's last `count` tokens are taken back; T is `width`."""
        valid_BT = self.valid_BT
        if valid_BT is None:
            valid_BT = torch.ones(len(count_B), width, dtype=torch.bool, device=count_B.device)
        from_here_BT = valid_BT.flip(1).cumsum(dim=1).flip(1)
        return replace(self, valid_BT=valid_BT & (from_here_BT > count_B[:, None]))

    def keep_rows(self, index_R: Tensor) -> "Attended":
        """Of the records that stay in the batch."""
        parts = (self.valid_BT, self.position_BT, self.block_BT)
        return Attended(*(None if part is None else part[index_R] for part in parts))
