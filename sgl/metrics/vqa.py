"""VQA accuracy (Antol et al. 2015; Goyal et al. 2017), by the rules of the official vqaEval.py.

An answer is compared with those of ten annotators: acc = min(1, matches / 3), averaged over the ten
ways to leave one annotator out. Before, texts are normalised: punctuation, articles, number words
up to ten, apostrophes that contractions lack.

Departures:

1. Answer and annotations are always normalised alike. The official code normalises annotations by
   punctuation alone, and not at all where all ten agree: its own annotations come normalised.
2. With fewer than four annotators, min(1, matches / 3) could never reach 1. There the divisor is
   the number of annotators left, and one annotator alone is plain equality. From four on, the
   formula is the official one, whatever their number.
3. The table of contractions is made from the contractions themselves. It has the entries of the
   official one that can ever match (the text is lower case, "Im" is not), less one slip of it that
   takes an apostrophe away.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

_MATCHES_FOR_FULL = 3
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGITS_AROUND_COMMA = re.compile(r"\d,\d")
# A full stop stays only before a digit; what stands before it does not count.
_FULL_STOP = re.compile(r"\.(?!\d)")
_ARTICLES = frozenset(("a", "an", "the"))
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS)} | {"none": "0"}
_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't
    mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've
    should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've
    someone'll someone's something'd something'd've something'll that's there'd there'd've there're
    there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll
    what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll
    why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll
    you're you've
"""


def _lacking_one_apostrophe(word: str) -> list[str]:
    places = [place for place, character in enumerate(word) if character == "'"]
    return [word[:place] + word[place + 1 :] for place in places]


_SPELT_OUT = {
    bare: word for word in _CONTRACTIONS.split() for bare in _lacking_one_apostrophe(word)
}


@lru_cache(maxsize=4096)
def vqa_normalised(text: str) -> str:
    """A text as the official evaluation compares it."""
    text = text.replace("\n", " ").replace("\t", " ").strip()
    words = _without_punctuation(text).lower().split()
    counted = (_DIGITS.get(word, word) for word in words)
    kept = (word for word in counted if word not in _ARTICLES)
    return " ".join(_SPELT_OUT.get(word, word) for word in kept)


def _without_punctuation(text: str) -> str:
    """Marks beside a space vanish, others part two words; where digits hold a comma, all vanish."""
    has_number = _DIGITS_AROUND_COMMA.search(text) is not None
    result = text
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if beside_space or has_number else " ")
    return _FULL_STOP.sub("", result)


def vqa_accuracy(answer: str, accepted: Sequence[str], options: Sequence[str] = ()) -> float:
    """VQA accuracy, 0 to 1, of an answer against one text per annotator."""
    del options
    if not accepted:
        return 0.0
    texts = Counter(vqa_normalised(text) for text in accepted)
    annotators, matches = len(accepted), texts[vqa_normalised(answer)]
    if annotators == 1:
        return float(matches)
    full = min(_MATCHES_FOR_FULL, annotators - 1)
    without_a_match = min(1.0, (matches - 1) / full) if matches else 0.0
    without_another = min(1.0, matches / full)
    return (matches * without_a_match + (annotators - matches) * without_another) / annotators
