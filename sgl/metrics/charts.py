"""Relaxed accuracy (Methani et al. 2020, PlotQA; Masry et al. 2022, ChartQA).

A number is right within 5 % of the accepted one, any other text where it equals it but for letter
case. "12 %" is the number 0.12, as in the evaluation code in common use (pix2struct, lmms-eval).

Departures: separators of thousands ("1,234") are taken out and white space around the text is no
difference, and an accepted 0 is matched by any zero ("0.0"), where that code compares letters.
"""

import re
from collections.abc import Sequence

_TOLERANCE = 0.05
# float() would also read "nan", "infinity" and "1_000".
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?(?:[eE][-+]?\d{1,3})?")


def number_in(text: str) -> float | None:
    """The number that a text is; a percentage as a fraction. None where it is none."""
    stripped = text.strip()
    bare = stripped.removesuffix("%").rstrip()
    if not _NUMBER.fullmatch(bare):
        return None
    try:
        value = float(bare.replace(",", ""))
    except ValueError:
        return None
    return value / 100 if stripped.endswith("%") else value


def relaxed_accuracy(answer: str, accepted: Sequence[str], options: Sequence[str] = ()) -> float:
    """1 where the answer is within 5 % of an accepted number, or equals an accepted text."""
    del options
    return float(any(_right(answer, text) for text in accepted))


def _right(answer: str, accepted: str) -> bool:
    if answer.strip().lower() == accepted.strip().lower():
        return True
    given, wanted = number_in(answer), number_in(accepted)
    if given is None or wanted is None:
        return False
    return abs(given - wanted) <= _TOLERANCE * abs(wanted)
