"""What is asked about a page, one function per kind; a new kind is a new entry of KINDS."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from testbed.page import Item, Page
from testbed.vocabulary import COLOURS, DIGITS, LETTERS, ORDINALS


@dataclass(frozen=True, slots=True)
class Piece:
    """Words, and the item that they name (in a question) or that they are read from (in an answer).

    Attributes:
        text: words of the vocabulary, space-separated.
        item: None where the words belong to no item of the page.
    """

    text: str
    item: Item | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its only answer.

    Attributes:
        kind: its entry in KINDS.
        asked, answered: the words with the items behind them.
        needed: visual tokens that one must see to answer, ascending. A row's number is not: rows
            stand in order, so where an item stands tells its row.
        hops: looks that depend on each other; 1 for a plain look-up.
        trail: items seen between the named one and the one that holds the answer, hop by hop.
    """

    kind: str
    asked: tuple[Piece, ...]
    answered: tuple[Piece, ...]
    needed: tuple[int, ...]
    hops: int = 1
    trail: tuple[Item, ...] = ()

    @property
    def text(self) -> str:
        """What is asked."""
        return " ".join(piece.text for piece in self.asked)

    @property
    def answer(self) -> str:
        """The only right answer."""
        return " ".join(piece.text for piece in self.answered)


Asker = Callable[[Page, np.random.Generator], Question | None]
"""Draws a question about a page; None where the page offers none of this kind."""


def lookup(page: Page, rng: np.random.Generator) -> Question:
    """What a named item shows."""
    item = _any(page, rng)
    asked = (Piece(f"what is {item.name}", item), Piece("?"))
    return Question("lookup", asked, (Piece(page.shown(item), item),), _both(item))


def inverse(page: Page, rng: np.random.Generator) -> Question | None:
    """The name of the item with a number."""
    item = _any(page, rng)
    if item.number is None:
        return None
    asked = (Piece(f"which is {item.number}", item), Piece("?"))
    return Question("inverse", asked, (Piece(item.name, item),), _both(item))


def exists(page: Page, rng: np.random.Generator) -> Question:
    """Whether a name is on the page; half of the names are not, though both their parts are."""
    if rng.random() < 0.5:
        item = _any(page, rng)
        asked = (Piece(f"is there {item.name}", item), Piece("?"))
        return Question("exists", asked, (Piece("yes", item),), (item.cell,))
    names = {item.name for item in page.items}
    colours = sorted({item.colour for item in page.items})
    letters = sorted({item.letter for item in page.items})
    absent = [
        name
        for colour in colours
        for letter in letters
        if (name := f"{COLOURS[colour]} {LETTERS[letter]}") not in names
    ]
    name = absent[int(rng.integers(len(absent)))]
    return Question("exists", (Piece(f"is there {name} ?"),), (Piece("no"),), ())


def verify(page: Page, rng: np.random.Generator) -> Question | None:
    """Whether a named item shows a number; half of the time another item's."""
    item, other = _two(page, rng)
    if item.number is None or other.number is None:
        return None
    said, answer = (item, "yes") if rng.random() < 0.5 else (other, "no")
    asked = (Piece(f"is {item.name}", item), Piece(f"{said.number} ?"))
    return Question("verify", asked, (Piece(answer, item),), _both(item))


def compare(page: Page, rng: np.random.Generator) -> Question | None:
    """Which of two named items shows the larger, or the smaller, number."""
    first, second = _two(page, rng)
    if first.number is None or second.number is None:
        return None
    word, larger = (("larger", True), ("smaller", False))[int(rng.integers(2))]
    best = first if (first.number > second.number) == larger else second
    asked = (
        Piece(f"{word} {first.name}", first),
        Piece(f"or {second.name}", second),
        Piece("?"),
    )
    needed = tuple(sorted((*_both(first), *_both(second))))
    return Question("compare", asked, (Piece(best.name, best),), needed)


def count(page: Page, rng: np.random.Generator) -> Question | None:
    """How many items have a letter, up to 9."""
    letter = int(rng.integers(len(LETTERS)))
    hits = tuple(item.cell for item in page.items if item.letter == letter)
    if len(hits) >= len(DIGITS):
        return None
    return Question(
        "count", (Piece(f"how many {LETTERS[letter]} ?"),), (Piece(str(len(hits))),), hits
    )


