"""What a batch cost, record by record: FLOPs from the lengths, device-seconds as they pass.

A prefill's seconds are shared by its FLOPs; those of a decode step, which reads the same weights
for everyone, equally by the records that it works for. Padding is nobody's own: it is in the shared
seconds.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from sgl.flops import DecoderShape, capture_flops, scoring_flops, staged_generation_flops
from sgl.layout import PromptLayout
from sgl.ranking import Cut, keep_count


@dataclass(frozen=True)
class Meter:
    """Counts for one model."""

    shape: DecoderShape

    def guidance_flops(
        self,
        layout: PromptLayout,
        new_tokens: int,
        *,
        consistency_keep_ratio: float | None,
        include_last_visual_row: bool,
    ) -> float:
        """Vision, generation, capture and consistency pass of one record of `VLM.guide`.

        A keep ratio of None is no such pass.
        """
        visual = layout.visual_tokens
        rows = layout.rows_after_image + (include_last_visual_row and visual > 0)
        flops = layout.vision_flops
        flops += self.captured_flops(layout, rows=rows, new_tokens=new_tokens)
        if consistency_keep_ratio is not None:
            flops += self.scoring_flops(layout, new_tokens, consistency_keep_ratio)
        return flops

    def scoring_flops(self, layout: PromptLayout, new_tokens: int, keep_ratio: float) -> float:
        """The consistency pass of one record, over that share of its visual tokens."""
        visual = layout.visual_tokens
        seen = layout.length - visual + keep_count(visual, keep_ratio)
        return scoring_flops(self.shape, prompt=seen, new_tokens=new_tokens)

    def captured_flops(self, layout: PromptLayout, *, rows: int, new_tokens: int) -> float:
        """Generation of one record with a capture of so many rows of its prompt."""
        stages = [(0, layout.length)]
        generated = staged_generation_flops(self.shape, stages, new_tokens=new_tokens)
        return generated + capture_flops(
            self.shape, prompt=layout.length, rows=rows, new_tokens=new_tokens
        )

    def answer_flops(
        self,
        layout: PromptLayout,
        cuts: Sequence[Cut] = (),
        *,
        new_tokens: int = 1,
        drafted: int = 0,
        accepted: int = 0,
    ) -> float:
        """Vision and generation of one record, pruned so; by default only the prefill."""
        text = layout.length - layout.visual_tokens
        stages = [(0, layout.length), *((cut.layer, text + cut.kept) for cut in cuts)]
        return layout.vision_flops + staged_generation_flops(
            self.shape, stages, new_tokens=new_tokens, drafted=drafted, accepted=accepted
        )


class SharedTime:
    """Seconds of a batch on a device, shared among its records.

    Attributes:
        seconds: of each record.
    """

    def __init__(self, device: torch.device, records: int) -> None:
        self._device = device
        self._started = time.perf_counter()
        self.seconds = [0.0] * records

    def start(self) -> None:
        """What has passed since the last share was somebody else's."""
        self._started = time.perf_counter()

    def share(self, weights: Mapping[int, float]) -> None:
        """Wait for the device, and share what has passed by these weights, by record."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        total = sum(weights.values())
        for record, weight in weights.items():
            self.seconds[record] += (now - self._started) * weight / total
        self._started = now
