"""What pruning saves: realised against what the counted operations, or bytes, allow.

Prefill is bound by arithmetic: its ideal is the ratio of FLOPs. A decode step of a batch with long
prompts is bound by reading weights and KV caches: its ideal is the ratio of bytes.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch

from benchmarks.decoders import AFTER, BEFORE, INTERNVL3_1B, Decoder, image_prompt, run_prefill
from benchmarks.measure import Ratio, Work, take_turns
from sgl.decoder import DecodeState, decode_step
from sgl.flops import decode_bytes, generation_flops
from sgl.language_model import LanguageModel, Prompt
from sgl.ranking import average_retention, keep_count, top_visual_tokens
from sgl.selection import Selection

PRESETS = ((0.4, 0.4), (0.19, 0.2), (0.04, 0.05))
"""Prune layer and keep ratio of the paper."""
LAYERS = 25
"""The fewest of which int(0.04 * L) is a layer: with fewer, the 9 % preset prunes to 5 %."""
PREFILL = replace(INTERNVL3_1B, layers=LAYERS)
DECODE = Decoder(
    hidden=1024, heads=16, kv_heads=16, intermediate=2816, layers=LAYERS, vocabulary=8192
)
"""One KV head per head: caches outgrow the weights at few records already."""
STEPS = 4
"""Tokens of one decode measurement."""


def measure(
    visual: int = 2048,
    rounds: int = 5,
    decode_visual: int = 4096,
    decode_batch: int = 4,
    prefill_decoder: Decoder = PREFILL,
    decode_decoder: Decoder = DECODE,
) -> list[dict[str, Any]]:
    """One row per phase and preset."""
    return [
        *measure_prefill(prefill_decoder.build(), prefill_decoder, visual, rounds),
        *measure_decode(
            decode_decoder.build(), decode_decoder, decode_visual, decode_batch, rounds
        ),
    ]


def measure_prefill(
    lm: LanguageModel, decoder: Decoder, visual: int, rounds: int
) -> list[dict[str, Any]]:
    """One row per preset, at batch 1; `lm` is built from `decoder`."""
    prompt = image_prompt(lm, visual)
    works: dict[str, Work] = {"full": partial(run_prefill, lm, prompt)}
    for preset in PRESETS:
        works[str(preset)] = partial(
            run_prefill, lm, prompt, random_selection(decoder, prompt, *preset)
        )
    times = take_turns(works, rounds)
    rows = []
    for preset in PRESETS:
        full, pruned = (
            generation_flops(
                decoder.shape,
                prompt=BEFORE + visual + AFTER,
                pruned_prompt=BEFORE + kept + AFTER,
                prune_layer=split_layer(decoder, preset[0]),
                new_tokens=1,
            )
            for kept in (visual, keep_count(visual, preset[1]))
        )
        rows.append(_row("prefill", decoder, visual, preset, times, full / pruned))
    return rows


def measure_decode(
    lm: LanguageModel, decoder: Decoder, visual: int, batch: int, rounds: int
) -> list[dict[str, Any]]:
    """One row per preset; `lm` is built from `decoder`."""
    prompt = image_prompt(lm, visual, batch)
    works: dict[str, Work] = {"full": partial(decode_some, lm, run_prefill(lm, prompt)[1])}
    for preset in PRESETS:
        selection = random_selection(decoder, prompt, *preset)
        works[str(preset)] = partial(decode_some, lm, run_prefill(lm, prompt, selection)[1])
    times = take_turns(works, rounds)
    rows = []
    for preset in PRESETS:
        full, pruned = (
            decode_bytes(
                decoder.shape,
                prompts=[BEFORE + visual + AFTER] * batch,
                pruned_prompts=[BEFORE + kept + AFTER] * batch,
                prune_layer=split_layer(decoder, preset[0]),
                bytes_per_value=lm.text_model.dtype.itemsize,
            )
            for kept in (visual, keep_count(visual, preset[1]))
        )
        rows.append(_row("decode", decoder, visual, preset, times, full / pruned))
    return rows


def _row(
    phase: str,
    decoder: Decoder,
    visual: int,
    preset: tuple[float, float],
    times: dict[str, list[float]],
    ideal: float,
) -> dict[str, Any]:
    speed_up = Ratio.of(times["full"], times[str(preset)])
    split = split_layer(decoder, preset[0])
    kept = keep_count(visual, preset[1])
    return {
        "phase": phase,
        "visual_tokens": visual,
        "prune_layer": preset[0],
        "keep_ratio": preset[1],
        "average_retention": average_retention(split, decoder.layers, kept, visual),
        "speed_up": asdict(speed_up),
        "ideal": ideal,
        "realised": speed_up.value / ideal,
        "full_s": min(times["full"]),
    }


def split_layer(decoder: Decoder, prune_layer: float) -> int:
    """K, the first layer with the short cache."""
    return int(decoder.layers * prune_layer)


def random_selection(
    decoder: Decoder, prompt: Prompt, prune_layer: float, keep_ratio: float
) -> Selection:
    """Visual tokens drawn at random: what stays has no influence on speed."""
    seed = torch.Generator(device=prompt.visual_BT.device).manual_seed(1)
    importance_BT = torch.rand(
        prompt.visual_BT.shape, generator=seed, device=prompt.visual_BT.device
    )
    kept_BT = top_visual_tokens(importance_BT, prompt.visual_BT, keep_ratio)
    return Selection(split_layer(decoder, prune_layer), kept_BT | ~prompt.visual_BT)


@torch.inference_mode()
def decode_some(lm: LanguageModel, state: DecodeState) -> object:
    """A few more tokens; some tens more in a cache of thousands change nothing."""
    batch = state.position_B.shape[0]
    token_B = torch.ones(batch, dtype=torch.int64, device=state.position_B.device)
    for _ in range(STEPS):
        token_B = decode_step(lm, state, token_B).argmax(dim=-1)
    return token_B


def report(rows: Sequence[dict[str, Any]]) -> str:
    """As a table of text."""
    lines = [
        f"{'phase':8} {'visual':>7} {'layer, keep':>13} {'retention':>10} {'speed-up':>24} "
        f"{'ideal':>7} {'realised':>9}"
    ]
    for row in rows:
        preset = f"{row['prune_layer']:g}, {row['keep_ratio']:g}"
        speed_up = Ratio(**row["speed_up"])
        lines.append(
            f"{row['phase']:8} {row['visual_tokens']:>7} {preset:>13} "
            f"{row['average_retention']:>10.1%} {speed_up!s:>24} {row['ideal']:>7.2f} "
            f"{row['realised']:>9.1%}"
        )
    return "\n".join(lines)
