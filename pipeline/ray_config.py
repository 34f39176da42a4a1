"""Settings of Ray itself."""

from pydantic import Field, model_validator

from actors.config import StrictModel


class RayConfig(StrictModel):
    """Which Ray.

    Attributes:
        address: of a running cluster; None means RAY_ADDRESS of the environment or, where that is
            not set either, a local one.
        num_cpus: logical cores of a local Ray; None means at least 3, because the stages of a
            graph wait for each other below that.
        object_store_bytes: shared memory of a local Ray, through which all blocks go; None means
            Ray's default, 30 % of the machine's memory.
        nodes_wait_s: nodes that the pools need may join so much later than the cluster's head. By
            default what is not there at the start is refused at once.
    """

    address: str | None = None
    num_cpus: int | None = Field(default=None, ge=1)
    object_store_bytes: int | None = Field(default=None, ge=80 << 20)
    nodes_wait_s: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _sizes_of_a_local_one(self) -> "RayConfig":
        for name in ("num_cpus", "object_store_bytes"):
            if self.address is not None and getattr(self, name) is not None:
                raise ValueError(
                    f"ray.{name}: the cluster at ray.address has its own; leave one of them out"
                )
        return self
