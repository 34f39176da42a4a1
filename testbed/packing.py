"""Many questions about one page in one sequence: they share the image and do not see each other.

A page's prefix is what the chat template writes up to the end of the image; every question follows
at the same positions, as if it were the only one.
Shapes: B pages, T tokens, V visual tokens, X visual tokens of all pages, F features, Q questions,
R reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from testbed.page import Item, Page, header_cell
from testbed.questions import Piece, Question, ask
from testbed.vision import IGNORE, PagePool, bindings, cell_attributes
from testbed.vocabulary import END, IMAGE, IMAGE_END, IMAGE_START, START, TOKEN_ID, token_ids

_BEFORE = token_ids(f"{START} user {IMAGE_START}")
_AFTER = token_ids(IMAGE_END)
_ASK = token_ids(f"{END} {START} assistant")
MENTION, TRAIL, ANSWER, AROUND = 0, 1, 10, 20
"""Stages of reading: at an item's name in the question, hop by hop (TRAIL, TRAIL + 1, ...), where a
token of the answer is written, and the same where its item is found by what stands around it."""
_FOUND_BY_SURROUNDINGS = frozenset({"neighbour", "names", "caption"})
_SINK = _BEFORE.index(TOKEN_ID[IMAGE_START])
"""Token that takes the attention of a count to nothing."""


@dataclass(frozen=True)
class Shown:
    """Which visual tokens of a page are shown; they keep their positions.

    What the page's questions are about is shown always.

    Attributes:
        items: whether all items and row numbers are.
        others: share of all other tokens, drawn at random.
        kept: share of all tokens, row numbers left out, that stay where the page is pruned; None:
            it is not.
    """

    items: bool
    others: float
    kept: float | None = None


ITEMS = Shown(items=True, others=0.12)
"""Several times cheaper than whole images."""
WHOLE = Shown(items=True, others=1.0)


@dataclass(frozen=True)
class PackedBatch:
    """One training batch.

    Attributes:
        input_ids_BT, positions_BT: int64.
        mask_B1TT: bool, True = may attend.
        labels_BT: int64, the NEXT token where it belongs to an answer, else IGNORE.
        question_BT: int64, number of the question that a labelled token belongs to, in the batch.
        features_XF: float32, the visual tokens of all pages in order.
        attributes_X6: int64, what those tokens show, see `cell_attributes`.
        bindings_X5: int64, what stands around them, see `bindings`.
        reads_R5: int64: stage, page, token that should look, token of the value, token of the key
            or IGNORE.
        pruned_BT: bool, visual tokens that are not seen from the layer on where pages are pruned.
        counts_C4: int64, one row per counted key and one for the sink: page, token that should
            look, token to be seen, how many are to be seen alike.
    """

    input_ids_BT: Tensor
    positions_BT: Tensor
    mask_B1TT: Tensor
    labels_BT: Tensor
    question_BT: Tensor
    features_XF: Tensor
    attributes_X6: Tensor
    bindings_X5: Tensor
    reads_R5: Tensor
    counts_C4: Tensor
    pruned_BT: Tensor

    def to(self, device: torch.device) -> "PackedBatch":
        """A copy on a device."""
        moved = {field.name: getattr(self, field.name).to(device) for field in fields(self)}
        return PackedBatch(**moved)


class _Sequence:
    """A page's prefix; questions are added one by one."""

    def __init__(self, shown: Sequence[int], pruned: Sequence[bool], tokens: int) -> None:
        first, after = len(_BEFORE), len(_BEFORE) + tokens
        self.ids = [*_BEFORE, *[TOKEN_ID[IMAGE]] * len(shown), *_AFTER]
        self.positions = [*range(first), *(first + token for token in shown), after]
        self.segments = [0] * len(self.ids)
        self.pruned = [*[False] * first, *pruned, *[False] * len(_AFTER)]
        self.labels = [IGNORE] * len(self.ids)
        self.reads: list[tuple[int, int, int, int]] = []
        self.counts: list[tuple[int, int, int]] = []
        self._after = after
        self._place = {token: first + index for index, token in enumerate(shown)}

    def add(self, question: Question, segment: int) -> None:
        """Append a question with its answer."""
        asked: list[int] = []
        start = len(self.ids)
        for piece in question.asked:
            asked += token_ids(piece.text)
            if piece.item:
                self._find(start + len(asked) - 1, piece, piece.item)
        asked += _ASK
        last = start + len(asked) - 1
        for hop, item in enumerate(question.trail):
            self._read(TRAIL + hop, last, item)
        if question.kind == "count":
            seen = [_SINK, *(self._place[cell] for cell in question.needed)]
            self.counts += [(last, token, len(seen)) for token in seen]
        stage = AROUND if question.kind in _FOUND_BY_SURROUNDINGS else ANSWER
        answer: list[int] = []
        for piece in question.answered:
            written = token_ids(piece.text)
            if piece.item:
                for index in range(len(written)):
                    self._read(stage, last + len(answer) + index, piece.item)
            answer += written
        answer.append(TOKEN_ID[END])
        fed = asked + answer[:-1]
        self.ids += fed
        self.positions += range(self._after + 1, self._after + 1 + len(fed))
        self.segments += [segment] * len(fed)
        self.pruned += [False] * len(fed)
        self.labels += [IGNORE] * (len(asked) - 1) + answer

    def _read(self, stage: int, token: int, item: Item) -> None:
        self.reads.append((stage, token, self._place[item.value_cell], self._place[item.cell]))

    def _find(self, token: int, piece: Piece, item: Item) -> None:
        """At the words for an item. A key cannot be found by its number: that stands after it."""
        key = self._place[item.cell] if item.name in piece.text else IGNORE
        self.reads.append((MENTION, token, self._place[item.value_cell], key))


