"""The whole engine on the testbed's trained pair, float32, as ratios within one run.

1. `paper`: records per second of the paper's way and of ours, and of the steps between them, with
   the operations that each needs and how fast the device's best matrix product does them.
2. `generate`: `VLM.answer` against transformers' `generate` with fused attention, both from the
   pixels on, at equal batch. Their tokens must be the same.
3. `drafts`: what the small model's answers save the large one as drafts.
4. `leaving`: when finished records should leave a decode batch.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from statistics import median
from typing import Any

import torch

import sgl
from benchmarks.limits import matmul_flops_per_s
from benchmarks.measure import Ratio, Work, take_turns
from benchmarks.papers_way import answer_one_by_one
from benchmarks.pruning import PRESETS
from benchmarks.trained import (
    CAPTION,
    CONSISTENCY,
    KEEP_RATIO,
    MAX_NEW_TOKENS,
    PRUNE_LAYER,
    SHORT,
    THRESHOLD,
    Pair,
    batches,
    gflop,
    heldout,
    load_pair,
    run_batched,
)
from sgl.answers import Generation, Limits
from sgl.attention import ATTENTION_NAME
from sgl.early_exit import exits
from sgl.generation import HALF_LEFT, Generating
from sgl.language_model import LanguageModel, Prompt
from sgl.prompt import native_inputs
from sgl.types import Answer, ImageQuestion, Route
from sgl.vlm import VLM

Row = dict[str, Any]
KINDS = {"short": SHORT, "captions": CAPTION}
EVERYTHING = 1.1
"""A threshold that no exit score reaches."""


@dataclass(frozen=True)
class Setup:
    """What is measured, and on what.

    Attributes:
        rounds: in which the variants take turns.
        records: of the held-out mix, for the paper's way and ours.
        singles: records of a measurement at batch 1.
        batch_sizes: of `generate`, besides 1.
        draft_batch, leaving_batch: of the other two; three quarters of the latter are short.
    """

    rounds: int = 5
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")
    records: int = 96
    singles: int = 8
    batch_sizes: tuple[int, ...] = (16, 64)
    draft_batch: int = 16
    leaving_batch: int = 64

    @cached_property
    def pair(self) -> Pair:
        """With the shipped weights."""
        return load_pair(self.device)


def measure(rounds: int = 5, setup: Setup | None = None) -> list[Row]:
    """One row per comparison of all parts; `setup` stands for itself, rounds included."""
    setup = setup or Setup(rounds=rounds)
    parts = {
        "paper": measure_paper,
        "generate": measure_generate,
        "drafts": measure_drafts,
        "leaving": measure_leaving,
    }
    return [{"part": name} | row for name, part in parts.items() for row in part(setup)]


def measure_paper(setup: Setup) -> list[Row]:
    """Records per second over those of the paper's way."""
    pair, records = setup.pair, heldout(setup.records)
    cascade: dict[str, Any] = {
        "prune_layer": PRUNE_LAYER,
        "keep_ratio": KEEP_RATIO,
        "consistency": CONSISTENCY,
    }
    papers_way = partial(
        answer_one_by_one,
        pair.small,
        pair.large,
        records,
        threshold=THRESHOLD,
        max_new_tokens=MAX_NEW_TOKENS,
        **cascade,
    )
    works: dict[str, Callable[[], object]] = {"paper": papers_way}
    needs = {}
    answers: dict[str, list[Answer]] = {}
    for name, threshold in (("both models", EVERYTHING), ("cascade", THRESHOLD)):
        run = partial(run_batched, pair, records, threshold=threshold, **cascade)
        answers[name] = run(size=16)
        for size in (1, *setup.batch_sizes):
            works[f"{name}, batch {size}"] = partial(run, size=size)
            needs[f"{name}, batch {size}"] = gflop(answers[name])
    needs["paper"] = gflop(answers["both models"])
    same = [
        one.token_ids == tokens
        for one, tokens in zip(answers["cascade"], papers_way(), strict=True)
    ]
    escalated = sum(one.route is Route.LARGE for one in answers["cascade"]) / len(records)
    peak = max(matmul_flops_per_s(n, setup.device, torch.float32, 5) for n in (512, 1024, 2048))
    times = take_turns(works, setup.rounds)
    return [
        _row(
            name,
            "records/s over the paper's way",
            Ratio.of(times["paper"], times[name]),
            records=len(records),
            same_answers=sum(same) / len(same),
            escalated=escalated,
            records_per_s=len(records) / median(times[name]),
            gflop_per_record=needs[name],
            share_of_matmul_peak=1e9 * needs[name] * len(records) / median(times[name]) / peak,
            matmul_peak_gflops=peak / 1e9,
        )
        for name in works
    ]


def measure_generate(setup: Setup) -> list[Row]:
    """Our time over that of transformers' `generate`."""
    rows = []
    for model, vlm in vars(setup.pair).items():
        for kind, kinds in KINDS.items():
            for size in (1, *setup.batch_sizes):
                records = heldout(setup.singles if size == 1 else size, kinds)
                parts = [records[at : at + size] for at in range(0, len(records), size)]
                works = {
                    "ours": partial(answer_all, vlm, parts),
                    "theirs": partial(generate_all, vlm, parts),
                }
                ours, theirs = works["ours"](), works["theirs"]()
                assert ours == theirs, f"{model}, {kind}, batch {size}: other answers"
                times = take_turns(works, setup.rounds)
                ratio = Ratio.of(times["ours"], times["theirs"])
                case = f"{model}, {kind}, batch {size}"
                rows.append(_row(case, "time over generate's", ratio, s=min(times["ours"])))
    return rows


