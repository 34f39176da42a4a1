"""Yes and no (Li et al. 2023, POPE): accuracy, precision, recall, F1 with "yes" as the positive.

As in POPE's evaluation the first sentence counts, and "no" or "not" among its words means no.

Departures: there everything else means yes, an empty answer and "No!" too. Here words end where
their letters end, and yes has to be said; an answer that says neither is wrong whatever was right,
and is counted as unclear.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from operator import add
from typing import Literal

from sgl.metrics.text import exact_match

Verdict = Literal["yes", "no"]
_WORDS = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")  # noqa: RUF001
_NEGATIONS = frozenset(("no", "not"))


def verdict(text: str) -> Verdict | None:
    """What the first sentence of a text says; None where it says neither."""
    words = set(_WORDS.findall(text.strip().partition(".")[0].lower()))
    if words & _NEGATIONS:
        return "no"
    return "yes" if "yes" in words else None


def yes_no(answer: str, accepted: Sequence[str], options: Sequence[str] = ()) -> float:
    """1 where answer and an accepted one say the same, else 0; others are compared as texts."""
    del options
    said = verdict(answer)
    wanted = {text: verdict(text) for text in accepted}
    if said is not None and said in wanted.values():
        return 1.0
    return exact_match(answer, [text for text, meant in wanted.items() if meant is None])


@dataclass(frozen=True)
class YesNoCounts:
    """A confusion matrix; an unclear answer is a false one.

    Attributes:
        true_yes: answered yes, rightly.
        false_yes: no was right, and it was not answered.
        true_no: answered no, rightly.
        false_no: yes was right, and it was not answered.
        said_yes: answers that say yes.
        unclear: answers that say neither.
    """

    true_yes: int = 0
    false_yes: int = 0
    true_no: int = 0
    false_no: int = 0
    said_yes: int = 0
    unclear: int = 0

    def __add__(self, other: "YesNoCounts") -> "YesNoCounts":
        return YesNoCounts(*map(add, astuple(self), astuple(other)))

    @property
    def records(self) -> int:
        """All of them."""
        return self.true_yes + self.false_yes + self.true_no + self.false_no

    @property
    def accuracy(self) -> float:
        """Share that is right."""
        return _share(self.true_yes + self.true_no, self.records)

    @property
    def precision(self) -> float:
        """Share of right ones among those taken for yes; 0 where there are none."""
        return _share(self.true_yes, self.true_yes + self.false_yes)

    @property
    def recall(self) -> float:
        """Share of the yes questions that were answered yes; 0 where there are none."""
        return _share(self.true_yes, self.true_yes + self.false_no)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return _share(2 * self.true_yes, 2 * self.true_yes + self.false_yes + self.false_no)

    @property
    def yes_share(self) -> float:
        """Share of the answers that say yes: far from that of the questions is a bias."""
        return _share(self.said_yes, self.records)


def count_yes_no(pairs: Iterable[tuple[str, str]]) -> YesNoCounts:
    """Answers against the right ones; pairs whose right answer is neither yes nor no are left out.

    Args:
        pairs: of an answer and the accepted one.
    """
    right = {"yes": 0, "no": 0}
    wrong = {"yes": 0, "no": 0}
    yes = unclear = 0
    for answer, accepted in pairs:
        if (wanted := verdict(accepted)) is None:
            continue
        said = verdict(answer)
        yes += said == "yes"
        unclear += said is None
        (right if said == wanted else wrong)[wanted] += 1
    return YesNoCounts(right["yes"], wrong["no"], right["no"], wrong["yes"], yes, unclear)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
