"""What a replica needs of a model, wherever it runs."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sgl.types import Answer, ConsistencyForm, Criterion, Guidance, ImageQuestion

if TYPE_CHECKING:
    from sgl.cohort import Done, Said
    from sgl.layout import PromptLayout
    from sgl.pruning import Pruner


class Engine(Protocol):
    """What a replica needs of a model, wherever it runs; see sgl.VLM."""

    def guide(
        self,
        records: Sequence[ImageQuestion],
        *,
        max_new_tokens: int,
        min_new_tokens: int,
        consistency: ConsistencyForm,
        consistency_keep_ratio: float,
        include_last_visual_row: bool,
        criterion: Criterion,
        all_criteria: bool,
    ) -> list[Guidance]:
        """Answer, score and rank one batch."""
        ...

    def answer(
        self,
        records: Sequence[ImageQuestion],
        guidance: Sequence[Guidance] | None = None,
        *,
        prune_layer: float,
        keep_ratio: float,
        max_new_tokens: int,
        min_new_tokens: int,
        pruner: "Pruner | None",
    ) -> list[Answer]:
        """Answer one batch, pruned where there is guidance or a pruner."""
        ...

    def guiding(
        self,
        records: Sequence[ImageQuestion],
        *,
        heard: Collection[int],
        layouts: "Sequence[PromptLayout] | None",
        **settings: Any,
    ) -> "Running[Guidance]":
        """As `guide`, one forward pass at a time."""
        ...

    def answering(
        self,
        records: Sequence[ImageQuestion],
        guidance: Sequence[Guidance] | None = None,
        *,
        heard: Collection[int],
        layouts: "Sequence[PromptLayout] | None",
        **settings: Any,
    ) -> "Running[Answer]":
        """As `answer`, one forward pass at a time."""
        ...


Result = TypeVar("Result")


class Running(Protocol[Result]):
    """A batch under way; see sgl.cohort.Cohort."""

    @property
    def unfinished(self) -> bool:
        """Whether there is anything to wait for."""
        ...

    def cancel(self, record: int) -> None:
        """Nobody waits for this record any more."""
        ...

    def step(self) -> "Sequence[Said | Done[Result]]":
        """One forward pass, and what follows from it."""
        ...
