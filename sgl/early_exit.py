"""The exit scores of the small model (SEE; paper, section 3.3, figure 4).

    confidence   exp(mean_t log p(y_t))                 p: the full forward, greedy tokens y
    consistency  prod_t p'(y_t)                         p': only the top 5 % of visual tokens left
    mean         (confidence + consistency) / 2         the paper's exit score, the default
    entropy      1 - mean_t H(p_t) / log N              H: entropy; N: size of the vocabulary
    margin       mean_t (p_t(first) - p_t(second))      the lead of the token over the next best
    quantile     exp(10 % quantile of log p(y_t))       nearly the weakest token
    random       uniform in [0, 1), by the record's id  what the others must beat

Each lies in [0, 1] and is higher where the model is surer, so that "exit iff score >= threshold"
holds for all. Only mean and consistency need the consistency pass.

Quantiles are of Gupta et al. 2024 (Language Model Cascades, arXiv 2404.10136), there of whole
answers' log probabilities; between two tokens it is interpolated. Entropy and margin are means over
tokens, as confidence is one of log probabilities: an answer's length does not lower them.

Departure from the paper: the product of the consistency pass falls with the answer's length, so
that a caption would never exit; `ConsistencyForm.GEOMETRIC` takes the per-token mean instead.
"""

import math
from collections.abc import Sequence

import numpy as np

from sgl.chance import Purpose, share_of
from sgl.types import Certainty, ConsistencyForm, Criterion

QUANTILE = 0.1


def needs_consistency(criterion: Criterion) -> bool:
    """Whether the exit score cannot be had without the consistency pass."""
    return criterion in (Criterion.MEAN, Criterion.CONSISTENCY)


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


def mean(confidence: float, consistency: float) -> float:
    """The paper's exit score."""
    return (confidence + consistency) / 2


def certainty_by_entropy(entropies: Sequence[float], vocabulary: int) -> float:
    """1 where every token was certain, 0 where all N were alike each time.

    Args:
        entropies: of each token's distribution, nats, at least one.
        vocabulary: N, at least 2.
    """
    share = math.fsum(entropies) / (len(entropies) * math.log(vocabulary))
    return min(1.0, max(0.0, 1 - share))


def margin(margins: Sequence[float]) -> float:
    """Mean lead of the tokens.

    Args:
        margins: p(first) - p(second) at each token, at least one.
    """
    return min(1.0, max(0.0, math.fsum(margins) / len(margins)))


def quantile(log_probs: Sequence[float], share: float = QUANTILE) -> float:
    """The token probability that so large a share of the tokens does not reach.

    Args:
        log_probs: log p(y_t) of each generated token, at least one.
        share: 0 is the least probable token.
    """
    return math.exp(float(np.quantile(log_probs, share)))


def random(record_id: str) -> float:
    """The same on every run and machine."""
    return share_of(record_id, Purpose.EXIT)


def certainty(
    log_probs: Sequence[float],
    entropies: Sequence[float],
    margins: Sequence[float],
    vocabulary: int,
    steady: float | None,
) -> Certainty:
    """Every score of one answer.

    Args:
        log_probs: of its tokens, as the next two; at least one.
        entropies: nats.
        margins: p(first) - p(second).
        vocabulary: N.
        steady: the consistency; None where it was not asked for.
    """
    return Certainty(
        confidence=confidence(log_probs),
        consistency=steady,
        entropy=certainty_by_entropy(entropies, vocabulary),
        margin=margin(margins),
        quantile=quantile(log_probs),
    )


def exit_score(criterion: Criterion, certainty: Certainty, record_id: str) -> float:
    """The score of the chosen criterion.

    Args:
        criterion: which.
        certainty: of the answer; its consistency is known if the criterion needs it.
        record_id: decides where chance does.
    """
    if criterion is Criterion.RANDOM:
        return random(record_id)
    if criterion is Criterion.MEAN:
        assert certainty.consistency is not None, "the consistency pass was skipped"
        return mean(certainty.confidence, certainty.consistency)
    score: float | None = getattr(certainty, criterion.value)
    assert score is not None, "the consistency pass was skipped"
    return score


def exits(score: float, threshold: float) -> bool:
    """Whether the small model's answer is final; a score that is not a number never is."""
    return score >= threshold
