"""Peak memory of the fetch stage on one block of large pictures, which goes out in several tables.

Above what the process holds before, with the encoded block in it; each table is let go of before
the next is asked for, as Ray does once it has put it into the object store.
"""

import io
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import pyarrow as pa
from PIL import Image

from benchmarks.measure import Work, peak_bytes
from pipeline.balance.evidence import Served
from pipeline.fetch import FetchStage
from pipeline.guard import Guard
from pipeline.ledger import Admission
from pipeline.references import Fetcher
from pipeline.replicas import Start
from pipeline.schema import IMAGE_REFERENCE
from pipeline.work import Work as BlockWork

SIDES = (2048, 4096)
ROWS = 64
THREADS = 4

Row = dict[str, Any]


class _NobodyDies:
    """A ledger without books, and a reporter to no one."""

    def admit(self, stage: str, ids: Sequence[str]) -> Admission:  # noqa: ARG002
        return Admission({}, ())

    def begin(self, stage: str, ids: Sequence[str], deadline_s: float) -> None:
        """See LedgerClient."""

    def end(self) -> None:
        """See LedgerClient."""

    def spent(self, device_s: float) -> None:
        """See LedgerClient."""

    def starting(self, start: Start) -> str | None:  # noqa: ARG002
        return None

    def loaded(self) -> None:
        """See LedgerClient."""

    def load_failed(self, cause: str) -> bool:  # noqa: ARG002
        return False

    def wait_for_the_end(self) -> None:
        """See LedgerClient."""

    def done(self, stage: str, *, rows: int, failed: int = 0, escalated: int = 0) -> None:
        """See Reporter."""

    def worked(self, stage: str, work: BlockWork) -> None:
        """See Reporter."""

    def served(
        self, stage: str, served: Served, *, sent: int = 0, probes: int = 0, typical: bool = True
    ) -> None:
        """See Reporter."""

    def arrived(self, rows: int) -> None:
        """See Reporter."""

    async def drained(self) -> bool:
        return True

    def closed(self) -> "Future[bool]":
        return Future()


def measure(sides: Sequence[int] = SIDES, rows: int = ROWS) -> list[Row]:
    """One row per size of the pictures."""
    return [
        {
            "side": side,
            "rows": rows,
            "threads": THREADS,
            "pixel_bytes": rows * side * side * 3,
            "peak_bytes": peak_bytes(build, side, rows),
        }
        for side in sides
    ]


def build(side: int, rows: int) -> Work:
    """The stage's work on one block of JPEGs.

    Args:
        side: of the square pictures, in pixels.
        rows: of the block.
    """
    data = io.BytesIO()
    Image.effect_noise((side, side), 40).convert("RGB").save(data, "JPEG")
    reference = {"bytes": data.getvalue(), "uri": None, "base": ""}
    block = pa.table(
        {
            "id": [f"r{row}" for row in range(rows)],
            "question": ["What is this?"] * rows,
            "image": pa.array([[reference]] * rows, pa.list_(IMAGE_REFERENCE)),
            "max_new_tokens": pa.nulls(rows, pa.int64()),
            "read_error": pa.nulls(rows, pa.string()),
            "conversation_json": pa.nulls(rows, pa.string()),
        }
    )
    stage = FetchStage(
        run_id="run",
        threshold=None,
        max_image_pixels=side * side,
        text_only=False,
        threads=THREADS,
        fetcher=Fetcher(max_bytes=1 << 30),
        reporter=_NobodyDies(),
        guard=Guard("fetch", _NobodyDies(), 600.0),
    )

    def work() -> int:
        fetched = 0
        for table in stage(block):
            fetched += table.num_rows
            del table
        assert fetched == rows, "a picture was lost"
        return fetched

    return work


def report(rows: Sequence[Row]) -> str:
    """As a table of text."""
    lines = [f"{'pictures':>14} {'pixels':>10} {'peak':>10}"]
    for row in rows:
        pictures = f"{row['rows']} x {row['side']}^2"
        pixels, peak = (f"{row[name] / 2**20:.0f} MiB" for name in ("pixel_bytes", "peak_bytes"))
        lines.append(f"{pictures:>14} {pixels:>10} {peak:>10}")
    return "\n".join(lines)
