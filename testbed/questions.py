"""What is asked about a page, one function per kind; a new kind is a new entry of KINDS."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from testbed.page import Label, Page
from testbed.vocabulary import COLOURS, DIGITS


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its only answer.

    Attributes:
        kind: its entry in KINDS.
        text: words of the vocabulary, space-separated.
        answer: likewise.
        needed: the labels that one must see to answer.
    """

    kind: str
    text: str
    answer: str
    needed: tuple[Label, ...]


Asker = Callable[[Page, np.random.Generator], Question | None]
"""Draws a question about a page; None where the page offers none of this kind."""


def lookup(page: Page, rng: np.random.Generator) -> Question:
    """The number of a named label."""
    label = _any(page.labels, rng)
    return Question("lookup", f"number of {label.name} ?", str(label.number), (label,))


def inverse(page: Page, rng: np.random.Generator) -> Question:
    """The name of the label with a number."""
    label = _any(page.labels, rng)
    return Question("inverse", f"label of {label.number} ?", label.name, (label,))


_STEPS = {"right": (0, 1), "left": (0, -1), "above": (-1, 0), "below": (1, 0)}


def neighbour(page: Page, rng: np.random.Generator) -> Question | None:
    """The number in the slot beside a named label."""
    at = {(label.row, label.column): label for label in page.labels}
    pairs = [
        (side, label, at[place])
        for label in page.labels
        for side, (down, right) in _STEPS.items()
        if (place := (label.row + down, label.column + right)) in at
    ]
    if not pairs:
        return None
    side, label, beside = pairs[rng.integers(len(pairs))]
    text = f"number {side} of {label.name} ?"
    return Question("neighbour", text, str(beside.number), (label, beside))


def compare(page: Page, rng: np.random.Generator) -> Question:
    """The larger or the smaller number of two named labels."""
    first, second = (page.labels[index] for index in rng.permutation(len(page.labels))[:2])
    word, choose = (("larger", max), ("smaller", min))[rng.integers(2)]
    answer = choose(first.number, second.number)
    text = f"{word} of {first.name} and {second.name} ?"
    return Question("compare", text, str(answer), (first, second))


def count(page: Page, rng: np.random.Generator) -> Question | None:
    """How many labels have a colour, up to 9."""
    colour = int(rng.integers(len(COLOURS)))
    hits = tuple(label for label in page.labels if label.colour == colour)
    if len(hits) >= len(DIGITS):
        return None
    return Question("count", f"how many {COLOURS[colour]} ?", str(len(hits)), hits)


def row(page: Page, rng: np.random.Generator) -> Question:
    """All numbers in the row of a named label, left to right."""
    label = _any(page.labels, rng)
    same = tuple(other for other in page.labels if other.row == label.row)
    answer = " ".join(str(other.number) for other in same)
    return Question("row", f"read row of {label.name} ?", answer, same)


KINDS: dict[str, Asker] = {
    "lookup": lookup,
    "inverse": inverse,
    "neighbour": neighbour,
    "compare": compare,
    "count": count,
    "row": row,
}
SHARES: dict[str, float] = {
    "lookup": 0.3,
    "inverse": 0.15,
    "neighbour": 0.2,
    "compare": 0.15,
    "count": 0.1,
    "row": 0.1,
}
"""How often each kind is asked in the shipped data."""


def ask(
    page: Page, rng: np.random.Generator, shares: Mapping[str, float] = MappingProxyType(SHARES)
) -> Question:
    """A question of a kind drawn by its share; a look-up where the page offers none of the kind.

    Args:
        page: at least two labels.
        rng: consumed.
        shares: by kind, adding up to 1.
    """
    kind = list(shares)[rng.choice(len(shares), p=list(shares.values()))]
    return KINDS[kind](page, rng) or lookup(page, rng)


def _any(labels: Sequence[Label], rng: np.random.Generator) -> Label:
    return labels[int(rng.integers(len(labels)))]
