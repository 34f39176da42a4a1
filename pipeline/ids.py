"""Ids of millions of records compared as multisets, in memory that does not grow with them.

Each id becomes a 64-bit hash, and each hash goes into one of 64 files on the local disk by its top
bits; two sides are compared file by file. A lost and a surplus id would have to share their hash to
hide each other.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_BITS = 6
Hashes = npt.NDArray[np.uint64]


def hashes_of(ids: Iterable[str | None]) -> Hashes:
    """One hash per id, the same in every process; a missing id counts as an empty one."""
    digests = (hashlib.blake2b((i or "").encode(), digest_size=8).digest() for i in ids)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


class Spill:
    """A multiset of ids on the local disk; gone when the block ends."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sgl-ids-")
        paths = [Path(self._folder.name) / f"{i}" for i in range(1 << _BITS)]
        self._files = [path.open("wb") for path in paths]
        self.count = 0

    def __enter__(self) -> "Spill":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files:
            file.close()
        self._folder.cleanup()

    def add(self, ids: pa.Array | pa.ChunkedArray) -> None:
        """Count some ids."""
        hashes = np.sort(hashes_of(ids.to_pylist()))
        self.count += len(hashes)
        edges = np.searchsorted(hashes >> np.uint64(64 - _BITS), np.arange((1 << _BITS) + 1))
        for file, begin, end in zip(self._files, edges[:-1], edges[1:], strict=True):
            if end > begin:
                file.write(hashes[begin:end].tobytes())

    def counted(self) -> Iterator[tuple[Hashes, npt.NDArray[np.int64]]]:
        """Distinct hashes and how often each occurs, by bucket."""
        for file in self._files:
            file.flush()
            yield np.unique(np.fromfile(file.name, np.uint64), return_counts=True)

    def repeated(self, named: int) -> tuple[int, set[int]]:
        """How many hashes occur more than once, and some of them.

        Args:
            named: how many at most.
        """
        count, some = 0, set[int]()
        for hashes, counts in self.counted():
            again = hashes[counts > 1]
            count += len(again)
            some |= {int(one) for one in again[: named - len(some)]}
        return count, some

    def twice(self) -> set[int]:
        """Hashes that occur more than once."""
        return {int(h) for hashes, counts in self.counted() for h in hashes[counts > 1]}


@dataclass(frozen=True)
class Difference:
    """How the ids found differ from those expected.

    Attributes:
        missing: expected and not found.
        doubled: surplus occurrences of ids that are expected.
        foreign: found and not expected.
        examples: hashes of some of each kind.
    """

    missing: int
    doubled: int
    foreign: int
    examples: dict[str, set[int]]

    def __bool__(self) -> bool:
        return bool(self.missing or self.doubled or self.foreign)


def compare(expected: Spill, found: Spill, named: int = 3) -> Difference:
    """Both sides, bucket by bucket.

    Args:
        expected: each id once.
        found: what is there.
        named: how many examples of each kind to keep.
    """
    counts = dict.fromkeys(("missing", "doubled", "foreign"), 0)
    examples: dict[str, set[int]] = {kind: set() for kind in counts}
    for (wanted, due), (there, have) in zip(expected.counted(), found.counted(), strict=True):
        at = np.searchsorted(wanted, there)
        known = at < len(wanted)
        known[known] = wanted[at[known]] == there[known]
        surplus = np.where(known, have, 0)
        surplus[known] -= due[at[known]]
        lost = ~np.isin(wanted, there, assume_unique=True)
        found_kinds = (
            ("missing", wanted[lost], due[lost].sum() - np.minimum(surplus, 0).sum()),
            ("doubled", there[surplus > 0], np.maximum(surplus, 0).sum()),
            ("foreign", there[~known], have[~known].sum()),
        )
        for kind, hashes, count in found_kinds:
            counts[kind] += int(count)
            examples[kind] |= {int(one) for one in hashes[: named - len(examples[kind])]}
    return Difference(**counts, examples=examples)


def names_of(hashes: set[int], ids: Iterable[pa.Array | pa.ChunkedArray]) -> list[str]:
    """Ids that have one of some hashes, each once, in the order met; stops when all are met."""
    left, named = set(hashes), []
    for chunk in ids:
        if not left:
            break
        for text, one in _with_hashes(chunk):
            if one in left:
                left.discard(one)
                named.append(text)
    return named


def named_by(hashes: set[int], ids: Iterable[pa.Array | pa.ChunkedArray]) -> Iterator[str]:
    """Ids that have one of some hashes, as often as they occur."""
    for chunk in ids:
        yield from (text for text, one in _with_hashes(chunk) if one in hashes)


def _with_hashes(ids: pa.Array | pa.ChunkedArray) -> Iterator[tuple[str, int]]:
    texts = ids.to_pylist()
    return zip(texts, hashes_of(texts).tolist(), strict=True)
