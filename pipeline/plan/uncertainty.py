"""How sure a plan's hours are, as far as the sample can say: measured units drawn anew.

Only chance in the sample is in it. That the cluster's devices, pictures or questions are others
than the sample's is not.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pipeline.plan.costs import Floats, PoolCost
from pipeline.plan.model import Job, Split, bottleneck, seconds, stage_seconds
from sgl.statistics import Estimate, estimate_of

_DRAWS = 500
_SEED = 5


@dataclass(frozen=True)
class Sampled:
    """How well the escalation rate is known.

    Attributes:
        escalated: records of the sample that went to the large model.
        records: of the sample.
    """

    escalated: int
    records: int

    @property
    def rate(self) -> float:
        """Their share."""
        return self.escalated / self.records


@dataclass(frozen=True)
class Doubt:
    """What other samples would have said of the same split.

    Attributes:
        seconds: of the job, with its 95 % interval.
        escalation: likewise, of the rate.
        bottlenecks: share of the draws in which each stage is the slowest.
    """

    seconds: Estimate
    escalation: Estimate
    bottlenecks: dict[str, float]


def doubt(job: Job, split: Split, sampled: Sampled) -> Doubt:
    """Draw the sample anew, and plan with it.

    Args:
        job: as planned, its escalation rate the sample's.
        split: that is kept.
        sampled: where that rate is from.
    """
    drawn = list(_drawn(job, sampled))
    times = np.array([seconds(one, split) for one in drawn])
    rates = np.array([one.escalation for one in drawn])
    limits = Counter(bottleneck(stage_seconds(one, split)) for one in drawn)
    return Doubt(
        estimate_of(seconds(job, split), times),
        estimate_of(job.escalation, rates),
        {name: count / len(drawn) for name, count in limits.most_common()},
    )


def _drawn(job: Job, sampled: Sampled) -> Iterator[Job]:
    rng = np.random.default_rng(_SEED)
    smalls = _factors(job.small, rng)
    larges = _factors(job.large, rng) if job.large else np.ones(_DRAWS)
    # Jeffreys' prior: a rate of which no case was seen is not known to be zero.
    others = sampled.records - sampled.escalated
    rates = rng.beta(sampled.escalated + 0.5, others + 0.5, _DRAWS)
    for small, large, rate in zip(smalls, larges, rates, strict=True):
        yield replace(
            job,
            small=job.small.times(small),
            large=job.large.times(large) if job.large else None,
            escalation=float(rate) if job.escalates else 0.0,
        )


def _factors(cost: PoolCost, rng: np.random.Generator) -> Floats:
    """Mean seconds of as many units, drawn with replacement, over those measured."""
    ratios = np.asarray(cost.ratios)
    means = [rng.choice(ratios, len(ratios)).mean() for _ in range(_DRAWS)]
    return np.asarray(means) / ratios.mean()
