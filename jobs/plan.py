"""`sgl plan`: pools for a job on a cluster, its hours and dollars, from measured seconds."""

import argparse
import re
from contextlib import suppress
from dataclasses import asdict, replace
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.device_kinds import DeviceKind, device_kind
from jobs.plan_samples import (
    ASSUMED,
    PROBE_RECORDS,
    demo_sample,
    measured_samples,
    probe_job,
    probed,
)
from jobs.price_option import add_price_option, price_flags
from sgl.errors import ConfigurationError

if TYPE_CHECKING:
    from pipeline.plan.measured import Measured
    from pipeline.plan.model import Job
    from pipeline.plan.proposal import Plan, Request
    from pipeline.plan.uncertainty import Sampled
    from pipeline.policy import Policy

_SCALES = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}
_OVERHEADS = {
    "fetch_s": "core-seconds to fetch and decode one record",
    "write_s": "core-seconds for what goes with a block and not with its rows",
    "driver_s": "seconds of the driver per block",
}
_BLOCKS_EACH = 25
_MOST_BLOCKS = 10_000
_SIMULATIONS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `sgl plan` takes."""
    parser.set_defaults(command=run)
    parser.add_argument(
        "--records", required=True, type=parsed_count, metavar="N", help="as in 250000 or 10M"
    )
    parser.add_argument(
        "--gpus", required=True, type=parsed_gpus, metavar="KIND:N", help="as in h100:64, or cpu:8"
    )
    parser.add_argument(
        "--measured",
        action="append",
        default=[],
        metavar="PLACE",
        help="an output of sgl run on such devices, or a JSON file (docs/PLANNING.md); several are "
        "ways to run the models, of which the fastest is proposed; default: the demo's",
    )
    parser.add_argument(
        "--probe", metavar="FILE", help="settings of a job: run some of its records now"
    )
    parser.add_argument(
        "--probe-records",
        type=parsed_count,
        default=PROBE_RECORDS,
        metavar="N",
        help=f"default: {PROBE_RECORDS}",
    )
    parser.add_argument("--policy", metavar="FILE", help="whose escalation rate is planned for")
    add_price_option(parser)
    parser.add_argument("--spot", action="store_true", help="prices of spot devices")
    parser.add_argument("--speed-up", type=_positive, metavar="X", help="over the measured devices")
    parser.add_argument("--startup-s", type=_seconds, metavar="S", help="default: as measured")
    parser.add_argument("--cores-per-gpu", type=_positive, default=8.0, metavar="N")
    for role in ("small", "large"):
        told = f"of one {role} replica; default: as measured"
        parser.add_argument(f"--{role}-gpus", type=_positive, metavar="N", help=told)
    for name, told in _OVERHEADS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=_seconds, metavar="S", help=told)
    parser.add_argument(
        "--rows-per-block", type=parsed_count, metavar="N", help="default: the best"
    )
    parser.add_argument("--no-simulation", action="store_true", help="only the arithmetic")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--endpoint-url", metavar="URL", help="of an S3 server other than AWS")


def parsed_count(text: str) -> int:
    """A count of records, with K, M or B for thousands, millions or billions.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMB]?)", text.strip().upper())
    count = round(float(match[1]) * _SCALES[match[2]]) if match else 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: write a count, as in 250000 or 10M")
    return count


def parsed_gpus(text: str) -> tuple[DeviceKind, int]:
    """A kind and how many.

    Raises:
        argparse.ArgumentTypeError: says what is wrong, and names the known kinds.
    """
    name, _, count = text.partition(":")
    if not count.isdecimal() or int(count) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: write KIND:N, as in h100:64")
    if (kind := device_kind(name)) is None:
        near = get_close_matches(name.lower(), list(DeviceKind), n=2)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise argparse.ArgumentTypeError(
            f"there is no kind {name!r}; {hint}known are {', '.join(DeviceKind)}"
        )
    return kind, int(count)


def _positive(text: str) -> float:
    value = _number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: write a number above 0")
    return value


def _seconds(text: str) -> float:
    value = _number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: write seconds, 0 or more")
    return value


def _number(text: str) -> float:
    with suppress(ValueError):
        if isfinite(value := float(text)):
            return value
    raise argparse.ArgumentTypeError(f"{text!r}: write a number")


