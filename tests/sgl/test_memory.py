"""The estimate of a batch's memory, against what torch really takes."""

from dataclasses import replace

import pytest
import torch

from benchmarks.decoders import Decoder, image_prompt
from benchmarks.measure import Work, peak_bytes
from sgl.decoder import prefill
from sgl.layout import PromptLayout
from sgl.memory import BatchMemory
from sgl.ranking import Stage, top_visual_tokens
from sgl.selection import Selection
from sgl.types import TokenGrid
from tests.tiny_models import FAMILIES, ragged_records

DECODER = Decoder(hidden=256, heads=8, kv_heads=4, intermediate=1024, layers=4, vocabulary=8192)
BATCH, VISUAL = 6, 960
LAYOUT = PromptLayout([0] * (VISUAL + 64), (TokenGrid(0, 30, 32, (0, 0, 1, 1)),), 48, 0, 0.0, 1)
STAGES = [Stage(1, 0.5), Stage(2, 0.25), Stage(3, 0.125)]
MEMORY = BatchMemory(DECODER.shape, patch_values=1, bytes_per_value=4)


def prefill_of(prune_layer: float, keep_ratio: float, ragged: bool) -> Work:
    """Ready to run, in a process of its own."""
    lm = DECODER.build()
    prompt = image_prompt(lm, VISUAL, BATCH)
    if ragged:
        prompt.valid_BT[1:, :10] = False
    importance_BT = torch.rand(prompt.visual_BT.shape)
    kept_BT = top_visual_tokens(importance_BT, prompt.visual_BT, keep_ratio)
    selection = Selection(int(DECODER.layers * prune_layer), kept_BT | ~prompt.visual_BT)

    @torch.inference_mode()
    def work() -> object:
        return prefill(lm, prompt, [selection])

    return work


@pytest.mark.parametrize(
    ("prune_layer", "keep_ratio", "ragged"),
    [(1.0, 1.0, False), (1.0, 1.0, True), (0.25, 0.1, False)],
)
def test_a_prefill_takes_what_is_estimated_and_not_much_less(
    prune_layer: float, keep_ratio: float, ragged: bool
) -> None:
    stages = [Stage(int(DECODER.layers * prune_layer), keep_ratio)]
    needed = MEMORY.peak_bytes([LAYOUT] * BATCH, stages=stages)
    # The prompt is there before the peak is measured.
    prompt = BATCH * LAYOUT.length * DECODER.hidden * 4
    taken = prompt + peak_bytes(prefill_of, prune_layer, keep_ratio, ragged)
    assert taken <= needed <= 2.5 * taken


def test_pruning_leaves_room_for_more_records() -> None:
    def records(*stages: Stage) -> int:
        layout = replace(LAYOUT, max_new_tokens=64)
        return next(
            count
            for count in range(1, 1000)
            if MEMORY.peak_bytes([layout] * count, stages=stages) > 2**30
        )

    full, staged, pruned = records(), records(*STAGES), records(Stage(0, 0.05))
    assert pruned > staged > full


def test_stages_take_what_one_cut_at_their_average_takes() -> None:
    """And more of a device that holds the first layers only, where the longer ones are."""
    layouts, at_once = [LAYOUT] * BATCH, [Stage(1, sum(one.share for one in STAGES) / 3)]
    whole = MEMORY.peak_bytes(layouts, stages=STAGES)
    assert whole == pytest.approx(MEMORY.peak_bytes(layouts, stages=at_once), rel=0.01)
    first = MEMORY.split(layers=2)
    assert first.peak_bytes(layouts, stages=STAGES) > first.peak_bytes(layouts, stages=at_once)
    assert MEMORY.peak_bytes(layouts, stages=STAGES, choosing=1 << 40) > 1 << 40


def test_longer_answers_and_wider_batches_need_more() -> None:
    short = replace(LAYOUT, token_ids=[0] * 1000)
    base = MEMORY.peak_bytes([LAYOUT, short])
    assert MEMORY.peak_bytes([LAYOUT, LAYOUT]) == base  # padded
    assert MEMORY.peak_bytes([LAYOUT, replace(short, max_new_tokens=100)]) > base
    assert MEMORY.peak_bytes([LAYOUT, short, short]) > base
    assert MEMORY.peak_bytes([LAYOUT, short], capture=True) > base


def test_a_device_that_holds_a_part_needs_a_part() -> None:
    layouts = [LAYOUT] * BATCH
    whole = MEMORY.peak_bytes(layouts)
    assert MEMORY.split(heads=2).peak_bytes(layouts) < whole
    assert MEMORY.split(layers=2).peak_bytes(layouts) < whole
    assert MEMORY.split(layers=2).shape.layers == 2


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_family_says_what_its_vision_tower_holds(name: str) -> None:
    vlm = FAMILIES[name]()
    layouts = [vlm.encoder.lay_out(record) for record in ragged_records()]
    blind = replace(vlm.memory, patch_values=0)
    assert vlm.memory.peak_bytes(layouts) >= blind.peak_bytes(layouts) > 0
    assert vlm.memory.patch_values > 0


def test_logits_of_a_consistency_pass_count_only_where_it_runs() -> None:
    wide = replace(MEMORY, shape=replace(MEMORY.shape, vocabulary=1 << 20))
    layouts = [replace(LAYOUT, token_ids=[0] * (VISUAL + 8))]
    with_pass, without = (
        wide.peak_bytes(layouts, capture=True, scored=one) for one in (True, False)
    )
    # Logits in the model's dtype, in float32 and their log-softmax, of 256 tokens.
    assert with_pass - without > 0.9 * 256 * 12 * (1 << 20)
    many = [replace(LAYOUT, token_ids=[0] * 8, rows_after_image=1, grids=()) for _ in range(300)]
    guided, answered = (wide.peak_bytes(many, capture=one, scored=False) for one in (True, False))
    assert guided - answered > 0.9 * 300 * 8 * (1 << 20)  # what the entropy takes besides
