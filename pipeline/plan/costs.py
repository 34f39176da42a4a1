"""From measured units to what any block or batch takes: a fixed part per forward pass, and per row.

Symbols: s seconds of a unit, p its forward passes, r its rows; s = fixed_s * p + row_s * r, by
non-negative least squares. Where all units have about as many rows per pass, the two parts cannot
be told apart, and everything is taken as per row: then nothing is said about other batch sizes.
"""

from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from pipeline.plan.measured import MeasuredPool

_TOLD_APART = 1.5
"""Rows per pass of the fuller units over those of the emptier ones, from which on a fit is made."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Overheads:
    """What a cluster spends beside the models. The defaults are of `docs/PLANNING.md`.

    Attributes:
        fetch_s: of a CPU core, to fetch, decode and pack one record.
        write_s: of a CPU core, for all that goes with a block and not with its rows: the tasks that
            cut, fetch and write it, and what the replicas do around their models.
        driver_s: of the one driver, for one block on its whole way: no number of nodes shares it.
    """

    fetch_s: float = 0.0015
    write_s: float = 0.071
    driver_s: float = 0.021


@dataclass(frozen=True)
class PoolCost:
    """Of one replica.

    Attributes:
        fixed_s: seconds of a forward pass, however full.
        row_s: further seconds per row.
        batch_rows: of a full forward pass.
        devices: of a replica.
        startup_s: seconds until its model is loaded.
        ratios: (n,) measured units' seconds over those of this fit: how uneven the work is.
        weights: (n,) seconds of this fit, by which a unit is drawn: then work that is drawn takes
            as long in the mean as it was measured to, whatever sizes the units had.
        unit_rows: mean rows of a measured unit.
    """

    fixed_s: float
    row_s: float
    batch_rows: int
    devices: float = 1.0
    startup_s: float = 0.0
    ratios: tuple[float, ...] = (1.0,)
    weights: tuple[float, ...] = (1.0,)
    unit_rows: float = 1.0

    def seconds(self, rows: float) -> float:
        """Of so many rows, in passes as full as they can be."""
        return self.fixed_s * ceil(rows / self.batch_rows) + self.row_s * rows

    @property
    def record_s(self) -> float:
        """Of a replica, per row of a full pass."""
        return self.seconds(self.batch_rows) / self.batch_rows

    def times(self, factor: float) -> "PoolCost":
        """All seconds of work multiplied."""
        return replace(self, fixed_s=self.fixed_s * factor, row_s=self.row_s * factor)


def pool_cost(pool: MeasuredPool, speed_up: float = 1.0) -> PoolCost:
    """Fit what a pool has done.

    Args:
        pool: its units.
        speed_up: how much faster the planned devices are than the measured ones.
    """
    rows, passes, seconds = (np.asarray(x) for x in (pool.rows, pool.passes, pool.seconds))
    fixed_s, row_s = fitted(rows, passes, seconds)
    fit = fixed_s * passes + row_s * rows
    cost = PoolCost(
        fixed_s=fixed_s,
        row_s=row_s,
        batch_rows=pool.batch_rows,
        devices=pool.devices,
        startup_s=pool.startup_s,
        ratios=tuple(seconds / fit),
        weights=tuple(fit),
        unit_rows=float(rows.mean()),
    )
    return cost.times((1 + pool.handling) / speed_up)


def fitted(rows: Floats, passes: Floats, seconds: Floats) -> tuple[float, float]:
    """Seconds per pass and per row; scaled so that the total is what was measured."""
    low, high = np.quantile(rows / passes, (0.1, 0.9))
    parts = np.array([0.0, 1.0])
    if high >= _TOLD_APART * low:
        parts, _ = nnls(np.stack([passes, rows], axis=1), seconds)
    scale = seconds.sum() / (parts[0] * passes + parts[1] * rows).sum()
    return float(parts[0] * scale), float(parts[1] * scale)
