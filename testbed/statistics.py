"""The measures of rankings and of exit scores; intervals are in sgl/statistics.py."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from sgl.statistics import Bootstrap, Estimate, Floats


def auroc(bootstrap: Bootstrap, right: npt.NDArray[np.bool_], scores: Floats) -> Estimate:
    """How well scores tell right from wrong answers: 0.5 by chance, 1 perfectly."""
    return bootstrap.estimate(
        lambda weights: float(roc_auc_score(right, scores, sample_weight=weights))
    )


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


def exit_curve(
    scores: Floats, small: npt.NDArray[np.bool_], large: npt.NDArray[np.bool_], points: int = 21
) -> list[dict[str, float]]:
    """What a cascade gets right, and what its exits do, at evenly spaced exit rates.

    Args:
        scores: (n,) exit scores; the highest exit first, ties in order.
        small: (n,) bool, whether the small model is right.
        large: (n,) bool, whether the large one is.
        points: of the curve, both ends included.
    """
    order = np.argsort(-scores, kind="stable")
    curve = []
    for rate in np.linspace(0, 1, points):
        exits = round(rate * len(order))
        first, rest = order[:exits], order[exits:]
        curve.append(
            {
                "exit_rate": round(exits / len(order), 4),
                "accuracy": round(float((small[first].sum() + large[rest].sum()) / len(order)), 4),
                "accuracy_of_exits": round(float(small[first].mean()), 4) if exits else 1.0,
            }
        )
    return curve
