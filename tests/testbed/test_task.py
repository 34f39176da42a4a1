"""The task: pages, questions, pixels and files of each split."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from testbed.generate import generate
from testbed.page import COLUMNS, LAYOUTS, Item, Page, PageStyle, draw_page, header_cell
from testbed.questions import KINDS, SHARES, ask
from testbed.records import SPLIT_NAMES, SPLITS, draw_records
from testbed.render import CELL, HELDOUT_HANDS, TRAINING_HANDS, render
from testbed.vocabulary import COLOURS, LETTERS, ORDINALS, TOKEN_ID, WORDS, token_ids

STYLES = (PageStyle(1, 20, 48), PageStyle(2, 32, 60), PageStyle(2, 64, 90, longest_chain=3))


def pages(count: int) -> list[Page]:
    rng = np.random.default_rng(1)
    return [draw_page(rng, STYLES[index % len(STYLES)]) for index in range(count)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_page_has_unique_names_and_numbers_in_cells_of_their_own(layout: str) -> None:
    rng = np.random.default_rng(0)
    for style in STYLES:
        page = draw_page(rng, style, layout)  # type: ignore[arg-type]
        numbers = [item.number for item in page.items if item.number is not None]
        cells = [cell for item in page.items for cell in (item.cell, item.value_cell)]
        headers = [header_cell(row) for row in range(page.rows)]
        assert len({item.name for item in page.items}) == len(page.items)
        assert len(set(numbers)) == len(numbers)
        assert len({*cells, *headers}) == len(cells) + len(headers)
        assert cells == sorted(cells)
        for item in page.items:
            assert item.cell // COLUMNS == item.value_cell // COLUMNS == 2 * item.row
        assert all(page.row_items(row) for row in range(page.rows))


def test_references_end_at_a_number_within_the_longest_chain() -> None:
    lengths = [len(page.path(item)) for page in pages(30) for item in page.items]
    assert set(lengths) == {1, 2, 3, 4}
    short = draw_page(np.random.default_rng(2), replace(STYLES[1], longest_chain=1))
    assert {len(short.path(item)) for item in short.items} == {1, 2}


def brute_force(page: Page, words: list[str], seen: set[int]) -> str:
    """Answer from the words of the question and the seen cells, in another way than the generator.

    Raises KeyError where an unseen cell is wanted.
    """
    keys = {item.cell: item for item in page.items if item.cell in seen}
    values = {item.value_cell: page.shown(item) for item in page.items if item.value_cell in seen}

    def named(colour: str, letter: str) -> Item:
        wanted = (COLOURS.index(colour), LETTERS.index(letter))
        return {(one.colour, one.letter): one for one in keys.values()}[wanted]

    def followed(item: Item) -> str:
        shown = values[item.value_cell].split()
        return shown[0] if len(shown) == 1 else followed(named(*shown))

    def in_row(ordinal: str) -> list[Item]:
        row = ORDINALS.index(ordinal)
        hits = [item for cell, item in keys.items() if cell // COLUMNS == 2 * row]
        return sorted(hits, key=lambda item: item.cell)

    match words:
        case ["what", "is", *name, "?"]:
            return values[named(*name).value_cell]
        case ["which", "is", number, "?"]:
            (cell,) = [cell for cell, shown in values.items() if shown == number]
            return keys[cell - 1].name
        case ["is", "there", *name, "?"]:
            return "yes" if " ".join(name) in {item.name for item in keys.values()} else "no"
        case ["is", colour, letter, number, "?"]:
            return "yes" if values[named(colour, letter).value_cell] == number else "no"
        case [("larger" | "smaller") as word, *first, "or", colour, letter, "?"]:
            two = [named(*first), named(colour, letter)]
            two.sort(key=lambda item: int(values[item.value_cell]))
            return two[word == "larger"].name
        case ["how", "many", letter, "?"]:
            return str(sum(LETTERS[item.letter] == letter for item in keys.values()))
        case ["follow", *name, "?"]:
            return followed(named(*name))
        case ["names", "in", ordinal, "row", "?"]:
            return " ".join(item.name for item in in_row(ordinal))
        case ["list", ordinal, "row", "?"]:
            shown = [(item.name, values[item.value_cell]) for item in in_row(ordinal)]
            return " ".join(f"{a} to {b}" if " " in b else f"{a} {b}" for a, b in shown)
        case [("right" | "left") as side, "of", *name, "?"]:
            cell = named(*name).cell
            after = [one for one in values if (one > cell + 1) == (side == "right")]
            beside = min((one for one in after if one != cell + 1), key=lambda one: abs(one - cell))
            assert beside // COLUMNS == cell // COLUMNS
            return values[beside]
    raise AssertionError(words)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_answers_are_right_and_the_needed_cells_suffice(kind: str) -> None:
    rng, asked = np.random.default_rng(2), 0
    for page in pages(90):
        question = KINDS[kind](page, rng)
        if question is None:
            continue
        asked += 1
        assert question.kind == kind
        words = question.text.split()
        assert brute_force(page, words, set(range(page.cells))) == question.answer
        assert brute_force(page, words, set(question.needed)) == question.answer
        assert list(question.needed) == sorted(set(question.needed))
    assert asked > 20


@pytest.mark.parametrize("kind", ["lookup", "inverse", "compare", "two_hop", "three_hop"])
def test_without_any_one_needed_cell_the_answer_cannot_be_known(kind: str) -> None:
    rng = np.random.default_rng(3)
    for page in pages(12):
        if question := KINDS[kind](page, rng):
            for cell in question.needed:
                with pytest.raises((KeyError, ValueError)):
                    brute_force(page, question.text.split(), set(question.needed) - {cell})


def test_captions_have_ten_to_forty_tokens_and_hops_are_counted() -> None:
    rng = np.random.default_rng(4)
    captions = [KINDS["caption"](page, rng) for page in pages(60)[::3]]
    lengths = [len(token_ids(one.answer)) for one in captions if one]
    assert min(lengths) >= 8
    assert max(lengths) <= 40
    hops = {kind: question.hops for kind in KINDS if (question := KINDS[kind](pages(1)[0], rng))}
    assert (hops["lookup"], hops["neighbour"], hops["two_hop"]) == (1, 2, 2)


def test_every_question_and_answer_is_in_the_vocabulary() -> None:
    rng = np.random.default_rng(3)
    for page in pages(200):
        question = ask(page, rng)
        assert token_ids(question.text)
        assert token_ids(question.answer)
    assert len(TOKEN_ID) == len(WORDS)
    for split in SPLITS.values():
        assert sum(split.shares.values()) == pytest.approx(1.0)
    assert sum(SHARES.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_item_changes_the_pixels_of_its_own_cells_alone(layout: str) -> None:
    item = Item(3, header_cell(3) + 6, 0, 0, 42, None)
    other = replace(item, colour=2, letter=5, number=87)
    one, two = (
        render(
            Page(layout, 1, (shown,)),  # type: ignore[arg-type]
            np.random.default_rng(4),
        ).astype(int)
        for shown in (item, other)
    )
    assert one.shape == (16 * CELL, 16 * CELL, 3)
    differs = np.abs(one - two).max(axis=2).reshape(16, CELL, 16, CELL).max(axis=(1, 3)) > 0
    cells = set(np.flatnonzero(differs.ravel()).tolist())
    bars = {item.value_cell + part for part in (1, 2, 3)} if layout == "chart" else set()
    assert {item.cell, item.value_cell} <= cells <= {item.cell, item.value_cell, *bars}


def test_splits_share_no_handwriting_and_no_page() -> None:
    assert not set(TRAINING_HANDS) & set(HELDOUT_HANDS)
    assert not set(SPLITS["validation"].hands) & {*TRAINING_HANDS, *HELDOUT_HANDS}
    assert len({split.seed for split in SPLITS.values()}) == len(SPLITS)
    images = [
        record.image.tobytes()
        for name in SPLIT_NAMES
        for record in list(draw_records(name, 15))[::3]
    ]
    assert len(set(images)) == len(images)


def test_the_hard_split_goes_beyond_training() -> None:
    records = list(draw_records("hard", 300))
    assert "four_hop" in {record.question.kind for record in records}
    usual = list(draw_records("heldout", 60))

    def crowd(images: list[np.ndarray]) -> float:
        saturated = [(np.ptp(image.astype(int), axis=2) > 60).mean() for image in images]
        return float(np.mean(saturated))

    boards = [[one.image for one in part if one.layout == "board"] for part in (records, usual)]
    assert crowd(boards[0]) > 1.2 * crowd(boards[1])


def test_a_split_draws_the_same_again_and_a_longer_run_starts_alike() -> None:
    short, long = list(draw_records("train", 7)), list(draw_records("train", 12))
    assert [one.question for one in short] == [one.question for one in long[:7]]
    np.testing.assert_array_equal(short[6].image, long[6].image)
    assert len({one.id for one in long}) == 12
    assert [one.question for one in draw_records("heldout", 7)] != [one.question for one in short]


def test_files_hold_the_same_records_and_repeat(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        generate("heldout", 8, tmp_path / folder)
    first = (tmp_path / "a" / "records.parquet").read_bytes()
    assert first == (tmp_path / "b" / "records.parquet").read_bytes()
    rows = pq.read_table(tmp_path / "a" / "records.parquet").to_pylist()
    lines = (tmp_path / "a" / "manifest.jsonl").read_text().splitlines()
    assert len(rows) == len(lines) == 8
    records = draw_records("heldout", 8)
    for row, line, record in zip(rows, map(json.loads, lines), records, strict=True):
        assert {**row, "image": row["image"]["path"]} == line
        assert (tmp_path / "a" / line["image"]).read_bytes() == row["image"]["bytes"]
        assert row["needed_tokens"] == list(record.question.needed)
        assert row["image"]["path"] == f"images/{row['page']}.png"
        np.testing.assert_array_equal(
            np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))), record.image
        )
