"""What a killed driver has reserved is given back before its job goes on.

Ray Data shares a cluster out between the executions that it knows of, in whole cores and devices
per node, and knows an execution whose driver was killed for three minutes more. So a job that is
resumed at once gets half of every node, after a second death a third, and of a node with two cores
then nothing: the job crawls, a block in half a minute. An execution is known by its dataset's name,
ours by the output, and whoever holds the lease of that knows that the earlier ones are dead.
"""

import hashlib
import logging
from typing import Any

import ray

from pipeline.output import Output

logger = logging.getLogger(__name__)

_COORDINATOR = "AutoscalingCoordinator"
_PATIENCE_S = 30.0


def name_of(output: Output) -> str:
    """Of the dataset that writes an output; the same for every run."""
    return f"sgl-{hashlib.blake2b(output.path.encode(), digest_size=8).hexdigest()}"


def release(output: Output) -> int:
    """Give back what earlier runs have reserved.

    Args:
        output: held by a lease.

    Returns:
        How many executions were still known. Where Ray cannot be asked none, with a warning: they
        are then forgotten in their own time.
    """
    try:
        coordinator = ray.get_actor(_COORDINATOR, namespace=_COORDINATOR)
    except ValueError:
        return 0  # nothing has run on this cluster yet
    prefix = f"data-{name_of(output)}_"

    # A function within a function travels by value: the coordinator's process, which another job
    # may have started, need not know our packages.
    def cancel(books: Any) -> int:
        dead = [name for name in books._ongoing_reqs if name.startswith(prefix)]
        for name in dead:
            books.cancel_request(name)
        return len(dead)

    try:
        count: int = ray.get(coordinator.__ray_call__.remote(cancel), timeout=_PATIENCE_S)
    except ray.exceptions.RayError:
        logger.warning("what earlier runs have reserved could not be given back", exc_info=True)
        return 0
    return count
