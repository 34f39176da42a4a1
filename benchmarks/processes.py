"""Memory and processor time of a process and all its descendants, from Linux's /proc."""

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

Figures = TypeVar("Figures")

_TICKS = os.sysconf("SC_CLK_TCK")
_OWN = ("Pss_Anon:", "Pss_File:")
KINDS = ("driver", "gcs", "raylet", "workers", "others")
"""Of a local Ray's processes. Others: its dashboard, log monitor and agents."""


@dataclass(frozen=True)
class Process:
    """One line of the process table.

    Attributes:
        pid: of it.
        parent: pid of its parent.
        cpu_s: user and system time, that of children which have ended included.
    """

    pid: int
    parent: int
    cpu_s: float


def tree(root: int) -> list[Process]:
    """A process and its descendants, as far as they live."""
    children: dict[int, list[Process]] = defaultdict(list)
    found = []
    for process in _all():
        children[process.parent].append(process)
        if process.pid == root:
            found.append(process)
    for process in found:
        found += children[process.pid]
    return found


def _all() -> Iterator[Process]:
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                # The name of the program stands in brackets and may hold blanks and brackets.
                fields = file.read().rpartition(b")")[2].split()
                yield Process(int(name), int(fields[1]), sum(map(int, fields[11:15])) / _TICKS)


def kind_of(pid: int, driver: int) -> str:
    """One of KINDS."""
    if pid == driver:
        return "driver"
    command = command_of(pid)
    program = command.partition(" ")[0]
    for kind, file in (("gcs", "/gcs_server"), ("raylet", "/raylet")):
        if program.endswith(file):
            return kind
    is_worker = "default_worker.py" in command or command.startswith("ray::")
    return "workers" if is_worker and "Agent" not in command else "others"


def command_of(pid: int) -> str:
    """Of a process; Ray's workers give themselves a title instead. Empty where it has ended."""
    with suppress(OSError):
        data = Path(f"/proc/{pid}/cmdline").read_bytes()
        return data.replace(b"\0", b" ").decode(errors="replace")
    return ""


def own_bytes(pid: int) -> int:
    """Memory of a process without what it maps of Ray's object store; 0 where it has ended.

    Pages that several processes share, as those of libraries, count in equal parts.
    """
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(_OWN))
    return 0


class Watcher(Generic[Figures]):
    """Calls a function again and again, in a thread, until the block ends.

    Args:
        look: what is called.
        every_s: seconds between two calls.

    Attributes:
        seen: time.time() and what it returned.
    """

    def __init__(self, look: Callable[[], Figures], every_s: float) -> None:
        self.seen: list[tuple[float, Figures]] = []
        self._look = look
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def __enter__(self) -> "Watcher[Figures]":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.seen.append((time.time(), self._look()))
            if self._stop.wait(self._every_s):
                return


def cpu_by_kind(driver: int) -> dict[str, float]:
    """Processor seconds so far of a driver's processes, by kind."""
    spent = dict.fromkeys(KINDS, 0.0)
    for process in tree(driver):
        spent[kind_of(process.pid, driver)] += process.cpu_s
    return spent


@dataclass(frozen=True)
class Memory:
    """Of a driver's processes, in bytes, without the object store.

    Attributes:
        by_kind: sums.
        workers: how many there are.
        largest: of the workers.
    """

    by_kind: dict[str, int]
    workers: int
    largest: int


def memory_of(driver: int) -> Memory:
    """Of a driver and all its processes, now."""
    held = [(kind_of(one.pid, driver), own_bytes(one.pid)) for one in tree(driver)]
    by_kind = {kind: sum(size for of, size in held if of == kind) for kind in KINDS}
    workers = [size for of, size in held if of == "workers"]
    return Memory(by_kind, len(workers), max(workers, default=0))
