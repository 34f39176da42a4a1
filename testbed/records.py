"""Image-question records drawn from a seed."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from testbed.page import STYLE_SHARES, STYLES, draw_page
from testbed.questions import Question, ask
from testbed.render import render

QUESTIONS_PER_PAGE = 3
VALIDATION_SEED, HELDOUT_SEED = 20_001, 20_002
"""Seeds of the shipped data. Training draws from seeds below 10,000."""


@dataclass(frozen=True, slots=True)
class Record:
    """One question about one page.

    Attributes:
        id: unique for its seed.
        page: number of the page; several records share one.
        image: (height, 192, 3) uint8.
        question: text, answer, kind and what is needed.
    """

    id: str
    page: int
    image: npt.NDArray[np.uint8]
    question: Question


def draw_records(seed: int, count: int) -> Iterator[Record]:
    """`count` records; the first n are the same for any count."""
    for index in range(count):
        number, part = divmod(index, QUESTIONS_PER_PAGE)
        if part == 0:
            rng = np.random.default_rng([seed, number])
            page = draw_page(rng, STYLES[rng.choice(len(STYLES), p=STYLE_SHARES)])
            image = render(page, rng)
        yield Record(f"s{seed}-p{number:05d}-q{part}", number, image, ask(page, rng))


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """Lossless."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
