"""Batches of records, isolated from each other's errors."""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from sgl.errors import RecordError
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
    """Run batches; where one raises, run its records one by one and keep the errors as rows.

    Errors of the device (out of memory, a lost GPU) are no record's fault and propagate.

    Returns:
        One result or failure per item, in order.
    """
    results: list[Result | Failure] = []
    for start in range(0, len(items), batch_size):
        batch = items[start : start + batch_size]
        answered = _run_together(run, batch)
        if answered is None:
            # Outside the except block, whose traceback would keep the failed batch's tensors alive.
            results.extend(_run_one(run, item, stage) for item in batch)
        else:
            results.extend(answered)
    return results


def _run_together(
    run: Callable[[Sequence[Item]], Sequence[Result]], batch: Sequence[Item]
) -> Sequence[Result] | None:
    """None where any record spoils the batch."""
    try:
        return run(batch)
    except Exception as error:
        if _is_device_error(error):
            raise
        return None


def _run_one(
    run: Callable[[Sequence[Item]], Sequence[Result]], item: Item, stage: str
) -> Result | Failure:
    try:
        return run([item])[0]
    except RecordError as error:
        return Failure(item.id, stage, type(error).__name__, str(error))
    except Exception as error:
        if _is_device_error(error):
            raise
        logger.exception("record failed in the %s stage", stage)
        message = f"the {stage} model could not process this record; the job's log has the details"
        return Failure(item.id, stage, type(error).__name__, message)


def _is_device_error(error: Exception) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError)
