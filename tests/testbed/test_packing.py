"""Packed training sequences: questions share the image and do not see each other."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from testbed.architecture import build_model
from testbed.packing import (
    ANSWER,
    AROUND,
    ITEMS,
    MENTION,
    TRAIL,
    WHOLE,
    PackedBatch,
    Shown,
    draw_batch,
)
from testbed.page import Item, Page, PageStyle, header_cell
from testbed.questions import SHARES, ask
from testbed.recipes import RECIPES
from testbed.train import _forward, _Lesson
from testbed.vision import (
    BLANK,
    HEADER,
    IGNORE,
    KEY,
    NUMBER,
    REFERENCE,
    THUMBNAIL,
    PagePool,
    bindings,
    cell_attributes,
    draw_pool,
)
from testbed.vocabulary import TOKEN_ID

STYLES = (PageStyle(1, 20, 48), PageStyle(2, 32, 60))
WORDS = {index: word for word, index in TOKEN_ID.items()}


@pytest.fixture(scope="module")
def model() -> Any:
    return build_model("small").eval()


@pytest.fixture(scope="module")
def pool(model: Any) -> PagePool:
    return draw_pool(model, np.random.default_rng(3), [(style, 2) for style in STYLES])


def drawn(
    pool: PagePool, questions: int, shown: Shown = ITEMS, *, pages: tuple[int, ...]
) -> PackedBatch:
    return draw_batch(pool, pages, np.random.default_rng(4), SHARES, questions, shown)


@pytest.mark.parametrize("shown", [ITEMS, WHOLE])
def test_a_packed_question_is_answered_as_if_it_were_alone(
    model: Any, pool: PagePool, shown: Shown
) -> None:
    with torch.inference_mode():
        from_packed, from_alone = (
            _forward(model, drawn(pool, questions, shown, pages=(2, 0))) for questions in (4, 1)
        )
    first = int((from_alone.questions_X == 0).sum())
    assert from_packed.targets_X[:first].tolist() == from_alone.targets_X[:first].tolist()
    torch.testing.assert_close(
        from_packed.logits_XN[:first], from_alone.logits_XN[:first], atol=1e-4, rtol=1e-4
    )


def test_labels_are_the_next_tokens_of_answers(pool: PagePool) -> None:
    batch = drawn(pool, 5, pages=(0, 1))
    for ids, labels in zip(batch.input_ids_BT.tolist(), batch.labels_BT.tolist(), strict=True):
        ends = [index for index, label in enumerate(labels) if label == TOKEN_ID["<|im_end|>"]]
        assert len(ends) == 5
        for index, label in enumerate(labels[:-1]):
            if label != IGNORE and index not in ends:
                assert ids[index + 1] == label
    assert int((batch.input_ids_BT == TOKEN_ID["<IMG_CONTEXT>"]).sum()) == len(batch.features_XF)
    asked = batch.labels_BT != IGNORE
    assert batch.question_BT[asked].unique().tolist() == list(range(10))


def test_items_and_row_numbers_are_always_shown_and_keep_their_positions(pool: PagePool) -> None:
    batch = drawn(pool, 1, pages=(2,))
    image = batch.input_ids_BT[0] == TOKEN_ID["<IMG_CONTEXT>"]
    shown = set((batch.positions_BT[0][image] - 3).tolist())
    page = pool.pages[2]
    items = {cell for item in page.items for cell in (item.cell, item.value_cell)}
    assert items | {header_cell(row) for row in range(page.rows)} <= shown
    assert len(shown) < 400
    attributes = cell_attributes(page)[sorted(shown)]
    assert torch.equal(batch.attributes_X6, attributes)


@pytest.mark.parametrize("kind", ["lookup", "compare", "two_hop", "count", "names", "caption"])
def test_a_thinned_page_shows_what_its_questions_are_about(pool: PagePool, kind: str) -> None:
    """Nothing else is left, so what stays answers the questions: `needed` of each is there."""
    batch = draw_batch(
        pool, (2,), np.random.default_rng(5), {kind: 1.0}, 2, Shown(items=False, others=0.0)
    )
    asked_rng, page = np.random.default_rng(5), pool.pages[2]
    asked_rng.random(len(pool.features[2]))
    needed = {cell for _ in range(2) for cell in ask(page, asked_rng, {kind: 1.0}).needed}
    image = batch.input_ids_BT[0] == TOKEN_ID["<IMG_CONTEXT>"]
    shown = set((batch.positions_BT[0][image] - 3).tolist())
    items = {cell for item in page.items for cell in (item.cell, item.value_cell)}
    assert needed <= shown <= items
    assert len(shown) < len(items)


@pytest.mark.parametrize("pruned_from", [0, 1, None])
def test_from_the_layer_on_that_prunes_what_is_pruned_is_not_seen(
    model: Any, pool: PagePool, pruned_from: int | None
) -> None:
    """Other pixels in the pruned tokens then change nothing, but for what layers below saw."""
    shown = replace(WHOLE, kept=0.3)
    batch = draw_batch(pool, (0,), np.random.default_rng(5), {"two_hop": 1.0}, 2, shown)
    gone_X = batch.pruned_BT[batch.input_ids_BT == TOKEN_ID["<IMG_CONTEXT>"]]
    needed = {value for *_, value, key in batch.reads_R5.tolist()} - {IGNORE}
    assert 0.5 < gone_X.float().mean() < 0.9
    assert not batch.pruned_BT[0, sorted(needed)].any()
    drawn_XF = torch.randn_like(batch.features_XF)
    other = replace(batch, features_XF=torch.where(gone_X[:, None], drawn_XF, batch.features_XF))
    lesson = _Lesson(RECIPES["small"], 0.0, barred=False, pruned_from=pruned_from)
    with torch.inference_mode():
        one, two = (_forward(model, packed, lesson).logits_XN for packed in (batch, other))
    assert torch.allclose(one, two, atol=1e-5) == (pruned_from == 0)


def test_reads_point_from_names_and_answers_to_the_cells_that_they_are_about(
    pool: PagePool,
) -> None:
    batch = draw_batch(pool, (2, 3), np.random.default_rng(5), {"three_hop": 1.0}, 3, WHOLE)
    assert set(batch.reads_R5[:, 0].tolist()) == {MENTION, TRAIL, ANSWER}
    for stage, row, token, value, key in batch.reads_R5.tolist():
        page = pool.pages[(2, 3)[row]]
        cell = batch.positions_BT[row, key].item() - 3
        (item,) = [one for one in page.items if one.cell == cell]
        assert batch.positions_BT[row, value].item() - 3 == item.value_cell
        if stage == MENTION:
            words = [WORDS[one] for one in batch.input_ids_BT[row, token - 1 : token + 1].tolist()]
            assert " ".join(words) == item.name
        if stage == TRAIL:
            assert item.refers_to is not None
        if stage == ANSWER:
            tens, units = divmod(item.number or 0, 10)
            assert batch.labels_BT[row, token].item() in {
                TOKEN_ID[str(tens)],
                TOKEN_ID[f"##{units}"],
            }


def test_items_found_by_their_surroundings_are_read_apart(pool: PagePool) -> None:
    for kind, stage in (("neighbour", AROUND), ("caption", AROUND), ("lookup", ANSWER)):
        batch = draw_batch(pool, (0,), np.random.default_rng(5), {kind: 1.0}, 3, WHOLE)
        assert stage in batch.reads_R5[:, 0].tolist()
        assert ({AROUND, ANSWER} - {stage}).isdisjoint(batch.reads_R5[:, 0].tolist())


def test_counts_point_to_every_key_with_the_letter_and_to_the_sink(pool: PagePool) -> None:
    batch = draw_batch(pool, (1,), np.random.default_rng(6), {"count": 1.0}, 4, WHOLE)
    page, answered = pool.pages[1], 0
    for token in batch.counts_C4[:, 1].unique().tolist():
        rows = batch.counts_C4[batch.counts_C4[:, 1] == token]
        cells = [batch.positions_BT[0, one].item() - 3 for one in rows[:, 2].tolist()]
        letters = {item.letter for item in page.items if item.cell in cells[1:]}
        assert WORDS[batch.input_ids_BT[0, rows[0, 2]].item()] == "<img>"
        assert len(letters) <= 1
        assert rows[:, 3].tolist() == [len(rows)] * len(rows)
        assert WORDS[batch.labels_BT[0, token].item()] == str(len(rows) - 1)
        answered += 1
    assert answered == 4


def test_a_number_points_to_its_own_cell_alone(pool: PagePool) -> None:
    batch = draw_batch(pool, (0,), np.random.default_rng(5), {"inverse": 1.0}, 3, WHOLE)
    mentions = batch.reads_R5[batch.reads_R5[:, 0] == MENTION]
    assert (mentions[:, 4] == IGNORE).all()
    for _, _, token, value, _ in mentions.tolist():
        cell = batch.positions_BT[0, value].item() - 3
        (item,) = [one for one in pool.pages[0].items if one.value_cell == cell]
        tens, units = [WORDS[one] for one in batch.input_ids_BT[0, token - 1 : token + 1].tolist()]
        assert f"{tens}{units.removeprefix('##')}" == str(item.number)


def test_attributes_and_bindings_are_those_of_the_page() -> None:
    start = header_cell(9)
    number = Item(9, start + 2, 3, 4, 42, None)
    reference = Item(9, start + 7, 5, 6, None, 0)
    page = Page("board", 2, (number, reference))
    shows = cell_attributes(page)
    assert shows.shape == (768, 6)
    none = IGNORE
    assert shows[start].tolist() == [HEADER, none, none, none, none, 9]
    assert shows[start + 1].tolist() == [BLANK, none, none, none, none, none]
    assert shows[start + 2].tolist() == [KEY, 3, 4, none, none, none]
    assert shows[start + 3].tolist() == [NUMBER, none, none, 4, 2, none]
    assert shows[start + 8].tolist() == [REFERENCE, 3, 4, none, none, none]
    assert (shows[512:, 0] == THUMBNAIL).all()
    bound = bindings(page)
    assert bound[start + 3].tolist() == [3, 4, 8, none, 9]
    assert bound[start + 8].tolist() == [5, 6, 3, 4, 9]
    assert torch.equal(bound[start + 7], bound[start + 8])
    assert (bound != none).any(dim=1).sum() == 4


def test_behind_the_barrier_text_sees_no_image(model: Any, pool: PagePool) -> None:
    """With every layer barred, other pictures give the same answers; without, they do not."""
    recipe = replace(RECIPES["small"], barrier=3)
    batch = drawn(pool, 2, pages=(0,))
    other = replace(batch, features_XF=torch.randn_like(batch.features_XF))
    with torch.inference_mode():
        for barred in (True, False):
            lesson = _Lesson(recipe, 0.0, barred)
            one, two = (_forward(model, shown, lesson).logits_XN for shown in (batch, other))
            assert torch.allclose(one, two, atol=1e-5) == barred
