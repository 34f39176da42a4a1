"""How far the simulation of the pipeline is from the pipeline, on this machine.

    python -m benchmarks.simulation FOLDER RUNS...

RUNS are files of benchmarks/simulation_runs.py. Each run is foretold from its probe alone, and
compared in records per second from the first start of a model to the last end of one, start-up left
out. What is foretold has an interval: units of the probe, its escalation rate and the simulation's
chances drawn anew.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.record import write_result
from benchmarks.simulation_runs import Configuration, Pair, Ran, read_pairs
from pipeline.plan.costs import Overheads, PoolCost, pool_cost
from pipeline.plan.measured import MeasuredPool
from pipeline.plan.model import Job, Split
from pipeline.plan.simulation import simulate
from pipeline.plan.uncertainty import Sampled, drawn

_DRAWS = 200
_CORES = 2
"""For fetching and writing."""

Row = dict[str, Any]


def foretold(probe: Ran, one: Configuration, records: int) -> tuple[float, float, float]:
    """Records per second: the median, and the interval of 95 %.

    Args:
        probe: all that is known.
        one: what is run.
        records: of the run.
    """
    escalated = sum(score < one.threshold for score in probe.scores)
    sampled = Sampled(escalated, len(probe.scores))
    large = probe.measured.large
    assert large is not None, "some of the probe's records escalate"
    job = Job(
        records=records,
        escalation=sampled.rate,
        small=_loaded(probe.measured.small),
        large=replace(_loaded(large), batch_rows=one.batch_rows),
        overheads=Overheads(),
        cores=_CORES,
    )
    split = Split(one.small, one.large, one.rows_per_block)
    seconds = [
        simulate(other, split, seed).stream_s
        for seed, other in enumerate(drawn(job, sampled, _DRAWS))
    ]
    low, middle, high = np.quantile(records / np.asarray(seconds), (0.025, 0.5, 0.975))
    return float(middle), float(low), float(high)


def _loaded(pool: MeasuredPool) -> PoolCost:
    return replace(pool_cost(pool), startup_s=0.0)


def compared(pair: Pair) -> Row:
    """A simulation beside a run."""
    run = pair.run
    measured = run.records / run.stream_s
    simulated, low, high = foretold(pair.probe, run.configuration, run.records)
    return asdict(run.configuration) | {
        "kind": pair.kind,
        "round": pair.round,
        "records": run.records,
        "probed": pair.probe.records,
        "others_cores": run.others_cores,
        "measured_per_s": measured,
        "simulated_per_s": simulated,
        "simulated_interval": [low, high],
        "error": simulated / measured - 1,
    }


def report(rows: Sequence[Row]) -> str:
    """As a table of text: medians over the rounds, and the least and the most."""
    lines = []
    for kind, name in dict.fromkeys((row["kind"], row["name"]) for row in rows):
        some = [row for row in rows if (row["kind"], row["name"]) == (kind, name)]
        lines.append(f"{kind}, {name}, {len(some)} rounds")
        lines.append(f"    measured  {_span([row['measured_per_s'] for row in some], '{:.1f}')}")
        lines.append(f"    simulated {_span([row['simulated_per_s'] for row in some], '{:.1f}')}")
        low, high = (median(row["simulated_interval"][i] for row in some) for i in (0, 1))
        lines.append(f"    interval  {low:.1f} to {high:.1f}")
        lines.append(f"    error     {_span([row['error'] for row in some], '{:+.1%}')}")
        lines.append(
            f"    others    {_span([row['others_cores'] for row in some], '{:.2f}')} cores"
        )
    return "\n".join(lines)


def _span(values: Sequence[float], form: str) -> str:
    middle, low, high = (form.format(one) for one in (median(values), min(values), max(values)))
    return f"{middle} [{low}, {high}]"


def main(folder: Path, runs: Sequence[Path]) -> None:
    """Compare, print and write."""
    rows = [compared(pair) for path in runs for pair in read_pairs(path)]
    print(report(rows))
    settings = {"draws": _DRAWS, "cores": _CORES, "overheads": asdict(Overheads())}
    print(write_result("simulation", settings, rows, folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
