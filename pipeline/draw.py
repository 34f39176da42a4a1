"""A random sample of the input, the same on every run: the records whose ids hash lowest."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

MOST = 2**64


def hash_of(record_id: str, seed: int) -> int:
    """A number from 0 to 2**64 - 1 that looks random, and another one for every seed."""
    key = seed.to_bytes(8, "little", signed=True)
    digest = hashlib.blake2b(record_id.encode(), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "little")


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
    return np.array([hash_of(name, seed) for name in ids.to_pylist()], np.uint64)


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
