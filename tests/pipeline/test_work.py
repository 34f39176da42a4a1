from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.schema import OUTPUT
from pipeline.work import SHARES, Histogram, Work, work_of

VALUES = st.lists(st.floats(0, 2), max_size=20)


@given(VALUES, VALUES)
def test_histograms_of_parts_add_up_to_that_of_the_whole(a: list[float], b: list[float]) -> None:
    both = Histogram.of(SHARES, a).plus(Histogram.of(SHARES, b))
    whole = Histogram.of(SHARES, [*a, *b])
    assert both.counts == pytest.approx(whole.counts)
    assert both.total == pytest.approx(whole.total)
    assert sum(whole.counts) == len(a) + len(b)


def test_an_edge_is_in_its_bin_and_what_is_no_number_in_none() -> None:
    found = Histogram.of((1.0, 2.0), [1.0, 1.5, 2.0, 9.0, float("nan")])
    assert found.counts == (1.0, 2.0, 1.0)


def block() -> pa.Table:
    """Two rows of one batch, one that failed in this stage, one that had failed before."""
    cells = {
        "small_batch_rows": [2, 2, None, None],
        "small_prompt_tokens": [10, 20, None, None],
        "small_completion_tokens": [1, 2, None, None],
        "small_gpu_s": [0.1, 0.3, None, None],
        "exit_score": [0.25, 0.75, None, None],
        "error": [
            None,
            None,
            {"stage": "small", "type": "CrashError", "message": ""},
            {"stage": "fetch", "type": "ImageError", "message": ""},
        ],
    }
    columns = [pa.array(cells.get(field.name, [None] * 4), field.type) for field in OUTPUT]
    return pa.Table.from_arrays(columns, schema=OUTPUT)


def test_a_blocks_work_is_that_of_its_open_rows() -> None:
    found = work_of("small", block(), [0, 1, 2], batch_size=4)
    assert (found.answered, found.prompt_tokens, found.completion_tokens) == (2, 30, 3)
    assert found.failed == Counter(CrashError=1)
    assert sum(found.histograms["exit_score"].counts) == 2
    fill, seconds = found.histograms["batch_fill"], found.histograms["forward_s"]
    assert (sum(fill.counts), fill.total) == (1.0, 0.5)  # one batch, half full
    assert seconds.total == pytest.approx(0.4)


def test_work_adds_up() -> None:
    one = work_of("small", block(), [0, 2], batch_size=4)
    both = one.plus(work_of("small", block(), [1], batch_size=4))
    whole = work_of("small", block(), [0, 1, 2], batch_size=4)
    assert both.answered == whole.answered
    assert both.failed == whole.failed
    assert both.histograms["forward_s"].total == pytest.approx(whole.histograms["forward_s"].total)
    assert Work().plus(whole) == whole
