"""One writer per output: a lease file with a heartbeat, which outlives a crash of its owner.

It is taken over when its owner's process is seen to be dead on this machine, or when its heartbeat
is older than a limit (the machines' clocks have to agree to within it). An owner that finds
the lease gone at its next heartbeat, or cannot renew it in time, ends its run.
"""

import contextlib
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from types import TracebackType

from pydantic import ValidationError

from actors.config import StrictModel
from infra.swap import peek, swap
from pipeline.interrupt import Ended, endable
from pipeline.output import Output
from sgl.errors import OutputBusyError

LIMIT_S = 120.0
BEAT_S = 15.0


class Holder(StrictModel):
    """Who holds a lease.

    Attributes:
        token: drawn anew for every lease.
        run_id: of the run.
        host: its name, for people.
        machine: boot and process namespace, within which a process id means something; else "".
        pid: of the driver.
        pid_started: clock tick at which that process started, because ids are used again.
        beat_at: of the latest heartbeat, seconds since 1970.
    """

    token: str
    run_id: str
    host: str
    machine: str
    pid: int
    pid_started: str
    beat_at: float

    def bytes(self) -> bytes:
        """As the file holds it."""
        return self.model_dump_json().encode()

    def is_gone(self, now: float) -> bool:
        """Whether its lease may be taken over."""
        if now - self.beat_at > LIMIT_S:
            return True
        same = bool(self.machine) and self.machine == _machine()
        return same and _started(self.pid) != self.pid_started


def holder_of(output: Output) -> Holder | None:
    """Who holds the lease of an output now, dead or alive; None where it is free."""
    data = peek(output.lease, output.storage)
    return None if data is None else _parsed(data, output)


class Lease:
    """Holds an output for the block.

    Args:
        output: which.
        run_id: of the run.
        beat_s: seconds between heartbeats.

    Raises:
        OutputBusyError: on entering, another run holds it; on leaving, it was lost.
    """

    def __init__(self, output: Output, run_id: str, beat_s: float = BEAT_S) -> None:
        self._output = output
        self._beat_s = beat_s
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._mine = Holder(
            token=secrets.token_hex(8),
            run_id=run_id,
            host=socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
            pid_started=_started(os.getpid()),
            beat_at=time.time(),
        )
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._endable = contextlib.ExitStack()

    def __enter__(self) -> "Lease":
        there = peek(self._output.lease, self._output.storage)
        if there is not None:
            holder = _parsed(there, self._output)
            if not holder.is_gone(time.time()):
                raise OutputBusyError(_refusal(holder, self._output))
        if not self._swap(there, self._mine.bytes()):
            raise OutputBusyError(
                f"output.path: another run has just begun to write {self._output.path}; "
                "wait for its end, or write another directory"
            )
        self._end = self._endable.enter_context(endable())
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
        self._endable.close()
        if not self._lost.is_set():
            with contextlib.suppress(OSError):  # then it ends by itself
                self._swap(self._mine.bytes(), None)
        elif kind is None or kind is Ended:
            self.check()

    def check(self) -> None:
        """Make sure that the lease is still held.

        Raises:
            OutputBusyError: it is not.
        """
        if self._lost.is_set():
            raise OutputBusyError(
                f"output.path: the lease of {self._output.path} was lost, to another run or "
                "because its storage did not answer; this run ends, the same command goes on"
            )

    def _beat(self) -> None:
        renewed = time.monotonic()
        while not self._stop.wait(self._beat_s):
            try:
                held = self._renew()
            except Exception:  # of the storage, or a lease that cannot be read
                # It may be back in a moment; but not for longer than others wait.
                held = time.monotonic() - renewed < LIMIT_S - 2 * self._beat_s
            else:
                renewed = time.monotonic()
            if not held:
                self._lost.set()
                if self._end:
                    self._end()
                return

    def _renew(self) -> bool:
        later = self._mine.model_copy(update={"beat_at": time.time()})
        if self._swap(self._mine.bytes(), later.bytes()):
            self._mine = later
            return True
        # A renewal that failed for us, its answer being lost, may have been done all the same.
        there = holder_of(self._output)
        if there is None or there.token != self._mine.token:
            return False
        self._mine = there
        return True

    def _swap(self, old: bytes | None, new: bytes | None) -> bool:
        return swap(self._output.lease, old, new, self._output.storage)


def _refusal(holder: Holder, output: Output) -> str:
    age = max(0.0, time.time() - holder.beat_at)
    return (
        f"output.path: run {holder.run_id} is writing {output.path}, process {holder.pid} on "
        f"{holder.host}, last heard of {age:.0f} s ago; wait for its end, or end it (its lease is "
        f"free {LIMIT_S:.0f} s after its last heartbeat), or write another directory"
    )


def _parsed(data: bytes, output: Output) -> Holder:
    try:
        return Holder.model_validate_json(data)
    except ValidationError as error:
        raise OutputBusyError(
            f"output.path: {output.lease} is no lease of this version; delete it if nobody is "
            "writing the output"
        ) from error


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Start of a process in clock ticks since boot; empty where there is none."""
    try:
        # The name in the second field may itself hold spaces and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
