"""What `benchmarks.gpu` measures, part by part: rows of figures, some with a goal."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks import pruning
from benchmarks.capture import prefill_with_capture
from benchmarks.decoders import AFTER, BEFORE, INTERNVL3_8B, Decoder, image_prompt, run_prefill
from benchmarks.limits import Limits, measure_limits
from benchmarks.measure import Ratio, Work, peak_bytes, take_turns
from sgl import answers, attention
from sgl.attention import ColumnSums
from sgl.decoder import decode_step, prefill
from sgl.flops import DecoderShape, attention_flops, decode_bytes, generation_flops
from sgl.generation import Generating
from sgl.language_model import LanguageModel, Prompt
from sgl.ranking import keep_count, top_visual_tokens
from sgl.selection import Selection
from sgl.static_decode import StaticDecode

PRUNED = (0.19, 0.2)
"""The preset that decode is measured with: 35 % average retention."""


@dataclass(frozen=True)
class Setup:
    """What is measured, and on what; built when a part first asks for it.

    Attributes:
        visual: visual tokens of the prefills.
        decode_visual: visual tokens behind which is decoded.
        decode_batches: batch sizes.
        answer_tokens: lengths of whole answers.
        matrix_sides, copied_bytes: what the limits are measured with.
    """

    decoder: Decoder = INTERNVL3_8B
    device: str = "cuda"
    dtype: torch.dtype = torch.bfloat16
    rounds: int = 5
    visual: tuple[int, ...] = (1024, 2048, 4096)
    decode_visual: int = 2048
    decode_batches: tuple[int, ...] = (1, 32)
    answer_tokens: tuple[int, ...] = (16, 64)
    matrix_sides: tuple[int, ...] = (4096, 8192, 16_384)
    copied_bytes: int = 4 << 30

    @cached_property
    def limits(self) -> Limits:
        """Of the device."""
        return measure_limits(
            self.device, self.dtype, self.rounds, self.matrix_sides, self.copied_bytes
        )

    @cached_property
    def lm(self) -> LanguageModel:
        """With random weights."""
        return self.decoder.build(self.device, self.dtype)


Row = dict[str, Any]
Part = Callable[[Setup], list[Row]]


def figure(case: str, name: str, value: float, goal: str | None = None, **detail: Any) -> Row:
    """One row; `goal` is a bound such as ">= 0.5"."""
    row: Row = {"case": case, "figure": name, "value": value}
    if goal:
        row |= {"goal": goal, "met": meets(value, goal)}
    return row | detail


def meets(value: float, goal: str) -> bool:
    """Whether a value keeps to a bound."""
    side, bound = goal.split()
    return value >= float(bound) if side == ">=" else value <= float(bound)


def prefill_flops(shape: DecoderShape, tokens: int) -> float:
    """What a causal prefill must compute: half of the attention rectangle, one token's logits."""
    whole = generation_flops(
        shape, prompt=tokens, pruned_prompt=tokens, prune_layer=0, new_tokens=1
    )
    width = shape.heads * shape.head_dim
    return whole - shape.layers * attention_flops(tokens, tokens, width) / 2


def measure_device(setup: Setup) -> list[Row]:
    """The ceilings."""
    return [
        figure("matmul peak", "TFLOP/s", setup.limits.matmul_flops_per_s / 1e12),
        figure("copy bandwidth", "TB/s", setup.limits.copy_bytes_per_s / 1e12),
    ]


def measure_prefill(setup: Setup) -> list[Row]:
    """Share of the matmul peak, and what the capture adds."""
    rows = []
    for visual in setup.visual:
        prompt = image_prompt(setup.lm, visual)
        works: dict[str, Work] = {"plain": partial(run_prefill, setup.lm, prompt)}
        for name, column_sums in captures().items():
            works[name] = partial(prefill_with_capture, setup.lm, prompt, column_sums)
        times = take_turns(works, setup.rounds)
        seconds = median(times["plain"])
        needed = prefill_flops(setup.decoder.shape, BEFORE + visual + AFTER)
        share = needed / seconds / setup.limits.matmul_flops_per_s
        case = f"{visual} visual tokens"
        rows.append(figure(case, "share of matmul peak", share, ">= 0.5", seconds=seconds))
        rows += [added(case, name, times) for name in captures()]
    return rows


