"""The rules of the official evaluation (GT-Vision-Lab/VQA, vqaEval.py), worked out by hand."""

import pytest

from sgl.metrics.vqa import vqa_accuracy, vqa_normalised


@pytest.mark.parametrize(
    ("matches", "accuracy"),
    # Leave one annotator out: a match left out leaves m - 1 others, another one leaves all m.
    [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)],
)
def test_ten_annotators(matches: int, accuracy: float) -> None:
    accepted = ["cat"] * matches + [f"other {i}" for i in range(10 - matches)]
    assert vqa_accuracy("cat", accepted) == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("annotators", "matches", "accuracy"),
    [
        (1, 1, 1),
        (1, 0, 0),
        (2, 1, 1 / 2),
        (2, 2, 1),
        (3, 2, (2 * 1 / 2 + 1) / 3),
        (3, 3, 1),
        (5, 3, (3 * 2 / 3 + 2) / 5),  # the official formula, with five instead of ten
        (5, 5, 1),
    ],
)
def test_fewer_annotators(annotators: int, matches: int, accuracy: float) -> None:
    accepted = ["cat"] * matches + ["dog"] * (annotators - matches)
    assert vqa_accuracy("cat", accepted) == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("The Cat", "cat"),
        ("a man\nand an\tox ", "man and ox"),
        ("two", "2"),
        ("none", "0"),
        ("eleven", "eleven"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("its", "its"),  # no entry of the official table, nor are ill, well, were
        ("Im", "im"),  # the official entry is upper case and never matches
        ("twas", "'twas"),
        ("black/white", "black white"),  # within a word a mark parts two
        ("black / white", "black white"),  # beside a space it vanishes
        ("t-shirt", "t shirt"),
        ("yes!", "yes"),
        ("1,000", "1000"),  # a comma between digits: every mark vanishes
        ("1,000-2,000", "10002000"),
        ("U.S.", "us"),
        ("3.5", "3.5"),  # a full stop stays before a digit
        ("on the 5.", "on 5"),
        ("", ""),
    ],
)
def test_normalisation(text: str, normalised: str) -> None:
    assert vqa_normalised(text) == normalised


def test_answer_and_annotations_are_normalised_alike() -> None:
    assert vqa_accuracy("A cat.", ["cat"] * 10) == 1
    assert vqa_accuracy("cat", ["The cat"] * 10) == 1
    assert vqa_accuracy("two", ["2"] * 5 + ["two"] * 5) == 1
