"""Attention of one query token per record over a masked KV cache, its keys split over the GPU.

Fused attention gives a decode step one program per record and head, which walks all keys: at batch
1 most of the GPU idles. Here keys are cut into spans that run in parallel, and a second, small
kernel joins their results by the log-sum-exp of each. The R query heads of a kv head are the rows
of one matrix, so the cache is read once; what the mask hides, padding and room still to be filled,
is not read at all.

Shapes: B records, H heads, G kv heads, R = H / G, T keys, D head dimension, S spans of keys.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from sgl.kernels.blocks import dot, load_vectors, operand_type, padded, vectors_per_block

_PROGRAMS = 256
"""As many spans are made as it takes to start so many: twice the multiprocessors of a large GPU."""


def decode_attention(
    query_BH1D: Tensor, key_BGTD: Tensor, value_BGTD: Tensor, mask_B11T: Tensor, scaling: float
) -> Tensor:
    """softmax(scaling q k^T) v over the keys that the mask shows.

    Args:
        query_BH1D: (B, H, 1, D) bfloat16, float16 or float32, with any strides.
        key_BGTD: (B, G, T, D), of the same dtype, with any strides.
        value_BGTD: (B, G, T, D), likewise.
        mask_B11T: (B, 1, 1, T) bool, True = may attend; at least one key per record.
        scaling: factor on the scores.

    Returns:
        (B, H, 1, D) of the queries' dtype.
    """
    query_BHD, mask_BT = query_BH1D[:, :, 0], mask_B11T[:, 0, 0]
    batch, heads, dim = query_BHD.shape
    groups, keys = key_BGTD.shape[1:3]
    repeats = heads // groups
    key_block = vectors_per_block(dim, query_BHD.dtype)
    blocks = math.ceil(keys / key_block)
    spans = min(blocks, math.ceil(_PROGRAMS / (batch * groups)))
    span = math.ceil(blocks / spans) * key_block
    spans = math.ceil(keys / span)

    part_BHSD = query_BHD.new_empty((batch, heads, spans, dim), dtype=torch.float32)
    weight_BHS = query_BHD.new_empty((batch, heads, spans), dtype=torch.float32)
    output_BH1D = query_BHD.new_empty((batch, heads, 1, dim))
    constants = {"DIM": dim, "PADDED_DIM": padded(dim)}
    with torch.cuda.device_of(query_BH1D):
        _attend_span[(spans, batch * groups)](
            *(query_BHD, *query_BHD.stride()),
            *(key_BGTD, *key_BGTD.stride()),
            *(value_BGTD, *value_BGTD.stride()),
            *(mask_BT, *mask_BT.stride()),
            *(keys, scaling / math.log(2)),
            *(part_BHSD, weight_BHS),
            GROUPS=groups,
            REPEATS=repeats,
            ROW_BLOCK=padded(repeats),
            KEY_BLOCK=key_block,
            SPAN=span,
            OPERAND=operand_type(query_BHD.dtype),
            **constants,
        )
        _join_spans[(batch * heads,)](
            *(part_BHSD, weight_BHS, spans, output_BH1D),
            PADDED_SPANS=triton.next_power_of_2(spans),
            **constants,
        )
    return output_BH1D


@triton.jit
def _attend_span(
    query, query_b, query_h, query_d,
    key, key_b, key_g, key_t, key_d,
    value, value_b, value_g, value_t, value_d,
    mask, mask_b, mask_t,
    keys, scaling,
    part, weight,
    GROUPS: tl.constexpr, REPEATS: tl.constexpr, DIM: tl.constexpr, PADDED_DIM: tl.constexpr,
    ROW_BLOCK: tl.constexpr, KEY_BLOCK: tl.constexpr, SPAN: tl.constexpr,
    OPERAND: tl.constexpr,
):  # fmt: skip
    """part_BHSD: attention over one span; weight_BHS: log2 of its sum of exp2, -inf if unseen."""
    span = tl.program_id(0)
    matrix = tl.program_id(1).to(tl.int64)
    record, group = matrix // GROUPS, matrix % GROUPS
    r_X = tl.arange(0, ROW_BLOCK)
    head_X = group * REPEATS + r_X
    query_XD = load_vectors(
        query + record * query_b, head_X * query_h, query_d, r_X < REPEATS, DIM, PADDED_DIM
    )
    highest_X = tl.full((ROW_BLOCK,), float("-inf"), tl.float32)
    total_X = tl.zeros((ROW_BLOCK,), tl.float32)
    sum_XD = tl.zeros((ROW_BLOCK, PADDED_DIM), tl.float32)
    for start in range(span * SPAN, tl.minimum(span * SPAN + SPAN, keys), KEY_BLOCK):
        key_T = start + tl.arange(0, KEY_BLOCK)
        seen_T = tl.load(mask + record * mask_b + key_T * mask_t, mask=key_T < keys, other=0) != 0
        key_TD = load_vectors(
            key + record * key_b + group * key_g, key_T * key_t, key_d, seen_T, DIM, PADDED_DIM
        )
        value_TD = load_vectors(
            value + record * value_b + group * value_g, key_T * value_t, value_d,
            seen_T, DIM, PADDED_DIM,
        )  # fmt: skip
        score_XT = dot(query_XD, tl.trans(key_TD), OPERAND) * scaling
        score_XT = tl.where(seen_T[None, :], score_XT, float("-inf"))
        higher_X = tl.maximum(highest_X, tl.max(score_XT, axis=1))
        shift_X = tl.where(higher_X == float("-inf"), 0.0, higher_X)
        faded_X = tl.exp2(highest_X - shift_X)
        probs_XT = tl.exp2(score_XT - shift_X[:, None])
        total_X = total_X * faded_X + tl.sum(probs_XT, axis=1)
        sum_XD = sum_XD * faded_X[:, None] + dot(probs_XT.to(value_TD.dtype), value_TD, OPERAND)
        highest_X = higher_X
    spans = tl.num_programs(0)
    place_X = (record * (GROUPS * REPEATS) + head_X) * spans + span
    dim_D = tl.arange(0, PADDED_DIM)
    tl.store(weight + place_X, highest_X + tl.log2(total_X), mask=r_X < REPEATS)
    tl.store(
        part + place_X[:, None] * DIM + dim_D[None, :],
        sum_XD / tl.where(total_X == 0.0, 1.0, total_X)[:, None],
        mask=(r_X < REPEATS)[:, None] & (dim_D < DIM)[None, :],
    )


@triton.jit
def _join_spans(
    part, weight, spans, output,
    DIM: tl.constexpr, PADDED_DIM: tl.constexpr, PADDED_SPANS: tl.constexpr,
):  # fmt: skip
    """output_BH1D: the spans' results, each by its share of the probability."""
    head = tl.program_id(0).to(tl.int64)
    span_S, dim_D = tl.arange(0, PADDED_SPANS), tl.arange(0, PADDED_DIM)
    weight_S = tl.load(weight + head * spans + span_S, mask=span_S < spans, other=float("-inf"))
    share_S = tl.exp2(weight_S - tl.max(weight_S, axis=0))
    part_SD = load_vectors(
        part + head * spans * DIM, span_S * DIM, 1, span_S < spans, DIM, PADDED_DIM
    )
    output_D = tl.sum(part_SD * share_S[:, None], axis=0) / tl.sum(share_S, axis=0)
    tl.store(output + head * DIM + dim_D, output_D, mask=dim_D < DIM)