def run(options: argparse.Namespace) -> int:
    """Propose, simulate and print."""
    from rich.console import Console

    from jobs.json_text import print_json
    from jobs.plan_tables import remarks, show
    from jobs.settings import storage_at
    from pipeline.plan.proposal import propose
    from pipeline.policy import read_policy

    policy = read_policy(Path(options.policy)) if options.policy else None
    price, told = _price(options)
    request = replace(_request(options), usd_per_hour=price, sampled=_of_policy(policy))
    samples = measured_samples(options.measured, storage_at(options.endpoint_url))
    if options.probe:
        samples.append(probed(probe_job(options.probe, options.probe_records, options.policy)))
    assumed = not samples
    if assumed:
        samples = [demo_sample()]
    else:
        _check_devices(options, samples)
    plan = propose(request, samples)
    checked = None if options.no_simulation else _simulated(plan)
    notes = [*([ASSUMED] if assumed else []), *_other_records(policy, samples)]
    notes += remarks(request, plan, told)
    if options.json:
        print_json(_plain(plan) | {"simulation": checked, "remarks": notes})
    else:
        show(Console(), request, plan, checked, notes)
    return 0


def _check_devices(options: argparse.Namespace, samples: "list[Measured]") -> None:
    """Seconds of a CPU say nothing of a GPU's, unless somebody says how much."""
    planned = "cpu" if options.gpus[0] is DeviceKind.CPU else "gpu"
    for one in samples:
        if one.device != planned and options.speed_up is None:
            raise ConfigurationError(
                f"--measured {one.source}: its seconds are of a {one.device}, and the plan is for "
                f"{options.gpus[0]}; measure a short run there, or write --speed-up"
            )


def _request(options: argparse.Namespace) -> "Request":
    from pipeline.plan.costs import Overheads
    from pipeline.plan.proposal import Request

    given = {name: getattr(options, name) for name in _OVERHEADS}
    request = Request(
        records=options.records,
        devices=options.gpus[1],
        overheads=Overheads(**{name: value for name, value in given.items() if value is not None}),
        cores_per_device=1.0 if options.gpus[0] is DeviceKind.CPU else options.cores_per_gpu,
        speed_up=options.speed_up or 1.0,
        startup_s=options.startup_s,
        small_devices=options.small_gpus,
        large_devices=options.large_gpus,
    )
    if options.rows_per_block is None:
        return request
    return replace(request, blocks=(options.rows_per_block,))


def _of_policy(policy: "Policy | None") -> "Sampled | None":
    from pipeline.config import Mode
    from pipeline.plan.uncertainty import Sampled

    if policy is None:
        return None
    rate = 0.0 if policy.mode is Mode.SMALL else policy.escalation_rate
    return Sampled(round(rate * policy.records), policy.records)


def _other_records(policy: "Policy | None", samples: "list[Measured]") -> list[str]:
    """Samples of another threshold, of which other records went to the large model."""
    if policy is None:
        return []
    return [
        f"{one.source} is of threshold {one.threshold:g} and the policy's is {policy.threshold:g}: "
        "the large model's seconds are of other records; measure with sgl run --policy"
        for one in samples
        if one.threshold is not None and one.threshold != policy.threshold
    ]


def _price(options: argparse.Namespace) -> tuple[float | None, str]:
    """Of one device for an hour, and where it is from."""
    from infra.price_table import Plan
    from infra.pricing import PricingConfig, price_book

    overrides = {name.rpartition(".")[2]: amount for name, amount in price_flags(options).items()}
    terms = Plan.SPOT if options.spot else Plan.ON_DEMAND
    book = price_book(PricingConfig.model_validate({"plan": terms, "overrides": overrides}))
    kind = options.gpus[0]
    price = book.of(kind)
    return (None, book.remedy(kind)) if price is None else (price.per_hour, str(price))


def _simulated(plan: "Plan") -> dict[str, Any]:
    """The proposed split's first part, simulated, beside what the plan says of that part."""
    from importlib.util import find_spec

    if find_spec("simpy") is None:
        raise ConfigurationError(
            "sgl plan: SimPy is not installed; install the extra 'plan' (pip install "
            "'sgl-cascade[plan]'), or write --no-simulation"
        )
    from pipeline.plan.model import seconds
    from pipeline.plan.proposal import part_of
    from pipeline.plan.simulation import simulate

    job, split = plan.proposed.job, plan.proposed.split
    part = part_of(_started(job), split, _BLOCKS_EACH, _MOST_BLOCKS)
    runs = [simulate(part, split, seed) for seed in range(_SIMULATIONS)]
    times = sorted(one.seconds for one in runs)
    middle = next(one for one in runs if one.seconds == times[len(times) // 2])
    return asdict(middle) | {
        "runs": len(runs),
        "seconds_range": [times[0], times[-1]],
        "planned_s": seconds(part, split),
    }


def _started(job: "Job") -> "Job":
    """Without start-up: most of a short run would be that."""
    large = replace(job.large, startup_s=0.0) if job.large else None
    return replace(job, small=replace(job.small, startup_s=0.0), large=large)


def _plain(plan: "Plan") -> dict[str, Any]:
    """For JSON: without the samples' units."""
    data = asdict(plan)
    for one in (data["proposed"], *data["alternatives"]):
        for pool in (one["job"]["small"], one["job"]["large"]):
            if pool is not None:
                del pool["ratios"]
    return data
