"""How fast a job gets with GPUs, and where it stops: the plan's arithmetic and its simulation.

    python -m benchmarks.scaling benchmarks/results docs/figures/scaling.png

The scenario is assumed, not measured on such devices: see docs/PLANNING.md. How uneven its seconds
are is of a measured sample, and what a block costs the driver of benchmarks/overheads.py, at a few
blocks a second: that it costs no more at many is assumed.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.record import write_result
from jobs.plan_samples import DEMO
from pipeline.plan.costs import Overheads, PoolCost, pool_cost
from pipeline.plan.measured import MeasuredPool, measured
from pipeline.plan.model import Job, bottleneck, stage_seconds
from pipeline.plan.proposal import part_of
from pipeline.plan.search import best_split
from pipeline.plan.simulation import simulate

SAMPLE = DEMO
GPUS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)

_RECORDS = 10_000_000
_ESCALATION = 0.3
_SMALL_GPU_S, _LARGE_GPU_S = 0.02, 0.15
_SHARE = 0.5
"""Of a GPU, to each replica of either model: so that one GPU holds the whole cascade."""
_CORES_PER_GPU = 8
_BLOCKS_EACH, _MOST_BLOCKS = 100, 10_000
_FEWEST_BLOCKS = 2000
"""Of a simulation: with a hundred, the uneven batches of one replica are off by 10 %."""

_SEEDS = 5

Row = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """One curve.

    Attributes:
        name: for people.
        rows_per_block: that travel together.
        driver_s: of the driver, per block.
    """

    name: str
    rows_per_block: int
    driver_s: float


VARIANTS = (
    Variant("blocks of 64, 21 ms of the driver each", 64, 0.021),
    Variant("blocks of 64, 11 ms", 64, 0.011),
    Variant("blocks of 256, 21 ms", 256, 0.021),
)


def measure(variants: Sequence[Variant] = VARIANTS, gpus: Sequence[int] = GPUS) -> list[Row]:
    """One row per curve and number of GPUs."""
    return [_row(variant, count) for variant in variants for count in gpus]


def job_on(gpus: int, driver_s: float) -> Job:
    """The scenario on so many GPUs; without start-up, as the curve is of what lasts."""
    sample = measured(str(SAMPLE))
    assert sample.large is not None, "the sample is of a cascade"
    return Job(
        records=_RECORDS,
        escalation=_ESCALATION,
        small=_cost(sample.small, _SMALL_GPU_S),
        large=_cost(sample.large, _LARGE_GPU_S),
        overheads=Overheads(driver_s=driver_s),
        cores=gpus * _CORES_PER_GPU,
    )


def _cost(pool: MeasuredPool, gpu_s: float) -> PoolCost:
    """As uneven as the sample, and as slow as the scenario has it."""
    cost = pool_cost(pool)
    slower = cost.times(gpu_s / _SHARE / cost.record_s)
    return replace(slower, devices=_SHARE, startup_s=0.0)


def _row(variant: Variant, gpus: int) -> Row:
    job = job_on(gpus, variant.driver_s)
    split, planned_s = best_split(job, gpus, (variant.rows_per_block,))
    part = part_of(job, split, max(_BLOCKS_EACH, _FEWEST_BLOCKS // split.small), _MOST_BLOCKS)
    found = [simulate(part, split, seed) for seed in range(_SEEDS)]
    rates = [one.middle_per_s for one in found]
    return {
        **asdict(variant),
        "gpus": gpus,
        "gpus_used": job.devices(split),
        "small": split.small,
        "large": split.large,
        "bottleneck": bottleneck(stage_seconds(job, split)),
        "planned_per_s": job.records / planned_s,
        "simulated_per_s": mean(rates),
        "simulated_sd_per_s": stdev(rates),
        "simulated_records": part.records,
        "busy": {role: mean(one.busy[role] for one in found) for role in found[0].busy},
    }


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write the picture.

    Args:
        rows: of `measure`.
        path: to write; its folder is made where it is missing.
    """
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(7.5, 4.8), dpi=150, layout="constrained")
    axes = canvas.add_subplot()
    for name, marker in zip(dict.fromkeys(row["name"] for row in rows), "o^x", strict=False):
        some = [row for row in rows if row["name"] == name]
        gpus = [row["gpus"] for row in some]
        (line,) = axes.plot(gpus, [row["planned_per_s"] for row in some], label=name)
        simulated = [row["simulated_per_s"] for row in some]
        axes.plot(gpus, simulated, marker, color=line.get_color(), fillstyle="none")
    axes.plot([], [], "k-", label="plan")
    axes.plot([], [], "ko", fillstyle="none", label="simulated, in each colour")
    each = 1 / (_SMALL_GPU_S + _ESCALATION * _LARGE_GPU_S)
    every = sorted({row["gpus"] for row in rows})
    axes.plot(every, [each * n for n in every], color="0.6", linestyle=":", label="models alone")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="GPUs that there are",
        ylabel="records per second",
        title="Assumed: 20 ms + 30 % of 150 ms of a GPU per record; one driver",
    )
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, metadata={"Software": None})


def main(folder: Path, figure: Path) -> None:
    """Measure, write and draw."""
    rows = measure()
    settings = {
        "records": _RECORDS,
        "escalation": _ESCALATION,
        "small_gpu_s": _SMALL_GPU_S,
        "large_gpu_s": _LARGE_GPU_S,
        "gpus_per_replica": _SHARE,
        "cores_per_gpu": _CORES_PER_GPU,
        "overheads": asdict(Overheads()),
        "seeds": _SEEDS,
    }
    print(write_result("scaling", settings, rows, folder))
    draw(rows, figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
