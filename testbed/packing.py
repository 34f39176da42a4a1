"""Many questions about one page in one sequence: they share the image and do not see each other.

A page's prefix is what the chat template writes up to the end of the image; every question follows
at the same positions, as if it were the only one.
Shapes: B pages, T tokens, V visual tokens, X visual tokens of all pages, F features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from testbed.page import Page
from testbed.questions import ask
from testbed.vision import PagePool, neighbour_attributes, slot_attributes
from testbed.vocabulary import END, IMAGE, IMAGE_END, IMAGE_START, START, TOKEN_ID, token_ids

IGNORE = -100
_BEFORE = token_ids(f"{START} user {IMAGE_START}")
_AFTER = token_ids(IMAGE_END)
_ASK = token_ids(f"{END} {START} assistant")


@dataclass(frozen=True)
class Difficulty:
    """What a batch is made of.

    Attributes:
        most_labels: pages with more labels lose some.
        shares: of the question kinds.
        whole_images: all visual tokens, else those of the labels alone (they keep their positions).
        together: the labels that a page keeps are close to each other.
    """

    most_labels: int
    shares: Mapping[str, float]
    whole_images: bool
    together: bool = False


@dataclass(frozen=True)
class PackedBatch:
    """One training batch.

    Attributes:
        input_ids_BT, positions_BT: int64.
        mask_B1TT: bool, True = may attend.
        labels_BT: int64, the NEXT token where it belongs to an answer, else IGNORE.
        features_XF: float32, the visual tokens of all pages in order.
        attributes_X4: int64, what those tokens show, see `slot_attributes`.
        neighbours_X8: int64, what the tokens to their left and above show.
    """

    input_ids_BT: Tensor
    positions_BT: Tensor
    mask_B1TT: Tensor
    labels_BT: Tensor
    features_XF: Tensor
    attributes_X4: Tensor
    neighbours_X8: Tensor


@dataclass
class _Sequence:
    ids: list[int]
    positions: list[int]
    segments: list[int]
    labels: list[int]


def draw_batch(
    pool: PagePool, rng: np.random.Generator, difficulty: Difficulty, pages: int, questions: int
) -> PackedBatch:
    """Pages drawn from the pool, each with fresh questions."""
    sequences, features, attributes, neighbours = [], [], [], []
    for index in rng.integers(0, len(pool.pages), pages).tolist():
        read_VF = pool.features[index]
        page = _thinned(pool.pages[index], difficulty, rng)
        shown = (
            list(range(len(read_VF)))
            if difficulty.whole_images
            else [label.visual_token for label in page.labels]
        )
        sequences.append(_pack(page, shown, len(read_VF), rng, difficulty.shares, questions))
        features.append(read_VF[shown])
        shows_V4 = slot_attributes(page, len(read_VF))
        attributes.append(shows_V4[shown])
        neighbours.append(neighbour_attributes(shows_V4, page)[shown])
    segments_BT = _pad([one.segments for one in sequences], -1)
    return PackedBatch(
        input_ids_BT=_pad([one.ids for one in sequences], 0),
        positions_BT=_pad([one.positions for one in sequences], 0),
        mask_B1TT=_mask(segments_BT)[:, None],
        labels_BT=_pad([one.labels for one in sequences], IGNORE),
        features_XF=torch.cat(features).float(),
        attributes_X4=torch.cat(attributes),
        neighbours_X8=torch.cat(neighbours),
    )


def _thinned(page: Page, difficulty: Difficulty, rng: np.random.Generator) -> Page:
    """Keep some of the labels only; the others' tokens must then not be shown."""
    labels, most = page.labels, difficulty.most_labels
    if len(labels) <= most:
        return page
    if difficulty.together:
        centre = labels[int(rng.integers(len(labels)))]
        apart = [max(abs(one.row - centre.row), abs(one.column - centre.column)) for one in labels]
        order = np.argsort(apart, kind="stable")
    else:
        order = rng.permutation(len(labels))
    return replace(page, labels=tuple(labels[index] for index in sorted(order[:most].tolist())))


def _pack(
    page: Page,
    shown: Sequence[int],
    tokens: int,
    rng: np.random.Generator,
    shares: Mapping[str, float],
    questions: int,
) -> _Sequence:
    first, after = len(_BEFORE), len(_BEFORE) + tokens
    ids = [*_BEFORE, *[TOKEN_ID[IMAGE]] * len(shown), *_AFTER]
    packed = _Sequence(
        ids,
        [*range(first), *(first + token for token in shown), after],
        [0] * len(ids),
        [IGNORE] * len(ids),
    )
    for segment in range(1, questions + 1):
        question = ask(page, rng, shares)
        asked = token_ids(question.text) + _ASK
        answer = [*token_ids(question.answer), TOKEN_ID[END]]
        fed = asked + answer[:-1]
        packed.ids += fed
        packed.positions += range(after + 1, after + 1 + len(fed))
        packed.segments += [segment] * len(fed)
        packed.labels += [IGNORE] * (len(asked) - 1) + answer
    return packed


def _mask(segments_BT: Tensor) -> Tensor:
    """Causal; a question sees the image (segment 0) and itself."""
    length = segments_BT.shape[1]
    own = segments_BT[:, :, None] == segments_BT[:, None, :]
    image = segments_BT[:, None, :] == 0
    return torch.ones(length, length, dtype=torch.bool).tril() & (own | image)


def _pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])