def neighbour(page: Page, rng: np.random.Generator) -> Question | None:
    """What the item right or left of a named one in its row shows: two hops."""
    index = int(rng.integers(len(page.items)))
    side, step = (("right", 1), ("left", -1))[int(rng.integers(2))]
    if not 0 <= index + step < len(page.items):
        return None
    item, beside = page.items[index], page.items[index + step]
    if item.row != beside.row:
        return None
    asked = (Piece(f"{side} of {item.name}", item), Piece("?"))
    answered = (Piece(page.shown(beside), beside),)
    needed = tuple(sorted((item.cell, beside.value_cell)))
    return Question("neighbour", asked, answered, needed, hops=2)


def two_hop(page: Page, rng: np.random.Generator) -> Question | None:
    """The number at the end of one reference."""
    return _follow(page, rng, 1)


def three_hop(page: Page, rng: np.random.Generator) -> Question | None:
    """The number at the end of two references."""
    return _follow(page, rng, 2)


def four_hop(page: Page, rng: np.random.Generator) -> Question | None:
    """The number at the end of three references: in no page of the training data."""
    return _follow(page, rng, 3)


def names(page: Page, rng: np.random.Generator) -> Question:
    """The names in a row, left to right."""
    row = int(rng.integers(page.rows))
    items = page.row_items(row)
    needed = tuple(item.cell for item in items)
    answered = tuple(Piece(item.name, item) for item in items)
    return Question("names", (Piece(f"names in {ORDINALS[row]} row ?"),), answered, needed)


def caption(page: Page, rng: np.random.Generator) -> Question:
    """Everything in a row, left to right: 4 or 5 tokens an item."""
    row = int(rng.integers(page.rows))
    items = page.row_items(row)
    needed = tuple(cell for item in items for cell in _both(item))
    answered = tuple(
        Piece(f"{item.name} {'' if item.refers_to is None else 'to '}{page.shown(item)}", item)
        for item in items
    )
    return Question("caption", (Piece(f"list {ORDINALS[row]} row ?"),), answered, needed)


KINDS: dict[str, Asker] = {
    "lookup": lookup,
    "inverse": inverse,
    "exists": exists,
    "verify": verify,
    "compare": compare,
    "count": count,
    "neighbour": neighbour,
    "two_hop": two_hop,
    "three_hop": three_hop,
    "four_hop": four_hop,
    "names": names,
    "caption": caption,
}
SHARES: dict[str, float] = {
    "lookup": 0.16,
    "inverse": 0.1,
    "exists": 0.06,
    "verify": 0.1,
    "compare": 0.12,
    "count": 0.08,
    "neighbour": 0.02,
    "two_hop": 0.1,
    "three_hop": 0.16,
    "names": 0.05,
    "caption": 0.05,
}
"""How often each kind is asked in the shipped data."""

_TRIES = 20


def ask(
    page: Page, rng: np.random.Generator, shares: Mapping[str, float] = MappingProxyType(SHARES)
) -> Question:
    """A question of a kind drawn by its share; a look-up where the page offers none of the kind.

    Args:
        page: as `draw_page` draws it.
        rng: consumed.
        shares: by kind, adding up to 1.
    """
    kind = list(shares)[rng.choice(len(shares), p=list(shares.values()))]
    for _ in range(_TRIES):
        if question := KINDS[kind](page, rng):
            return question
    return lookup(page, rng)


def _follow(page: Page, rng: np.random.Generator, references: int) -> Question | None:
    """What stands at the end of exactly so many references."""
    paths = [path for item in page.items if len(path := page.path(item)) == references + 1]
    if not paths:
        return None
    path = paths[int(rng.integers(len(paths)))]
    kind = ("two_hop", "three_hop", "four_hop")[references - 1]
    asked = (Piece(f"follow {path[0].name}", path[0]), Piece("?"))
    needed = tuple(sorted(cell for item in path for cell in _both(item)))
    answered = (Piece(str(path[-1].number), path[-1]),)
    return Question(kind, asked, answered, needed, hops=references + 1, trail=path[1:-1])


def _any(page: Page, rng: np.random.Generator) -> Item:
    return page.items[int(rng.integers(len(page.items)))]


def _two(page: Page, rng: np.random.Generator) -> tuple[Item, Item]:
    first = int(rng.integers(len(page.items)))
    second = (first + int(rng.integers(1, len(page.items)))) % len(page.items)
    return page.items[first], page.items[second]


def _both(item: Item) -> tuple[int, int]:
    return item.cell, item.value_cell
