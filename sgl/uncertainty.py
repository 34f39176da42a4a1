"""How spread out a token's distribution is, from the log-softmax that chose the token.

    entropy   H = -sum_y p(y) log p(y)     nats, 0 to log N
    margin    p(first) - p(second)         0 to 1

Shapes: R rows, N vocabulary.
"""

import torch
from torch import Tensor


def entropy_and_margin(log_prob_RN: Tensor) -> tuple[Tensor, Tensor]:
    """Entropy (nats) and margin of every row, (R,) each.

    Args:
        log_prob_RN: of a log-softmax; a barred token's, of minus infinity, counts as nothing.
    """
    # Minus infinity times a probability of nought is no number, and counts as nought. A vocabulary
    # is wide: another pass over it would take longer than choosing the token.
    entropy_R = -torch.nansum(log_prob_RN.exp() * log_prob_RN, dim=-1)
    best_R2 = log_prob_RN.topk(2, dim=-1).values.exp()
    return entropy_R.clamp(min=0), best_R2[:, 0] - best_R2[:, 1]