def answer_all(vlm: VLM, parts: Sequence[Sequence[ImageQuestion]]) -> list[tuple[int, ...]]:
    """Tokens of our answers, batch by batch, unguided."""
    return [
        answer.token_ids
        for part in parts
        for answer in vlm.answer(part, max_new_tokens=MAX_NEW_TOKENS)
    ]


@torch.inference_mode()
def generate_all(vlm: VLM, parts: Sequence[Sequence[ImageQuestion]]) -> list[tuple[int, ...]]:
    """Tokens of the native model's answers, batch by batch, with fused attention."""
    text_model = vlm.language_model.text_model
    text_model.set_attn_implementation("sdpa")
    try:
        return [tokens for part in parts for tokens in _generate(vlm, part)]
    finally:
        text_model.set_attn_implementation(ATTENTION_NAME)


def _generate(vlm: VLM, records: Sequence[ImageQuestion]) -> list[tuple[int, ...]]:
    layouts = [vlm.encoder.lay_out(record, MAX_NEW_TOKENS) for record in records]
    inputs = native_inputs(vlm.encoder, records, layouts)
    output_BT = vlm.model.generate(
        **{name: tensor.to(vlm.model.device) for name, tensor in inputs.items()},
        do_sample=False,
        max_new_tokens=MAX_NEW_TOKENS,
        min_new_tokens=1,
        pad_token_id=vlm.tokenizer.pad_token_id,
    )
    answers_BS = output_BT[:, inputs["input_ids"].shape[1] :].tolist()
    return [_until_end(answer, vlm.end_token_ids) for answer in answers_BS]


def _until_end(tokens: Sequence[int], ends: Collection[int]) -> tuple[int, ...]:
    length = next((i + 1 for i, token in enumerate(tokens) if token in ends), len(tokens))
    return tuple(tokens[:length])


def measure_drafts(setup: Setup) -> list[Row]:
    """Tokens per forward pass, and time over that without drafts, of escalated records."""
    rows = []
    for kind, kinds in KINDS.items():
        records, guidance = escalated(setup.pair.small, kinds, setup.draft_batch)
        for prune_layer, keep_ratio in PRESETS:
            works = {
                str(use): partial(
                    setup.pair.large.answer,
                    records,
                    guidance,
                    prune_layer=prune_layer,
                    keep_ratio=keep_ratio,
                    use_drafts=use,
                )
                for use in (True, False)
            }
            drafted, plain = works["True"](), works["False"]()
            assert [one.token_ids for one in drafted] == [one.token_ids for one in plain]
            tokens = sum(one.usage.completion_tokens for one in drafted)
            passes = sum(
                # An answer that is all draft has been verified in the prefill.
                max(1, one.usage.completion_tokens - one.accepted_draft_tokens)
                for one in drafted
            )
            times = take_turns(works, setup.rounds)
            rows.append(
                _row(
                    f"{kind}, batch {len(records)}, layer {prune_layer:g}, keep {keep_ratio:g}",
                    "time over that without drafts",
                    Ratio.of(times["True"], times["False"]),
                    tokens_per_pass=tokens / passes,
                )
            )
    return rows


def escalated(
    small: VLM, kinds: Collection[str], count: int
) -> tuple[list[ImageQuestion], list[sgl.Guidance]]:
    """The first records of some kinds that the small model is unsure of, and its guidance."""
    unsure: list[tuple[ImageQuestion, sgl.Guidance]] = []
    drawn, seen = 2 * count, 0
    while len(unsure) < count:
        new = heldout(drawn, kinds)[seen:]
        drawn, seen = 2 * drawn, drawn
        for part in batches(small.encoder, new, count):
            guidance = small.guide(part, consistency=CONSISTENCY)
            unsure += [
                (record, one)
                for record, one in zip(part, guidance, strict=True)
                if not exits(one.exit_score, THRESHOLD)
            ]
    unsure = unsure[:count]
    return [record for record, _ in unsure], [one for _, one in unsure]


def measure_leaving(setup: Setup) -> list[Row]:
    """Time of generating when finished records leave early, over that when they never do."""
    captions = setup.leaving_batch // 4
    records = heldout(setup.leaving_batch - captions, SHORT) + heldout(captions, CAPTION)
    rows = []
    for model, vlm in vars(setup.pair).items():
        prompt = vlm.prompts(records, MAX_NEW_TOKENS).prompt
        limits = Limits(vlm.end_token_ids, [MAX_NEW_TOKENS] * len(records))
        works: dict[str, Work] = {
            name: partial(
                _without_gradients, partial(_leaving, vlm.language_model, prompt, limits, share)
            )
            for name, share in (("never", 0.0), ("half left", HALF_LEFT), ("at once", 1.0))
        }
        times = take_turns(works, setup.rounds)
        rows += [
            _row(
                f"{model}, batch {len(records)}, {name}",
                "time over never's",
                Ratio.of(times[name], times["never"]),
            )
            for name in works
            if name != "never"
        ]
    return rows


def _leaving(lm: LanguageModel, prompt: Prompt, limits: Limits, leave_at: float) -> Generation:
    return Generating(lm, prompt, limits, leave_at=leave_at).finish()


@torch.inference_mode()
def _without_gradients(work: Work) -> object:
    return work()


def _row(case: str, figure: str, ratio: Ratio, **detail: float) -> Row:
    return {"case": case, "figure": figure, "ratio": asdict(ratio)} | detail


def report(rows: Sequence[Row]) -> str:
    """As a table of text."""
    lines = []
    for row in rows:
        known = ("part", "case", "figure", "ratio")
        detail = ", ".join(f"{name} {row[name]:.4g}" for name in row if name not in known)
        ratio = Ratio(**row["ratio"])
        lines.append(f"{row['part']:9} {row['case']:38} {row['figure']:30} {ratio!s:>22}  {detail}")
    return "\n".join(lines)
