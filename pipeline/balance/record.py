"""What a run's record tells of its balance."""

from pydantic import Field

from actors.config import StrictModel


class Move(StrictModel):
    """One move of devices between the pools.

    Attributes:
        at_s: of the decision, since the run's start.
        small, large: replicas before and after it.
        rate: records for the large model per record of the small one, as seen then.
        rate_low, rate_high: what it might have been as well.
        small_s, large_s: seconds of one replica per record.
        records: that the small model had still to do.
        waiting: records that waited for the large model or were in it.
        stay_s, move_s: the remaining time as foretold, without the move and with it.
        freed_s: until the last replica that went had gone; None while it has not.
        done_s: until the last new one had loaded its model; None while it has not.
    """

    at_s: float
    small: tuple[int, int]
    large: tuple[int, int]
    rate: float
    rate_low: float
    rate_high: float
    small_s: float
    large_s: float
    records: int
    waiting: int
    stay_s: float
    move_s: float
    freed_s: float | None = None
    done_s: float | None = None

    def told(self) -> str:
        """One line for people."""
        return (
            f"small {self.small[0]} -> {self.small[1]}, large {self.large[0]} -> {self.large[1]} "
            f"replicas: {self.rate:.0%} of the latest records escalate ({self.rate_low:.0%} to "
            f"{self.rate_high:.0%}), a record takes a small replica {self.small_s:.3g} s and a "
            f"large one {self.large_s:.3g} s; {self.records:,} records left and {self.waiting:,} "
            f"waiting for the large model: {self.move_s:.0f} s instead of {self.stay_s:.0f} s"
        )


class BalanceRecord(StrictModel):
    """Of one run.

    Attributes:
        moves: in their order.
        held: replicas that hold devices at the moment, by role.
        beyond_s: replica-seconds that each pool has held beyond those of its start until now, by
            role; negative where it held fewer.
    """

    moves: tuple[Move, ...] = ()
    held: dict[str, int] = Field(default_factory=dict)
    beyond_s: dict[str, float] = Field(default_factory=dict)
