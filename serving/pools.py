"""The pools as Ray Serve deploys them: a model that runs for many, behind its replica's methods.

What a pool refuses it says as a value: errors that cross processes lose their types.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np

from actors.batching import HasId
from actors.continuous import Continuous
from actors.large_vlm import GuidedQuestion, LargeVLM
from actors.small_vlm import SmallVLM
from actors.tickets import CohortModel, Load, Ticket
from pipeline.preflight import Placement
from pipeline.stage import end_process
from serving.backend import Delta, Timed
from serving.config import ServeConfig, ServePoolConfig
from sgl.errors import (
    ExpiredError,
    OverloadedError,
    RecordError,
    ReplicaError,
    UnavailableError,
)
from sgl.types import Answer, Failure, Guidance, ImageQuestion

STUCK_S = 600.0
"""A forward pass that takes so long hangs, and its replica is ended."""

WARM_UP = ImageQuestion("warm-up", "?", (np.zeros((64, 64, 3), np.uint8),), max_new_tokens=2)
"""The first forward passes of a process are slow; nobody shall wait for them."""

_CLOSE_S = 5.0
"""A pass that lasts longer ends with its process."""

Refused: TypeAlias = OverloadedError | ExpiredError | UnavailableError
Event: TypeAlias = Delta | Timed | Refused

Item = TypeVar("Item", bound=HasId)
Result = TypeVar("Result", Guidance, Answer)


class Pool(Generic[Item, Result]):
    """One replica.

    Args:
        model: loaded in the thread that runs it.
        stage: "small" or "large".
        config: of the pool.
    """

    def __init__(self, model: Any, stage: str, config: ServePoolConfig) -> None:
        self._stage = stage
        self._continuous: Continuous[Item, Result] = Continuous(
            model,
            max_waiting=config.max_waiting,
            batches=config.batches,
            on_death=end_process,
        )

    async def ask(self, item: Item, timeout_s: float) -> Timed | Refused:
        """The result alone."""
        async for event in self.ask_stream(item, timeout_s, heard=False):
            if not isinstance(event, Delta):
                return event
        raise AssertionError("a call ends with a result")

    async def ask_stream(
        self, item: Item, timeout_s: float, *, heard: bool = True
    ) -> AsyncIterator[Event]:
        """Pieces of the text, and at the end one result or refusal."""
        ear = _Ear(asyncio.get_running_loop())
        # Laying out a prompt takes a millisecond or more.
        submit = partial(self._continuous.submit, item, ear, timeout_s=timeout_s, heard=heard)
        submitting = asyncio.ensure_future(asyncio.to_thread(submit))
        try:
            ticket = await asyncio.shield(submitting)
        except asyncio.CancelledError:
            # The thread goes on, and nobody waits for what it asks.
            submitting.add_done_callback(_cancel)
            raise
        except RecordError as error:
            failure = Failure(item.id, self._stage, type(error).__name__, str(error))
            yield Timed(failure, queued_s=0.0, served_s=0.0)
            return
        except (OverloadedError, UnavailableError) as error:
            yield error
            return
        try:
            while True:
                event = await ear.events.get()
                yield event
                if not isinstance(event, Delta):
                    return
        finally:
            ticket.cancel()

    async def load(self) -> tuple[Load, int]:
        """How busy the replica is, and its process."""
        return self._continuous.load(), os.getpid()

    def __del__(self) -> None:
        """Of Ray Serve, when nothing is under way any more."""
        if hasattr(self, "_continuous"):
            self._continuous.close(_CLOSE_S)

    def check_health(self) -> None:
        """Ray Serve ends a replica that raises here.

        Raises:
            RuntimeError: the model hangs.
        """
        if self._continuous.load().busy_s > STUCK_S:
            raise RuntimeError(f"a forward pass has taken more than {STUCK_S:g} s")


class SmallPool(Pool[ImageQuestion, Guidance]):
    """Of the small model."""

    def __init__(self, config: ServeConfig) -> None:
        def load() -> CohortModel[ImageQuestion, Guidance]:
            devices = devices_of(config.pools.small)
            model = SmallVLM(config.models.small, config.guidance, config.decoding, **devices)
            _check_warm(model.run([WARM_UP]))
            return model

        super().__init__(load, "small", config.pools.small)


class LargePool(Pool[GuidedQuestion, Answer]):
    """Of the large model."""

    def __init__(self, config: ServeConfig) -> None:
        def load() -> CohortModel[GuidedQuestion, Answer]:
            devices = devices_of(config.pools.large)
            model = LargeVLM(config.models.large, config.pruning, config.decoding, **devices)
            _check_warm(model.run([GuidedQuestion(WARM_UP)]))
            return model

        super().__init__(load, "large", config.pools.large)


def devices_of(pool: ServePoolConfig) -> dict[str, Any]:
    """What a replica's model is told of its devices."""
    place = Placement(num_gpus=pool.num_gpus or 0.0, num_cpus=pool.num_cpus)
    return {"gpus": place.whole_gpus, "gpu_share": place.gpu_share}


def _check_warm(results: Sequence[Guidance | Answer | Failure]) -> None:
    """Refuse a model that cannot answer anything.

    Raises:
        ReplicaError: why.
    """
    for result in results:
        if isinstance(result, Failure):
            raise ReplicaError(f"the {result.stage} model cannot answer: {result.message}")


def _cancel(submitted: "asyncio.Future[Ticket[Any, Any]]") -> None:
    if not submitted.cancelled() and submitted.exception() is None:
        submitted.result().cancel()


class _Ear:
    """Brings what the model's thread says to the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.events: asyncio.Queue[Event] = asyncio.Queue()

    def said(self, text: str) -> None:
        """See Listener."""
        self._put(Delta(text))

    def done(self, result: Guidance | Answer | Failure, queued_s: float, served_s: float) -> None:
        """See Listener."""
        if isinstance(result, Answer):
            result = replace(result, guidance=None)  # who asked has it
        self._put(Timed(result, queued_s, served_s))

    def failed(self, error: Exception) -> None:
        """See Listener."""
        assert isinstance(error, OverloadedError | ExpiredError | UnavailableError)
        self._put(error)

    def _put(self, event: Event) -> None:
        self._loop.call_soon_threadsafe(self.events.put_nowait, event)
