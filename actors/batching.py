"""Batches of records, isolated from each other's errors."""

import logging
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sgl.errors import DeviceError, RecordError
from sgl.types import Failure

logger = logging.getLogger(__name__)


class HasId(Protocol):
    """Anything that belongs to one record."""

    @property
    def id(self) -> str:
        """Of the record."""
        ...


Item = TypeVar("Item", bound=HasId)
Result = TypeVar("Result")


def run_isolated(
    run: Callable[[Sequence[Item]], Sequence[Result]],
    items: Sequence[Item],
    *,
    batch_size: int,
    stage: str,
) -> list[Result | Failure]:
    """Run batches; where one fails, run less at once and keep the errors of records as rows.

    A batch that does not fit into the device's memory is halved until it fits. Where any record
    raises, its batch runs again record by record. Other errors of the device (a lost GPU) are no
    record's fault and propagate.

    Returns:
        One result or failure per item, in order.
    """
    results: list[Result | Failure] = []
    for start in range(0, len(items), batch_size):
        results += _run_batch(run, items[start : start + batch_size], stage)
    return results


def _run_batch(
    run: Callable[[Sequence[Item]], Sequence[Result]], batch: Sequence[Item], stage: str
) -> list[Result | Failure]:
    # What failed is run again outside the except blocks, whose tracebacks would keep the failed
    # batch's tensors alive.
    try:
        return list(run(batch))
    except Exception as error:
        outcome = _judged(error, stage)
    if len(batch) == 1:
        return [Failure(batch[0].id, stage, outcome.type, outcome.message)]
    release_memory()
    size = (len(batch) + 1) // 2 if outcome.halve else 1
    parts = [batch[start : start + size] for start in range(0, len(batch), size)]
    return [result for part in parts for result in _run_batch(run, part, stage)]


@dataclass(frozen=True)
class _Outcome:
    """Why a batch failed, told as if it were one record's fault."""

    type: str
    message: str
    halve: bool = False


def _judged(error: Exception, stage: str) -> _Outcome:
    """Raises the error again where the device is at fault."""
    import torch

    if is_device_error(error):
        raise error
    name = type(error).__name__
    if isinstance(error, RecordError):
        return _Outcome(name, str(error))
    if isinstance(error, torch.OutOfMemoryError):
        message = f"the {stage} model's device has too little memory for this record alone"
        return _Outcome(name, f"{message}; shrink the image or use a larger device", halve=True)
    logger.error("a batch failed in the %s stage", stage, exc_info=error)
    message = f"the {stage} model could not process this record; the job's log has the details"
    return _Outcome(name, message)


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
