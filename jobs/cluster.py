"""The only place that starts Ray."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.util.annotations import RayDeprecationWarning

import pipeline
from pipeline.ray_config import RayConfig
from sgl.errors import ConfigurationError

_LEAST_CPUS = 3
"""Below that, the CPU tasks of a graph (read, fetch, write) wait for each other on one core."""


@contextmanager
def cluster(config: RayConfig, runtime_env: dict[str, Any] | None = None) -> Iterator[None]:
    """A Ray for the block: the one that is there already, one at an address, or a local one.

    Args:
        config: which.
        runtime_env: of the workers, which then log for themselves; not of a Ray that is there.

    Raises:
        ConfigurationError: nothing answers at the address.
    """
    if ray.is_initialized():
        yield
        return
    # Set where a job is submitted to a cluster, and then Ray itself would go by it.
    address = config.address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        _prepare_local()
        local = {
            "num_cpus": config.num_cpus or max(os.cpu_count() or 1, _LEAST_CPUS),
            "object_store_memory": config.object_store_bytes,
        }
    else:
        local = {}
    try:
        ray.init(
            address=address,
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=runtime_env is None,
            runtime_env=runtime_env,
            **local,
        )
    except (ConnectionError, ValueError) as error:
        raise ConfigurationError(
            f"ray.address (or RAY_ADDRESS): no Ray cluster answers at {address}"
        ) from error
    try:
        quiet_ray_data()
        yield
    finally:
        ray.shutdown()


def quiet_ray_data() -> None:
    """Leave the terminal to our own progress; Ray Data still logs to its session folder."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # What fails a job is raised, and told by us, besides.
    for name in ("exceptions", "_internal.execution.operators.actor_pool_map_operator"):
        logging.getLogger(f"ray.data.{name}").setLevel(logging.CRITICAL)
    # It advises to reserve memory per replica whenever a model is larger than nothing.
    context.issue_detectors_config.high_memory_detector_config.detection_time_interval_s = -1
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    # It calls a replica that asks for both cores and GPUs experimental. Without a number of cores
    # Ray takes a whole one per replica, and a machine with few of them hangs.
    operators = "ray.data._internal.execution.operators.map_operator"
    logging.getLogger(operators).setLevel(logging.ERROR)
    # Ray 2.60 has no other way to bound the restarts of an actor pool.
    warnings.filterwarnings(
        "ignore", "`ray_remote_args` is deprecated", RayDeprecationWarning, "pipeline.build"
    )


def _prepare_local() -> None:
    # Read by the processes that a local Ray starts. Workers find our packages whatever the
    # current directory is; on a cluster they are part of the image.
    root = str(Path(pipeline.__file__).parents[1])
    known = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([root, *([known] if known else [])])
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # The control store keeps what became of the last 100,000 tasks for a dashboard that a local Ray
    # of ours does not have: here about a kilobyte for every record.
    os.environ.setdefault("RAY_task_events_report_interval_ms", "0")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
