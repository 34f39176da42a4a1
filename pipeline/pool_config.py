"""Settings of the replicas of both models."""

from typing import Self

from pydantic import Field, model_validator

from actors.config import StrictModel

_MOST_CONCURRENT_BLOCKS = 32


class PoolConfig(StrictModel):
    """Replicas of one model.

    Attributes:
        replicas: a fixed number; with `pools.balance`, that of the start.
        min_replicas: of a balanced pool, while the small model has records left.
        max_replicas: of a balanced pool; None is what the devices of both pools allow.
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
    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int | None = Field(default=None, ge=1)
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


_OF_BALANCE = ("min_replicas", "max_replicas")


class PoolsConfig(StrictModel):
    """Both pools.

    Attributes:
        balance: while the run goes on, move devices to the pool that needs them, by how many
            records escalate and how long each model takes. The pools together never hold more
            devices than at the start. Only in the cascade, and only where replicas of both pools
            may be on the same devices.
    """

    small: PoolConfig = PoolConfig()
    large: LargePoolConfig = LargePoolConfig()
    balance: bool = False

    @model_validator(mode="after")
    def _balanced_within_limits(self) -> Self:
        for role, pool in (("small", self.small), ("large", self.large)):
            written = [name for name in _OF_BALANCE if name in pool.model_fields_set]
            if written and not self.balance:
                raise ValueError(
                    f"pools.{role}.{written[0]}: the pools are of a fixed size; write "
                    "pools.balance: true, or leave it out"
                )
            if pool.replicas < pool.min_replicas:
                raise ValueError(
                    f"pools.{role}.replicas: {pool.replicas} is below min_replicas, "
                    f"{pool.min_replicas}; the run begins with it"
                )
            if pool.max_replicas is not None and pool.replicas > pool.max_replicas:
                raise ValueError(
                    f"pools.{role}.replicas: {pool.replicas} is above max_replicas, "
                    f"{pool.max_replicas}; the run begins with it"
                )
        if self.balance and self.small.node_labels != self.large.node_labels:
            raise ValueError(
                "pools.balance: the pools are kept on nodes of their own by node_labels, so that "
                "no device can move; write the same labels for both, none, or balance: false"
            )
        return self
