"""One run of the pipeline on a local cluster of nodes with GPUs that are none."""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from PIL import Image
from ray.cluster_utils import Cluster
from rich.console import Console

import pipeline
from benchmarks.sleeping_models import HARD, Sleep, SleepingLarge, SleepingSmall, by_question
from jobs.cluster import quiet_ray_data
from jobs.run import Outcome, run_job
from jobs.settings import checked
from pipeline.build import Loaders
from pipeline.run_record import RunRecord, run_records

GPUS_PER_NODE = 4
ROWS_PER_BLOCK, BATCH_SIZE = 16, 4


@dataclass(frozen=True)
class Seconds:
    """What the sleeping models take.

    Attributes:
        small, large: one record.
        load: of either model.
    """

    small: float = 0.25
    large: float = 0.6
    load: float = 1.0


@dataclass(frozen=True)
class Stretch:
    """Some records of a stream.

    Attributes:
        records: how many.
        rate: share of them that escalates.
    """

    records: int
    rate: float


@contextmanager
def local_cluster(gpus: int) -> Iterator[None]:
    """Raylets of up to four GPUs each, beside a head without."""
    root = str(Path(pipeline.__file__).parents[1])
    known = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([root, *([known] if known else [])])
    head = {"num_cpus": 3, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    try:
        for first in range(0, gpus, GPUS_PER_NODE):
            nodes.add_node(num_cpus=1, num_gpus=min(GPUS_PER_NODE, gpus - first))
        ray.init(address=nodes.address, log_to_driver=False)
        nodes.wait_for_nodes()
        quiet_ray_data()
        yield
    finally:
        ray.shutdown()
        nodes.shutdown()


def write_stream(stretches: Sequence[Stretch], path: Path) -> Path:
    """Records in order, those that escalate evenly spread within each stretch."""
    hard = [
        int((number + 1) * one.rate + 1e-9) > int(number * one.rate + 1e-9)
        for one in stretches
        for number in range(one.records)
    ]
    data = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), 128, np.uint8)).save(data, "PNG")
    columns = {
        "id": [f"r{number:06d}" for number in range(len(hard))],
        "image": [{"bytes": data.getvalue(), "path": "grey.png"}] * len(hard),
        "question": [HARD if one else "easy" for one in hard],
    }
    pq.write_table(pa.table(columns), path)
    return path


def run(
    stream: Path, output: Path, seconds: Seconds, split: tuple[int, int], *, balance: bool
) -> tuple[Outcome, RunRecord]:
    """Run a stream; its record tells of the moves.

    Args:
        stream: of `write_stream`.
        output: new.
        seconds: of the models.
        split: replicas of the small and the large pool, at the start.
        balance: whether they move.
    """
    small, large = split
    data: dict[str, Any] = {
        "input": {"path": str(stream)},
        "output": {"path": str(output)},
        "models": {
            "small": {"path": "small"},
            "large": {"path": "large", "batch_size": BATCH_SIZE},
        },
        "threshold": 0.5,
        "rows_per_block": ROWS_PER_BLOCK,
        "pools": {
            "small": {"replicas": small, "num_gpus": 1},
            "large": {"replicas": large, "num_gpus": 1},
            "balance": balance,
        },
    }
    loaders = Loaders(
        partial(SleepingSmall, _sleep(seconds.small), seconds.load, by_question),
        partial(SleepingLarge, _sleep(seconds.large), seconds.load),
    )
    outcome = run_job(checked(data), Console(file=io.StringIO()), loaders)
    (record,) = run_records(outcome.output)
    return outcome, record


def _sleep(record_s: float) -> Sleep:
    """Every record takes the same, in batches of any size."""
    return Sleep(fixed_s=0, row_s=record_s, batch_rows=ROWS_PER_BLOCK, spread=0)