def draw_batch(
    pool: PagePool,
    chosen: Sequence[int],
    rng: np.random.Generator,
    shares: Mapping[str, float],
    questions: int,
    shown: Shown,
) -> PackedBatch:
    """Pages with fresh questions.

    Args:
        pool: where the pages are.
        chosen: (B,) indices into the pool.
        rng: consumed.
        shares: of the question kinds.
        questions: per page.
        shown: which visual tokens.
    """
    sequences, features, attributes, bound = [], [], [], []
    for index in chosen:
        page, read_VF = pool.pages[index], pool.features[index]
        show = _draw_shown(page, len(read_VF), shown, rng)
        asked = [ask(page, rng, shares) for _ in range(questions)]
        about = sorted({cell for question in asked for cell in _cells(question)})
        show[about] = True
        cells = np.flatnonzero(show).tolist()
        pruned = _draw_pruned(page, len(read_VF), about, shown.kept, rng)
        sequence = _Sequence(cells, pruned[cells].tolist(), len(read_VF))
        for segment, question in enumerate(asked, start=1):
            sequence.add(question, segment)
        sequences.append(sequence)
        features.append(read_VF[cells])
        attributes.append(cell_attributes(page)[cells])
        bound.append(bindings(page)[cells])
    segments_BT = _pad([one.segments for one in sequences], -1)
    reads = [
        (stage, page, *rest) for page, one in enumerate(sequences) for stage, *rest in one.reads
    ]
    counts = [(page, *rest) for page, one in enumerate(sequences) for rest in one.counts]
    pages_B1 = torch.arange(len(sequences))[:, None]
    return PackedBatch(
        input_ids_BT=_pad([one.ids for one in sequences], 0),
        positions_BT=_pad([one.positions for one in sequences], 0),
        mask_B1TT=_mask(segments_BT)[:, None],
        labels_BT=_pad([one.labels for one in sequences], IGNORE),
        question_BT=pages_B1 * questions + segments_BT - 1,
        features_XF=torch.cat(features).float(),
        attributes_X6=torch.cat(attributes),
        bindings_X5=torch.cat(bound),
        reads_R5=torch.tensor(reads, dtype=torch.int64).view(-1, 5),
        counts_C4=torch.tensor(counts, dtype=torch.int64).view(-1, 4),
        pruned_BT=_pad([one.pruned for one in sequences], 0).bool(),
    )


def _draw_shown(
    page: Page, tokens: int, shown: Shown, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    if shown.others == 1:
        return np.ones(tokens, np.bool_)
    show = rng.random(tokens) < shown.others
    if shown.items:
        show[[header_cell(row) for row in range(page.rows)]] = True
        for item in page.items:
            show[[item.cell, item.value_cell]] = True
    return show


def _draw_pruned(
    page: Page, tokens: int, about: list[int], kept: float | None, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    if kept is None:
        return np.zeros(tokens, np.bool_)
    pruned = rng.random(tokens) >= kept
    pruned[[header_cell(row) for row in range(page.rows)]] = True
    pruned[about] = False
    return pruned


def _cells(question: Question) -> list[int]:
    """What a question needs or is taught to look at."""
    pieces = (*question.asked, *question.answered)
    items = (*(piece.item for piece in pieces if piece.item), *question.trail)
    return [*question.needed, *(cell for item in items for cell in (item.cell, item.value_cell))]


def _mask(segments_BT: Tensor) -> Tensor:
    """Causal; a question sees the image (segment 0) and itself."""
    length = segments_BT.shape[1]
    own = segments_BT[:, :, None] == segments_BT[:, None, :]
    image = segments_BT[:, None, :] == 0
    return torch.ones(length, length, dtype=torch.bool).tril() & (own | image)


def _pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])
