"""Compile the kernels for a GPU, as its machine would, on a machine that has none.

`python -m tests.compile_kernels CAPABILITY` prints, as JSON, the bytes of shared memory that every
kernel takes. Needs a process of its own, in which nothing is interpreted.
"""

import json
import sys
from types import SimpleNamespace
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from sgl.kernels.decode_attention import decode_attention
from sgl.kernels.row_capture import column_sums

# Batch, heads, kv heads, queries, keys, head dimension, dtype, what kind of mask.
CASES: tuple[tuple[int, int, int, int, int, int, torch.dtype, torch.dtype | None], ...] = (
    (1, 28, 4, 64, 2112, 128, torch.bfloat16, None),
    (2, 14, 2, 1, 4200, 64, torch.bfloat16, torch.bool),
    (2, 8, 4, 40, 500, 256, torch.float16, torch.float16),
    (1, 8, 8, 40, 500, 80, torch.float32, None),
)


def main(capability: int) -> None:
    """Launch every case up to the launch itself."""
    shared: list[dict[str, Any]] = []
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, **kwargs: Any) -> None:
        kernel = run(self, *args, **{**kwargs, "warmup": True})
        shared.append({"kernel": self.__name__, "shared_bytes": kernel.metadata.shared})

    JITFunction.run = compile_only
    driver.set_active(
        SimpleNamespace(
            get_current_device=lambda: 0,
            get_current_stream=lambda device: 0,
            get_current_target=lambda: GPUTarget("cuda", capability, 32),
        )
    )
    for batch, heads, groups, queries, keys, dim, dtype, mask_dtype in CASES:
        query_BHQD = torch.empty(batch, heads, queries, dim, dtype=dtype)
        key_BGTD = torch.empty(batch, groups, keys, dim, dtype=dtype)
        mask = None
        if mask_dtype is not None:
            mask = torch.empty(batch, 1, queries, keys, dtype=mask_dtype)
        weight_BQ = torch.empty(batch, queries)
        column_sums(query_BHQD, key_BGTD, mask, 0.1, weight_BQ, first_row=0)
    for batch, heads, groups, _, keys, dim, dtype, _ in CASES[:2]:
        query_BH1D = torch.empty(batch, heads, 1, dim, dtype=dtype)
        key_BGTD = torch.empty(batch, groups, keys, dim, dtype=dtype)
        mask_B11T = torch.empty(batch, 1, 1, keys, dtype=torch.bool)
        decode_attention(query_BH1D, key_BGTD, key_BGTD, mask_B11T, 0.1)
    print(json.dumps(shared))


if __name__ == "__main__":
    main(int(sys.argv[1]))
