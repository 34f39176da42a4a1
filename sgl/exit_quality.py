"""How well scores decide which records exit (paper, figure 4), each figure with its interval.

    AUROC            how often a right answer's score is above a wrong one's; ties count half
    area of exits    accuracy of the exited records, averaged over all exit rates from 0 to 1
    area of cascade  accuracy of all records when the others go to the large model, likewise
    calibration      sum_b n_b / n |mean score - accuracy| over equal bins b of the score
                     (expected calibration error; Guo et al. 2017, arXiv 1706.04599)

Records of equal score cannot be told apart: wherever an exit rate divides them, they are as right
as they are on average. Every figure is one of record weights, as sgl.statistics resamples them.

Shapes: n records, G groups of equal score, highest first.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sgl.statistics import Bootstrap, Estimate, Floats

Bools = npt.NDArray[np.bool_]
BINS = 15
"""As Guo et al. have it."""


@dataclass(frozen=True)
class Quality:
    """Of one criterion.

    Attributes:
        auroc: 0.5 by chance, 1 perfect; None where all answers are right, or all wrong.
        exits_area: a criterion without sense reaches the small model's accuracy.
        cascade_area: without sense it is the mean of both models' accuracy; None where the large
            model's answers are not known.
        calibration_error: 0 where a score is the share of right answers among those that have it.
    """

    auroc: Estimate | None
    exits_area: Estimate
    cascade_area: Estimate | None
    calibration_error: Estimate


@dataclass(frozen=True)
class Bin:
    """Records whose scores lie near each other.

    Attributes:
        records: how many.
        score: their mean.
        accuracy: likewise.
    """

    records: int
    score: float
    accuracy: float


class ExitOrder:
    """Records in the order in which they exit.

    Args:
        scores: (n,) 0 to 1, higher exits first.
        right: (n,) whether the small model's answer is.
        large: (n,) whether the large one's is; None where that is not known.
    """

    def __init__(self, scores: Floats, right: Bools, large: Bools | None = None) -> None:
        _, self._group = np.unique(-np.asarray(scores, dtype=np.float64), return_inverse=True)
        self._scores = np.asarray(scores, dtype=np.float64)
        self._bin = np.minimum((self._scores * BINS).astype(np.int64), BINS - 1)
        self._right = right.astype(np.float64)
        self._large = None if large is None else large.astype(np.float64)

    def auroc(self, weights: Floats) -> float:
        """See above; not a number where all are right, or all wrong."""
        right_G, wrong_G = (
            self._sums(weights * self._right),
            self._sums(weights - weights * self._right),
        )
        pairs = right_G.sum() * wrong_G.sum()
        if not pairs:
            return float("nan")
        below_G = wrong_G.sum() - np.cumsum(wrong_G) + wrong_G / 2
        return float(right_G @ below_G / pairs)

    def exits_area(self, weights: Floats) -> float:
        """The integral of accuracy over exit rate, exactly.

        Within a group the rights R grow by p per record, R(w) = R0 + p (w - w0), so that the
        integral of R(w) / w is p (w1 - w0) + (R0 - p w0) log(w1 / w0).
        """
        size_G, right_G = self._sums(weights), self._sums(weights * self._right)
        some_G = size_G > 0
        size_G, right_G = size_G[some_G], right_G[some_G]
        ends_G, rights_G = np.cumsum(size_G), np.cumsum(right_G)
        starts_G = ends_G - size_G
        rest_G = rights_G - right_G - right_G / size_G * starts_G
        # The first group begins with nothing, and nothing is left of it either.
        logs = np.log(ends_G[1:] / starts_G[1:])
        return float((right_G.sum() + rest_G[1:] @ logs) / ends_G[-1])

    def cascade_area(self, weights: Floats) -> float:
        """Likewise of R(w) + the large model's rights among those that stay."""
        assert self._large is not None, "the large model's answers are not known"
        size_G = self._sums(weights)
        gain_G = self._sums(weights * (self._right - self._large))
        gained_G = np.cumsum(gain_G) - gain_G / 2
        total = size_G.sum()
        return float((size_G @ gained_G / total + weights @ self._large) / total)

    def calibration_error(self, weights: Floats) -> float:
        """See above."""
        gaps = weights * (self._scores - self._right)
        return float(np.abs(np.bincount(self._bin, weights=gaps)).sum() / weights.sum())

    def reliability(self) -> list[Bin]:
        """The bins of the calibration error that hold any record, lowest first."""
        found = []
        for place in range(BINS):
            inside = self._bin == place
            if inside.any():
                score, accuracy = self._scores[inside].mean(), self._right[inside].mean()
                found.append(
                    Bin(int(inside.sum()), round(float(score), 4), round(float(accuracy), 4))
                )
        return found

    def _sums(self, values: Floats) -> Floats:
        """(G,) of (n,)."""
        return np.bincount(self._group, weights=values).astype(np.float64)


def quality(
    bootstrap: Bootstrap, scores: Floats, right: Bools, large: Bools | None = None
) -> Quality:
    """Every figure of one criterion; arguments as of ExitOrder."""
    order = ExitOrder(scores, right, large)
    wanted = {"exits_area": order.exits_area, "calibration_error": order.calibration_error}
    if right.any() and not right.all():
        wanted["auroc"] = order.auroc
    if large is not None:
        wanted["cascade_area"] = order.cascade_area
    found = dict(zip(wanted, bootstrap.estimates(list(wanted.values())), strict=True))
    return Quality(
        auroc=found.get("auroc"),
        exits_area=found["exits_area"],
        cascade_area=found.get("cascade_area"),
        calibration_error=found["calibration_error"],
    )


def lead(bootstrap: Bootstrap, one: ExitOrder, other: ExitOrder) -> Estimate:
    """By how much the exits of one order are more accurate than another's of the same records.

    Both are resampled together: what they have in common widens no interval.
    """
    return bootstrap.estimate(lambda weights: one.exits_area(weights) - other.exits_area(weights))


def auroc(bootstrap: Bootstrap, right: Bools, scores: Floats) -> Estimate:
    """How well scores tell right from wrong answers: 0.5 by chance, 1 perfectly."""
    return bootstrap.estimate(ExitOrder(scores, right).auroc)


def exit_curve(
    scores: Floats, small: Bools, large: Bools | None = None, points: int = 21
) -> list[dict[str, float]]:
    """What exits get right, and the whole cascade, at evenly spaced exit rates.

    Args:
        scores: (n,) exit scores; the highest exit first, ties in order.
        small: (n,) whether the small model is right.
        large: (n,) whether the large one is; None leaves the cascade out.
        points: of the curve, both ends included.
    """
    order = np.argsort(-scores, kind="stable")
    curve = []
    for rate in np.linspace(0, 1, points):
        exits = round(rate * len(order))
        first, rest = order[:exits], order[exits:]
        point = {"exit_rate": round(exits / len(order), 4)}
        if large is not None:
            right = small[first].sum() + large[rest].sum()
            point["accuracy"] = round(float(right / len(order)), 4)
        point["accuracy_of_exits"] = round(float(small[first].mean()), 4) if exits else 1.0
        curve.append(point)
    return curve
