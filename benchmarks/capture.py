"""What the ranking costs: a prefill with row capture beside a plain one and eager attention.

The eager variant is what `output_attentions` asks of transformers: every T x T map of every layer
and head, summed afterwards, as the paper's code does.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.decoders import AFTER, BEFORE, INTERNVL3_1B, Decoder, image_prompt, run_prefill
from benchmarks.measure import Ratio, Work, peak_bytes, take_turns
from sgl.attention import ATTENTION_NAME, ColumnSums, RowCapture
from sgl.decoder import prefill
from sgl.language_model import LanguageModel, Prompt

VISUAL = (512, 1024, 2048, 4096)
DECODER = replace(INTERNVL3_1B, layers=6)
"""A quarter of its layers: all costs compared here are the same in every layer."""
_MOST_EAGER_BYTES = 6 << 30


def measure(
    visual: Sequence[int] = VISUAL, rounds: int = 5, decoder: Decoder = DECODER
) -> list[dict[str, Any]]:
    """One row per number of visual tokens: time and peak memory over those of the plain prefill."""
    lm = decoder.build()
    rows = []
    for count in visual:
        builders = {"plain": plain, "capture": capture}
        if eager_bytes(decoder, count) <= _MOST_EAGER_BYTES:
            builders["eager"] = eager
        works = {name: build(lm, count) for name, build in builders.items()}
        times = take_turns(works, rounds)
        peaks = {
            name: peak_bytes(_build, build, decoder, count) for name, build in builders.items()
        }
        rows.append(
            {
                "visual_tokens": count,
                "time": {
                    name: asdict(Ratio.of(times[name], times["plain"]))
                    for name in builders
                    if name != "plain"
                },
                "peak_memory": {
                    name: peaks[name] / peaks["plain"] for name in builders if name != "plain"
                },
                "plain_peak_mib": peaks["plain"] / 2**20,
                "plain_s": min(times["plain"]),
            }
        )
    return rows


def eager_bytes(decoder: Decoder, visual: int) -> int:
    """What all attention maps of one prompt take, float32."""
    length = BEFORE + visual + AFTER
    return 4 * decoder.layers * decoder.heads * length * length


def plain(lm: LanguageModel, visual: int) -> Work:
    """Fused attention, nothing captured."""
    prompt = image_prompt(lm, visual)
    return partial(run_prefill, lm, prompt)


def capture(lm: LanguageModel, visual: int) -> Work:
    """Fused attention, and the rows after the image beside it."""
    prompt = image_prompt(lm, visual)
    return partial(prefill_with_capture, lm, prompt)


def eager(lm: LanguageModel, visual: int) -> Work:
    """Every attention map, summed."""
    prompt = image_prompt(lm, visual)
    return partial(_eager, lm, prompt)


def _build(build: Any, decoder: Decoder, visual: int) -> Work:
    work: Work = build(decoder.build(), visual)
    return work


@torch.inference_mode()
def prefill_with_capture(
    lm: LanguageModel, prompt: Prompt, column_sums: ColumnSums | None = None
) -> Tensor:
    """(B, T) importance by the rows after the image; every prompt has it at the same place."""
    batch, length = prompt.visual_BT.shape
    last = int(prompt.visual_BT[0].nonzero().max())
    rows_BT = (torch.arange(length, device=prompt.visual_BT.device) > last).float()
    rows = RowCapture(batch, length, prompt.visual_BT.device, column_sums)
    rows.watch(rows_BT.expand(batch, -1), first_row=last + 1)
    prefill(lm, prompt, capture=rows)
    return rows.importance_BT


@torch.inference_mode()
def _eager(lm: LanguageModel, prompt: Prompt) -> object:
    lm.text_model.set_attn_implementation("eager")
    try:
        out = lm.text_model(inputs_embeds=prompt.embeds_BTD, use_cache=True, output_attentions=True)
    finally:
        lm.text_model.set_attn_implementation(ATTENTION_NAME)
    after = int(prompt.visual_BT[0].nonzero().max()) + 1
    return lm.lm_head(out.last_hidden_state[:, -1]), sum(
        attn_BHTT[:, :, after:].sum(dim=(1, 2)) for attn_BHTT in out.attentions
    )


def report(rows: Sequence[dict[str, Any]]) -> str:
    """As a table of text."""
    lines = [f"{'visual tokens':>13}  {'':8} {'time / plain':>24}  {'peak memory / plain':>20}"]
    for row in rows:
        for name, time in row["time"].items():
            ratio = Ratio(**time)
            lines.append(
                f"{row['visual_tokens']:>13}  {name:8} {ratio!s:>24}  "
                f"{row['peak_memory'][name]:>20.3f}"
            )
    return "\n".join(lines)
