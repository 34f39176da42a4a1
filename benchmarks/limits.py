"""What a GPU gives at best, measured: the ceilings that the engine's figures are shares of."""

from dataclasses import dataclass

import torch

from benchmarks.measure import take_turns

_REPEATS = 4


@dataclass(frozen=True)
class Limits:
    """Ceilings of one device.

    Attributes:
        matmul_flops_per_s: of the fastest square matrix product.
        copy_bytes_per_s: read and written by a copy within its memory.
    """

    matmul_flops_per_s: float
    copy_bytes_per_s: float


def measure_limits(
    device: str,
    dtype: torch.dtype,
    rounds: int,
    sides: tuple[int, ...],
    copied_bytes: int,
) -> Limits:
    """The best round of the best size counts.

    Args:
        device: to measure.
        dtype: of the matrices.
        rounds: for every size.
        sides: of the square matrices.
        copied_bytes: of the copy; far more than any cache holds.
    """
    flops_per_s = max(matmul_flops_per_s(side, device, dtype, rounds) for side in sides)
    source = torch.empty(copied_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = take_turns({"copy": lambda: target.copy_(source)}, rounds)
    return Limits(flops_per_s, 2 * copied_bytes / min(times["copy"]))


def matmul_flops_per_s(side: int, device: str, dtype: torch.dtype, rounds: int) -> float:
    """Of square matrices of a side; the best round counts."""
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    product = torch.empty_like(left)

    def work() -> None:
        for _ in range(_REPEATS):
            torch.matmul(left, right, out=product)

    return _REPEATS * 2.0 * side**3 / min(take_turns({"matmul": work}, rounds)["matmul"])
