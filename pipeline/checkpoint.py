"""Resume: Ray Data's own checkpoint, switched on for one dataset, with a filter of our own.

Ray's filter reads the checkpoint as a dataset, holds every id as a Python object in each of up to
ten actors and reserves a gigabyte for each. Here the driver reads it, and an id is sixteen bytes.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
from ray.data.checkpoint import CheckpointConfig, CheckpointFilter, CheckpointManager

from pipeline.output import Output
from pipeline.rowfiles import committed_ids

_LEAST_MEMORY = 64 << 20

Digests = npt.NDArray[np.bytes_]


class DoneFilter(CheckpointFilter):
    """Takes the rows out of a block whose ids are done."""

    def __init__(self, config: CheckpointConfig, done: Any) -> None:
        super().__init__(config, done)
        self._done: Digests = ray.get(done)

    def filter_rows_for_block(self, block: pa.Table) -> pa.Table:
        """See Ray's CheckpointFilter."""
        if not block.num_rows:
            return block
        wanted = digests_of(block[self.id_column].to_pylist())
        at = np.searchsorted(self._done, wanted).clip(max=len(self._done) - 1)
        return block.filter(pa.array(self._done[at] != wanted))


def manager_of(output: Output) -> type[CheckpointManager]:
    """What gives Ray the ids that are done in a reconciled output."""

    class DoneManager(CheckpointManager):
        def load_checkpoint(self, *_: Any, **__: Any) -> tuple[Any, int]:
            parts = [digests_of(ids.to_pylist()) for ids in committed_ids(output)]
            if not parts:
                return None, 0
            done = np.sort(np.concatenate(parts))
            return ray.put(done), done.nbytes

    return DoneManager


def digests_of(ids: Iterable[str]) -> Digests:
    """Sixteen bytes per id: of ten million, no two are the same by chance."""
    joined = b"".join(hashlib.blake2b(i.encode(), digest_size=16).digest() for i in ids)
    return np.frombuffer(joined, dtype="S16")


def switch_on(output: Output, context: Any) -> None:
    """Make a dataset skip ids that are done, and commit its files in two phases.

    Args:
        output: whose ids; reconciled.
        context: the dataset's own, so that other datasets of the process are left alone.
    """
    filesystem, path = output.located(output.checkpoint)
    context.checkpoint_config = CheckpointConfig(
        id_column="id",
        checkpoint_path=path,
        override_filesystem=filesystem,
        delete_checkpoint_on_success=False,
        checkpoint_filter_cls=DoneFilter,
        checkpoint_manager_cls=manager_of(output),
    )
    context.checkpoint_config.checkpoint_actor_memory_bytes = _LEAST_MEMORY
