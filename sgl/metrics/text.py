"""Exact match: the plain default, and what other metrics fall back to."""

import unicodedata
from collections.abc import Sequence


def normalised(text: str) -> str:
    """Letter case, widths of characters, runs of white space and full stops at the end levelled."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).rstrip(". ")


def exact_match(answer: str, accepted: Sequence[str], options: Sequence[str] = ()) -> float:
    """1 where the normalised answer equals one of the normalised accepted answers, else 0."""
    del options
    given = normalised(answer)
    return float(any(given == normalised(text) for text in accepted))
