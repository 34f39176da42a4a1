"""A random sample of the input, the same on every run: the records whose ids hash lowest."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sgl.chance import Purpose, hash_of


@dataclass(frozen=True)
class Draw:
    """Which records are in the sample.

    Attributes:
        records: how many they are.
        highest: the largest hash among them.
        seed: of the hashes.
    """

    records: int
    highest: int
    seed: int

    def chosen(self, ids: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
        """(n,) which of some ids."""
        return hashes_of(ids, self.seed) <= np.uint64(self.highest)


def hashes_of(ids: pa.ChunkedArray, seed: int) -> npt.NDArray[np.uint64]:
    """(n,) hashes."""
    hashes = [hash_of(name, Purpose.SAMPLE, seed) for name in ids.to_pylist()]
    return np.array(hashes, np.uint64)


class Lowest:
    """The lowest hashes among many, some at a time."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept = np.zeros(0, np.uint64)

    def add(self, hashes: npt.NDArray[np.uint64]) -> None:
        """More of them."""
        merged = np.concatenate([self._kept, hashes])
        if len(merged) > self._count:
            merged = np.partition(merged, self._count - 1)[: self._count]
        self._kept = merged

    def draw(self, seed: int) -> Draw:
        """Those that are kept; all where there are no more than asked for."""
        return Draw(len(self._kept), int(self._kept.max(initial=0)), seed)
