"""A rank's worker that does as it is told, light to import."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from actors.ranks import Rank
from sgl.errors import EmptyQuestionError


@dataclass(frozen=True)
class Order:
    """What the rank of an index is to do; all others do `else_`."""

    rank: int | None = None
    do: str = "answer"
    else_: str = "answer"


@dataclass
class Obedient:
    """Answers, fails, waits or dies, by order."""

    rank: Rank
    collectives: int = field(default=0)

    def introduce(self) -> int:
        return os.getpid()

    def run(self, order: Order) -> tuple[Any, Any]:
        self.collectives += 1
        todo = order.do if order.rank in (None, self.rank.index) else order.else_
        return getattr(self, todo)(), "agreed"

    def answer(self) -> str:
        return f"answer of rank {self.rank.index}"

    def bad_record(self) -> NoReturn:
        raise EmptyQuestionError("no question")

    def fail(self) -> NoReturn:
        raise ValueError(f"rank {self.rank.index} cannot")

    def fail_later(self) -> NoReturn:
        self.collectives += 1
        raise ValueError("one collective later")

    def unspeakable(self) -> NoReturn:
        raise type("LocalError", (Exception,), {})("cannot be pickled")

    def lose_device(self) -> NoReturn:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def wait(self) -> None:
        time.sleep(60)

    def die(self) -> NoReturn:
        os._exit(7)


class Disagreeing(Obedient):
    """Says that every rank has another answer."""

    def run(self, order: Order) -> tuple[Any, Any]:
        return "answer", self.rank.index


def refuses(rank: Rank) -> NoReturn:
    raise FileNotFoundError(f"no checkpoint for rank {rank.index}")


def alive(pid: int) -> bool:
    """Whether a process still runs; one that only waits to be collected does not."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def gone(pids: list[int], within_s: float = 20) -> bool:
    """Whether all of them end in time."""
    deadline = time.monotonic() + within_s
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)
