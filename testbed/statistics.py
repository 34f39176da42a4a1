"""The measures of rankings, and the choice of a threshold; exit scores are measured in sgl."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from sgl.statistics import Floats


def top_tokens(importance: Floats, share: float) -> npt.NDArray[np.int64]:
    """Indices of the highest `share` of the tokens, at least one; ties to the lower index."""
    count = max(1, int(len(importance) * share))
    return np.argsort(-importance, kind="stable")[:count]


def recall(importance: Floats, needed: Sequence[int], share: float) -> float:
    """Share of the needed tokens among the top ones; NaN where none is needed."""
    if not needed:
        return float("nan")
    return float(np.isin(needed, top_tokens(importance, share)).mean())


def overlap(one: Floats, other: Floats, share: float) -> float:
    """Share of the top tokens that two rankings have in common."""
    first, second = top_tokens(one, share), top_tokens(other, share)
    return len(np.intersect1d(first, second)) / len(first)


def rank_correlation(one: Floats, other: Floats) -> float:
    """Spearman's."""
    return float(spearmanr(one, other).statistic)


def threshold_for(
    scores: Floats, right: npt.NDArray[np.bool_], accuracy: float
) -> dict[str, float] | None:
    """The lowest threshold whose exits are right often enough, or None.

    Args:
        scores: (n,) exit scores.
        right: (n,) bool, whether the small model was.
        accuracy: wanted among the exits, 0 to 1.
    """
    order = np.argsort(-scores, kind="stable")
    running = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    last_of_ties = np.append(np.diff(scores[order]) != 0, True)
    good = np.flatnonzero((running >= accuracy) & last_of_ties)
    if len(good) == 0:
        return None
    exits = int(good[-1]) + 1
    return {
        "threshold": round(float(scores[order][exits - 1]), 4),
        "exit_rate": round(exits / len(order), 4),
        "accuracy_of_exits": round(float(running[exits - 1]), 4),
    }
