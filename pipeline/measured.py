"""What a run measured about itself: its probe against what was promised.

Every probed record has the unpruned large model's own answer beside the one that the run gave. So
the run tells how often the two agree, what the large model alone would have cost, and raises an
alarm where the promise of its policy cannot be true any more, as when the records have changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pipeline.draw import hash_of
from pipeline.output import Output
from pipeline.probe import UNPRUNED, Promise
from pipeline.rowfiles import in_parallel, read, visible
from pipeline.schema import PROBE
from sgl.bounds import betting_p
from sgl.metrics import DEFAULT as DEFAULT_METRIC
from sgl.metrics import metric_named
from sgl.statistics import Bootstrap, Estimate

_ORDER = -1
"""Seed of the hashes that put the records in order."""


@dataclass(frozen=True)
class Measured:
    """Of the probed records.

    Attributes:
        records: how many.
        agreement: with the unpruned large model's answers.
        saved: share of the FLOPs of the large model alone that were not spent.
        broken_p: p-value of "the promise holds"; None where nothing was promised.
    """

    records: int
    agreement: Estimate
    saved: Estimate
    broken_p: float | None = None

    def alarm(self, promise: Promise) -> str | None:
        """Why the promise cannot be believed any more; None while it can."""
        if self.broken_p is None or self.broken_p > promise.delta:
            return None
        return (
            f"ALARM: agreement {promise.agreement:g} was promised, and {self.agreement} is "
            f"measured on {self.records:,} probed records (p = {self.broken_p:.2g}); they are not "
            "like those of the calibration: calibrate again, or run with a threshold above 1"
        )


def measure(output: Output, promise: Promise | None) -> Measured | None:
    """Read the probe of an output; None where it holds none.

    Args:
        output: finished or not.
        promise: what was promised; None compares by exact match.
    """
    score = metric_named(promise.metric if promise else DEFAULT_METRIC)
    rows = list(_probed(output))
    if not rows:
        return None
    # A random order, and the same whenever one looks: ids may be in order of difficulty.
    rows.sort(key=lambda row: hash_of(row["id"], _ORDER))
    agreed = np.array([score(row["answer"], [row["reference"]]) for row in rows])
    spent, full = (np.array([row[name] for row in rows]) for name in ("flops", "full"))
    bootstrap = Bootstrap([row["id"] for row in rows])
    share = bootstrap.ratio(spent, full)
    return Measured(
        records=len(rows),
        agreement=bootstrap.mean(agreed),
        saved=Estimate(1 - share.value, 1 - share.high, 1 - share.low),
        broken_p=None if promise is None else betting_p(agreed, promise.agreement),
    )


def _probed(output: Output) -> Iterator[dict[str, Any]]:
    """Answered records with an unpruned answer beside theirs."""
    columns = ["id", "answer", "flops", PROBE.name]
    names = visible(output, output.rows)
    for table in in_parallel(lambda name: read(output, output.rows, name, columns), names):
        if table is None or PROBE.name not in table.column_names:
            continue
        for row in table.filter(pc.is_valid(table[PROBE.name])).to_pylist():
            unpruned = [one for one in row[PROBE.name] if one["keep_ratio"] == UNPRUNED.keep_ratio]
            if row["answer"] is not None and unpruned and unpruned[0]["answer"] is not None:
                beside = {"reference": unpruned[0]["answer"], "full": unpruned[0]["flops"]}
                yield {name: row[name] for name in columns[:3]} | beside
