"""What rounds came to: who died when, and what that did to the output."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.judge import Verdict


@dataclass(frozen=True)
class Death:
    """A kill that found its victim.

    Attributes:
        round: its number.
        storage: of the round's output.
        kind: who.
        moment: what the victim was doing.
        seconds: since the round began.
        committed: rows at that time.
    """

    round: int
    storage: str
    kind: str
    moment: str
    seconds: float
    committed: int


@dataclass
class Round:
    """How one round went.

    Attributes:
        deaths: in order.
        drivers: that were started.
        seconds: until the job was done.
        verdict: on its output; None where it never got so far.
        error: why it did not.
    """

    deaths: list[Death] = field(default_factory=list)
    drivers: int = 0
    seconds: float = 0.0
    verdict: Verdict | None = None
    error: str = ""

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that is wrong, in words."""
        told = self.verdict.problems if self.verdict else ()
        return (self.error, *told) if self.error else told


def outcome_of(rounds: Sequence[Round]) -> dict[str, Any]:
    """What all rounds came to."""
    verdicts = [one.verdict for one in rounds if one.verdict]
    return {
        "kills": sum(len(one.deaths) for one in rounds),
        "rounds": len(rounds),
        "drivers": sum(one.drivers for one in rounds),
        "seconds": round(sum(one.seconds for one in rounds), 1),
        "rows_lost": sum(one.lost for one in verdicts),
        "rows_twice": sum(one.doubled for one in verdicts),
        "answers_changed": sum(one.changed for one in verdicts),
        "problems": [problem for one in rounds for problem in one.problems],
    }


def table_of(rounds: Sequence[Round], outcome: dict[str, Any]) -> str:
    """Kills by kind and moment, and the outcome."""
    kinds = Counter((death.kind, death.moment) for one in rounds for death in one.deaths)
    lines = [f"{count:4}  {kind}: {moment}" for (kind, moment), count in sorted(kinds.items())]
    told = (f"{name}: {value}" for name, value in outcome.items() if name != "problems")
    return "\n".join([*lines, ", ".join(told), *outcome["problems"]])
