"""Laws that every measure keeps, whatever the texts."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sgl.errors import ConfigurationError
from sgl.metrics import AGREEMENT, BY_KIND, DEFAULT, METRICS, metric_named

TEXTS = st.one_of(
    st.text(max_size=12),
    st.from_regex(
        r"\(?[A-Da-d]\)?\.? ?(a cat|yes|no|12%|1,234\.5|\[1, 2, 3, 4\])?", fullmatch=True
    ),
    st.sampled_from(["nan", "1e999", "[0,0,0,0]", "n't", "...", "a", "The", "I", "-0", "yes. no"]),
)
OPTIONS = st.lists(TEXTS, max_size=4)
NAMES = st.sampled_from([name for name in METRICS if name != "rouge_l"])


@given(NAMES, TEXTS, st.lists(TEXTS, max_size=11), OPTIONS)
def test_a_score_is_between_0_and_1(
    name: str, answer: str, accepted: list[str], options: list[str]
) -> None:
    assert 0 <= METRICS[name](answer, accepted, options) <= 1


@given(NAMES, TEXTS, st.integers(1, 11), OPTIONS)
@example("relaxed_accuracy", "1e999", 1, [])
@example("box_iou", "[0,0,0,0]", 1, [])
@example("vqa_accuracy", "the", 10, [])
def test_what_all_say_is_right(name: str, answer: str, annotators: int, options: list[str]) -> None:
    assert METRICS[name](answer, [answer] * annotators, options) == 1


@given(NAMES, TEXTS, OPTIONS)
def test_without_accepted_answers_nothing_is_right(
    name: str, answer: str, options: list[str]
) -> None:
    assert METRICS[name](answer, [], options) == 0


@given(st.sampled_from(["exact_match", "anls", "multiple_choice", "yes_no"]), TEXTS, TEXTS, TEXTS)
def test_one_more_accepted_answer_never_costs_anything(
    name: str, answer: str, one: str, other: str
) -> None:
    assert METRICS[name](answer, [one, other]) >= METRICS[name](answer, [one])


def test_names_are_found_and_others_are_refused_with_a_list() -> None:
    assert {*AGREEMENT.values(), DEFAULT} <= set(METRICS)
    assert metric_named("anls") is METRICS["anls"]
    with pytest.raises(ConfigurationError, match="no metric 'bleu'; there are exact_match") as told:
        metric_named("bleu")
    # What is refused itself is not offered.
    for name in str(told.value).split("there are ")[1].split(", "):
        metric_named(name)
    with pytest.raises(ConfigurationError, match=r"rouge_l, by_kind$"):
        metric_named("bleu", [BY_KIND])
