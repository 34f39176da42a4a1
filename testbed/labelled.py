"""Records of a split, with what only the generator knows of them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sgl.types import ImageQuestion
from testbed.records import SplitName, draw_records


@dataclass(frozen=True)
class Data:
    """Records of a split with what only the generator knows.

    Attributes:
        records: as a model gets them.
        answers: the right ones.
        kinds, layouts: per record.
        pages: number of the page of each record.
        needed: visual tokens that one must see.
    """

    records: list[ImageQuestion]
    answers: list[str]
    kinds: npt.NDArray[np.str_]
    layouts: npt.NDArray[np.str_]
    pages: list[int]
    needed: list[tuple[int, ...]]

    def right(self, texts: Iterable[str]) -> npt.NDArray[np.bool_]:
        """(n,) whether each text is the answer, word for word."""
        return np.array([text == answer for text, answer in zip(texts, self.answers, strict=True)])


def load_split(split: SplitName, count: int) -> Data:
    """Draw the first records of a split; pages of one size stand together, for full batches."""
    drawn = sorted(draw_records(split, count), key=lambda record: record.tiles)
    return Data(
        [ImageQuestion(one.id, one.question.text, (one.image,)) for one in drawn],
        [one.question.answer for one in drawn],
        np.array([one.question.kind for one in drawn]),
        np.array([one.layout for one in drawn]),
        [one.page for one in drawn],
        [one.question.needed for one in drawn],
    )
