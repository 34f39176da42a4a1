"""How large a sample a calibration needs, see sgl.calibration."""

import numpy as np

from sgl.bounds import Floats, Kind, mean_p

LEARNING_SHARE = 0.3
"""Of the sample, to order the candidates; the rest tests them. The order needs less than the proof:
see benchmarks/results/guarantee-*.json."""
_POWER = 0.8
_DRAWS = 50
_MOST_RECORDS = 1_000_000


def records_needed(losses: Floats, limit: float, delta: float, kind: Kind) -> int | None:
    """Records of a sample on which a candidate would probably be found safe.

    Args:
        losses: of the candidate, seen or supposed; larger samples are drawn from them.
        limit: of their mean.
        delta: see `calibrate`.
        kind: of the losses.

    Returns:
        The size that does in 4 cases out of 5, to a twentieth; None beyond a million.
    """
    if losses.mean() >= limit:
        return None
    random = np.random.default_rng(0)

    def does(size: int) -> bool:
        tested = size - int(size * LEARNING_SHARE)
        drawn = (random.choice(losses, tested) for _ in range(_DRAWS))
        passed = sum(mean_p(one, limit, kind) <= delta for one in drawn)
        return passed >= _POWER * _DRAWS

    size = 16
    while not does(size):
        size *= 2
        if size > _MOST_RECORDS:
            return None
    enough, short = size, size // 2
    while enough - short > enough // 20:
        middle = (enough + short) // 2
        enough, short = (middle, short) if does(middle) else (enough, middle)
    return enough
