"""The task: pages, questions, pixels and files from a seed."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from testbed import heldout_path, validation_path
from testbed.generate import generate
from testbed.page import STYLES, Label, Page, draw_page
from testbed.questions import KINDS, SHARES, ask
from testbed.records import HELDOUT_SEED, VALIDATION_SEED, draw_records
from testbed.render import SLOT, render
from testbed.vocabulary import COLOURS, LETTERS, TOKEN_ID, WORDS, token_ids


def pages(count: int) -> list[Page]:
    rng = np.random.default_rng(1)
    return [draw_page(rng, STYLES[index % len(STYLES)]) for index in range(count)]


def test_a_page_has_unique_names_numbers_and_slots() -> None:
    for page in pages(40):
        labels = page.labels
        for values in (
            {label.name for label in labels},
            {label.number for label in labels},
            {label.visual_token for label in labels},
        ):
            assert len(values) == len(labels)
        assert all(0 <= label.visual_token < page.rows * 8 for label in labels)


def brute_force(page: Page, words: list[str]) -> str:
    """Answer from the words of the question alone, in another way than the generator."""
    grid = {(label.row, label.column): label for label in page.labels}

    def named(colour: str, letter: str) -> Label:
        wanted = COLOURS.index(colour), LETTERS.index(letter)
        (hit,) = [one for one in page.labels if (one.colour, one.letter) == wanted]
        return hit

    match words:
        case ["number", "of", colour, letter, "?"]:
            return str(named(colour, letter).number)
        case ["label", "of", number, "?"]:
            (hit,) = [one for one in page.labels if one.number == int(number)]
            return f"{COLOURS[hit.colour]} {LETTERS[hit.letter]}"
        case ["number", side, "of", colour, letter, "?"]:
            one = named(colour, letter)
            row = one.row + {"above": -1, "below": 1}.get(side, 0)
            column = one.column + {"left": -1, "right": 1}.get(side, 0)
            return str(grid[row, column].number)
        case [word, "of", *first, "and", colour, letter, "?"] if word in ("larger", "smaller"):
            numbers = sorted([named(*first).number, named(colour, letter).number])
            return str(numbers[word == "larger"])
        case ["how", "many", colour, "?"]:
            return str(sum(one.colour == COLOURS.index(colour) for one in page.labels))
        case ["read", "row", "of", colour, letter, "?"]:
            row = named(colour, letter).row
            return " ".join(str(grid[row, c].number) for c in range(8) if (row, c) in grid)
    raise AssertionError(words)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_answers_are_right_and_the_needed_labels_suffice(kind: str) -> None:
    rng, asked = np.random.default_rng(2), 0
    for page in pages(60):
        question = KINDS[kind](page, rng)
        if question is None:
            continue
        asked += 1
        words = question.text.split()
        assert brute_force(page, words) == question.answer
        assert brute_force(Page(page.rows, question.needed), words) == question.answer
    assert asked > 30


def test_every_question_and_answer_is_in_the_vocabulary() -> None:
    rng = np.random.default_rng(3)
    for page in pages(200):
        question = ask(page, rng)
        assert token_ids(question.text)
        assert token_ids(question.answer)
    assert len(TOKEN_ID) == len(WORDS)
    assert sum(SHARES.values()) == pytest.approx(1.0)


def test_labels_are_drawn_in_their_slots_alone() -> None:
    page = Page(8, (Label(2, 3, 0, 0, 42),))
    empty, drawn = (
        render(one, np.random.default_rng(4)).astype(int) for one in (Page(8, ()), page)
    )
    assert drawn.shape == (8 * SLOT, 8 * SLOT, 3)
    inside = np.zeros(drawn.shape[:2], bool)
    inside[2 * SLOT : 3 * SLOT, 3 * SLOT : 4 * SLOT] = True
    coloured = np.ptp(drawn, axis=2) > 60
    assert coloured[inside].mean() > 0.5
    assert not coloured[~inside].any()
    assert not (np.ptp(empty, axis=2) > 60).any()


def test_the_same_seed_draws_the_same_and_a_longer_run_starts_alike() -> None:
    short, long = list(draw_records(5, 7)), list(draw_records(5, 12))
    assert [one.question for one in short] == [one.question for one in long[:7]]
    np.testing.assert_array_equal(short[6].image, long[6].image)
    assert len({one.id for one in long}) == 12
    assert [one.question for one in draw_records(6, 7)] != [one.question for one in short]


def test_files_hold_the_same_records_and_repeat_by_seed(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        generate(seed=9, records=8, output=tmp_path / folder)
    first = (tmp_path / "a" / "records.parquet").read_bytes()
    assert first == (tmp_path / "b" / "records.parquet").read_bytes()
    rows = pq.read_table(tmp_path / "a" / "records.parquet").to_pylist()
    lines = (tmp_path / "a" / "manifest.jsonl").read_text().splitlines()
    assert len(rows) == len(lines) == 8
    for row, line, record in zip(rows, map(json.loads, lines), draw_records(9, 8), strict=True):
        assert {**row, "image": row["image"]["path"]} == line
        assert (tmp_path / "a" / line["image"]).read_bytes() == row["image"]["bytes"]
        np.testing.assert_array_equal(
            np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))), record.image
        )


def test_shipped_data_are_the_generators_and_share_no_page() -> None:
    images = {}
    for path, seed, fewest in (
        (validation_path(), VALIDATION_SEED, 400),
        (heldout_path(), HELDOUT_SEED, 1000),
    ):
        rows = pq.read_table(path).to_pylist()
        assert len(rows) >= fewest
        for row, record in zip(rows, draw_records(seed, 30), strict=False):
            assert (row["id"], row["question"]) == (record.id, record.question.text)
            assert row["answers"] == [record.question.answer]
        images[seed] = {row["image"]["bytes"] for row in rows}
    assert not images[VALIDATION_SEED] & images[HELDOUT_SEED]
