import pytest

from pipeline.multiple_choice import asked, options_in, right_answer

PETS = ["cat", "dog"]


def test_options_of_any_shape() -> None:
    assert options_in([["cat", "dog"]]) == PETS
    assert options_in(["['cat', 'dog']"]) == PETS
    assert options_in(['["cat", "dog"]']) == PETS
    assert options_in(["cat", "dog", None, None]) == PETS
    assert options_in(["cat", None, "dog"]) == ["cat", "", "dog"]
    assert options_in([[1, 2.5]]) == ["1", "2.5"]
    for nothing in (None, "", "no list", "[" * 1000, [], "{}"):
        assert options_in([nothing]) == []


def test_the_prompt_is_vlmevalkits() -> None:
    assert asked("Which?", PETS, "Look left.") == (
        "Hint: Look left.\nQuestion: Which?\nOptions:\nA. cat\nB. dog\n"
        "Please select the correct answer from the options above."
    )
    assert asked("Which?", ["cat", "", "dog"]) == (
        "Question: Which?\nOptions:\nA. cat\nC. dog\n"
        "Please select the correct answer from the options above."
    )
    assert asked("Which?", []) == "Which?"
    assert asked("Which?", [], "Look.") == "Hint: Look.\nWhich?"


@pytest.mark.parametrize("question", [None, "", "  "])
def test_an_empty_question_stays_one(question: str | None) -> None:
    assert asked(question, PETS, "hint") == question


@pytest.mark.parametrize(
    ("text", "options", "right"),
    [
        ("1", PETS, "B"),
        ("B", PETS, "B"),
        ("dog", PETS, "dog"),
        ("2", PETS, "2"),
        ("-1", PETS, "-1"),
        ("1", ["1", "2"], "1"),
        ("1", [], "1"),
        ("9" * 5000, PETS, "9" * 5000),
    ],
)
def test_numbers_of_options_become_letters(text: str, options: list[str], right: str) -> None:
    assert right_answer(text, options) == right
