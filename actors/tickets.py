"""What passes between a model that runs for many (`actors.continuous`) and those who ask it."""

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from actors.batching import HasId
from actors.engine import Running
from actors.retold import Retold
from sgl.types import Failure

if TYPE_CHECKING:
    from sgl.layout import PromptLayout

Item = TypeVar("Item", bound=HasId)
Result = TypeVar("Result")
_Asked = TypeVar("_Asked", bound=HasId, contravariant=True)
_Heard = TypeVar("_Heard", contravariant=True)


class CohortModel(Protocol[_Asked, Result]):
    """What is needed of a model; see `SmallVLM` and `LargeVLM`."""

    stage: str

    @property
    def most(self) -> int:
        """Items of a cohort."""
        ...

    def kind(self, item: _Asked, /) -> Hashable:
        """Items of one kind can share a cohort."""
        ...

    def lay_out(self, item: _Asked, /) -> "PromptLayout":
        """How its prompt will be; called from any thread."""
        ...

    @property
    def room_bytes(self) -> int:
        """What the device has for all that is under way."""
        ...

    def peak_bytes(self, kind: Any, layouts: "Sequence[PromptLayout]", /) -> int:
        """What a cohort of such items takes of it."""
        ...

    def cohort(
        self,
        items: Sequence[_Asked],
        heard: Collection[int] = (),
        layouts: "Sequence[PromptLayout] | None" = None,
        /,
    ) -> Running[Result]:
        """A batch under way, of which some text is wanted as it comes."""
        ...


class Listener(Protocol[_Heard]):
    """Who made a request; called from the model's thread, and must not block it."""

    def said(self, text: str) -> None:
        """More of the answer's text."""
        ...

    def done(self, result: _Heard | Failure, queued_s: float, served_s: float) -> None:
        """The result, the seconds before its first forward pass, and those from then on."""
        ...

    def failed(self, error: Exception) -> None:
        """There will be none: ExpiredError or UnavailableError."""
        ...


@dataclass(eq=False)
class Ticket(Generic[Item, Result]):
    """One request.

    Attributes:
        item: what is asked.
        kind: of it.
        layout: of its prompt.
        heard: whether its text is wanted as it comes.
        listener: who asks.
        deadline: time.monotonic() after which nobody wants the answer.
        arrived: when it came.
        begun: when its cohort was made.
        gone: nobody waits for it any more.
    """

    item: Item
    kind: Hashable
    layout: "PromptLayout"
    heard: bool
    listener: Listener[Result]
    deadline: float
    arrived: float
    begun: float | None = None
    gone: bool = False
    retold: Retold = field(default_factory=Retold)

    def cancel(self) -> None:
        """Free its slot with the next forward pass; from any thread."""
        self.gone = True


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a model is.

    Attributes:
        waiting: requests that no cohort has.
        running: those of cohorts under way.
        cohorts: how many.
        busy_s: how long the forward pass that is under way has taken; 0 where there is none.
    """

    waiting: int
    running: int
    cohorts: int
    busy_s: float
