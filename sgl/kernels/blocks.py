"""What the kernels share: blocks of vectors, their scores, and the sizes of both.

Scores are in units of log 2, because exp2 is what the hardware has.

Shapes: N vectors, X rows (R query heads of one kv head, times the rows of each), T keys, D head
dimension.
"""

import torch
import triton
import triton.language as tl

LEAST_DOT = 16
"""No side of a block that enters a matrix product may be shorter."""
_MOST_VECTORS = 64
_DTYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.float32: tl.float32}


def padded(size: int) -> int:
    """The side of a block that holds `size`."""
    return max(LEAST_DOT, triton.next_power_of_2(size))


def vectors_per_block(dim: int, dtype: torch.dtype) -> int:
    """One block of queries and some of keys must fit into a multiprocessor's shared memory."""
    return _MOST_VECTORS if padded(dim) * dtype.itemsize <= 256 else _MOST_VECTORS // 2


def operand_type(dtype: torch.dtype) -> tl.dtype:
    """What matrix products read.

    The interpreter multiplies the bits of bfloat16; float32 holds the same products exactly.
    """
    return tl.float32 if triton.knobs.runtime.interpret else _DTYPES[dtype]


@triton.jit
def load_vectors(base, offset_N, stride_d, inside_N, DIM: tl.constexpr, PADDED_DIM: tl.constexpr):
    """(N, D), zero for vectors outside and beyond the head dimension."""
    dim_D = tl.arange(0, PADDED_DIM)
    return tl.load(
        base + (offset_N[:, None] + dim_D[None, :] * stride_d),
        mask=inside_N[:, None] & (dim_D < DIM)[None, :],
        other=0.0,
    )


@triton.jit
def dot(left, right, OPERAND: tl.constexpr):
    """Matrix product, float32; of single precision in full."""
    return tl.dot(left.to(OPERAND), right.to(OPERAND), input_precision="ieee")


@triton.jit
def scores(
    query_XD, key_TD, mask, mask_w, mask_t,
    row_X, key_T, keys, last_key, scaling,
    MASK: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    """(X, T) float32, scaled after the product, -inf where a row may not look."""
    score_XT = dot(query_XD, tl.trans(key_TD), OPERAND) * scaling
    seen_XT = (key_T < keys)[None, :]
    mask_XT = mask + (row_X[:, None] * mask_w + key_T[None, :] * mask_t)
    if MASK == "causal":
        seen_XT = seen_XT & (key_T[None, :] <= last_key + row_X[:, None])
    elif MASK == "boolean":
        seen_XT = seen_XT & (tl.load(mask_XT, mask=seen_XT, other=0) != 0)
    else:
        bias_XT = tl.load(mask_XT, mask=seen_XT, other=0.0).to(tl.float32)
        score_XT += bias_XT * 1.4426950408889634  # 1 / log 2
    return tl.where(seen_XT, score_XT, float("-inf"))
