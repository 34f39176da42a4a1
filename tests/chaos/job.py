"""The job that is disturbed: the testbed's trained pair on its held-out records."""

from pathlib import Path
from typing import Any

import yaml

from infra.s3 import StorageConfig
from jobs.demo import SETTINGS
from jobs.settings import checked
from pipeline.config import JobConfig

THRESHOLD = 0.78
"""In the middle of the widest gap between scores near the demo's: rounding decides no route."""

_CALM: dict[str, Any] = {
    "rows_per_block": 64,
    "rows_per_file": 256,
    "small": 64,
    "large": 16,
    "replicas": 1,
}
_BUSY: dict[str, Any] = {
    "rows_per_block": 8,
    "rows_per_file": 8,
    "small": 8,
    "large": 4,
    "replicas": 2,
}
"""Many blocks and many commits, so that there is always something under way to be torn."""


def job_of(
    records: Path, output: str, address: str, storage: StorageConfig, *, calm: bool = False
) -> JobConfig:
    """The job of one output.

    Args:
        records: Parquet file.
        output: directory or URI.
        address: of the cluster.
        storage: how the output is reached.
        calm: in few large blocks and batches; answers are the same.
    """
    sizes = _CALM if calm else _BUSY
    data = yaml.safe_load(SETTINGS.read_text())
    for role in ("small", "large"):
        data["models"][role]["batch_size"] = sizes[role]
    return checked(
        data
        | {
            "threshold": THRESHOLD,
            "guidance": {"consistency": "geometric"},
            "pruning": {"prune_layer": 0.19, "keep_ratio": 0.22},
            "input": {"path": str(records)},
            "output": {"path": output, "rows_per_file": sizes["rows_per_file"]},
            "pools": {"small": {"replicas": sizes["replicas"]}, "large": {"replicas": 1}},
            "rows_per_block": sizes["rows_per_block"],
            "storage": storage.model_dump(),
            "ray": {"address": address},
        }
    )


def write_config(job: JobConfig, path: Path) -> Path:
    """The job as the file that `sgl run --config` reads."""
    path.write_text(yaml.safe_dump(job.model_dump(mode="json", exclude_unset=True)))
    return path
