"""How soon a broken promise raises an alarm, and how often one that is kept does: by simulation.

    python -m benchmarks.alarm

Prints the tables of docs/decisions/0034; seeded, a few minutes on one core.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from sgl.bounds import DriftTest, Floats

PROMISES = ((0.95, 0.05), (0.9, 0.05), (0.85, 0.1))
"""Agreement and delta."""
IN_FLIGHT = (1, 8, 32, 128)
CALM = (0, 1000, 5000)
GAPS = (0.05, 0.1, 0.2, 0.3)
_RECORDS = 2000
_CALM_AGREEMENT, _AGREEMENT, _DELTA = 0.92, 0.9, 0.05
_MOST = 3000
_STEP = 5


def false_alarms(agreement: float, delta: float, in_flight: int, trials: int) -> float:
    """Share of runs with an alarm, of 2,000 probed records whose mean is exactly as promised.

    Args:
        agreement: promised.
        delta: of the promise; the run's own test has half of it.
        in_flight: records of which those that disagree always finish first; 1: no such order.
        trials: runs.
    """
    random = np.random.default_rng(0)
    alarms = 0
    for _ in range(trials):
        agreed = (random.random(_RECORDS) < agreement).astype(float)
        for start in range(0, _RECORDS, in_flight):
            agreed[start : start + in_flight].sort()
        alarms += DriftTest(agreement).after(agreed).p <= delta / 2
    return alarms / trials


def records_until(calm: int, gap: float, trials: int) -> float:
    """Median number of probed records from a change to the alarm, for a promise of 0.9 at 0.05.

    Args:
        calm: records before it, of which 92 % agree.
        gap: by how much less than promised agree after it.
        trials: runs.
    """
    random = np.random.default_rng(0)
    return float(np.median([_until(calm, gap, random) for _ in range(trials)]))


def _until(calm: int, gap: float, random: np.random.Generator) -> int:
    test = DriftTest(_AGREEMENT).after(_drawn(_CALM_AGREEMENT, calm, random))
    changed = _drawn(_AGREEMENT - gap, _MOST, random)
    for start in range(0, _MOST, _STEP):
        test = test.after(changed[start : start + _STEP])
        if test.p <= _DELTA / 2:
            return start + _STEP
    return _MOST


def _drawn(agreement: float, count: int, random: np.random.Generator) -> Floats:
    return (random.random(count) < agreement).astype(float)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--changes", type=int, default=30, help="runs with a change, per figure")
    options = parser.parse_args(arguments)
    print("false alarms, by records in flight:", *IN_FLIGHT)
    for agreement, delta in PROMISES:
        shares = [false_alarms(agreement, delta, one, options.trials) for one in IN_FLIGHT]
        print(f"{agreement:g} {delta:g}", *(f"{share:.1%}" for share in shares))
    print("records until the alarm, by calm records before:", *CALM)
    for gap in GAPS:
        print(f"{gap:g}", *(f"{records_until(one, gap, options.changes):.0f}" for one in CALM))


if __name__ == "__main__":
    main()
