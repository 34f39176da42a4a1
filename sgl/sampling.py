"""Tokens drawn at random, the same ones again with the same seed.

Numbers are drawn on the host, by a generator of the record's own: they depend neither on what else
is in the batch nor on the device, and processes that split a model draw alike.
"""

import torch
from torch import Tensor

from sgl.types import Sampling


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
        scaled_N = log_prob_N.double().cpu() / self._sampling.temperature
        prob_N, token_N = scaled_N.softmax(dim=-1).sort(descending=True, stable=True)
        upto_N = prob_N.cumsum(dim=-1)
        # The fewest tokens that hold so much: the one that reaches it is the last of them.
        kept = int((upto_N < self._sampling.top_p).sum()) + 1
        kept = min(kept, int((prob_N > 0).sum()))
        share = torch.rand((), generator=self._generator, dtype=torch.float64) * upto_N[kept - 1]
        place = int(torch.searchsorted(upto_N[:kept], share, right=True))
        return int(token_N[min(place, kept - 1)])
