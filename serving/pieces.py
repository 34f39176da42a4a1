"""What answering one request comes to, piece by piece, as the gateway says it."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from serving.backend import Delta, Timed
from sgl.types import Answer, Guidance, Route

Degraded = Literal["large_unavailable", "large_overloaded"]


@dataclass(frozen=True, slots=True)
class Decision:
    """Who answers; comes ahead of the answer's first piece.

    Attributes:
        route: the model.
        reason: why that one, in words.
        degraded: why not the large one, though the record should have escalated.
        small: the small model's part, as far as there is one yet.
    """

    route: Route
    reason: str
    degraded: Degraded | None = None
    small: Timed | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of an answer; comes last.

    Attributes:
        decision: with the small model's part, where there is one.
        large: likewise, of the large model.
    """

    decision: Decision
    large: Timed | None = None

    @property
    def guidance(self) -> Guidance | None:
        """What the small model said."""
        small = self.decision.small
        return cast("Guidance", small.result) if small else None

    @property
    def answer(self) -> Answer | None:
        """What the large model said."""
        return cast("Answer", self.large.result) if self.large else None

    @property
    def text(self) -> str:
        """The answer."""
        return self.answer.text if self.answer else cast("Guidance", self.guidance).answer

    @property
    def ended(self) -> bool:
        """Whether it ended of itself, and not at its limit."""
        return (self.answer or cast("Guidance", self.guidance)).ended


@dataclass(frozen=True, slots=True)
class Guided:
    """The small model's part of the pair is done, whatever becomes of the request.

    Attributes:
        small: that part.
    """

    small: Timed


Piece: TypeAlias = Guided | Decision | Delta | Outcome
