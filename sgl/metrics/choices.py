"""Multiple choice: the letter that an answer names, or the option whose text it is.

Datasets agree on the measure (1 where the right option is chosen) and not on how a letter is found
in free text. These are the common rules (MMMU, MMBench, ScienceQA), the stricter one first, and an
answer that names several options names none:

1. the answer is a letter in any usual dress: "B", "b", "(B)", "B.", "B) a cat", "**B**";
2. it says so: "The answer is B", "Answer: (B)", "option B";
3. a letter in brackets stands in it: "It must be (B), because ...";
4. one capital letter of an option stands alone in it ("B is right"); not "A" where it
   may be the article, ahead of a word other than "is", "or" and "and"; and not "I";
5. the answer is the text of an option, or has that text in it and that of no other.
"""

import re
from collections.abc import Sequence
from string import ascii_uppercase

from sgl.metrics.text import exact_match, normalised

_MOST_LETTERS = 10
_BARE = re.compile(r"[\s*\"'(\[{]*([A-Za-z])[\s*\"'\])}.:,;]*")
_FIRST = re.compile(r"[\s*\"']*([A-Z])[.):]{1,2}(?=[\s*]|$)")
_SAID = re.compile(
    r"\b(?:answer|option|choice)\b(?:\s+is|\s*[:=])?\s*(?:option\s+)?[*\"'(\[]*([A-Za-z])\b(?!['\w])",
    re.IGNORECASE,
)
_BRACKETED = re.compile(r"[(\[]([A-Za-z])[)\]]")
_ALONE = re.compile(r"(?<![\w'])(?:([B-HJ])|(A)(?!\s+(?!(?:is|or|and)\b)[a-z]))(?![\w'])")


def choice_in(answer: str, options: Sequence[str] = ()) -> str | None:
    """The capital letter of the option that an answer names; None where it names none or several.

    Args:
        answer: free text.
        options: the texts of options A, B, ... in order; where there are none, ten letters count.
    """
    letters = ascii_uppercase[: len(options) or _MOST_LETTERS]
    for found in (_dressed(answer), _said(answer), _BRACKETED.findall(answer), _alone(answer)):
        named = {letter.upper() for letter in found} & set(letters)
        if named:
            return named.pop() if len(named) == 1 else None
    return _by_text(answer, options)


def multiple_choice(answer: str, accepted: Sequence[str], options: Sequence[str] = ()) -> float:
    """1 where the answer names the same option as an accepted one, else 0.

    An accepted answer is a letter or an option's text; one that is neither is compared as a text.
    """
    chosen = choice_in(answer, options)
    wanted = {text: choice_in(text, options) for text in accepted}
    if chosen is not None and chosen in wanted.values():
        return 1.0
    return exact_match(answer, [text for text, letter in wanted.items() if letter is None])


def _dressed(answer: str) -> list[str]:
    match = _BARE.fullmatch(answer) or _FIRST.match(answer)
    return [match[1]] if match else []


def _said(answer: str) -> list[str]:
    # A small "a" is more often the article than the letter: "the answer is a cat".
    found = _SAID.finditer(answer)
    return [
        match[1]
        for match in found
        if match[1].isupper() or not answer[match.end() :].lstrip(")]*\"'.").strip()
    ]


def _alone(answer: str) -> list[str]:
    return [one or other for one, other in _ALONE.findall(answer)]


def _by_text(answer: str, options: Sequence[str]) -> str | None:
    given = normalised(answer)
    texts = [normalised(option) for option in options]
    for found in (
        [place for place, text in enumerate(texts) if text and text == given],
        [place for place, text in enumerate(texts) if text and _holds(given, text)],
    ):
        if len(found) == 1:
            return ascii_uppercase[found[0]]
    return None


def _holds(text: str, part: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(part)}(?!\w)", text) is not None