def measure_ragged_prefill(setup: Setup) -> list[Row]:
    """What the capture adds where a mask says who may attend to whom."""
    visual, batch = min(setup.visual), 4
    prompt = image_prompt(setup.lm, visual, batch)
    for record in range(1, batch):
        prompt.valid_BT[record, : record * BEFORE // batch] = False
    works: dict[str, Work] = {"plain": partial(run_prefill, setup.lm, prompt)}
    for name, column_sums in captures().items():
        works[name] = partial(prefill_with_capture, setup.lm, prompt, column_sums)
    times = take_turns(works, setup.rounds)
    case = f"{batch} x {visual} visual tokens, ragged"
    return [added(case, name, times) for name in captures()]


def added(case: str, name: str, times: dict[str, list[float]]) -> Row:
    """What a capture adds to the plain prefill."""
    ratio = Ratio.of(times[name], times["plain"])
    goal = "<= 0.03" if name == "fused" else None
    return figure(case, f"added by {name} capture", ratio.value - 1, goal, ratio=asdict(ratio))


def measure_pruned_prefill(setup: Setup) -> list[Row]:
    """Realised speed-up against the ratio of FLOPs, at the longest prompt."""
    visual = max(setup.visual)
    return [
        figure(
            f"{visual} visual tokens, {row['average_retention']:.0%} retention",
            "speed-up / ideal",
            row["realised"],
            ">= 0.9",
            **row,
        )
        for row in pruning.measure_prefill(setup.lm, setup.decoder, visual, setup.rounds)
    ]


def measure_decode(setup: Setup) -> list[Row]:
    """The time that reading weights and caches takes, over that of a step.

    With the cache that grows, launched kernel by kernel, and with the static one's graph.
    """
    rows = []
    for batch in setup.decode_batches:
        prompt = image_prompt(setup.lm, setup.decode_visual, batch)
        for name, preset in (("full", None), ("pruned", PRUNED)):
            selection = pruning.random_selection(setup.decoder, prompt, *preset) if preset else None
            state = run_prefill(setup.lm, prompt, selection)[1]
            static = StaticDecode(setup.lm, state, pruning.STEPS * (setup.rounds + 1))
            works: dict[str, Work] = {
                "growing": partial(pruning.decode_some, setup.lm, state),
                "static": partial(_decode_static, static, batch, setup.device),
            }
            floor_s = decode_floor(setup, batch, preset)
            for kind, times in take_turns(works, setup.rounds).items():
                step_s = median(times) / pruning.STEPS
                share = floor_s / step_s
                # The growing cache is what launch overhead is measured by.
                goal = ">= 0.6" if kind == "static" else None
                case = f"batch {batch}, {name}, {kind} cache"
                rows.append(figure(case, "share of bandwidth floor", share, goal, step_s=step_s))
    return rows


def decode_floor(setup: Setup, batch: int, preset: tuple[float, float] | None) -> float:
    """Seconds that a step cannot go below: all weights and both caches, read once."""
    prune_layer, keep_ratio = preset or (0.0, 1.0)
    prompt, pruned = (
        BEFORE + visual + AFTER
        for visual in (setup.decode_visual, keep_count(setup.decode_visual, keep_ratio))
    )
    read = decode_bytes(
        setup.decoder.shape,
        prompts=[prompt] * batch,
        pruned_prompts=[pruned] * batch,
        prune_layer=pruning.split_layer(setup.decoder, prune_layer),
        bytes_per_value=setup.dtype.itemsize,
    )
    return read / setup.limits.copy_bytes_per_s


def measure_generation(setup: Setup) -> list[Row]:
    """What a graph saves of whole answers, its recording included: both of one length."""
    rows = []
    for batch in setup.decode_batches:
        prompt = image_prompt(setup.lm, setup.decode_visual, batch)
        selection = pruning.random_selection(setup.decoder, prompt, *PRUNED)
        for tokens in setup.answer_tokens:
            limits = answers.Limits((), [tokens] * batch)
            run = partial(_generate, setup.lm, prompt, limits, selection)
            works: dict[str, Work] = {
                "growing": partial(run, graph=False),
                "graph": partial(run, graph=True),
            }
            times = take_turns(works, setup.rounds)
            ratio = Ratio.of(times["graph"], times["growing"])
            case = f"batch {batch}, {tokens} tokens, pruned"
            rows.append(figure(case, "graph / growing cache", ratio.value, ratio=asdict(ratio)))
    return rows


def measure_agreement(setup: Setup) -> list[Row]:
    """Both captures of the same prefill, and both caches' next logits."""
    visual = min(setup.visual)
    prompt = image_prompt(setup.lm, visual)
    torch_BT, fused_BT = (
        prefill_with_capture(setup.lm, prompt, column_sums) for column_sums in captures().values()
    )
    case = f"{visual} visual tokens"
    name = "largest relative difference"
    difference = float((torch_BT - fused_BT).abs().max() / torch_BT.max())
    return [
        figure(case, name, difference, "<= 0.001"),
        figure(case, "top 5 % in common", shared_top(torch_BT, fused_BT, prompt), ">= 0.99"),
        figure("decode, static to growing cache", name, _logits_apart(setup, prompt), "<= 0.05"),
    ]


@torch.inference_mode()
def _logits_apart(setup: Setup, prompt: Prompt) -> float:
    logits_BN, state = prefill(setup.lm, prompt)
    static = StaticDecode(setup.lm, state, new_tokens=1)
    token_B = logits_BN.argmax(dim=-1)
    static_BN, growing_BN = static.step(token_B), decode_step(setup.lm, state, token_B)
    return float((static_BN - growing_BN).abs().max() / growing_BN.abs().max())


def shared_top(one_BT: Tensor, other_BT: Tensor, prompt: Prompt, keep_ratio: float = 0.05) -> float:
    """Share of the tokens kept by one ranking that the other keeps too."""
    kept_BT, other_kept_BT = (
        top_visual_tokens(one, prompt.visual_BT, keep_ratio) for one in (one_BT, other_BT)
    )
    return float((kept_BT & other_kept_BT).sum() / kept_BT.sum())


def measure_memory(setup: Setup) -> list[Row]:
    """Peak above weights and prompt, over that of the plain prefill."""
    visual = max(setup.visual)
    prompt = image_prompt(setup.lm, visual)
    plain = peak_bytes(partial, run_prefill, setup.lm, prompt)
    rows = [figure(f"{visual} visual tokens", "plain prefill, GiB", plain / 2**30)]
    for name, column_sums in captures().items():
        peak = peak_bytes(partial, prefill_with_capture, setup.lm, prompt, column_sums)
        rows.append(figure(f"{visual} visual tokens", f"{name} capture / plain", peak / plain))
    return rows


def captures() -> Mapping[str, ColumnSums]:
    """The oracle, and the kernel where triton is installed."""
    from sgl.kernels import row_capture

    return {"torch": attention.column_sums, "fused": row_capture.column_sums}


def _decode_static(static: StaticDecode, batch: int, device: str) -> object:
    token_B = torch.ones(batch, dtype=torch.int64, device=device)
    for _ in range(pruning.STEPS):
        token_B = static.step(token_B).argmax(dim=-1)
    return token_B


@torch.inference_mode()
def _generate(
    lm: LanguageModel,
    prompt: Prompt,
    limits: answers.Limits,
    selection: Selection,
    *,
    graph: bool,
) -> object:
    return Generating(lm, prompt, limits, selections=[selection], graph=graph).finish()


PARTS: dict[str, Part] = {
    "device": measure_device,
    "prefill": measure_prefill,
    "decode": measure_decode,
    "generation": measure_generation,
    "ragged prefill": measure_ragged_prefill,
    "pruned prefill": measure_pruned_prefill,
    "agreement": measure_agreement,
    "memory": measure_memory,
}
