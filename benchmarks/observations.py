"""What both testbed models say to a few thousand records, in every way to prune: once, for others.

    python -m benchmarks.observations --output benchmarks/results/observations.npz

runs the pipeline as `sgl calibrate` does and keeps the figures that calibration is made of.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from actors.config import PruningConfig
from jobs.run import run_job
from jobs.sample import sample_job
from jobs.settings import TESTBED, checked
from pipeline.observations import observe
from sgl.bounds import BINARY, DIFFERENCE
from sgl.calibration import Losses, Pruned, Sample
from testbed.generate import write_parquet

PRUNINGS = (
    PruningConfig(prune_layer=0.4, keep_ratio=0.46),
    PruningConfig(prune_layer=0.19, keep_ratio=0.22),
    PruningConfig(prune_layer=0.04, keep_ratio=0.09),
)
"""The testbed's presets: 64, 35 and 9 % of the visual token-layers."""
METRIC = "exact_match"


@dataclass(frozen=True)
class Population:
    """Records of which everything is known.

    Attributes:
        sample: scores and costs.
        disagreement: with the unpruned large model.
        accuracy_drop: against it.
    """

    sample: Sample
    disagreement: Losses
    accuracy_drop: Losses

    def some(self, records: Any) -> "Population":
        """Those of some indices, with repetitions where they repeat."""
        sample = Sample(
            self.sample.scores[records],
            self.sample.prunings,
            self.sample.small_cost[records],
            self.sample.large_cost[:, records],
        )
        drawn = (
            Losses(one.small[records], one.large[:, records], one.kind)
            for one in (self.disagreement, self.accuracy_drop)
        )
        return Population(sample, *drawn)


def load(path: Path) -> Population:
    """A population from its file."""
    with np.load(path) as data:
        ways = tuple(Pruned(float(way[0]), float(way[1])) for way in data["ways"])
        floats = {name: data[name].astype(float) for name in data.files if name != "ways"}
    sample = Sample(floats["scores"], ways, floats["small_cost"], floats["large_cost"])
    return Population(
        sample,
        Losses(floats["small_disagrees"], floats["large_disagrees"], BINARY),
        Losses(floats["small_drop"], floats["large_drop"], DIFFERENCE),
    )


def write(path: Path, split: Any, records: int, console: Console) -> None:
    """Answer records of a split in every way, and keep the figures."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "records.parquet"
        write_parquet(split, records, source)
        job = checked(
            {
                "input": {"path": str(source)},
                "output": {"path": f"{folder}/out"},
                "threshold": 1.0,
                "guidance": {"consistency": "geometric"},
                "models": {
                    "small": {"path": TESTBED, "batch_size": 64},
                    "large": {"path": TESTBED, "batch_size": 16},
                },
            }
        )
        outcome = run_job(sample_job(job, records, PRUNINGS), console)
        seen = observe(outcome.output, PRUNINGS, None)
    sample = seen.sample()
    disagreement, drop = seen.disagreement(METRIC), seen.accuracy_drop(METRIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        scores=sample.scores,
        ways=np.array([[one.prune_layer, one.keep_ratio] for one in sample.prunings]),
        small_cost=sample.small_cost,
        large_cost=sample.large_cost,
        small_disagrees=disagreement.small.astype(np.int8),
        large_disagrees=disagreement.large.astype(np.int8),
        small_drop=drop.small.astype(np.int8),
        large_drop=drop.large.astype(np.int8),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", default="heldout", choices=("heldout", "validation", "hard"))
    parser.add_argument("--records", type=int, default=4000)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    write(options.output, options.split, options.records, Console())


if __name__ == "__main__":
    main()
