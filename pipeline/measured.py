"""What a run measured about itself: its probe against what was promised.

Every probed record has the unpruned large model's own answer beside the one that the run gave. So
the run tells how often the two agree, what the large model alone would have cost, and whether the
promise of its policy cannot be true any more, as when the records have changed.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.outcomes import probed_rows
from pipeline.output import Output
from pipeline.probe import Promise
from sgl.bounds import Floats, betting_p
from sgl.chance import Purpose, hash_of
from sgl.metrics import DEFAULT as DEFAULT_METRIC
from sgl.metrics import metric_named
from sgl.statistics import Bootstrap, Estimate, mean_score


@dataclass(frozen=True)
class Part:
    """Some of the probed records.

    Attributes:
        records: how many.
        agreement: with the unpruned large model's answers.
    """

    records: int
    agreement: Estimate


@dataclass(frozen=True)
class Measured:
    """Of the probed records.

    Attributes:
        records: how many.
        agreement: with the unpruned large model's answers.
        saved: share of the FLOPs of the large model alone that were not spent; where each record
            saved the same share, the interval has no width.
        cascade: those that the cascade answered as it was promised; None of no records.
        fail_safe: those that were answered fail-safe after an alarm, which agree by construction.
        broken_p: p-value of "the promise holds", from the cascade's; None where there are none of
            these, or nothing was promised.
    """

    records: int
    agreement: Estimate
    saved: Estimate
    cascade: Part | None
    fail_safe: Part | None
    broken_p: float | None = None

    def breaks(self, promise: Promise) -> bool:
        """Whether the promise cannot be true of all the records, as this test alone sees it."""
        return self.broken_p is not None and self.broken_p <= promise.delta_of_each


def measure(output: Output, promise: Promise | None) -> Measured | None:
    """Read the probe of an output; None where it holds none.

    Args:
        output: finished or not.
        promise: what was promised; None compares by exact match.
    """
    score = metric_named(promise.metric if promise else DEFAULT_METRIC)
    # A random order, and the same whenever one looks: ids may be in order of difficulty.
    rows = sorted(probed_rows(output), key=lambda row: (hash_of(row.id, Purpose.ORDER), row.id))
    if not rows:
        return None
    agreed = np.array([score(row.answer, [row.reference], row.options) for row in rows])
    safe = np.array([row.fail_safe for row in rows])
    bootstrap = Bootstrap([row.id for row in rows])
    cascade = agreed[~safe]
    share = bootstrap.ratio([row.flops for row in rows], [row.full for row in rows])
    return Measured(
        records=len(rows),
        agreement=mean_score(agreed),
        saved=Estimate(1 - share.value, 1 - share.high, 1 - share.low),
        cascade=_part(cascade),
        fail_safe=_part(agreed[safe]),
        broken_p=betting_p(cascade, promise.agreement) if promise and len(cascade) else None,
    )


def _part(agreed: Floats) -> Part | None:
    return Part(len(agreed), mean_score(agreed)) if len(agreed) else None
