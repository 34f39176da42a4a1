"""One run of the whole pipeline over real pictures with models that answer by arithmetic."""

import io
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.console import Console

from benchmarks.arithmetic_models import ArithmeticLarge, ArithmeticSmall
from benchmarks.processes import Watcher

_SIDE = 256
PICTURE_BYTES = _SIDE * _SIDE * 3
"""Of one picture, decoded."""
_DISTINCT = 32
_ROW_GROUP = 1024
EVERY_S = 0.5
_PATIENCE_S = 30


@dataclass(frozen=True)
class Store:
    """One look at Ray's object store.

    Attributes:
        used: bytes of the objects in it.
        spilled: bytes that have been written to the disk so far for lack of room.
    """

    used: int
    spilled: int


@dataclass(frozen=True)
class Told:
    """What a run says of itself.

    Attributes:
        wall_s: start-up included.
        looks: time.time() and what was in the object store.
    """

    wall_s: float
    looks: list[tuple[float, Store]]


def write_records(records: int, path: Path) -> None:
    """A Parquet file of JPEGs, 256 x 256; its few distinct pictures stand in it once a row group.

    Args:
        records: how many.
        path: of the file.
    """
    pictures = [_picture(seed) for seed in range(_DISTINCT)]
    schema = pa.schema([("id", pa.string()), ("image", pa.binary()), ("question", pa.string())])
    with pq.ParquetWriter(path, schema, dictionary_pagesize_limit=1 << 30) as writer:
        for start in range(0, records, _ROW_GROUP):
            numbers = range(start, min(start + _ROW_GROUP, records))
            columns = {
                "id": [f"record-{number:09d}" for number in numbers],
                "image": [pictures[number % _DISTINCT] for number in numbers],
                "question": [f"What is in picture {number}?" for number in numbers],
            }
            writer.write_table(pa.table(columns, schema))


def _picture(seed: int) -> bytes:
    coarse = np.frombuffer(random.Random(seed).randbytes(8 * 8 * 3), np.uint8).reshape(8, 8, 3)
    image = Image.fromarray(coarse).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=90)
    return data.getvalue()


def run(records: Path, store_bytes: int) -> Told:
    """The driver of one run, with a local Ray of its own.

    Args:
        records: see write_records.
        store_bytes: size of the object store.
    """
    from jobs.cluster import cluster
    from jobs.run import run_job
    from pipeline.build import Loaders
    from pipeline.config import JobConfig

    with tempfile.TemporaryDirectory(prefix="sgl-bench-") as folder:
        job = JobConfig.model_validate(
            {
                "input": {"path": str(records)},
                "output": {"path": f"{folder}/out"},
                "models": {"small": {"path": "small"}, "large": {"path": "large"}},
                "threshold": 0.3,
                "ray": {"object_store_bytes": store_bytes},
            }
        )
        with cluster(job.ray), Watcher(_look_at_store(), EVERY_S) as watcher:
            loaders = Loaders(ArithmeticSmall, ArithmeticLarge)
            outcome = run_job(job, Console(file=io.StringIO()), loaders)
        assert not outcome.summary.failed, outcome.summary.failed
        return Told(outcome.wall_s, watcher.seen)


def _look_at_store() -> Callable[[], Store]:
    """What asks the one node of a local Ray for its own count.

    By a single channel: Ray's function for it opens another at every call, and the driver would
    grow by being watched.
    """
    import ray
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import node_manager_pb2, node_manager_pb2_grpc

    (node,) = ray.nodes()
    channel = init_grpc_channel(f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}")
    stub = node_manager_pb2_grpc.NodeManagerServiceStub(channel)
    request = node_manager_pb2.FormatGlobalMemoryInfoRequest(include_memory_info=False)

    def look() -> Store:
        stats = stub.FormatGlobalMemoryInfo(request, timeout=_PATIENCE_S).store_stats
        return Store(int(stats.object_store_bytes_used), int(stats.spilled_bytes_total))

    return look
