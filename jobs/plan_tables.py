"""What `sgl plan` prints."""

from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.plan.proposal import SPLIT_EFFICIENCY, Option, Plan, Request
from sgl.statistics import Estimate

_FEW_UNITS = 20


def show(
    console: Console,
    request: Request,
    plan: Plan,
    simulated: dict[str, Any] | None,
    notes: list[str],
) -> None:
    """Print a plan.

    Args:
        console: where.
        request: what was asked.
        plan: the answer.
        simulated: of a part of it, with `planned_s`; None where it was not.
        notes: of `remarks`.
    """
    console.print(plan_table(request, plan, simulated))
    console.print()
    console.print(options_table(plan))
    for line in notes:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def plan_table(request: Request, plan: Plan, simulated: dict[str, Any] | None) -> Table:
    """Every figure of the proposal."""
    table = Table(show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column()
    for name, value in _rows(request, plan, simulated):
        table.add_row(name, value)
    return table


def _rows(request: Request, plan: Plan, simulated: dict[str, Any] | None) -> list[tuple[str, str]]:
    one, doubt = plan.proposed, plan.doubt
    job, split = one.job, one.split
    limits = ", ".join(f"{name} {share:.0%}" for name, share in doubt.bottlenecks.items())
    rows = [
        ("records", f"{request.records:,}, {_share(doubt.escalation)} escalate"),
        ("small pool", _pool(split.small, job.small.devices, job.small.batch_rows)),
    ]
    if split.large:
        large = job.large_cost()
        rows.append(("large pool", _pool(split.large, large.devices, large.batch_rows)))
    rows += [
        ("rows per block", str(split.rows_per_block)),
        ("devices", f"{one.devices:g} of {request.devices:g}"),
        ("hours", _hours(doubt.seconds)),
        ("dollars", _dollars(request, one, doubt.seconds)),
        ("bottleneck", f"{one.bottleneck} (of other samples: {limits})"),
        ("hours of each stage", ", ".join(f"{n} {s / 3600:.3g}" for n, s in plan.stages.items())),
    ]
    if simulated:
        rows.append(("simulated", _simulated(simulated)))
    return rows


def _pool(replicas: int, devices: float, batch_rows: int) -> str:
    plural = "" if replicas == 1 else "s"
    return f"{replicas} replica{plural}, devices of each: {devices:g}, batches of {batch_rows}"


def _share(one: Estimate) -> str:
    return f"{one.value:.1%} [{one.low:.1%}, {one.high:.1%}]"


def _hours(one: Estimate) -> str:
    value, low, high = (x / 3600 for x in (one.value, one.low, one.high))
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


def _dollars(request: Request, one: Option, seconds: Estimate) -> str:
    if request.usd_per_hour is None:
        return "no price"
    rate = one.devices * request.usd_per_hour / 3600
    value, low, high = (rate * x for x in (seconds.value, seconds.low, seconds.high))
    return f"{value:,.2f} [{low:,.2f}, {high:,.2f}]"


def _simulated(found: dict[str, Any]) -> str:
    ratio = found["seconds"] / found["planned_s"]
    low, high = (one / found["planned_s"] for one in found["seconds_range"])
    busy = ", ".join(f"{role} {share:.0%}" for role, share in found["busy"].items())
    return (
        f"the first {found['records']:,} records without start-up: {found['seconds']:.1f} s, "
        f"{ratio:.2f} times the plan's ({low:.2f} to {high:.2f} in {found['runs']} simulations); "
        f"at work: {busy}"
    )


def options_table(plan: Plan) -> Table:
    """The proposal and its alternatives."""
    table = Table("", box=None, header_style="bold")
    for header in ("small", "large", "rows/block", "devices", "hours", "dollars", "bottleneck"):
        table.add_column(header, justify="right")
    for one in (plan.proposed, *plan.alternatives):
        split = one.split
        table.add_row(
            one.name,
            f"{split.small} x {one.job.small.devices:g}",
            f"{split.large} x {one.job.large_cost().devices:g}" if split.large else "",
            str(split.rows_per_block),
            f"{one.devices:g}",
            f"{one.seconds / 3600:.3g}",
            "" if one.usd is None else f"{one.usd:,.2f}",
            one.bottleneck,
        )
    return table


def remarks(request: Request, plan: Plan, price: str) -> list[str]:
    """What the figures rest on, one line each."""
    one = plan.proposed
    lines = [
        f"seconds: of {plan.source}; escalation rate: {plan.sampled.escalated:,} of "
        f"{plan.sampled.records:,} records; the intervals are of chance in these samples, and of "
        "nothing else",
        f"price: {price}; of the pools' devices for the whole time, start-up included",
    ]
    costs = {"small": one.job.small} | ({"large": one.job.large_cost()} if one.split.large else {})
    for role, cost in costs.items():
        if len(cost.ratios) < _FEW_UNITS:
            lines.append(
                f"the {role} pool's seconds are of only {len(cost.ratios)} units: the interval is "
                "too narrow"
            )
        if not cost.fixed_s:
            lines.append(
                f"the {role} pool was measured at one batch size: measure others "
                "too to choose among them (--measured may be repeated)"
            )
    if request.speed_up != 1:
        lines.append(f"assumed: these devices are {request.speed_up:g} times the measured ones")
    if request.small_devices or request.large_devices:
        lines.append(
            f"assumed: a replica of twice the devices has {SPLIT_EFFICIENCY:.0%} of twice the speed"
        )
    lines += [f"left out: {reason}" for reason in plan.left_out]
    left = request.devices - one.devices
    if left >= 1:
        why = (
            "its blocks and batches do not divide among more replicas"
            if one.bottleneck in ("small", "large")
            else f"{one.bottleneck} limits it"
        )
        lines.append(f"{left:g} devices would not make it faster: {why}")
    return lines
