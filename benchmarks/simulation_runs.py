"""Runs of the real pipeline that the simulation is held against (benchmarks/simulation.py).

    python -m benchmarks.simulation_runs FOLDER [KIND] [ROUNDS]

`testbed` is the demo's pair on this machine's cores, which the models share with each other and
with everything else. `sleeping` are models that sleep (benchmarks/sleeping_models.py), a GPU each
that Ray is told of and nobody uses: there the stages, queues and batches of larger pools are real,
and only the models are not.

Every round probes and runs anew, and is written at once. Probes are on records of the validation
split, runs on held-out ones. The demo's pair has a probe of its own for each configuration: how
much the models slow each other down on a few cores depends on it, and so do the records that the
large model gets. Models that sleep have one, of one replica each, for all.
"""

import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console

from actors.config import StrictModel
from benchmarks.processes import cpu_by_kind
from benchmarks.record import use_threads, write_result
from benchmarks.sleeping_models import SleepingLarge, SleepingSmall
from jobs.cluster import cluster
from jobs.demo import demo_job
from jobs.run import run_job
from jobs.settings import checked
from pipeline.build import Loaders
from pipeline.config import JobConfig, Mode
from pipeline.plan.measured import Measured, of_output
from pipeline.ray_config import RayConfig
from testbed.generate import write_parquet

_PATIENCE_S = 600
_GPUS = 8
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Configuration:
    """What differs from the demo.

    Attributes:
        name: for people.
        threshold: from which exit score the small model's answer stands.
        rows_per_block: that travel together.
        batch_rows: of the large model.
        small: replicas.
        large: likewise.
    """

    name: str
    threshold: float = 0.964
    rows_per_block: int = 64
    batch_rows: int = 16
    small: int = 1
    large: int = 1

    def settings(self) -> dict[str, Any]:
        """As of a job's file."""
        return {
            "threshold": self.threshold,
            "rows_per_block": self.rows_per_block,
            "pools": {"small": {"replicas": self.small}, "large": {"replicas": self.large}},
        }


class Ran(StrictModel):
    """What one run told.

    Attributes:
        configuration: that was run.
        records: of it.
        stream_s: from the first start of a model to the last end of one.
        measured: its seconds.
        scores: exit scores of its rows.
        others_cores: that processes of others took meanwhile, in the mean.
    """

    configuration: Configuration
    records: int
    stream_s: float
    measured: Measured
    scores: tuple[float, ...]
    others_cores: float


class Pair(StrictModel):
    """A run, and the probe that it is foretold from.

    Attributes:
        kind: of models.
        round: of several.
        probe: all that is known.
        run: on other records.
    """

    kind: str
    round: int
    probe: Ran
    run: Ran


@dataclass(frozen=True)
class Kind:
    """One kind of models.

    Attributes:
        name: of it.
        job: of a configuration, an output's folder and a file of records.
        loaders: of the models; None: the job's own.
        gpus: that Ray is told of.
        probed: records of a probe.
        records: of a run.
        configurations: that are run.
        probe: whose run tells the seconds; None: each configuration's own.
    """

    name: str
    job: Callable[[Configuration, Path, Path], JobConfig]
    loaders: Loaders | None
    gpus: int
    probed: int
    records: int
    configurations: tuple[Configuration, ...]
    probe: Configuration | None = None


def testbed_job(one: Configuration, folder: Path, records: Path) -> JobConfig:
    """The demo's, with what differs."""
    data = demo_job(Mode.CASCADE, folder, records).model_dump(exclude_unset=True)
    data["models"]["large"]["batch_size"] = one.batch_rows
    return checked(data | one.settings())


def sleeping_job(one: Configuration, folder: Path, records: Path) -> JobConfig:
    """A GPU per replica."""
    data: dict[str, Any] = {
        "mode": "cascade",
        "input": {"path": str(records)},
        "output": {"path": str(folder)},
        "models": {
            "small": {"path": "small"},
            "large": {"path": "large", "batch_size": one.batch_rows},
        },
    }
    data |= one.settings()
    for pool in data["pools"].values():
        pool["num_gpus"] = 1
    return checked(data)


