"""Nodes of a cluster that has just begun join one after the other."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from sgl.errors import ConfigurationError

logger = logging.getLogger(__name__)

Nodes: TypeAlias = Sequence[Mapping[str, Any]]
Settled = TypeVar("Settled")
_POLL_S = 2.0


def awaited(
    settle: Callable[[Nodes], Settled],
    nodes: Callable[[], Nodes],
    wait_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Settled:
    """What the nodes come to, as soon as they suffice.

    Args:
        settle: of the nodes; refuses where they do not suffice.
        nodes: those that there are now, as ray.nodes() tells them.
        wait_s: for so long a refusal may be for nodes that have not joined yet.
        clock: seconds.
        sleep: for some of them.

    Raises:
        ConfigurationError: the last refusal.
    """
    end = clock() + wait_s
    told = False
    while True:
        try:
            return settle(nodes())
        except ConfigurationError as error:
            if clock() >= end:
                raise
            if not told:
                logger.info("waiting %g s at most for nodes to join: %s", wait_s, error)
                told = True
        sleep(_POLL_S)
