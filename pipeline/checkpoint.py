"""Resume: Ray Data's own checkpoint, switched on for one job.

Layout of an output directory: `rows/*.parquet`, and `checkpoint/<fingerprint>/*.parquet` with the
ids that are done. They are neighbours because Ray, when it cleans up after a crash, deletes by
prefix whatever lies below the data folder, the checkpoint's own files included.
"""

import posixpath
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pa_dataset
from pyarrow import fs

from infra.storage import locate
from pipeline.config import JobConfig
from sgl.errors import ConfigurationError

_PENDING = ".pending.parquet"


def rows_path(job: JobConfig) -> str:
    """The folder of the output's Parquet files."""
    return posixpath.join(job.output.path, "rows")


def checkpoint_path(job: JobConfig) -> str:
    """The folder of the ids that are done under this job's settings."""
    return posixpath.join(job.output.path, "checkpoint", job.fingerprint())


def switch_on(job: JobConfig, context: Any) -> None:
    """Make a dataset skip ids that are done, and commit its files in two phases.

    Args:
        job: whose output it is.
        context: the dataset's own, so that other datasets of the process are left alone.
    """
    from ray.data.checkpoint import CheckpointConfig

    context.checkpoint_config = CheckpointConfig(
        id_column="id",
        checkpoint_path=checkpoint_path(job),
        delete_checkpoint_on_success=False,
    )


def check_output(job: JobConfig) -> None:
    """Refuse an output directory that holds rows of other settings, or files that are not ours.

    Raises:
        ConfigurationError: names the directory and what is in it.
    """
    other = sorted(set(_names(posixpath.join(job.output.path, "checkpoint"))) - {job.fingerprint()})
    if other:
        raise ConfigurationError(
            f"output.path: {job.output.path} holds rows of other settings (fingerprint "
            f"{other[0]}, these have {job.fingerprint()}); write another directory"
        )
    if _names(rows_path(job)) and not _names(checkpoint_path(job)):
        raise ConfigurationError(
            f"output.path: {job.output.path} holds rows without their checkpoint; "
            "write another directory"
        )


def ids_done(job: JobConfig) -> pa.ChunkedArray:
    """Records that earlier runs have committed under these settings."""
    filesystem, folder = locate(checkpoint_path(job))
    names = [name for name in _names(checkpoint_path(job)) if not name.endswith(_PENDING)]
    if not names:
        return pa.chunked_array([], pa.string())
    files = [posixpath.join(folder, name) for name in names]
    return pa_dataset.dataset(files, filesystem=filesystem, format="parquet").to_table()["id"]


def _names(folder: str) -> list[str]:
    filesystem, path = locate(folder)
    selector = fs.FileSelector(path, allow_not_found=True)
    return [info.base_name for info in filesystem.get_file_info(selector)]
