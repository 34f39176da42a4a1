"""What is killed when, drawn from a seed: lives of the driver, and the kills in each."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.phases import Phase

_SHARES = {"small": 14, "large": 14, "raylet": 10, "driver, at a phase": 14, "driver, any time": 8}
_MOST_PER_LIFE = 3
_MOST_COMMITS = 3
_LOADING_SHARE = 0.25
_LONGEST_DELAY_S = 2.0
_LONGEST_START_S = 12.0
_MOST_SKIPPED = 4


class Kind(StrEnum):
    """Who is killed."""

    SMALL = "small"
    LARGE = "large"
    RAYLET = "raylet"
    PHASE = "driver, at a phase"
    DRIVER = "driver, any time"


@dataclass(frozen=True)
class Kill:
    """One death to bring about.

    Attributes:
        kind: who.
        loading: while models load (of the driver: while it starts), else at work.
        commits: data files that are committed since the last death, before it is time.
        delay_s: then so many seconds more.
        phase: of the driver's commit, for the kind that dies at one.
        skip: so many times the phase is let pass.
    """

    kind: Kind
    loading: bool = False
    commits: int = 0
    delay_s: float = 0.0
    phase: Phase | None = None
    skip: int = 0


@dataclass(frozen=True)
class Life:
    """What happens while one driver lives; where it is killed, that is the last."""

    kills: tuple[Kill, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Lives of drivers whose output is on the local disk, and on S3."""

    local: tuple[Life, ...]
    s3: tuple[Life, ...]

    @property
    def kills(self) -> list[Kill]:
        """All of them."""
        return [kill for life in (*self.local, *self.s3) for kill in life.kills]


def draw(seed: int, kills: int) -> Plan:
    """A plan of its own for every seed.

    Args:
        seed: of everything drawn.
        kills: how many, spread over all kinds; one more where a phase needs another before it.
    """
    rng = random.Random(seed)
    counts = _counts(kills)
    s3 = [_ended_at(phase, rng) for phase in _phases(rng, counts[Kind.PHASE])]
    local = [Life((_of_driver(rng),)) for _ in range(counts[Kind.DRIVER])]
    others = [
        _of_worker(kind, rng)
        for kind in (Kind.SMALL, Kind.LARGE, Kind.RAYLET)
        for _ in range(counts[kind])
    ]
    rng.shuffle(others)
    # The last life of each place is undisturbed at its end: it finishes what the others left.
    lives = [*local, Life(), *s3, Life()]
    open_lives = [i for i, life in enumerate(lives) if not _begins_with_phase(life)]
    for place, some in zip(itertools.cycle(open_lives), _some(others, rng), strict=False):
        lives[place] = Life((*some, *lives[place].kills))
    return Plan(tuple(lives[: len(local) + 1]), tuple(lives[len(local) + 1 :]))


def _counts(kills: int) -> dict[Kind, int]:
    """Shares of a number, rounded so that they add up."""
    whole = sum(_SHARES.values())
    edges = [round(kills * part / whole) for part in itertools.accumulate(_SHARES.values())]
    sizes = [upper - lower for lower, upper in itertools.pairwise([0, *edges])]
    return dict(zip(Kind, sizes, strict=True))


def _phases(rng: random.Random, count: int) -> Iterator[Phase]:
    """Every phase once, in any order, then every one again; each after what it needs."""
    left = count
    while left > 0:
        order = rng.sample(list(Phase), len(Phase))
        for phase in order[:left]:
            if phase is Phase.RECONCILING:
                yield Phase.DATA_WRITTEN
            yield phase
        left -= len(order)


def _ended_at(phase: Phase, rng: random.Random) -> Life:
    skip = rng.randint(0, _MOST_SKIPPED) if phase.recurs else 0
    return Life((Kill(Kind.PHASE, phase=phase, skip=skip),))


def _begins_with_phase(life: Life) -> bool:
    phase = life.kills[-1].phase if life.kills else None
    return phase is not None and phase.at_start


def _of_driver(rng: random.Random) -> Kill:
    if rng.random() < 0.5:
        return Kill(Kind.DRIVER, loading=True, delay_s=rng.uniform(0, _LONGEST_START_S))
    return Kill(Kind.DRIVER, commits=rng.randint(1, 8), delay_s=rng.uniform(0, _LONGEST_DELAY_S))


def _of_worker(kind: Kind, rng: random.Random) -> Kill:
    loading = rng.random() < _LOADING_SHARE
    commits = 0 if loading else rng.randint(1, _MOST_COMMITS)
    return Kill(kind, loading, commits, rng.uniform(0, _LONGEST_DELAY_S))


def _some(kills: list[Kill], rng: random.Random) -> Iterator[tuple[Kill, ...]]:
    """Groups for one life each."""
    left = iter(kills)
    while group := tuple(itertools.islice(left, rng.randint(1, _MOST_PER_LIFE))):
        yield group
