"""Captions: ROUGE-L and CIDEr-D by pycocoevalcap, the COCO caption evaluation.

Its own tokenizer is a Java program; ours splits as that does for plain English (lower case, no
punctuation, "don't" -> "do n't", "dog's" -> "dog 's"). Figures compare routes and models with each
other and are close to published ones, not equal to them.
"""

import re
from collections.abc import Sequence
from typing import Any

from sgl.errors import ConfigurationError
from sgl.metrics.text import normalised

_WORD = re.compile(r"n't\b|'(?:s|d|m|ll|re|ve)\b|[^\W_]+(?:[.,-][^\W_]+)*")
_NOT = re.compile(r"n't\b")


def caption_tokens(text: str) -> str:
    """The words of a caption, a space between two."""
    levelled = text.lower().replace("\u2019", "'")
    return " ".join(_WORD.findall(_NOT.sub(" n't", levelled)))


def rouge_l(answer: str, accepted: Sequence[str], options: Sequence[str] = ()) -> float:
    """ROUGE-L (Lin 2004), 0 to 1, as the COCO evaluation has it.

    The longest common subsequence as precision and recall, each the best over the accepted
    captions, in an F measure with beta 1.2.

    Raises:
        ConfigurationError: the package is not installed.
    """
    del options
    if normalised(answer) in map(normalised, accepted):
        return 1.0
    if not accepted:
        return 0.0
    references = [caption_tokens(text) for text in accepted]
    return min(1.0, float(_scorers().Rouge().calc_score([caption_tokens(answer)], references)))


def cider_d(answers: Sequence[str], accepted: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D (Vedantam et al. 2015) of each caption, 0 to 10; published is the mean times 100.

    N-grams count by how rare they are among the accepted captions of all records given here, so
    that a score means something only beside others of the same corpus, and equality with the
    reference does not give 10 where a caption is shorter than four words. All captions are held in
    memory, as n-grams.

    Args:
        answers: one per record.
        accepted: at least one caption per record.

    Raises:
        ConfigurationError: the package is not installed.
    """
    scorer = _scorers().CiderScorer(n=4, sigma=6.0)
    for answer, texts in zip(answers, accepted, strict=True):
        scorer += (caption_tokens(answer), [caption_tokens(text) for text in texts])
    _, scores = scorer.compute_score()
    return [float(score) for score in scores]


class _Scorers:
    """The two classes of the package that need no Java."""

    def __init__(self) -> None:
        from pycocoevalcap.cider.cider_scorer import CiderScorer
        from pycocoevalcap.rouge.rouge import Rouge

        self.CiderScorer: Any = CiderScorer
        self.Rouge: Any = Rouge


def _scorers() -> _Scorers:
    try:
        return _Scorers()
    except ImportError as error:
        raise ConfigurationError(
            "captions are scored by the package pycocoevalcap, which is not installed; "
            "install the extra 'evaluate'"
        ) from error
