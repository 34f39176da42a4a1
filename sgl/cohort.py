"""A batch of a model, one forward pass at a time: what guides, and what answers.

Whoever runs a cohort to its end has a batch. Whoever runs several in turn admits new records while
others decode, hears answers while they come, and lets those leave that nobody waits for any more.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

from sgl.accounting import SharedTime
from sgl.answers import Generation
from sgl.generation import Generating
from sgl.layout import PromptLayout
from sgl.prompt import PromptBatch
from sgl.text_stream import TextStream
from sgl.types import ImageQuestion, Usage

if TYPE_CHECKING:
    from sgl.vlm import VLM

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Said:
    """More of a record's answer.

    Attributes:
        record: its place in the cohort.
        text: new text.
    """

    record: int
    text: str


@dataclass(frozen=True, slots=True)
class Done(Generic[Result]):
    """A record's result; nothing comes after it.

    Attributes:
        record: its place in the cohort.
        result: of it.
    """

    record: int
    result: Result


class Cohort(ABC, Generic[Result]):
    """A batch under way.

    Args:
        vlm: the model.
        records: at least one.
        heard: places of the records whose text is wanted as it comes.
        layouts: of the records, where they are known already.
        at_once: each record is done when its answer is; else all are when the last one's is, which
            is the faster way to have them all.
    """

    def __init__(
        self,
        vlm: "VLM",
        records: Sequence[ImageQuestion],
        *,
        heard: Collection[int] = (),
        layouts: Sequence[PromptLayout] | None = None,
        at_once: bool = False,
    ) -> None:
        self._vlm = vlm
        self._records = list(records)
        self._layouts = layouts
        self._at_once = at_once
        self._left = set(range(len(records)))
        self._streams = {row: TextStream(vlm.tokenizer, records[row].stop) for row in heard}
        self._time = SharedTime(vlm.model.device, len(records))
        self._run: Generating | None = None

    @property
    def unfinished(self) -> bool:
        """Whether there is anything to wait for."""
        return bool(self._left)

    def cancel(self, record: int) -> None:
        """Nobody waits for this record any more; of it, nothing comes."""
        self._left.discard(record)
        if self._run:
            self._run.cancel(record)

    @torch.inference_mode()
    def step(self) -> list[Said | Done[Result]]:
        """One forward pass of the records that are left, and what follows from it.

        Raises:
            RecordError: one of the records is bad, and the cohort is at its end.
        """
        self._time.start()
        if self._run is None:
            self._run = self._begin()
            self._run.step()
            self._time.share(dict(enumerate(self._prefill_flops(self._run.generation))))
            for row in set(range(len(self._records))) - self._left:
                self._run.cancel(row)
        elif running := self._run.unfinished:
            self._run.step()
            self._time.share(dict.fromkeys(running, 1.0))
        running = self._run.unfinished
        ready = sorted(self._left - running) if self._at_once or not running else []
        said = self._said(self._run.generation)
        self._left -= set(ready)
        if not ready:
            return said
        results = self._results(ready, self._run.generation)
        return [*said, *(Done(row, one) for row, one in zip(ready, results, strict=True))]

    def finish(self) -> list[Result]:
        """All steps, and one result per record, in order; errors as of `step`."""
        found: dict[int, Result] = {}
        while self.unfinished:
            found |= {one.record: one.result for one in self.step() if isinstance(one, Done)}
        return [found[row] for row in sorted(found)]

    @abstractmethod
    def _begin(self) -> Generating:
        """Prompts, and what is decided before the first layer."""

    @abstractmethod
    def _prefill_flops(self, generation: Generation) -> list[float]:
        """Of every record."""

    @abstractmethod
    def _results(self, rows: Sequence[int], generation: Generation) -> list[Result]:
        """Of records whose answers are made."""

    def _said(self, generation: Generation) -> list[Said | Done[Result]]:
        said: list[Said | Done[Result]] = []
        for row, stream in self._streams.items():
            if row not in self._left:
                continue
            tokens = generation.token_ids[row]
            # Once it is done its text is known whole, with all that was held back.
            text = stream.more(tokens)
            if self._run and row not in self._run.unfinished:
                text += stream.rest(self._text(row, generation))
            if text:
                said.append(Said(row, text))
        return said

    def _text(self, row: int, generation: Generation) -> str:
        return self._vlm.text(generation.token_ids[row], self._records[row].stop)

    def _usage(
        self, row: int, batch: PromptBatch, completion: int, flops: float, kept: int
    ) -> Usage:
        return Usage(
            prompt_tokens=batch.layouts[row].length,
            visual_tokens=batch.layouts[row].visual_tokens,
            kept_tokens=kept,
            completion_tokens=completion,
            flops=flops,
            device_s=self._time.seconds[row],
            batch_records=len(self._records),
            padded_tokens=batch.width,
        )
