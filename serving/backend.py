"""What the endpoint asks of the models, wherever they run.

A call yields pieces of the answer's text, where they are wanted, and then exactly one result. To
stop listening, close the iterator: its slot is then free.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from actors.large_vlm import GuidedQuestion
from sgl.types import Answer, Failure, Guidance, ImageQuestion


@dataclass(frozen=True, slots=True)
class Delta:
    """More of an answer's text; all of them together are the text, less blanks at its ends."""

    text: str


@dataclass(frozen=True, slots=True)
class Timed:
    """A result, and when it came about.

    Attributes:
        result: of the call.
        queued_s: before its first forward pass.
        served_s: from then on.
    """

    result: Guidance | Answer | Failure
    queued_s: float
    served_s: float


@dataclass(frozen=True, slots=True)
class PoolState:
    """How a pool does.

    Attributes:
        replicas: that can answer.
        wanted: that there should be.
    """

    replicas: int
    wanted: int


class Backend(Protocol):
    """Both models.

    All calls raise:
        OverloadedError: as many requests wait as may.
        UnavailableError: the pool has no replica that can answer, or those that were tried died.
        ExpiredError: there is no answer within the time.
    """

    def guide(
        self, question: ImageQuestion, *, timeout_s: float, stream: bool
    ) -> AsyncIterator[Delta | Timed]:
        """The small model's answer, score and ranking; the result is a Guidance or a Failure."""
        ...

    def answer(
        self, request: GuidedQuestion, *, timeout_s: float, stream: bool
    ) -> AsyncIterator[Delta | Timed]:
        """The large model's answer; the result is an Answer or a Failure.

        Without guidance nothing is pruned.
        """
        ...

    async def states(self) -> dict[str, PoolState]:
        """By pool: "small" and "large"."""
        ...
