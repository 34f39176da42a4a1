"""What is on a page: coloured labels in a grid of slots, one visual token per slot."""

from dataclasses import dataclass

import numpy as np

from testbed.vocabulary import COLOURS, LETTERS, NUMBERS

COLUMNS = 8
TILE_ROWS = 8
"""Slots of one image tile: 8 x 8. A tall page has two tiles, one above the other."""


@dataclass(frozen=True, slots=True)
class Label:
    """A coloured box with a letter and a two-digit number.

    Attributes:
        row, column: its slot.
        colour, letter: indices into the vocabulary; together unique on a page.
        number: 10 to 99, unique on a page.
    """

    row: int
    column: int
    colour: int
    letter: int
    number: int

    @property
    def name(self) -> str:
        """Such as "red A"."""
        return f"{COLOURS[self.colour]} {LETTERS[self.letter]}"

    @property
    def visual_token(self) -> int:
        """Index among the page's visual tokens: tiles are stacked, so rows run on."""
        return self.row * COLUMNS + self.column


@dataclass(frozen=True, slots=True)
class Page:
    """A page of `rows` x 8 slots; labels in reading order."""

    rows: int
    labels: tuple[Label, ...]

    @property
    def tiles(self) -> int:
        """Image tiles without the thumbnail."""
        return self.rows // TILE_ROWS


@dataclass(frozen=True, slots=True)
class PageStyle:
    """What kind of pages to draw.

    Attributes:
        rows: 8 (one tile, 64 visual tokens) or 16 (two tiles and a thumbnail, 192).
        fewest, most: labels per page, both included.
    """

    rows: int
    fewest: int
    most: int


STYLES: tuple[PageStyle, ...] = (PageStyle(8, 8, 24), PageStyle(16, 12, 36))
STYLE_SHARES: tuple[float, ...] = (0.75, 0.25)


def draw_page(rng: np.random.Generator, style: PageStyle) -> Page:
    """A random page."""
    count = int(rng.integers(style.fewest, style.most + 1))
    slots = np.sort(rng.permutation(style.rows * COLUMNS)[:count])
    names = rng.permutation(len(COLOURS) * len(LETTERS))[:count]
    numbers = rng.permutation(len(NUMBERS))[:count] + NUMBERS.start
    labels = (
        Label(slot // COLUMNS, slot % COLUMNS, name // len(LETTERS), name % len(LETTERS), number)
        for slot, name, number in zip(slots.tolist(), names.tolist(), numbers.tolist(), strict=True)
    )
    return Page(style.rows, tuple(labels))
