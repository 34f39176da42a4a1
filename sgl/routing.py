"""How good an exit score is at routing, whatever the models cost.

Quality is drawn against the share of the records that the unpruned large model gets, those of the
lowest score first. Random routing is the straight line; a perfect order escalates first what that
helps and last what it harms. The measure is the area between the score and random routing, as a
share of that between the perfect order and random routing: 1 is perfect, 0 is chance.
"""

import numpy as np
import numpy.typing as npt

from sgl.bounds import Floats
from sgl.statistics import Bootstrap, Estimate
from sgl.strategies import Answered

_NOTHING = 1e-9


def recovered(answered: Answered, bootstrap: Bootstrap) -> Estimate | None:
    """How much of what routing can gain the exit score does; None where nothing can be gained."""
    gain = answered.large_quality - answered.small
    by_score, perfect = (_places(key) for key in (answered.sample.scores, -gain))

    def share(weights: npt.NDArray[np.floating]) -> float:
        random = float(weights @ gain) / float(weights.sum()) / 2
        possible = _area(gain, weights, perfect) - random
        if possible <= _NOTHING:
            return float("nan")
        return (_area(gain, weights, by_score) - random) / possible

    if np.isnan(share(np.ones(len(gain)))):
        return None
    return bootstrap.estimate(share)


def _places(keys: Floats) -> npt.NDArray[np.intp]:
    return np.unique(keys, return_inverse=True)[1]


def _area(gain: Floats, weights: npt.NDArray[np.floating], places: npt.NDArray[np.intp]) -> float:
    """Under the gain against the share that is escalated; of equal places in random order."""
    escalated, gained = (
        np.concatenate([[0.0], np.cumsum(np.bincount(places, weights=of))]) / weights.sum()
        for of in (weights, weights * gain)
    )
    return float(np.trapezoid(gained, escalated))
