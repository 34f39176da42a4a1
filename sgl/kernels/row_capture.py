"""Column sums of softmax rows, fused: no attention probability ever reaches memory.

    sum_BT[b, t] = sum_h sum_w weight_BW[b, w] softmax(scaling q_BHWD k_BGTD^T + mask)[b, h, w, t]

Two passes over the keys, both on tensor cores:

1. `_log_normalisers`: per row the log-sum-exp of its scores. Few rows look at many keys, so the
   keys are cut into spans that run in parallel, each with a partial result of its own.
2. `_sum_columns`: per block of keys, the scores of all rows again, now normalised, weighted and
   summed over rows. A program owns its columns: no atomics, the same result on every run.

The R query heads that share a kv head are R times as many rows of one matrix, so grouped keys are
read once and never repeated. A mask is read where it lies, W rows of it.

Shapes: B records, H heads, G kv heads, R = H / G, W rows, X = R x W rows of one kv head (x = r W +
w), T keys, D head dimension, S spans of keys.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from sgl.kernels.blocks import load_vectors, operand_type, padded, scores, vectors_per_block

_SPAN = 256
"""Keys of one span, at least: enough programs at batch 1, few partial results to join."""
_MOST_SPANS = 32
"""A row's partial results are joined in registers."""


def column_sums(
    query_BHQD: Tensor,
    key_BGTD: Tensor,
    mask: Tensor | None,
    scaling: float,
    weight_BQ: Tensor,
    first_row: int,
) -> Tensor:
    """`sgl.attention.ColumnSums`, fused. Rows that may attend to no key add nothing.

    Args:
        query_BHQD: (B, H, Q, D) bfloat16, float16 or float32, with any strides.
        key_BGTD: (B, G, T, D), of the same dtype, with any strides.
        mask: (B or 1, 1, Q, T), boolean (True = may attend) or additive; None means causal.
        scaling: factor on the scores.
        weight_BQ: (B, Q) float32, 0 before `first_row`.
        first_row: below Q; no row before it is computed.

    Returns:
        (B, T) float32.
    """
    query_BHWD, weight_BW = query_BHQD[:, :, first_row:], weight_BQ[:, first_row:]
    batch, heads, rows, dim = query_BHWD.shape
    groups, keys = key_BGTD.shape[1:3]
    stacked_rows = heads // groups * rows
    key_block = vectors_per_block(dim, query_BHWD.dtype)
    row_block = min(key_block, padded(stacked_rows))
    span = max(_SPAN, key_block * math.ceil(keys / (key_block * _MOST_SPANS)))
    spans = math.ceil(keys / span)

    partial_BGXS = query_BHWD.new_empty((batch, groups, stacked_rows, spans), dtype=torch.float32)
    sum_BGT = query_BHWD.new_empty((batch, groups, keys), dtype=torch.float32)
    kind, mask_BWT = "causal", query_BHWD[:, 0]  # never read
    if mask is not None:
        kind = "boolean" if mask.dtype == torch.bool else "additive"
        mask_BWT = mask[:, 0, first_row:].expand(batch, rows, keys)
    inputs = (
        *(query_BHWD, *query_BHWD.stride()),
        *(key_BGTD, *key_BGTD.stride()),
        *(mask_BWT, *mask_BWT.stride()),
    )
    # Row w of those that count is token `last_key + w`, the last key that it may look at.
    last_key = keys - rows
    sizes = (rows, stacked_rows, keys, last_key, scaling / math.log(2))
    constants = {
        "GROUPS": groups,
        "REPEATS": heads // groups,
        "DIM": dim,
        "PADDED_DIM": padded(dim),
        "ROW_BLOCK": row_block,
        "KEY_BLOCK": key_block,
        "MASK": kind,
        "OPERAND": operand_type(query_BHWD.dtype),
    }
    with torch.cuda.device_of(query_BHWD):
        _log_normalisers[(math.ceil(stacked_rows / row_block), spans, batch * groups)](
            *inputs, *sizes, partial_BGXS, SPAN=span, **constants
        )
        _sum_columns[(math.ceil(keys / key_block), batch * groups)](
            *inputs,
            *sizes,
            *(weight_BW, *weight_BW.stride()),
            partial_BGXS,
            spans,
            sum_BGT,
            PADDED_SPANS=triton.next_power_of_2(spans),
            **constants,
        )
    return sum_BGT.sum(dim=1)


