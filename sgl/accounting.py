"""What a batch cost, record by record: FLOPs from the lengths, device-seconds shared by FLOPs.

Padding and records that wait for their batch are nobody's own: they are in the shared seconds.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sgl.flops import DecoderShape, capture_flops, generation_flops, scoring_flops
from sgl.layout import PromptLayout
from sgl.prompt import PromptBatch
from sgl.ranking import keep_count
from sgl.types import Usage


@dataclass(frozen=True)
class Meter:
    """Counts for one model."""

    shape: DecoderShape

    def guidance_flops(
        self,
        layout: PromptLayout,
        *,
        new_tokens: int,
        consistency_keep_ratio: float,
        include_last_visual_row: bool,
    ) -> float:
        """Vision, generation, capture and consistency pass of one record of `VLM.guide`."""
        visual, prompt = layout.visual_tokens, layout.length
        rows = layout.rows_after_image + (include_last_visual_row and visual > 0)
        seen_again = prompt - visual + keep_count(visual, consistency_keep_ratio)
        return (
            self.answer_flops(layout, new_tokens=new_tokens, split=self.shape.layers, kept=visual)
            + capture_flops(self.shape, prompt=prompt, rows=rows, new_tokens=new_tokens)
            + scoring_flops(self.shape, prompt=seen_again, new_tokens=new_tokens)
        )

    def answer_flops(
        self,
        layout: PromptLayout,
        *,
        new_tokens: int,
        split: int,
        kept: int,
        drafted: int = 0,
        accepted: int = 0,
    ) -> float:
        """Vision and generation of one record, `kept` visual tokens left from layer `split` on."""
        return layout.vision_flops + generation_flops(
            self.shape,
            prompt=layout.length,
            pruned_prompt=layout.length - layout.visual_tokens + kept,
            prune_layer=split,
            new_tokens=new_tokens,
            drafted=drafted,
            accepted=accepted,
        )


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
) -> list[Usage]:
    """One usage per record; their device-seconds add up to `seconds`."""
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
        )
        for b, answer in enumerate(answers)
    ]
