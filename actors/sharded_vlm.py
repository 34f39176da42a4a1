"""A VLM whose layers are split over the ranks of a group, seen from outside."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

from actors.config import ModelConfig
from actors.engine import Running
from actors.ranks import RankGroup
from sgl.errors import DeviceError
from sgl.types import Answer, Guidance, ImageQuestion

if TYPE_CHECKING:
    from actors.tensor_parallel import Parameters
    from sgl.cohort import Done, Said
    from sgl.memory import BatchMemory

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """One call of a VLM's method, or of a cohort's.

    Attributes:
        method: of the VLM; "step" and "leave" are a cohort's, and the latter cancels what is left.
        cohort: number of the cohort that is begun, or meant.
        cancelled: places of records to cancel before a step.
    """

    method: Literal["guide", "answer", "guiding", "answering", "step", "leave"]
    arguments: tuple[Any, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    cohort: int = -1
    cancelled: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a rank says of itself.

    Attributes:
        share: of the model's parameters.
        memory: what batches need of a device that holds the whole model.
        room_bytes: what this rank's device has for them.
    """

    share: "Parameters"
    memory: "BatchMemory"
    room_bytes: int


class ShardedVLM:
    """A VLM whose layers are split over the ranks of a group; runs what an Engine runs.

    Args:
        config: which checkpoint.
        ranks: how many processes; the model divides by it.
        skeleton: the native model without weights.

    Attributes:
        encoder: lays out its prompts.
        memory: what its batches need of each rank's device.
        room_bytes: what the fullest of these has for them.

    Raises (on construction):
        ModelLoadError: the checkpoint cannot be read.
        DeviceError: a rank died, or holds another part of the model than its share.
    """

    def __init__(self, config: ModelConfig, ranks: int, skeleton: Any) -> None:
        from actors.sharded_rank import ShardedRank
        from actors.tensor_parallel import parameters
        from sgl.loading import load_encoder

        self.encoder = load_encoder(config.path, revision=config.revision)
        self._group = RankGroup(partial(ShardedRank, config), ranks)
        self._numbers = count()
        whole = parameters(skeleton)
        introductions: list[Introduction] = self._group.introductions
        shares = [rank.share for rank in introductions]
        if any(share.split * ranks != whole.split for share in shares):
            self._group.close()
            raise DeviceError(f"the ranks hold {shares} of {whole}: they are not split")
        logger.info(
            "%s: %d ranks, each with %.1f M of %.1f M parameters",
            *(config.path, ranks, shares[0].total / 1e6, whole.total / 1e6),
        )

        self.memory = introductions[0].memory.split(heads=ranks)
        self.room_bytes = min(rank.room_bytes for rank in introductions)

    def guide(self, records: Sequence[ImageQuestion], **settings: Any) -> list[Guidance]:
        """As VLM.guide; DeviceError where the ranks have failed, and this replica with them."""
        results: list[Guidance] = self._group.run(Request("guide", (records,), settings))
        return results

    def answer(
        self,
        records: Sequence[ImageQuestion],
        guidance: Sequence[Guidance] | None = None,
        **settings: Any,
    ) -> list[Answer]:
        """As VLM.answer; DeviceError where the ranks have failed, and this replica with them."""
        results: list[Answer] = self._group.run(Request("answer", (records, guidance), settings))
        return results

    def guiding(self, records: Sequence[ImageQuestion], **settings: Any) -> Running[Guidance]:
        """As VLM.guiding; errors as of `guide`, at each step."""
        request = Request("guiding", (records,), settings, next(self._numbers))
        return ShardedCohort(self._group, request, len(records))

    def answering(
        self,
        records: Sequence[ImageQuestion],
        guidance: Sequence[Guidance] | None = None,
        **settings: Any,
    ) -> Running[Answer]:
        """As VLM.answering; errors as of `answer`, at each step."""
        request = Request("answering", (records, guidance), settings, next(self._numbers))
        return ShardedCohort(self._group, request, len(records))


class ShardedCohort:
    """A cohort that all ranks run in step; see sgl.cohort.Cohort.

    Args:
        group: the ranks.
        begin: makes the cohort in each of them.
        records: how many.
    """

    def __init__(self, group: RankGroup, begin: Request, records: int) -> None:
        self._group = group
        self._number = begin.cohort
        self._left = set(range(records))
        self._cancelled: set[int] = set()
        group.run(begin)

    @property
    def unfinished(self) -> bool:
        """Whether there is anything to wait for."""
        return bool(self._left)

    def cancel(self, record: int) -> None:
        """Nobody waits for this record any more; the ranks hear of it with the next step."""
        self._left.discard(record)
        self._cancelled.add(record)
        if not self._left:
            self._group.run(Request("leave", cohort=self._number))

    def step(self) -> "Sequence[Said | Done[Any]]":
        """One forward pass in all ranks."""
        from sgl.cohort import Done

        cancelled, self._cancelled = tuple(sorted(self._cancelled)), set()
        request = Request("step", cohort=self._number, cancelled=cancelled)
        events: list[Said | Done[Any]] = self._group.run(request)
        self._left -= {event.record for event in events if isinstance(event, Done)}
        return events
