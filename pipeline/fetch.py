"""The fetch stage: image references become pixels, once, in CPU tasks.

A picture that crashes a decoder kills a CPU task and never a model's replica.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from actors.batching import Watch
from infra.s3 import StorageConfig
from pipeline.guard import Guard
from pipeline.images import has_image, load_image
from pipeline.progress import Reporter
from pipeline.schema import IMAGES, OUTPUT
from pipeline.stage import check_columns, check_conserved, failed, replace_columns
from sgl.errors import EmptyQuestionError, RecordError
from sgl.types import Failure

READS = ("id", "question", "image", "max_new_tokens")
WRITES = (*OUTPUT.names[2:], IMAGES.name)
"""Every output column is made here, most of them null; `image` is dropped."""


@dataclass(frozen=True)
class FetchStage:
    """Arrow table in, Arrow table out; never raises for a row.

    Attributes:
        run_id: of this run, for every row.
        threshold: of the cascade; None in the other modes.
        max_image_pixels: see InputConfig.
        text_only: likewise.
        threads: pictures fetched at the same time.
        reporter: told of the rows done.
        storage: how S3 is reached.
        guard: stands around the decoders.
    """

    run_id: str
    threshold: float | None
    max_image_pixels: int
    text_only: bool
    threads: int
    reporter: Reporter
    storage: StorageConfig
    guard: Guard

    def __call__(self, table: pa.Table) -> pa.Table:
        """Decode the pictures of one block."""
        check_columns("fetch", table, READS)
        records = table.select(READS).to_pylist()
        fetched = self.guard.run(self._fetch_all, records, [record["id"] for record in records])
        fetched_table = self._filled(table, fetched)
        check_conserved("fetch", table, fetched_table)
        failures = sum(isinstance(item, Failure) for item in fetched)
        self.reporter.done("fetch", rows=len(records), failed=failures)
        return fetched_table

    def _fetch_all(
        self, records: Sequence[dict[str, Any]], watch: Watch
    ) -> list[list[dict[str, Any]] | Failure]:
        with (
            watch([record["id"] for record in records]),
            ThreadPoolExecutor(self.threads) as pool,
        ):
            return list(pool.map(self._fetch, records))

    def _fetch(self, record: dict[str, Any]) -> list[dict[str, Any]] | Failure:
        try:
            if not (record["question"] or "").strip():
                raise EmptyQuestionError("the question is empty, or no valid UTF-8")
            if record["max_new_tokens"] is not None and record["max_new_tokens"] < 1:
                raise RecordError(f"max_new_tokens is {record['max_new_tokens']}; 1 is the least")
            if self.text_only and not has_image(record["image"]):
                return []
            pixels = load_image(record["image"], self.max_image_pixels, self.storage)
        except RecordError as error:
            return Failure(record["id"], "fetch", type(error).__name__, str(error))
        height, width, _ = pixels.shape
        return [{"height": height, "width": width, "pixels": pixels.tobytes()}]

    def _filled(self, table: pa.Table, fetched: list[list[dict[str, Any]] | Failure]) -> pa.Table:
        rows = table.num_rows
        columns = {name: pa.nulls(rows, OUTPUT.field(name).type) for name in OUTPUT.names[2:]}
        failures = [failed(item) if isinstance(item, Failure) else {} for item in fetched]
        columns |= {
            "route": pa.array([cells.get("route") for cells in failures], pa.string()),
            "error": pa.array([c.get("error") for c in failures], OUTPUT.field("error").type),
            "threshold": pa.array([self.threshold] * rows, pa.float64()),
            "run_id": pa.array([self.run_id] * rows, pa.string()),
            IMAGES.name: pa.array(
                [None if isinstance(item, Failure) else item for item in fetched], IMAGES.type
            ),
        }
        return replace_columns(table.drop_columns(["image"]), columns)
