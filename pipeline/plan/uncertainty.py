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
    jobs = list(drawn(job, sampled, _DRAWS))
    times = np.array([seconds(one, split) for one in jobs])
    rates = np.array([one.escalation for one in jobs])
    limits = Counter(bottleneck(stage_seconds(one, split)) for one in jobs)
    return Doubt(
        estimate_of(seconds(job, split), times),
        estimate_of(job.escalation, rates),
        {name: count / len(jobs) for name, count in limits.most_common()},
    )


def drawn(job: Job, sampled: Sampled, draws: int) -> Iterator[Job]:
    """The job as other samples of the same size would have it.

    Args:
        job: as planned.
        sampled: where its escalation rate is from; its records are taken as independent.
        draws: how many.
    """
    rng = np.random.default_rng(_SEED)
    smalls = _factors(job.small, rng, draws)
    larges = _factors(job.large, rng, draws) if job.large else np.ones(draws)
    # Jeffreys' prior: a rate of which no case was seen is not known to be zero.
    others = sampled.records - sampled.escalated
    rates = rng.beta(sampled.escalated + 0.5, others + 0.5, draws)
    for small, large, rate in zip(smalls, larges, rates, strict=True):
        yield replace(
            job,
            small=job.small.times(small),
            large=job.large.times(large) if job.large else None,
            escalation=float(rate) if job.escalates else 0.0,
        )


def _factors(cost: PoolCost, rng: np.random.Generator, draws: int) -> Floats:
    """Seconds of as many units, drawn with replacement, over those of the fit for the same ones."""
    ratios, weights = np.asarray(cost.ratios), np.asarray(cost.weights)
    units = rng.integers(len(ratios), size=(draws, len(ratios)))
    return np.asarray((ratios * weights)[units].sum(axis=1) / weights[units].sum(axis=1))
