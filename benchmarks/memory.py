"""Memory of the whole pipeline against the number of records: it shall not grow with them.

Every size runs in a fresh driver with a fresh local Ray and a small object store, over real
pictures (192 KiB each once decoded), with models that answer by arithmetic: what is measured is the
pipeline. Twice a second the driver and Ray's processes are looked at from outside, and the object
store by Ray's own count. Memory of processes is without what they map of the object store.

Flat means: the peak at the most records is at most 1.1 times that at 10,000 plus 16 MiB, for the
driver, the largest worker, all processes of Ray but the driver, and the object store; and nothing
is ever spilled.
"""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.fresh import Fresh
from benchmarks.memory_run import EVERY_S, PICTURE_BYTES, run, write_records
from benchmarks.processes import Watcher, memory_of

SIZES = (1_000, 5_000, 10_000, 25_000, 50_000)
BASE = 10_000
"""The size that the largest is held against: below it a run ends before all buffers are full."""
STORE_BYTES = 512 << 20
FACTOR = 1.1
ALLOWANCE = 16 << 20
"""Of what an allocator keeps."""
QUANTITIES = ("driver", "worker", "ray", "store")

Row = dict[str, Any]


def measure(sizes: Sequence[int] = SIZES, store_bytes: int = STORE_BYTES) -> list[Row]:
    """One row of peaks per size, in bytes; see the module for the quantities."""
    with tempfile.TemporaryDirectory(prefix="sgl-bench-") as folder:
        return [_row(records, store_bytes, Path(folder)) for records in sizes]


def _row(records: int, store_bytes: int, folder: Path) -> Row:
    path = folder / f"{records}.parquet"
    write_records(records, path)
    process = Fresh(run, path, store_bytes)
    with Watcher(partial(memory_of, process.pid), EVERY_S) as watcher:
        told = process.result()
    looks = [memory for _, memory in watcher.seen]
    rays = [{k: n for k, n in look.by_kind.items() if k != "driver"} for look in looks]
    return {
        "records": records,
        "driver": max(look.by_kind["driver"] for look in looks),
        "ray": max(sum(one.values()) for one in rays),
        "ray_by_kind": {kind: max(one[kind] for one in rays) for kind in rays[0]},
        "workers": max(look.workers for look in looks),
        "worker": max(look.largest for look in looks),
        "store": max(store.used for _, store in told.looks),
        "store_size": store_bytes,
        "spilled": max(store.spilled for _, store in told.looks),
        "picture_bytes": PICTURE_BYTES,
        "wall_s": told.wall_s,
    }


def is_flat(rows: Sequence[Row], quantity: str) -> bool:
    """Whether a peak at the most records is that at BASE, but for the allowance.

    Args:
        rows: of one measurement; where none is of BASE, the first stands for it.
        quantity: one of QUANTITIES.
    """
    base = next((row for row in rows if row["records"] == BASE), rows[0])
    last = max(rows, key=lambda row: row["records"])
    return bool(last[quantity] <= FACTOR * base[quantity] + ALLOWANCE) and not last["spilled"]


def report(rows: Sequence[Row]) -> str:
    """As a table of text."""
    titles = (*QUANTITIES, "spilled")
    lines = [f"{'records':>8} {' '.join(f'{title:>9}' for title in titles)} {'seconds':>8}"]
    for row in rows:
        peaks = " ".join(f"{row[name] / 2**20:>5.0f} MiB" for name in titles)
        lines.append(f"{row['records']:>8} {peaks} {row['wall_s']:>8.0f}")
    lines += [f"{name}: {'flat' if is_flat(rows, name) else 'NOT flat'}" for name in QUANTITIES]
    kinds = rows[-1]["ray_by_kind"]
    parts = ", ".join(f"{kind} {n / 2**20:.0f}" for kind, n in kinds.items())
    lines.append(f"of Ray's processes, peaks in MiB at {rows[-1]['records']}: {parts}")
    return "\n".join(lines)
