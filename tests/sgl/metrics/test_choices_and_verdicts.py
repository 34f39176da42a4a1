"""Multiple choice, yes and no (POPE's evaluation) and boxes, worked out by hand."""

import pytest

from sgl.metrics.boxes import box_in, box_iou, iou
from sgl.metrics.choices import choice_in, multiple_choice
from sgl.metrics.yes_no import count_yes_no, verdict, yes_no

PETS = ["a cat", "a dog", "a cat and a dog", "3"]


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        (" b ", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("**B**", "B"),
        ("B. a cat", "B"),
        ("B) a cat", "B"),
        ("(b) the answer", "B"),
        ("The answer is B", "B"),
        ("the answer is b.", "B"),
        ("The correct answer is (B).", "B"),
        ("Answer: B", "B"),
        ("It is option C, not the others", "C"),
        ("It must be (B), because A does not fit", "B"),
        ("B is right", "B"),
        ("A is right", "A"),
        ("A cat sits there", None),  # the article
        ("I think so", None),
        ("the answer is a secret", None),
        ("A or B", None),
        ("(A) or (B)", None),
        ("Z", None),
        ("", None),
        ("Bananas", None),
    ],
)
def test_letters_in_answers(answer: str, letter: str | None) -> None:
    assert choice_in(answer) == letter


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("a dog", "B"),
        ("A dog.", "B"),
        ("3", "D"),
        ("there are 3 of them", "D"),
        ("there are 33 of them", None),
        ("a cat and a dog", "C"),  # the whole text goes before a part of it
        ("I see a cat and a dog", None),  # which holds three of the texts
        ("a bird", None),
        ("E", None),  # there are four
    ],
)
def test_texts_of_options_in_answers(answer: str, letter: str | None) -> None:
    assert choice_in(answer, PETS) == letter


def test_multiple_choice_compares_what_is_chosen() -> None:
    assert multiple_choice("The answer is B.", ["b"]) == 1
    assert multiple_choice("a dog", ["B"], PETS) == 1
    assert multiple_choice("B", ["a dog"], PETS) == 1
    assert multiple_choice("A", ["B"], PETS) == 0
    assert multiple_choice("a dog", ["B"]) == 0
    assert multiple_choice("a Dog", ["a dog"]) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("Yes, there is a dog.", "yes"),
        ("No, there is no dog.", "no"),
        ("There is not any dog in the image", "no"),
        ("yes", "yes"),
        ("NO!", "no"),
        ("Yes. But not there.", "yes"),  # the first sentence
        ("nothing", None),
        ("A dog", None),
        ("", None),
        ("Notably yes", "yes"),
    ],
)
def test_verdicts(answer: str, said: str | None) -> None:
    assert verdict(answer) == said


def test_yes_or_no_is_right_or_wrong() -> None:
    assert yes_no("Yes, it is.", ["yes"]) == 1
    assert yes_no("Yes, it is.", ["no"]) == 0
    assert yes_no("perhaps", ["no"]) == 0
    assert yes_no("Red", ["red"]) == 1


def test_popes_figures() -> None:
    """3 true yes, 1 false yes, 2 true no, 2 false no, of which one is unclear; and one left out."""
    pairs = [
        *[("yes", "yes")] * 3,
        ("Yes, I think", "no"),
        *[("no", "no")] * 2,
        ("no", "yes"),
        ("hm", "yes"),
        ("yes", "a dog"),
    ]
    counts = count_yes_no(pairs)
    assert counts.records == 8
    assert counts.accuracy == 5 / 8
    assert counts.precision == 3 / 4
    assert counts.recall == 3 / 5
    assert counts.f1 == pytest.approx(2 * (3 / 4) * (3 / 5) / (3 / 4 + 3 / 5))
    assert counts.yes_share == 4 / 8
    assert counts.unclear == 1


def test_without_any_yes_nothing_divides_by_zero() -> None:
    counts = count_yes_no([("no", "no")])
    assert (counts.accuracy, counts.precision, counts.recall, counts.f1) == (1, 0, 0, 0)
    assert count_yes_no([]).accuracy == 0


@pytest.mark.parametrize(
    "text",
    [
        "[10, 20, 30.5, 40]",
        "(10,20),(30.5,40)",
        "<box>[[10, 20, 30.5, 40]]</box>",
        '{"bbox_2d": [10, 20, 30.5, 40], "label": "cat 7"}',
        "The 2 cats are at [10, 20, 30.5, 40].",
        "[30.5, 40, 10, 20]",
        "10 20 30.5 40",
    ],
)
def test_boxes_in_their_dresses(text: str) -> None:
    assert box_in(text) == (10, 20, 30.5, 40)


@pytest.mark.parametrize("text", ["", "[1, 2, 3]", "no box", "x1=10, y1=20"])
def test_what_is_no_box(text: str) -> None:
    assert box_in(text) is None


def test_iou_of_boxes() -> None:
    assert iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0
    assert iou((0, 0, 1, 1), (1, 0, 2, 1)) == 0
    assert iou((0, 0, 0, 5), (0, 0, 0, 4)) == 0
    assert box_iou("[0, 0, 10, 10]", ["[0, 0, 10, 5]"]) == 1  # exactly 0.5
    assert box_iou("[0, 0, 10, 10]", ["[0, 0, 10, 4.9]"]) == 0
    assert box_iou("[0, 0, 10, 10]", ["[50, 50, 60, 60]", "(0,0),(9,9)"]) == 1
    assert box_iou("nowhere", ["[0, 0, 1, 1]"]) == 0