KINDS = (
    Kind(
        name="testbed",
        job=testbed_job,
        loaders=None,
        gpus=0,
        probed=768,
        records=1024,
        configurations=(
            Configuration("few escalate", threshold=0.5),
            Configuration("all escalate", threshold=1.1, rows_per_block=128),
            Configuration("small blocks, small batches", rows_per_block=32, batch_rows=8),
            Configuration("two small replicas", small=2),
        ),
    ),
    Kind(
        name="sleeping",
        job=sleeping_job,
        loaders=Loaders(SleepingSmall, SleepingLarge),
        gpus=_GPUS,
        probed=1536,
        records=2048,
        configurations=(
            Configuration("4 + 2 replicas, 30 %", threshold=0.3, small=4, large=2),
            Configuration("4 + 4 replicas, 60 %", threshold=0.6, small=4, large=4),
            Configuration("5 + 1 replicas, 10 %", threshold=0.1, small=5, large=1),
            Configuration("2 + 1 replicas, 30 %, blocks of 32", 0.3, 32, small=2),
        ),
        probe=Configuration("1 + 1", threshold=0.5),
    ),
)


@contextmanager
def local_ray(gpus: int) -> Iterator[None]:
    """A Ray of this machine that believes in so many GPUs, and starts no job before all its models.

    Start-up is told apart by a plan; and on two cores it is of one replica after the other.
    """
    from ray.data import DataContext

    name = "RAY_OVERRIDE_RESOURCES"
    if gpus:
        os.environ[name] = f'{{"GPU": {gpus}}}'
    context = DataContext.get_current()
    before, context.wait_for_min_actors_s = context.wait_for_min_actors_s, _PATIENCE_S
    try:
        with cluster(RayConfig()):
            yield
    finally:
        os.environ.pop(name, None)
        context.wait_for_min_actors_s = before


def run(kind: Kind, one: Configuration, folder: Path, records: Path) -> Ran:
    """Run one configuration to its end.

    Args:
        kind: of its models.
        one: what is run.
        folder: of its output; empty or missing.
        records: a Parquet file.
    """
    job = kind.job(one, folder, records)
    before = _core_seconds()
    outcome = run_job(job, Console(file=io.StringIO()), kind.loaders)
    after = _core_seconds()
    assert not outcome.summary.failed, outcome.summary.failed
    table = pq.read_table(outcome.output.rows, columns=["exit_score"])
    own, every, moment = (late - early for early, late in zip(before, after, strict=True))
    return Ran(
        configuration=one,
        records=len(table),
        stream_s=outcome.summary.stream_s,
        measured=of_output(outcome.output),
        scores=tuple(round(score, 5) for score in table["exit_score"].to_pylist()),
        others_cores=max(0.0, every - own) / moment,
    )


def _core_seconds() -> tuple[float, float, float]:
    """Of this process and its descendants, of the machine, and the time."""
    own = sum(cpu_by_kind(os.getpid()).values())
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _wait, irq, soft = map(int, fields[:7])
    return own, (user + nice + system + irq + soft) / _TICKS, time.monotonic()


def measure(kind: Kind, rounds: int) -> Iterator[Pair]:
    """Probe and run every configuration, again and again.

    Args:
        kind: of models.
        rounds: how often.
    """
    with tempfile.TemporaryDirectory(prefix="sgl-bench-") as name, local_ray(kind.gpus):
        folder = Path(name)
        write_parquet("validation", kind.probed, folder / "validation.parquet")
        write_parquet("heldout", kind.records, folder / "heldout.parquet")
        for number in range(rounds):
            yield from _round(kind, number, folder)


def _round(kind: Kind, number: int, folder: Path) -> Iterator[Pair]:
    outputs = folder / str(number)

    def probed(one: Configuration) -> Ran:
        return run(kind, one, outputs / f"probe {one.name}", folder / "validation.parquet")

    shared = probed(kind.probe) if kind.probe else None
    for one in kind.configurations:
        probe = shared or probed(one)
        took = run(kind, one, outputs / one.name, folder / "heldout.parquet")
        yield Pair(kind=kind.name, round=number, probe=probe, run=took)


def read_pairs(path: Path) -> list[Pair]:
    """What `main` has written."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return [Pair.model_validate(row) for row in found["rows"]]


def main(folder: Path, names: Sequence[str], rounds: int) -> None:
    """Measure and write, a file for each kind, again after every run."""
    use_threads(1)
    for kind in KINDS:
        if kind.name in names:
            done: list[dict[str, Any]] = []
            settings = {"probed": kind.probed, "records": kind.records, "rounds": rounds}
            for pair in measure(kind, rounds):
                done.append(pair.model_dump(mode="json"))
                path = write_result(f"simulation-{kind.name}", settings, done, folder)
                rate = pair.run.records / pair.run.stream_s
                print(f"{path}: {pair.run.configuration.name}, {rate:.1f} records/s", flush=True)


if __name__ == "__main__":
    _folder, *_more = sys.argv[1:]
    _names = _more[:1] or [kind.name for kind in KINDS]
    main(Path(_folder), _names, int(_more[1]) if len(_more) > 1 else 3)
