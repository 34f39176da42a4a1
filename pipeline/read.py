"""The reader: a checked input as a Ray Data source.

An own Datasource instead of Ray's readers, because Ray's checkpoint filters rows by the id column
right behind the reader: ids must be there (hashed where the input has none), unique and text, and
the plan must begin with a Read, which `from_items` is not.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from pipeline.files import Part
from pipeline.source import Source


class RecordDatasource(Datasource):
    """One read task per run of neighbouring parts; yields tables in the reader's schema.

    Args:
        source: the input.
        stopped: asked before each part is read; once true, no more are.
    """

    def __init__(self, source: Source, stopped: Callable[[], bool] | None = None) -> None:
        super().__init__()
        self._source = source
        self._stopped = stopped

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown: pictures are compressed to very different degrees."""
        return None

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: Any = None,  # noqa: ARG002
    ) -> list[ReadTask]:
        """At most `parallelism` tasks."""
        parts = self._source.parts
        spans = np.array_split(np.arange(len(parts)), min(max(parallelism, 1), len(parts)))
        return [self._task([parts[i] for i in span], per_task_row_limit) for span in spans]

    def _task(self, parts: Sequence[Part], row_limit: int | None) -> ReadTask:
        metadata = BlockMetadata(
            num_rows=sum(part.take for part in parts),
            size_bytes=None,
            input_files=None,
            exec_stats=None,
        )
        schema = self._source.shape.schema
        return ReadTask(_reader(self._source, parts, self._stopped), metadata, schema, row_limit)


def _reader(
    source: Source, parts: Sequence[Part], stopped: Callable[[], bool] | None
) -> Callable[[], Iterator[pa.Table]]:
    def read() -> Iterator[pa.Table]:
        for part in parts:
            if stopped is not None and stopped():
                yield source.shape.schema.empty_table()
                return
            yield from source.tables(part)

    return read
