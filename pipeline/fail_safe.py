"""What stages do about a promise that is broken: nobody exits and nothing is pruned any more.

A stage asks for each block whether it is so, and never waits for the answer: it goes by what it
heard last, a second or so ago. What was decided before stays decided.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from enum import StrEnum
from typing import Protocol

from pipeline.heard import Heard

Outcome = tuple[str, float | None]
"""A probed record's id, and how far the cascade's answer agrees with the unpruned large model's,
0 to 1; None where one of them failed, or where the answer is not the cascade's."""


class Decision(StrEnum):
    """What the cascade did with a record that the small model scored."""

    EXITED = "exited"
    ESCALATED = "escalated"
    FAIL_SAFE = "fail_safe"
    """Whatever its score, it went to the large model, unpruned."""
    OVER_BUDGET = "over_budget"
    """Its score says large model, and the budget for that was spent: it kept the small answer."""


class MonitorClient(Protocol):
    """The monitor as one process sees it; see pipeline.monitor."""

    @property
    def metric(self) -> str:
        """By which answers are compared."""
        ...

    @property
    def safe_from_start(self) -> bool:
        """Whether an earlier run, or this one before it began, has raised the alarm."""
        ...

    def announce(self, ids: Sequence[str]) -> None:
        """Probed records are about to be answered, in this order; does not wait."""
        ...

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """They have been; does not wait."""
        ...

    def failing_safe(self) -> "Future[bool]":
        """Whether the stages must, some time later."""
        ...


class FailSafe(Heard):
    """What one stage knows of it.

    Args:
        monitor: None where nothing is promised.
        clock: seconds.
    """

    def __init__(
        self, monitor: MonitorClient | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if monitor is None:
            super().__init__(None, clock=clock)
        else:
            super().__init__(monitor.failing_safe, known=monitor.safe_from_start, clock=clock)