@triton.jit
def _log_normalisers(
    query, query_b, query_h, query_w, query_d,
    key, key_b, key_g, key_t, key_d,
    mask, mask_b, mask_w, mask_t,
    rows, stacked_rows, keys, last_key, scaling,
    partial,
    GROUPS: tl.constexpr, REPEATS: tl.constexpr, DIM: tl.constexpr, PADDED_DIM: tl.constexpr,
    ROW_BLOCK: tl.constexpr, KEY_BLOCK: tl.constexpr, SPAN: tl.constexpr,
    MASK: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    """partial_BGXS: log2 of the sum of exp2 over one span of keys, -inf where none is seen."""
    span = tl.program_id(1)
    matrix = tl.program_id(2).to(tl.int64)
    record, group = matrix // GROUPS, matrix % GROUPS
    x_X = tl.program_id(0) * ROW_BLOCK + tl.arange(0, ROW_BLOCK)
    row_X = x_X % rows
    head_X = group * REPEATS + x_X // rows
    query_XD = load_vectors(
        query + record * query_b, head_X * query_h + row_X * query_w, query_d,
        x_X < stacked_rows, DIM, PADDED_DIM,
    )  # fmt: skip
    highest_X = tl.full((ROW_BLOCK,), float("-inf"), tl.float32)
    total_X = tl.zeros((ROW_BLOCK,), tl.float32)
    for start in range(span * SPAN, tl.minimum(span * SPAN + SPAN, keys), KEY_BLOCK):
        key_T = start + tl.arange(0, KEY_BLOCK)
        key_TD = load_vectors(
            key + record * key_b + group * key_g, key_T * key_t, key_d,
            key_T < keys, DIM, PADDED_DIM,
        )  # fmt: skip
        score_XT = scores(
            query_XD, key_TD, mask + record * mask_b, mask_w, mask_t,
            row_X, key_T, keys, last_key, scaling, MASK, OPERAND,
        )  # fmt: skip
        higher_X = tl.maximum(highest_X, tl.max(score_XT, axis=1))
        # A row that has seen no key yet stays at -inf; what is subtracted from it must be finite.
        shift_X = tl.where(higher_X == float("-inf"), 0.0, higher_X)
        total_X *= tl.exp2(highest_X - shift_X)
        total_X += tl.sum(tl.exp2(score_XT - shift_X[:, None]), axis=1)
        highest_X = higher_X
    spans = tl.num_programs(1)
    tl.store(
        partial + (matrix * stacked_rows + x_X) * spans + span,
        highest_X + tl.log2(total_X),
        mask=x_X < stacked_rows,
    )


@triton.jit
def _sum_columns(
    query, query_b, query_h, query_w, query_d,
    key, key_b, key_g, key_t, key_d,
    mask, mask_b, mask_w, mask_t,
    rows, stacked_rows, keys, last_key, scaling,
    weight, weight_b, weight_w,
    partial, spans,
    sums,
    GROUPS: tl.constexpr, REPEATS: tl.constexpr, DIM: tl.constexpr, PADDED_DIM: tl.constexpr,
    ROW_BLOCK: tl.constexpr, KEY_BLOCK: tl.constexpr, PADDED_SPANS: tl.constexpr,
    MASK: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    """sum_BGT: over all rows of a kv head, their weights times their probabilities."""
    matrix = tl.program_id(1).to(tl.int64)
    record, group = matrix // GROUPS, matrix % GROUPS
    key_T = tl.program_id(0) * KEY_BLOCK + tl.arange(0, KEY_BLOCK)
    key_TD = load_vectors(
        key + record * key_b + group * key_g, key_T * key_t, key_d,
        key_T < keys, DIM, PADDED_DIM,
    )  # fmt: skip
    sum_T = tl.zeros((KEY_BLOCK,), tl.float32)
    for start in range(0, stacked_rows, ROW_BLOCK):
        x_X = start + tl.arange(0, ROW_BLOCK)
        row_X = x_X % rows
        head_X = group * REPEATS + x_X // rows
        query_XD = load_vectors(
            query + record * query_b, head_X * query_h + row_X * query_w, query_d,
            x_X < stacked_rows, DIM, PADDED_DIM,
        )  # fmt: skip
        score_XT = scores(
            query_XD, key_TD, mask + record * mask_b, mask_w, mask_t,
            row_X, key_T, keys, last_key, scaling, MASK, OPERAND,
        )  # fmt: skip
        normaliser_X = _join_spans(
            partial + (matrix * stacked_rows + x_X) * spans,
            x_X < stacked_rows, spans, PADDED_SPANS,
        )  # fmt: skip
        weight_X = tl.load(
            weight + record * weight_b + row_X * weight_w, mask=x_X < stacked_rows, other=0.0
        )
        weighted_XT = tl.exp2(score_XT - normaliser_X[:, None]) * weight_X[:, None]
        sum_T += tl.sum(weighted_XT, axis=0)
    tl.store(sums + matrix * keys + key_T, sum_T, mask=key_T < keys)


@triton.jit
def _join_spans(partial_X, inside_X, spans, PADDED_SPANS: tl.constexpr):
    """(X,) log2 of the sum over all spans; +inf, so that nothing is added, where no key is seen."""
    span_S = tl.arange(0, PADDED_SPANS)
    partial_XS = tl.load(
        partial_X[:, None] + span_S[None, :],
        mask=inside_X[:, None] & (span_S < spans)[None, :],
        other=float("-inf"),
    )
    highest_X = tl.max(partial_XS, axis=1)
    shift_X = tl.where(highest_X == float("-inf"), 0.0, highest_X)
    total_X = tl.sum(tl.exp2(partial_XS - shift_X[:, None]), axis=1)
    return tl.where(total_X == 0.0, float("inf"), shift_X + tl.log2(total_X))
