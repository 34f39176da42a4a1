"""What `sgl calibrate` tells: sentences, and the chosen cascade beside the plain ways to answer."""

import math
from collections.abc import Mapping

import numpy as np
from rich.table import Table

from jobs.calibrate_config import CalibrationConfig, in_users_unit
from pipeline.observations import HEADROOM, Observations, kind_of
from sgl import calibration
from sgl.bounds import BINARY, DIFFERENCE, Kind
from sgl.calibration import LARGE_ONLY, NOBODY_EXITS, Candidate, Choice, Pruned
from sgl.sample_size import records_needed

_BUDGET = (
    "of the cost this is an estimate: it supposes that no record costs more than "
    f"{HEADROOM:g} times the dearest of the sample, and that device-seconds are what they were in "
    "this run; start-up and idle devices are not in it"
)


def told(seen: Observations, config: CalibrationConfig, choice: Choice) -> list[str]:
    """What the user must know, in sentences."""
    lines = [
        f"{count:,} records of the sample are left out: {reason}; the guarantee is for the others"
        for reason, count in seen.left_out.items()
    ]
    promised = ", ".join(f"{name} {value:g}" for name, value in config.targets().items())
    seemed = ", ".join(
        f"{name} {in_users_unit(name, loss):.4g}" for name, loss in choice.estimates.items()
    )
    if choice.candidate:
        lines.append(
            f"with a chance of at least {1 - config.delta:.0%} the mean over the records that this "
            f"sample was drawn from keeps {promised}; no more is promised. On the "
            f"{choice.records:,} records of the test it was (an estimate): {seemed}"
        )
        if config.budget_usd_per_1k is not None:
            lines.append(_BUDGET)
    elif choice.nearest is None:
        lines.append("every cascade is dearer than the large model alone; use mode large")
    else:
        needed = (
            f"about {choice.needed:,} records would probably do"
            if choice.needed
            else "no sample would do, as it seems to miss the target"
        )
        lines.append(
            f"{promised} cannot be shown for any cascade that is cheaper than the large model "
            f"alone. The nearest, {described(choice.nearest)}, came to {seemed} on "
            f"{choice.records:,} records (an estimate); {needed}"
        )
    return lines


def described(candidate: Candidate) -> str:
    """One cascade in words."""
    pruned = candidate.pruned
    how = pruned_how(pruned) if pruned.keep_ratio < 1 else "unpruned"
    if candidate.threshold <= 0:
        return "small only"
    if candidate.threshold > 1:
        return f"large only, {how}"
    return f"threshold {candidate.threshold:.6g}, {how}"


def pruned_how(way: Pruned) -> str:
    """One way to prune in words."""
    by = "" if way.pruner == "guided" else f"by {way.pruner}, "
    return f"{by}prune layer {way.prune_layer:g}, keep ratio {way.keep_ratio:g}"


def comparison(seen: Observations, config: CalibrationConfig, choice: Choice) -> Table:
    """The chosen cascade, or the nearest, beside the plain ways to answer."""
    sample = seen.sample()
    chosen = choice.candidate or choice.nearest
    full = float(sample.cost(LARGE_ONLY).mean())
    table = Table("", box=None, header_style="bold")
    for header in ("agreement", "escalated", "cost, of large only"):
        table.add_column(header, justify="right")
    disagreement = seen.disagreement(config.metric)
    rows: Mapping[str, Candidate] = {
        "small only": Candidate(0.0, calibration.UNPRUNED),
        "large only": LARGE_ONLY,
    } | {
        f"large only, {pruned_how(one)}": Candidate(NOBODY_EXITS, one)
        for one in sample.prunings
        if one != calibration.UNPRUNED
    }
    if chosen:
        rows = {
            **rows,
            f"{'chosen' if choice.candidate else 'nearest'}: {described(chosen)}": chosen,
        }
    for name, candidate in rows.items():
        table.add_row(
            name,
            f"{1 - disagreement.of(candidate, sample).mean():.1%}",
            f"{1 - sample.exits(candidate.threshold).mean():.1%}",
            f"{sample.cost(candidate).mean() / full:.1%}",
        )
    return table


def sizes_needed(config: CalibrationConfig) -> Table:
    """Before anything runs: the sample that would do, by what the cascade really loses."""
    table = Table("true loss, of the target's room", box=None, header_style="bold")
    for name, value in config.targets().items():
        table.add_column(f"{name} {value:g}", justify="right")
    kinds = kinds_of(config)
    for share in (0.0, 0.25, 0.5, 0.75):
        cells = []
        for name, value in config.targets().items():
            limit = 1 - value if name == "agreement" else value
            cells.append(_size(limit, share, config.delta, kinds[name]))
        table.add_row(f"{share:.0%}", *cells)
    return table


def kinds_of(config: CalibrationConfig) -> dict[str, Kind | None]:
    """What is known of each target's losses before any is seen; None: not enough to plan by."""
    kinds = {
        "agreement": kind_of(config.metric),
        "max_accuracy_drop": DIFFERENCE,
        "escalation_rate": BINARY,
        "budget_usd_per_1k": None,
    }
    return {name: kinds[name] for name in config.targets()}


def _size(limit: float, share: float, delta: float, kind: Kind | None) -> str:
    if kind is None:
        return "depends on the spread"
    # Enough coins of that mean to draw from.
    count = 10_000
    losses = (np.arange(count) < math.floor(count * limit * share)).astype(float)
    size = records_needed(losses, limit, delta, kind)
    return "more than a million" if size is None else f"{size:,}"
