"""What the stages have told of their calls, for the balance of the pools."""

from dataclasses import dataclass, field, replace

from pipeline.balance.evidence import Served


@dataclass(frozen=True)
class Flow:
    """What the stages have told since the run's start.

    Attributes:
        rows: that have left the small stage.
        sent: records that it has sent on to the large model.
        probes: further requests of that, of the probe.
        small, large: calls of the replicas' models.
        small_typical, large_typical: of these, those that tell how long a busy replica takes.
    """

    rows: int = 0
    sent: int = 0
    probes: int = 0
    small: Served = field(default_factory=Served)
    large: Served = field(default_factory=Served)
    small_typical: Served = field(default_factory=Served)
    large_typical: Served = field(default_factory=Served)

    def plus(self, stage: str, served: Served, sent: int, probes: int, typical: bool) -> "Flow":
        """With one call of a model; see pipeline.progress.Reporter."""
        told = served if typical else Served()
        if stage == "small":
            return replace(
                self,
                sent=self.sent + sent,
                probes=self.probes + probes,
                small=self.small.plus(served),
                small_typical=self.small_typical.plus(told),
            )
        return replace(
            self, large=self.large.plus(served), large_typical=self.large_typical.plus(told)
        )
