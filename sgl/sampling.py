"""Tokens drawn at random, the same ones again with the same seed.

Numbers are drawn on the host, by a generator of the record's own: they depend neither on what else
is in the batch nor on the device, and processes that split a model draw alike.
"""

import torch
from torch import Tensor

from sgl.types import Sampling

_FEW = 512
"""Tokens that nearly always hold the share that is asked for."""


class Sampler:
    """Draws one record's tokens.

    Args:
        sampling: how.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._generator = torch.Generator().manual_seed(sampling.seed)

    def draw(self, log_prob_N: Tensor) -> int:
        """The next token.

        Args:
            log_prob_N: (N,) of a log-softmax; tokens at minus infinity are never drawn.
        """
        share = torch.rand((), generator=self._generator, dtype=torch.float64)
        prob_N = (log_prob_N.float() / self._sampling.temperature).softmax(dim=-1)
        if self._sampling.top_p == 1:
            return _drawn(prob_N.cpu().double(), share)
        prob_M, token_M = self._fewest(prob_N)
        return int(token_M[_drawn(prob_M, share)])

    def _fewest(self, prob_N: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest tokens that hold `top_p` together, the one that reaches it included."""
        for most in (_FEW, len(prob_N)):  # sorting a whole vocabulary takes long
            prob_M, token_M = prob_N.topk(min(most, len(prob_N)))
            prob_M = prob_M.cpu().double()
            short = int((prob_M.cumsum(dim=-1) < self._sampling.top_p).sum())
            if short < len(prob_M):
                break
        return prob_M[: short + 1], token_M


def _drawn(prob_M: Tensor, share: Tensor) -> int:
    """The place at which so large a share of the probability is reached."""
    upto_M = prob_M.cumsum(dim=-1)
    place = int(torch.searchsorted(upto_M, share * upto_M[-1], right=True))
    # Rounding must not lead behind the last token that can be.
    return min(place, int(prob_M.nonzero()[-1]))
