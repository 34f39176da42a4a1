"""Batches of records of like length that fit into memory, isolated from each other's errors."""

import logging
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol, TypeVar

from sgl.errors import DeviceError, RecordError
from sgl.types import Failure

if TYPE_CHECKING:
    from sgl.layout import PromptLayout

logger = logging.getLogger(__name__)

MOST_PADDING = 0.15
"""Of a batch's tokens: records of other lengths wait for a batch of their own."""


class HasId(Protocol):
    """Anything that belongs to one record."""

    @property
    def id(self) -> str:
        """Of the record."""
        ...


Watch = Callable[[Sequence[str]], AbstractContextManager[None]]
"""What stands around every forward pass, told the ids of its records."""


def unwatched(_ids: Sequence[str]) -> AbstractContextManager[None]:
    """Nothing stands around a forward pass."""
    return nullcontext()


Item = TypeVar("Item", bound=HasId)
Result = TypeVar("Result")
Part = TypeVar("Part")


@dataclass(frozen=True)
class BatchPlanner:
    """Cuts records into batches by the lengths of their prompts.

    Attributes:
        most: records of a batch.
        fits: whether a batch of such prompts fits into the device's memory.
        most_padding: share of a batch's tokens that may be padding.
    """

    most: int
    fits: "Callable[[Sequence[PromptLayout]], bool]"
    most_padding: float = MOST_PADDING

    def plan(self, layouts: "Sequence[PromptLayout]") -> list[list[int]]:
        """Batches of indices, the longest prompts first: what does not fit shows at once.

        A record that fits nowhere is a batch of its own.
        """
        batches: list[list[int]] = []
        batch: list[int] = []
        for index in sorted(range(len(layouts)), key=lambda i: -layouts[i].length):
            longer = [layouts[i] for i in (*batch, index)]
            if batch and not (
                len(batch) < self.most
                and padding([layout.length for layout in longer]) <= self.most_padding
                and self.fits(longer)
            ):
                batches.append(batch)
                batch = []
            if not batch and not self.fits([layouts[index]]):
                _warn_of_little_memory()
            batch.append(index)
        return [*batches, batch] if batch else batches


@cache
def _warn_of_little_memory() -> None:
    """Once. They may run all the same: what they need is an estimate from above."""
    logger.warning(
        "single prompts may not fit into what this replica has left of its device's memory; they "
        "run one at a time, which is slow: give the pool more of a GPU (num_gpus), or more of a "
        "CPU (cpu_threads)"
    )


def padding(lengths: Sequence[int]) -> float:
    """Share of a batch's tokens that is padding."""
    longest = max(lengths)
    return 1 - sum(lengths) / (len(lengths) * longest) if longest else 0.0


def run_planned(
    run: Callable[[Sequence[Item]], Sequence[Result]],
    items: Sequence[Item],
    *,
    lay_out: "Callable[[Item], PromptLayout]",
    planner: BatchPlanner,
    stage: str,
    watch: Watch = unwatched,
) -> list[Result | Failure]:
    """Run batches; where one fails, run less at once and keep the errors of records as rows.

    Bad records are told from their layouts, before their batch runs. A batch that does not fit into
    the device's memory all the same is halved until it fits. Where any record raises, its batch
    runs again record by record. Other errors of the device (a lost GPU) are no record's fault and
    propagate.

    Returns:
        One result or failure per item, in order.
    """
    results: dict[int, Result | Failure] = {}
    layouts: dict[int, PromptLayout] = {}
    for index, item in enumerate(items):
        try:
            layouts[index] = lay_out(item)
        except Exception as error:
            outcome = judged(error, stage)
            results[index] = Failure(item.id, stage, outcome.type, outcome.message)

    def watched(batch: Sequence[Item]) -> list[Result]:
        with watch([item.id for item in batch]):
            return list(run(batch))

    good = list(layouts)
    for batch in planner.plan(list(layouts.values())):
        indices = [good[place] for place in batch]
        done = _run_batch(watched, [items[index] for index in indices], stage)
        results |= dict(zip(indices, done, strict=True))
    return [results[index] for index in range(len(items))]


def _run_batch(
    run: Callable[[Sequence[Item]], Sequence[Result]], batch: Sequence[Item], stage: str
) -> list[Result | Failure]:
    # What failed is run again outside the except blocks, whose tracebacks would keep the failed
    # batch's tensors alive.
    try:
        return list(run(batch))
    except Exception as error:
        outcome = judged(error, stage)
    if len(batch) == 1:
        return [Failure(batch[0].id, stage, outcome.type, outcome.message)]
    release_memory()
    return [result for part in outcome.parts(batch) for result in _run_batch(run, part, stage)]


@dataclass(frozen=True)
class Fault:
    """Why a batch failed, told as if it were one record's fault.

    Attributes:
        type: name of the error.
        message: for people, without internals.
        halve: whether half of the batch may do; else its records have to run alone.
    """

    type: str
    message: str
    halve: bool = False

    def parts(self, batch: Sequence[Part]) -> list[Sequence[Part]]:
        """What of a failed batch is to run again, one after the other."""
        size = (len(batch) + 1) // 2 if self.halve else 1
        return [batch[start : start + size] for start in range(0, len(batch), size)]


def judged(error: Exception, stage: str) -> Fault:
    """Why; raises the error again where the device is at fault, and no record is."""
    import torch

    if is_device_error(error):
        raise error
    name = type(error).__name__
    if isinstance(error, RecordError):
        return Fault(name, str(error))
    if isinstance(error, torch.OutOfMemoryError):
        message = f"the {stage} model's device has too little memory for this record alone"
        return Fault(name, f"{message}; shrink the image or use a larger device", halve=True)
    logger.error("a batch failed in the %s stage", stage, exc_info=error)
    message = f"the {stage} model could not process this record; the job's log has the details"
    return Fault(name, message)


def is_device_error(error: BaseException) -> bool:
    """Whether a device or its driver is at fault: no record is, and the process must end."""
    import torch

    if isinstance(error, RecordError | torch.OutOfMemoryError):
        return False
    known = isinstance(error, DeviceError | torch.AcceleratorError)
    return known or _DEVICE_MESSAGE.search(str(error)) is not None


_DEVICE_MESSAGE = re.compile(r"CUDA error|CUBLAS_STATUS|cuDNN error", re.IGNORECASE)
"""Libraries below torch raise a plain RuntimeError."""


def release_memory() -> None:
    """Give the device back what a failed batch left in torch's caches."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
