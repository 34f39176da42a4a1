"""The same models over the same records without Ray: what the pipeline's cost is held against.

One process reads, decodes, runs the small model on blocks of the pipeline's size, collects the
doubtful records of as many blocks as the large stage would have in flight, runs the large model on
them, and writes one Parquet file with the pipeline's columns.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from actors.large_vlm import GuidedQuestion
from pipeline.config import JobConfig
from pipeline.handover import Rate, answered_cells, guided_cells
from pipeline.images import decode
from pipeline.large_stage import LargeModel
from pipeline.schema import OUTPUT
from pipeline.small_stage import SmallModel
from pipeline.stage import failed, instant
from sgl.early_exit import exits
from sgl.types import Failure, Guidance, ImageQuestion, Route

_RATE = Rate()


def answer_all(job: JobConfig, small: SmallModel, large: LargeModel, output: Path) -> None:
    """Answer a job's records.

    Args:
        job: a cascade over one Parquet file with pictures as structs of bytes and path.
        small: loaded.
        large: loaded.
        output: the file to write.
    """
    assert job.threshold is not None
    rows: dict[str, dict[str, Any]] = {}
    doubtful: list[GuidedQuestion] = []
    most_blocks = job.pools.large.blocks_for(job.model("large").batch_size)
    for number, block in enumerate(_blocks(job), 1):
        started = {"small_started_at": instant(time.time())}
        for record, guidance in zip(block, small.run(block), strict=True):
            known = {"id": record.id, "question": record.question}
            rows[record.id] = known | started | _small_cells(guidance, job.threshold)
            if not isinstance(guidance, Failure) and not exits(guidance.exit_score, job.threshold):
                doubtful.append(GuidedQuestion(record, guidance))
        if number % most_blocks == 0:
            _answer(large, doubtful, rows)
            doubtful = []
    _answer(large, doubtful, rows)
    pq.write_table(pa.Table.from_pylist(list(rows.values()), OUTPUT), output)


def _blocks(job: JobConfig) -> Iterator[list[ImageQuestion]]:
    with pq.ParquetFile(job.input.path) as file:
        for batch in file.iter_batches(job.rows_per_block, columns=["id", "image", "question"]):
            yield [
                ImageQuestion(
                    id=row["id"],
                    question=row["question"],
                    images=(decode(row["image"]["bytes"], job.input.max_image_pixels),),
                )
                for row in batch.to_pylist()
            ]


def _answer(
    large: LargeModel, doubtful: list[GuidedQuestion], rows: dict[str, dict[str, Any]]
) -> None:
    for request, answer in zip(doubtful, large.run(doubtful), strict=True):
        row = rows[request.id]
        row |= failed(answer) if isinstance(answer, Failure) else answered_cells(answer, row, _RATE)


def _small_cells(result: Guidance | Failure, threshold: float) -> dict[str, Any]:
    if isinstance(result, Failure):
        return failed(result)
    cells = guided_cells(result, _RATE)
    if exits(result.exit_score, threshold):
        return cells | {"answer": result.answer, "route": Route.SMALL.value}
    return cells
