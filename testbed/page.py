"""What is on a page: named items in numbered rows, each a key beside what it shows.

A page is a grid of cells, one visual token per cell. An item takes two cells: its key (a coloured
box with a letter) and right of it what it shows: a number, or the key of another item. So a model
must first bind what two tokens show before it can look an item up, and a question about references
takes as many looks as there are hops.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from testbed.vocabulary import COLOURS, LETTERS, NUMBERS

COLUMNS = 16
TILE_ROWS = 16
"""Cells of one image tile: 16 x 16. A tall page has two tiles, one above the other."""
ROWS_PER_TILE = 8
"""Numbered rows: every other row of cells."""

Layout = Literal["board", "form", "chart", "document", "scene"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
"""Scattered labels; aligned fields; values with bars; items among running text; handwritten
digits under uneven light."""

_REFERENCES = 0.4
_ALIGNED: Mapping[Layout, tuple[int, ...]] = {
    "form": (1, 4, 7, 10, 13),
    "chart": (1, 6, 11),
}


@dataclass(frozen=True, slots=True)
class Item:
    """A key and what stands beside it.

    Attributes:
        row: the numbered row, from 0.
        cell: visual token of the key; the next one shows the value.
        colour, letter: indices into the vocabulary; together unique on a page.
        number: 10 to 99, unique on a page; None for a reference.
        refers_to: index of another item of the page; None for a number. No cycles.
    """

    row: int
    cell: int
    colour: int
    letter: int
    number: int | None
    refers_to: int | None

    @property
    def name(self) -> str:
        """Such as "red A"."""
        return f"{COLOURS[self.colour]} {LETTERS[self.letter]}"

    @property
    def value_cell(self) -> int:
        """Visual token of what it shows."""
        return self.cell + 1


@dataclass(frozen=True, slots=True)
class Page:
    """Items in reading order on one or two tiles.

    Attributes:
        layout: how it looks.
        tiles: without the thumbnail.
        items: in reading order; at least one in every numbered row.
    """

    layout: Layout
    tiles: int
    items: tuple[Item, ...]

    @property
    def rows(self) -> int:
        """Numbered rows."""
        return self.tiles * ROWS_PER_TILE

    @property
    def cells(self) -> int:
        """Visual tokens of the tiles, without the thumbnail's."""
        return self.tiles * TILE_ROWS * COLUMNS

    def row_items(self, row: int) -> tuple[Item, ...]:
        """Items of a numbered row, left to right."""
        return tuple(item for item in self.items if item.row == row)

    def path(self, item: Item) -> tuple[Item, ...]:
        """The item, the one that it refers to, and so on to one that shows a number."""
        path = [item]
        while (target := path[-1].refers_to) is not None:
            path.append(self.items[target])
        return tuple(path)

    def shown(self, item: Item) -> str:
        """What an item shows: a number, or the name of the item that it refers to."""
        return str(item.number) if item.refers_to is None else self.items[item.refers_to].name


def header_cell(row: int) -> int:
    """Visual token that shows the number of a row: the first cell of its line."""
    return 2 * row * COLUMNS


@dataclass(frozen=True, slots=True)
class PageStyle:
    """What kind of pages to draw.

    Attributes:
        tiles: 1 (256 visual tokens) or 2 (two tiles and a thumbnail, 768).
        fewest, most: items per page, both included; rows are filled evenly, and three bars or five
            fields at most fit into a row of a chart or a form.
        longest_chain: references that lead from an item to a number, at most.
        noise: of the picture, 1 = as trained.
    """

    tiles: int
    fewest: int
    most: int
    longest_chain: int = 2
    noise: float = 1.0


def draw_page(rng: np.random.Generator, style: PageStyle, layout: Layout | None = None) -> Page:
    """A random page; the layout is drawn as well unless given."""
    layout = layout or LAYOUTS[int(rng.integers(len(LAYOUTS)))]
    rows = style.tiles * ROWS_PER_TILE
    room = len(_ALIGNED[layout]) if layout in _ALIGNED else (COLUMNS - 1) // 2
    count = int(rng.integers(style.fewest, style.most + 1))
    count = min(count, rows * room)
    per_row = np.full(rows, count // rows)
    per_row[rng.permutation(rows)[: count % rows]] += 1
    names = rng.permutation(len(COLOURS) * len(LETTERS))[:count].tolist()
    numbers = (rng.permutation(len(NUMBERS))[:count] + NUMBERS.start).tolist()
    references = _references(rng, count, style.longest_chain)
    items: list[Item] = []
    for row, in_row in enumerate(per_row.tolist()):
        for column in _columns(rng, layout, in_row):
            index = len(items)
            colour, letter = divmod(names[index], len(LETTERS))
            target = references[index]
            items.append(
                Item(
                    row,
                    header_cell(row) + column,
                    colour,
                    letter,
                    numbers[index] if target is None else None,
                    target,
                )
            )
    return Page(layout, style.tiles, tuple(items))


def _columns(rng: np.random.Generator, layout: Layout, count: int) -> list[int]:
    """Ascending columns of a row's keys; every item takes two cells right of the header."""
    if layout in _ALIGNED:
        places = _ALIGNED[layout]
        return sorted(places[index] for index in rng.permutation(len(places))[:count].tolist())
    free = COLUMNS - 1 - count
    starts = np.sort(rng.permutation(free)[:count])
    return [1 + int(start) + index for index, start in enumerate(starts)]


def _references(rng: np.random.Generator, count: int, longest: int) -> list[int | None]:
    """For each item the one that it refers to. Items drawn later refer to earlier ones only."""
    order = rng.permutation(count).tolist()
    chain = [0] * count
    targets: list[int | None] = [None] * count
    chances, picks = rng.random(count).tolist(), rng.random(count).tolist()
    for place, index in enumerate(order[1:], start=1):
        target = order[int(picks[place] * place)]
        if chances[place] < _REFERENCES and chain[target] < longest:
            targets[index], chain[index] = target, chain[target] + 1
    return targets
