"""Settings of a budget."""

from enum import StrEnum

from pydantic import Field, model_validator

from actors.config import StrictModel


class WhenSpent(StrEnum):
    """What follows.

    STOP takes no new records; those that the small model has answered are finished, and the output
    can be gone on with.
    SMALL lets the small model's answers stand, however sure it is.
    """

    STOP = "stop"
    SMALL = "small"


class BudgetConfig(StrictModel):
    """What an output may cost, all its runs together.

    Attributes:
        usd: for the reserved devices of both pools.
        gpu_hours: of these devices; on a CPU, of their cores.
        then: what follows when either is spent.
    """

    usd: float | None = Field(default=None, gt=0)
    gpu_hours: float | None = Field(default=None, gt=0)
    then: WhenSpent = WhenSpent.STOP

    @model_validator(mode="after")
    def _limits_something(self) -> "BudgetConfig":
        if self.usd is None and self.gpu_hours is None:
            raise ValueError("neither usd nor gpu_hours is written; write one, or no budget")
        return self
