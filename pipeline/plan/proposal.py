"""A plan: the best split of the devices, its cost, how sure that is, and what else there is."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import log2

from pipeline.plan.costs import Overheads, PoolCost, pool_cost
from pipeline.plan.measured import Measured, MeasuredPool
from pipeline.plan.model import Job, Split, bottleneck, stage_seconds
from pipeline.plan.search import best_split
from pipeline.plan.uncertainty import Doubt, Sampled, doubt
from sgl.errors import ConfigurationError

SPLIT_EFFICIENCY = 0.85
"""Assumed, of a replica of twice the devices: so much of twice the speed."""
_SLACK = 0.05
_SCALES = (0.25, 0.5, 2.0, 4.0)


@dataclass(frozen=True)
class Request:
    """What is asked.

    Attributes:
        records: of the input.
        devices: GPUs, or cores of a CPU, that there are.
        usd_per_hour: of one of them; None where no price is known.
        sampled: where the escalation rate is from; None takes that of all samples together.
        overheads: beside the models.
        cores_per_device: for fetching and writing.
        blocks: rows per block to choose among.
        speed_up: of these devices over those of the sample.
        startup_s: of every replica; None takes the sample's.
        small_devices: of one replica; None as measured.
        large_devices: likewise.
    """

    records: int
    devices: float
    usd_per_hour: float | None = None
    sampled: Sampled | None = None
    overheads: Overheads = field(default_factory=Overheads)
    cores_per_device: float = 8.0
    blocks: tuple[int, ...] = (64, 128, 256)
    speed_up: float = 1.0
    startup_s: float | None = None
    small_devices: float | None = None
    large_devices: float | None = None


@dataclass(frozen=True)
class Option:
    """One way to do the job.

    Attributes:
        name: what is particular about it.
        job: as it would be done.
        split: of its devices.
        devices: that the pools take.
        seconds: of the whole job.
        usd: of these devices for that time; None without a price.
        bottleneck: the slowest stage.
    """

    name: str
    job: Job
    split: Split
    devices: float
    seconds: float
    usd: float | None
    bottleneck: str


@dataclass(frozen=True)
class Plan:
    """What is proposed.

    Attributes:
        proposed: the fastest.
        doubt: what other samples would have said of it.
        stages: by stage, how long all its work takes.
        sampled: where the escalation rate is from.
        source: of the sample that it is by.
        alternatives: with other devices, blocks or samples.
        left_out: why some samples were, if any.
    """

    proposed: Option
    doubt: Doubt
    stages: dict[str, float]
    sampled: Sampled
    source: str
    alternatives: tuple[Option, ...]
    left_out: tuple[str, ...] = ()


def propose(request: Request, samples: Sequence[Measured]) -> Plan:
    """Plan a job.

    Args:
        request: what is asked.
        samples: one per way to run the models that was measured; the fastest is proposed.

    Raises:
        ConfigurationError: by every sample the devices are too few, or the large model was not
            measured.
    """
    sampled = sampled_of(request, samples)
    request, ways, left_out = replace(request, sampled=sampled), [], list[ConfigurationError]()
    for one in samples:
        try:
            ways.append((one, _option("proposed", request, job_of(request, one))))
        except ConfigurationError as error:
            left_out.append(error)
    if not ways:
        raise left_out[0]
    sample, proposed = min(ways, key=lambda way: (way[1].seconds, way[1].devices))
    others = [
        replace(option, name=f"as measured in {one.source}")
        for one, option in ways
        if option is not proposed
    ]
    job = proposed.job
    return Plan(
        proposed=proposed,
        doubt=doubt(job, proposed.split, sampled),
        stages=stage_seconds(job, proposed.split),
        sampled=sampled,
        source=sample.source,
        alternatives=(*others, *_alternatives(request, sample, job)),
        left_out=tuple(map(str, left_out)),
    )


def sampled_of(request: Request, samples: Sequence[Measured]) -> Sampled:
    """Where the escalation rate is from: as asked, else all samples together."""
    escalated, records = (
        sum(one.escalated for one in samples),
        sum(one.records for one in samples),
    )
    return request.sampled or Sampled(escalated, records)


def job_of(request: Request, sample: Measured) -> Job:
    """The job with what a sample says of its costs.

    Raises:
        ConfigurationError: records go to a large model that was not measured.
    """
    rate = sampled_of(request, [sample]).rate
    if rate and sample.large is None:
        raise ConfigurationError(
            f"--measured {sample.source}: nothing escalated there, so that the large model has no "
            "seconds; measure a cascade in which some records do"
        )

    def cost(pool: MeasuredPool, devices: float | None) -> PoolCost:
        found = pool_cost(pool, request.speed_up)
        if request.startup_s is not None:
            found = replace(found, startup_s=request.startup_s)
        return found if devices is None else spread(found, devices)

    return Job(
        records=request.records,
        escalation=rate,
        small=cost(sample.small, request.small_devices),
        large=cost(sample.large, request.large_devices) if sample.large else None,
        overheads=request.overheads,
        cores=max(1, int(request.devices * request.cores_per_device)),
        cores_per_device=request.cores_per_device,
    )


def spread(cost: PoolCost, devices: float) -> PoolCost:
    """A replica on other devices than the measured one; see SPLIT_EFFICIENCY.

    Fewer devices than were measured are taken to lose nothing and to win nothing.
    """
    times = devices / cost.devices
    speed = times * SPLIT_EFFICIENCY ** max(0.0, log2(times))
    return replace(cost.times(1 / speed), devices=devices)


def _option(name: str, request: Request, job: Job, slack: float = 0.0) -> Option:
    split, took = best_split(job, request.devices, request.blocks, slack)
    devices, price = job.devices(split), request.usd_per_hour
    usd = None if price is None else devices * price * took / 3600
    return Option(name, job, split, devices, took, usd, bottleneck(stage_seconds(job, split)))


def _alternatives(request: Request, sample: Measured, job: Job) -> list[Option]:
    found = [_option(f"{_SLACK:.0%} slower at most", request, job, _SLACK)]
    found += [
        _option(f"blocks of {rows}", replace(request, blocks=(rows,)), job)
        for rows in request.blocks
        if len(request.blocks) > 1
    ]
    for scale in _SCALES:
        other = replace(request, devices=request.devices * scale)
        with suppress(ConfigurationError):  # too few for a replica of each pool
            found.append(_option(f"{other.devices:g} devices", other, job_of(other, sample)))
    return found


def part_of(job: Job, split: Split, blocks_each: int, most_blocks: int) -> Job:
    """So much of a job that simulating it is quick and start-up is not all of it.

    Args:
        job: the whole.
        split: that it runs on.
        blocks_each: of every small replica.
        most_blocks: of the whole.
    """
    blocks = min(max(blocks_each * split.small, blocks_each), most_blocks)
    return replace(job, records=min(job.records, blocks * split.rows_per_block))
