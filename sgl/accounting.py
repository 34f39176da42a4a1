"""What a batch cost, record by record: FLOPs from the lengths, device-seconds shared by FLOPs.

Padding and records that wait for their batch are nobody's own: they are in the shared seconds.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sgl.flops import DecoderShape, capture_flops, scoring_flops, staged_generation_flops
from sgl.generation import Generation
from sgl.layout import PromptLayout
from sgl.prompt import PromptBatch
from sgl.ranking import keep_count
from sgl.selection import Plan
from sgl.types import Usage


@dataclass(frozen=True)
class Meter:
    """Counts for one model."""

    shape: DecoderShape

    def guidance_flops(
        self,
        layouts: Sequence[PromptLayout],
        answers: Generation,
        *,
        consistency_keep_ratio: float | None,
        include_last_visual_row: bool,
    ) -> list[float]:
        """Vision, generation, capture and consistency pass of each record of `VLM.guide`.

        A keep ratio of None is no such pass.
        """
        found = []
        for layout, tokens in zip(layouts, answers.token_ids, strict=True):
            visual, prompt = layout.visual_tokens, layout.length
            rows = layout.rows_after_image + (include_last_visual_row and visual > 0)
            flops = layout.vision_flops
            flops += self.captured_flops(layout, rows=rows, new_tokens=len(tokens))
            if consistency_keep_ratio is not None:
                seen = prompt - visual + keep_count(visual, consistency_keep_ratio)
                flops += scoring_flops(self.shape, prompt=seen, new_tokens=len(tokens))
            found.append(flops)
        return found

    def captured_flops(self, layout: PromptLayout, *, rows: int, new_tokens: int) -> float:
        """Generation of one record with a capture of so many rows of its prompt."""
        stages = [(0, layout.length)]
        generated = staged_generation_flops(self.shape, stages, new_tokens=new_tokens)
        return generated + capture_flops(
            self.shape, prompt=layout.length, rows=rows, new_tokens=new_tokens
        )

    def answer_flops(
        self, layouts: Sequence[PromptLayout], answers: Generation, plan: Plan
    ) -> list[float]:
        """Vision, generation and pruning of each record of `VLM.answer`."""
        found = []
        for b, layout in enumerate(layouts):
            text = layout.length - layout.visual_tokens
            stages = [(cut.layer, text + cut.kept) for cut in plan.cuts[b]]
            generated = staged_generation_flops(
                self.shape,
                [(0, layout.length), *stages],
                new_tokens=len(answers.token_ids[b]),
                drafted=answers.drafted[b],
                accepted=answers.accepted[b],
            )
            found.append(layout.vision_flops + generated + plan.flops[b])
        return found


class Stopwatch:
    """Seconds of a batch on a device, waiting for the device's queue at the end."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._started = time.perf_counter()

    def seconds(self) -> float:
        """Since construction."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - self._started


def usages(
    batch: PromptBatch,
    *,
    kept: Sequence[int],
    answers: Sequence[Sequence[Any]],
    flops: Sequence[float],
    seconds: float,
    consistency_s: float | None = None,
) -> list[Usage]:
    """One usage per record; their device-seconds add up to `seconds`.

    Likewise those of the consistency pass, which `seconds` include; None where there was none.
    """
    total = sum(flops)
    return [
        Usage(
            prompt_tokens=batch.layouts[b].length,
            visual_tokens=batch.layouts[b].visual_tokens,
            kept_tokens=kept[b],
            completion_tokens=len(answer),
            flops=flops[b],
            device_s=seconds * flops[b] / total,
            batch_records=len(answers),
            padded_tokens=batch.width,
            consistency_s=None if consistency_s is None else consistency_s * flops[b] / total,
        )
        for b, answer in enumerate(answers)
    ]
