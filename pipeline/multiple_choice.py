"""Questions with answer options: one prompt for all datasets, and what the right answer is."""

import ast
import json
import re
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any

OPTIONS = "options"
"""The column of the options, wherever the input has some."""
_NUMBER = re.compile(r"[0-9]{1,2}")
_INSTRUCTION = "Please select the correct answer from the options above."


def options_in(cells: Sequence[Any]) -> list[str]:
    """The options of one record, A first; a place that is left out is empty.

    Args:
        cells: one that holds them all, a list or the text of one, as JSON or as MMMU has it
            ("['a', 'b']"), or one per option.
    """
    if len(cells) == 1:
        cells = _listed(cells[0])
    texts = ["" if cell is None else str(cell) for cell in cells[: len(ascii_uppercase)]]
    while texts and not texts[-1]:
        texts.pop()
    return texts


def carried_options(cell: Any) -> list[str]:
    """The options in a cell of the column OPTIONS; none where it holds anything but texts."""
    return [one for one in cell if isinstance(one, str)] if isinstance(cell, list) else []


def _listed(cell: Any) -> Sequence[Any]:
    if isinstance(cell, str):
        cell = _parsed(cell)
    return cell if isinstance(cell, list | tuple) else ()


def _parsed(text: str) -> Any:
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return None


def asked(question: str | None, options: Sequence[str], hint: str | None = None) -> str | None:
    """The question as a model gets it: the prompt of VLMEvalKit for multiple choice.

    A question without options stays as it is, with the hint before it; an empty one stays empty.
    """
    if question is None or not question.strip():
        return question
    before = f"Hint: {hint}\n" if hint else ""
    lines = [
        f"{letter}. {text}" for letter, text in zip(ascii_uppercase, options, strict=False) if text
    ]
    if not lines:
        return before + question
    return "\n".join([f"{before}Question: {question}", "Options:", *lines, _INSTRUCTION])


def right_answer(text: str | None, options: Sequence[str]) -> str | None:
    """An accepted answer; the number of an option, counted from 0, becomes its letter.

    Digits that are an option's text themselves stay.
    """
    if text is None:
        return None
    if _NUMBER.fullmatch(text) and text not in options and int(text) < len(options):
        return ascii_uppercase[int(text)]
    return text
