"""Image-question records of each split, drawn from a seed."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from testbed.page import Layout, PageStyle, draw_page
from testbed.questions import SHARES, Question, ask
from testbed.render import HELDOUT_HANDS, TRAINING_HANDS, VALIDATION_HANDS, render

SplitName = Literal["train", "validation", "heldout", "hard"]
SPLIT_NAMES: tuple[SplitName, ...] = get_args(SplitName)
QUESTIONS_PER_PAGE = 3


@dataclass(frozen=True)
class Split:
    """What a split's pages and questions are drawn from.

    Attributes:
        seed: of everything drawn. No two splits share one.
        styles: of the pages.
        style_shares: how often each is drawn.
        shares: of the question kinds.
        hands: the handwritten samples; no two of train, validation and held-out share any.
    """

    seed: int
    styles: tuple[PageStyle, ...]
    style_shares: tuple[float, ...]
    shares: Mapping[str, float]
    hands: range


_STYLES = (PageStyle(1, 20, 48), PageStyle(2, 32, 60))
_HARD_STYLES = (
    PageStyle(1, 48, 56, longest_chain=3, noise=3.0),
    PageStyle(2, 64, 90, longest_chain=3, noise=3.0),
)
_STYLE_SHARES = (0.75, 0.25)
_HARD_SHARES = {**SHARES, "lookup": SHARES["lookup"] - 0.04, "four_hop": 0.04}
SPLITS: Mapping[SplitName, Split] = {
    "train": Split(1, _STYLES, _STYLE_SHARES, SHARES, TRAINING_HANDS),
    "validation": Split(20_001, _STYLES, _STYLE_SHARES, SHARES, VALIDATION_HANDS),
    "heldout": Split(20_002, _STYLES, _STYLE_SHARES, SHARES, HELDOUT_HANDS),
    "hard": Split(20_003, _HARD_STYLES, _STYLE_SHARES, _HARD_SHARES, HELDOUT_HANDS),
}
"""Choices are made on validation, figures on held-out; hard is for drift: more items than in
training, longer chains, three times the noise."""


@dataclass(frozen=True, slots=True)
class Record:
    """One question about one page.

    Attributes:
        id: unique over all splits.
        page: number of the page; several records share one.
        layout: of the page.
        tiles: of the page, without the thumbnail.
        image: (tiles * 256, 256, 3) uint8.
        question: text, answer, kind and what is needed.
    """

    id: str
    page: int
    layout: Layout
    tiles: int
    image: npt.NDArray[np.uint8]
    question: Question


def draw_records(name: SplitName, count: int) -> Iterator[Record]:
    """`count` records of a split; the first n are the same for any count."""
    split = SPLITS[name]
    for index in range(count):
        number, part = divmod(index, QUESTIONS_PER_PAGE)
        if part == 0:
            rng = np.random.default_rng([split.seed, number])
            style = split.styles[rng.choice(len(split.styles), p=split.style_shares)]
            page = draw_page(rng, style)
            image = render(page, rng, split.hands, style.noise)
        question = ask(page, rng, split.shares)
        name_of_record = f"{name}-p{number:05d}-q{part}"
        yield Record(name_of_record, number, page.layout, page.tiles, image, question)


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """Lossless."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
