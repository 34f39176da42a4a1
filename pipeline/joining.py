"""Nodes of a cluster that has just begun join one after the other."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from sgl.errors import ConfigurationError

logger = logging.getLogger(__name__)

Nodes: TypeAlias = Sequence[Mapping[str, Any]]
Settled = TypeVar("Settled")
_POLL_S = 2.0
_SAID_EVERY_S = 60.0


def awaited(
    settle: Callable[[Nodes], Settled],
    nodes: Callable[[], Nodes],
    wait_s: float,
    tell: Callable[[str], None] = logger.warning,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Settled:
    """What the nodes come to, as soon as they suffice.

    Args:
        settle: of the nodes; refuses where they do not suffice.
        nodes: those that there are now, as ray.nodes() tells them.
        wait_s: for so long a refusal may be for nodes that have not joined yet.
        tell: shows a line to whoever waits, at once and every minute.
        clock: seconds.
        sleep: for some of them.

    Raises:
        ConfigurationError: the last refusal.
    """
    began, told = clock(), -math.inf
    while True:
        try:
            return settle(nodes())
        except ConfigurationError as error:
            now = clock()
            if now - began >= wait_s:
                raise
            if now - told >= _SAID_EVERY_S:
                left = began + wait_s - now
                tell(f"waiting {left:.0f} s at most for nodes to join: {error}")
                told = now
        sleep(_POLL_S)
