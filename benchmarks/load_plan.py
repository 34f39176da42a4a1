"""What a load generator is told, and what it tells: nothing but plain data, as JSON lines."""

from dataclasses import asdict, dataclass

CHAT = "/v1/chat/completions"
NO_ANSWER = 0
"""Instead of a status: the connection was refused or broke, or there was no answer in time."""


@dataclass(frozen=True)
class Plan:
    """Some seconds of load.

    Attributes:
        url: of the endpoint.
        bodies: file with a request per line.
        seconds: in which requests are begun; all are waited for.
        stream: whether the requests ask for a stream.
        users: who ask one after the other, without a pause: closed loop.
        per_s: instead of users, requests that come at random as often, whatever becomes of
            those before: open loop.
        retries: of a request that fails in a way that may pass (no answer, 429, 5xx).
        timeout_s: of one attempt.
        seed: of the moments at which requests come.
    """

    url: str
    bodies: str
    seconds: float
    stream: bool = False
    users: int = 0
    per_s: float = 0.0
    retries: int = 0
    timeout_s: float = 60.0
    seed: int = 0


@dataclass(frozen=True)
class Sample:
    """One request.

    Attributes:
        at: time.time() when it was begun.
        seconds: until the last byte of the last attempt.
        first_s: until the first text of a stream that came whole.
        statuses: of its attempts; NO_ANSWER is among them.
        told_when: whether every refusal (429, 503) said when to come again.
    """

    at: float
    seconds: float
    first_s: float | None
    statuses: tuple[int, ...]
    told_when: bool

    @property
    def answered(self) -> bool:
        """In the end."""
        return self.statuses[-1] == 200

    @property
    def refused(self) -> bool:
        """In the end, in good order."""
        return self.statuses[-1] in (429, 503)

    @classmethod
    def of(cls, told: dict[str, object]) -> "Sample":
        """From JSON."""
        sample = cls(**told)  # type: ignore[arg-type]
        return cls(**(asdict(sample) | {"statuses": tuple(sample.statuses)}))
