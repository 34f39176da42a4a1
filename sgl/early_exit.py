"""The early-exit score of the small model (SEE; paper, section 3.3), in log space.

    confidence   exp(mean_t log p(y_t))            p: the full forward, greedy tokens y
    consistency  prod_t p'(y_t)                    p': only the top 5 % of visual tokens left
    exit score   (confidence + consistency) / 2    exit iff score >= threshold

Departure from the paper: the product of the consistency pass falls with the answer's length, so
that a caption would never exit; `ConsistencyForm.GEOMETRIC` takes the per-token mean instead.
"""

import math
from collections.abc import Sequence

from sgl.types import ConsistencyForm


def confidence(log_probs: Sequence[float]) -> float:
    """Geometric mean of the token probabilities, the end token included.

    Args:
        log_probs: log p(y_t) of each generated token, natural logarithm, at least one.
    """
    return math.exp(math.fsum(log_probs) / len(log_probs))


def consistency(log_probs: Sequence[float], form: ConsistencyForm) -> float:
    """The probability of the same answer given the most important visual tokens alone.

    Args:
        log_probs: log p'(y_t) of the same tokens in the pruned pass, at least one.
        form: their product (the paper) or their geometric mean.
    """
    total = math.fsum(log_probs)
    return math.exp(total if form is ConsistencyForm.PRODUCT else total / len(log_probs))


def exit_score(confidence: float, consistency: float) -> float:
    """The mean of the two, 0 to 1."""
    return (confidence + consistency) / 2


def exits(score: float, threshold: float) -> bool:
    """Whether the small model's answer is final; a score that is not a number never is."""
    return score >= threshold
