"""The testbed's trained pair and its held-out records, as the demo runs them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

import sgl
from sgl.layout import PromptEncoder
from sgl.types import ConsistencyForm, ImageQuestion
from testbed import model_path
from testbed.records import draw_records

THRESHOLD = 0.776
PRUNE_LAYER = 0.19
KEEP_RATIO = 0.22
CONSISTENCY = ConsistencyForm.GEOMETRIC
"""The demo's settings; a test holds them equal to its file's."""

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
