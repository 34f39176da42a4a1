"""Exact match, ANLS (DocVQA's evaluation) and relaxed accuracy (ChartQA), worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgl.metrics.anls import anls, edit_distance
from sgl.metrics.charts import number_in, relaxed_accuracy
from sgl.metrics.text import exact_match


@pytest.mark.parametrize(
    ("answer", "right"),
    [("Paris", 1), (" paris. ", 1), ("\uff30aris", 1), ("Paris!", 0), ("in Paris", 0), ("", 0)],
)
def test_exact_match_levels_case_width_space_and_full_stops(answer: str, right: float) -> None:
    assert exact_match(answer, ["London", "Paris"]) == right


@pytest.mark.parametrize(
    ("left", "right", "distance"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("flaw", "lawn", 2), ("same", "same", 0)],
)
def test_edit_distances_of_the_textbook(left: str, right: str, distance: int) -> None:
    assert edit_distance(left, right) == edit_distance(right, left) == distance


@given(st.text("ab", max_size=8), st.text("ab", max_size=8), st.text("ab", max_size=8))
def test_edit_distance_is_a_distance(one: str, two: str, three: str) -> None:
    assert edit_distance(one, three) <= edit_distance(one, two) + edit_distance(two, three)
    assert abs(len(one) - len(two)) <= edit_distance(one, two) <= max(len(one), len(two))


@pytest.mark.parametrize(
    ("answer", "accepted", "score"),
    [
        ("Hello  World", ["hello world"], 1),
        ("kitten", ["sitting"], 1 - 3 / 7),
        ("kitten", ["sitting", "mitten"], 1 - 1 / 6),  # the nearest one counts
        ("ab", ["abcd"], 0.5),  # at the threshold: as the official evaluation, not the paper
        ("ab", ["abcde"], 0),
        ("yes", ["no"], 0),
        ("", ["a"], 0),
    ],
)
def test_anls(answer: str, accepted: list[str], score: float) -> None:
    assert anls(answer, accepted) == pytest.approx(score)


@given(st.text("abc ", max_size=12), st.text("abc ", max_size=12))
def test_anls_is_the_formula_where_nothing_is_cut_short(answer: str, accepted: str) -> None:
    left, right = " ".join(answer.split()), " ".join(accepted.split())
    longer = max(len(left), len(right))
    score = 1 - edit_distance(left, right) / longer if longer else 1.0
    assert anls(answer, [accepted]) == (score if score >= 0.5 else 0)


@pytest.mark.parametrize(
    ("answer", "accepted", "right"),
    [
        ("105", "100", 1),  # 5 % away
        ("95", "100", 1),
        ("105.1", "100", 0),
        ("-95", "-100", 1),
        ("95", "-100", 0),
        ("1,050", "1000", 1),
        ("1,05", "105", 0),  # no separator of thousands
        ("50%", "0.5", 1),  # a percentage is a fraction, as in pix2struct's evaluation
        ("50 %", "50%", 1),
        ("50%", "50", 0),
        ("0.0", "0", 1),
        ("0.01", "0", 0),
        ("Blue", "blue ", 1),  # no numbers: equal but for letter case
        ("light blue", "blue", 0),
        ("100 dollars", "100", 0),
        ("nan", "5", 0),
        ("1_000", "1000", 0),
        ("1e3", "1000", 1),
    ],
)
def test_relaxed_accuracy(answer: str, accepted: str, right: float) -> None:
    assert relaxed_accuracy(answer, ["something else", accepted]) == right


@pytest.mark.parametrize("text", ["", "%", ".", "-", "e5", "1.2.3", "inf", "1,2345", "\u00bd"])
def test_what_is_no_number(text: str) -> None:
    assert number_in(text) is None
