"""How right an answer is: the measures of the field, as pure functions, and their names.

A measure takes the answer, the accepted answers and, where there are some, the texts of the answer
options, and gives a score in [0, 1] that is 1 for an answer that equals all accepted ones.
`sgl evaluate` finds a measure by its name here. CIDEr-D alone is of a corpus: see captions.cider_d.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from sgl.errors import ConfigurationError
from sgl.metrics.anls import anls
from sgl.metrics.boxes import box_iou
from sgl.metrics.captions import rouge_l
from sgl.metrics.charts import relaxed_accuracy
from sgl.metrics.choices import multiple_choice
from sgl.metrics.text import exact_match
from sgl.metrics.vqa import vqa_accuracy
from sgl.metrics.yes_no import yes_no

DEFAULT = "exact_match"
CIDER_D = "cider_d"
"""The one name that stands for a measure of a corpus."""
BY_KIND = "by_kind"
"""Stands for the measure in AGREEMENT of each record's kind."""


class Score(Protocol):
    """Of one answer, 0 to 1."""

    def __call__(self, answer: str, accepted: Sequence[str], options: Sequence[str] = ()) -> float:
        """Score an answer.

        Args:
            answer: free text.
            accepted: right answers, or one per annotator; without any the score is 0.
            options: texts of the answer options in order, where the question has some.
        """
        ...


METRICS: Mapping[str, Score] = {
    "exact_match": exact_match,
    "vqa_accuracy": vqa_accuracy,
    "anls": anls,
    "relaxed_accuracy": relaxed_accuracy,
    "multiple_choice": multiple_choice,
    "yes_no": yes_no,
    "box_iou": box_iou,
    "rouge_l": rouge_l,
}

AGREEMENT: Mapping[str, str] = {
    "yes_no": "yes_no",
    "multiple_choice": "multiple_choice",
    "box": "box_iou",
    "number": "relaxed_accuracy",
    "text": "anls",
    "caption": "rouge_l",
}
"""Which measure tells whether two models agree, by the kind of question; DEFAULT for any other.

VQA accuracy is none of them: a single reference answer has no annotators to disagree.
"""


def metric_named(name: str, others: Sequence[str] = ()) -> Score:
    """A measure of single answers by its name.

    Args:
        name: one of METRICS.
        others: names that may stand in its place where it was written.

    Raises:
        ConfigurationError: there is none; names those there are.
    """
    if name not in METRICS:
        known = ", ".join((*METRICS, *others))
        raise ConfigurationError(f"no metric '{name}'; there are {known}")
    return METRICS[name]
