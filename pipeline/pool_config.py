"""Settings of the replicas of both models."""

from pydantic import Field

from actors.config import StrictModel

_MOST_CONCURRENT_BLOCKS = 32


class PoolConfig(StrictModel):
    """Replicas of one model.

    Attributes:
        replicas: a fixed number.
        num_gpus: per replica; None means 1 where the cluster has GPUs, an equal share of one where
            it has fewer GPUs than replicas, and 0 where it has none. Several are of one node, and
            the model is split over them: see `tensor_parallel` of the model.
        num_cpus: cores reserved per replica. The default is a token amount, with GPUs too: whole
            cores can leave none for reading, fetching and writing, and then the job hangs.
        node_labels: labels of Ray's nodes that replicas may be on; none means any node. Without
            them replicas of one pool can take places that the other pool's alone would fit into.
        usd_per_hour: price of one device (a GPU, or a core on the CPU) for an hour; None takes the
            built-in table's, or that of `pricing`, for what the devices are.
        deadline_s: a forward batch that takes longer hangs, and its replica is ended. An honest one
            takes seconds, with long answers minutes; ten minutes leave room for both and for
            kernels that compile in the first one, and bound what a record that hangs can cost.
        start_deadline_s: likewise for the loading of the model. Its default has room for the
            download of a large one.
    """

    replicas: int = Field(default=1, ge=1)
    num_gpus: float | None = Field(default=None, ge=0)
    num_cpus: float = Field(default=0.01, gt=0)
    node_labels: dict[str, str] = Field(default_factory=dict)
    usd_per_hour: float | None = Field(default=None, ge=0)
    deadline_s: float = Field(default=600.0, gt=0)
    start_deadline_s: float = Field(default=1800.0, gt=0)


class LargePoolConfig(PoolConfig):
    """Replicas of the large model, each of which collects escalated rows into full batches.

    Attributes:
        concurrent_blocks: blocks whose rows one replica collects from at the same time. None
            means the batch size, at most 32: as each block that waits holds a row, so many waiting
            blocks fill a batch at any escalation rate.
        linger_s: no row waits longer for others of like length to fill its batch. It bounds a
            stall when the upstream is slow; the end of the input is noticed without it.
    """

    concurrent_blocks: int | None = Field(default=None, ge=1)
    linger_s: float = Field(default=30.0, gt=0)

    def blocks_for(self, batch_size: int) -> int:
        """`concurrent_blocks`, resolved for a batch size."""
        return self.concurrent_blocks or min(batch_size, _MOST_CONCURRENT_BLOCKS)


class PoolsConfig(StrictModel):
    """Both pools."""

    small: PoolConfig = PoolConfig()
    large: LargePoolConfig = LargePoolConfig()
