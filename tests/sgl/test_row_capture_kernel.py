"""The fused column sums against torch's; interpreted where there is no GPU."""

from types import SimpleNamespace
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgl import attention
from sgl.attention import RowCapture, fastest_column_sums

pytest.importorskip("triton", reason="triton, of the dev extra, is published for Linux only")

from sgl.kernels import row_capture

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # -inf in the interpreter

Shape = tuple[int, int, int, int, int, int]
"""Batch, heads, kv heads, queries, keys, head dimension."""


def operands(
    shape: Shape, dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries that lie in memory as a projection leaves them, keys in a cache with room."""
    batch, heads, groups, queries, keys, dim = shape
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(batch, queries, heads, dim, generator=generator) * 2
    key = torch.randn(batch, groups, keys + 5, dim, generator=generator)
    weight = torch.rand(batch, queries, generator=generator)
    return (
        query.to(DEVICE, dtype).transpose(1, 2),
        key.to(DEVICE, dtype)[:, :, :keys],
        weight.to(DEVICE),
    )


def left_padded(shape: Shape, padding: list[int]) -> torch.Tensor:
    """(B, 1, Q, T) bool, as the decoder makes it."""
    _, _, _, queries, keys, _ = shape
    valid = torch.arange(keys) >= torch.tensor(padding)[:, None]
    causal = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    itself = torch.eye(keys, dtype=torch.bool)[keys - queries :]
    return ((causal & valid[:, None, None, :]) | itself).to(DEVICE)


def check(
    shape: Shape,
    dtype: torch.dtype = torch.float32,
    mask: torch.Tensor | None = None,
    first_row: int = 0,
) -> None:
    query, key, weight = operands(shape, dtype)
    weight[:, :first_row] = 0
    arguments = (query, key, mask, shape[-1] ** -0.5, weight, first_row)
    fused, expected = row_capture.column_sums(*arguments), attention.column_sums(*arguments)
    assert fused.dtype == torch.float32
    torch.testing.assert_close(fused, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((1, 2, 2, 16, 64, 64), id="whole-blocks"),
        pytest.param((2, 6, 2, 37, 300, 64), id="grouped-heads-odd-sizes-two-spans"),
        pytest.param((1, 2, 1, 9, 70, 80), id="head-dimension-80"),
        pytest.param((1, 2, 1, 9, 70, 96), id="head-dimension-96"),
        pytest.param((1, 1, 1, 3, 40, 256), id="wide-heads-small-blocks"),
        pytest.param((1, 2, 2, 5, 5, 8), id="prompt-shorter-than-a-block"),
        pytest.param((3, 4, 1, 1, 100, 32), id="decode-row"),
        pytest.param((1, 7, 1, 40, 90, 16), id="several-row-blocks"),
    ],
)
def test_causal(shape: Shape) -> None:
    check(shape)


@pytest.mark.parametrize("kind", ["boolean", "float32", "bfloat16"])
@pytest.mark.parametrize("queries", [1, 20])
def test_ragged_left_padding(kind: str, queries: int) -> None:
    shape = (3, 4, 2, queries, 75, 32)
    mask = left_padded(shape, [0, 40, 70])
    if kind != "boolean":
        dtype = getattr(torch, kind)
        mask = torch.zeros(mask.shape, dtype=dtype, device=DEVICE).masked_fill(
            ~mask, torch.finfo(dtype).min
        )
    check(shape, mask=mask, first_row=queries // 3)


def test_a_mask_of_any_structure() -> None:
    """A sliding window; a block that sees itself whole, as some families' images do."""
    shape = (2, 2, 2, 30, 80, 16)
    window = left_padded(shape, [0, 10]) & ~torch.ones(30, 80, dtype=torch.bool).tril(30).to(DEVICE)
    check(shape, mask=window)
    block = left_padded(shape, [0, 10])
    block[:, :, 5:12, 55:62] = True
    check(shape, mask=block)


def test_one_mask_for_all_records() -> None:
    shape = (3, 2, 1, 12, 50, 16)
    check(shape, mask=left_padded(shape, [7]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_summed_in_single(dtype: torch.dtype) -> None:
    check((2, 4, 2, 20, 130, 64), dtype)


def test_scores_of_thousands_keep_their_digits() -> None:
    query, key, weight = operands((1, 2, 2, 5, 40, 64))
    arguments = (query + 12, key + 12, None, 0.125, weight, 0)
    torch.testing.assert_close(
        row_capture.column_sums(*arguments), attention.column_sums(*arguments), rtol=1e-3, atol=1e-5
    )


def test_rows_without_weight_or_keys_add_nothing() -> None:
    query, key, weight = operands((2, 2, 1, 10, 30, 16))
    mask = left_padded((2, 2, 1, 10, 30, 16), [0, 0])
    mask[1, :, :4] = False
    weight[0] = 0
    sums = row_capture.column_sums(query, key, mask, 0.25, weight, 0)
    assert not sums[0].any()
    expected = attention.column_sums(query[1:], key[1:], mask[1:], 0.25, weight[1:], 4)
    torch.testing.assert_close(sums[1:], expected)


def test_long_prompts_are_cut_into_a_bounded_number_of_spans(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(row_capture, "_SPAN", 64)
    monkeypatch.setattr(row_capture, "_MOST_SPANS", 3)
    check((1, 2, 1, 4, 450, 16))


@settings(max_examples=12)
@given(
    batch=st.integers(1, 3),
    groups=st.integers(1, 2),
    repeats=st.integers(1, 3),
    queries=st.integers(1, 20),
    past=st.integers(0, 80),
    dim=st.sampled_from([8, 24, 64]),
    seed=st.integers(0, 1000),
)
def test_columns_sum_to_the_weights_of_all_heads(
    batch: int, groups: int, repeats: int, queries: int, past: int, dim: int, seed: int
) -> None:
    heads, keys = groups * repeats, queries + past
    query, key, weight = operands((batch, heads, groups, queries, keys, dim), seed=seed)
    padding = [seed * record % keys for record in range(batch)]
    mask = left_padded((batch, heads, groups, queries, keys, dim), padding)
    sums = row_capture.column_sums(query, key, mask, dim**-0.5, weight, 0)
    torch.testing.assert_close(sums.sum(dim=1), weight.sum(dim=1) * heads)


def test_a_record_gets_the_same_sums_in_every_batch_and_every_run() -> None:
    query, key, weight = operands((3, 4, 2, 20, 90, 32))
    batch = row_capture.column_sums(query, key, None, 0.2, weight, 0)
    assert torch.equal(batch, row_capture.column_sums(query, key, None, 0.2, weight, 0))
    for record in range(3):
        one = slice(record, record + 1)
        alone = row_capture.column_sums(query[one], key[one], None, 0.2, weight[one], 0)
        assert torch.equal(batch[one], alone)


def test_a_capture_takes_the_column_sums_it_is_given() -> None:
    query, key, weight = operands((2, 4, 2, 12, 60, 16))
    weight[:, :5] = 0
    captures = [
        RowCapture(2, 50, torch.device(DEVICE), column_sums)
        for column_sums in (row_capture.column_sums, attention.column_sums)
    ]
    for capture in captures:
        capture.watch(weight, first_row=5)
        capture.add(query, key, None, 0.25)
    torch.testing.assert_close(captures[0].importance_BT, captures[1].importance_BT)


@pytest.mark.parametrize(
    ("cuda", "dtype", "installed", "fused"),
    [
        (True, torch.bfloat16, True, True),
        (True, torch.float32, True, True),
        (True, torch.float64, True, False),
        (True, torch.bfloat16, False, False),
        (False, torch.bfloat16, True, False),
    ],
)
def test_the_kernel_is_chosen_where_it_runs(
    cuda: bool, dtype: torch.dtype, installed: bool, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_HAS_TRITON", installed)
    chosen = fastest_column_sums(cast("torch.Tensor", SimpleNamespace(is_cuda=cuda, dtype=dtype)))
    assert chosen is (row_capture.column_sums if fused else attention.column_sums)
