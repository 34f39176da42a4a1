"""The testbed's trained pair and its held-out records, in the paper's cascade."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

import sgl
from sgl.cascade import small_answer
from sgl.early_exit import exits
from sgl.layout import PromptEncoder
from sgl.types import Answer, ConsistencyForm, ImageQuestion, Route
from testbed import model_path
from testbed.records import draw_records

THRESHOLD = 0.776
PRUNE_LAYER = 0.19
KEEP_RATIO = 0.22
CONSISTENCY = ConsistencyForm.GEOMETRIC
"""The paper's exit score and its middle preset. At this threshold 95 % of the exits are right on
validation pages (`python -m testbed.evaluate --split validation`)."""

MAX_NEW_TOKENS = 64
CAPTION = ("caption",)
SHORT = ("lookup", "inverse", "exists", "neighbour", "compare", "count", "verify")
"""Kinds of questions, by how long their answers are."""

_MOST_PADDING = 0.05


@dataclass(frozen=True)
class Pair:
    """Two models of one family that see the same visual tokens."""

    small: sgl.VLM
    large: sgl.VLM


def load_pair(device: str = "cpu") -> Pair:
    """The shipped weights, float32."""
    return Pair(
        *(
            sgl.load(model_path(name), device=device, dtype=torch.float32)
            for name in ("small", "large")
        )
    )


def heldout(count: int, kinds: Collection[str] | None = None) -> list[ImageQuestion]:
    """The first records of the held-out split.

    Args:
        count: how many.
        kinds: only these, and of the shortest pages only, so that they fit into one batch; None
            takes the split as it comes.
    """
    wanted: list[ImageQuestion] = []
    drawn = 64
    while len(wanted) < count:
        drawn *= 2
        wanted = [
            ImageQuestion(one.id, one.question.text, (one.image,))
            for one in draw_records("heldout", drawn)
            if kinds is None or (one.question.kind in kinds and one.tiles == 1)
        ]
    return wanted[:count]


def batches(
    encoder: PromptEncoder, records: Sequence[ImageQuestion], size: int
) -> list[list[ImageQuestion]]:
    """Sorted by the length of their prompts; one begins early rather than pad a record by 5 %."""
    length = {id(record): encoder.lay_out(record).length for record in records}
    parts: list[list[ImageQuestion]] = []
    for record in sorted(records, key=lambda one: length[id(one)]):
        shortest = length[id(parts[-1][0])] if parts else 0
        fits = length[id(record)] <= (1 + _MOST_PADDING) * shortest
        if fits and len(parts[-1]) < size:
            parts[-1].append(record)
        else:
            parts.append([record])
    return parts


def run_batched(
    pair: Pair,
    records: Sequence[ImageQuestion],
    size: int,
    *,
    threshold: float,
    prune_layer: float,
    keep_ratio: float,
    consistency: ConsistencyForm,
) -> list[Answer]:
    """As the pipeline does it: the doubtful records of all small batches share large ones."""
    guidance = {
        one.id: one
        for part in batches(pair.small.encoder, records, size)
        for one in pair.small.guide(part, consistency=consistency, max_new_tokens=MAX_NEW_TOKENS)
    }
    doubtful = [r for r in records if not exits(guidance[r.id].exit_score, threshold)]
    answers = {name: small_answer(one) for name, one in guidance.items()}
    for part in batches(pair.large.encoder, doubtful, size):
        for answer in pair.large.answer(
            part,
            [guidance[record.id] for record in part],
            prune_layer=prune_layer,
            keep_ratio=keep_ratio,
            max_new_tokens=MAX_NEW_TOKENS,
        ):
            answers[answer.id] = answer
    return [answers[record.id] for record in records]


def gflop(answers: Sequence[Answer]) -> float:
    """Of both models, per record."""
    total = sum(
        (one.guidance.usage.flops if one.guidance else 0.0)
        + (one.usage.flops if one.route is Route.LARGE else 0.0)
        for one in answers
    )
    return total / len(answers) / 1e9
