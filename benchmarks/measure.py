"""Comparing variants: turns instead of blocks, ratios instead of seconds, fresh processes."""

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from unittest.mock import patch

import torch

_KEEP_NOTHING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""glibc reads them at a process's start. Left alone it adapts them, and keeps some of what was
freed: the same work then peaks between 177 and 255 MiB."""

Work = Callable[[], object]
"""One variant, ready to run: what it needs is built already."""


@dataclass(frozen=True)
class Ratio:
    """Of two variants' times, over the rounds.

    Attributes:
        value: median.
        low, high: borders of the middle half; the extremes where there are fewer than four rounds.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, above: list[float], below: list[float]) -> "Ratio":
        """Round by round."""
        ratios = [a / b for a, b in zip(above, below, strict=True)]
        if len(ratios) < 4:
            return cls(median(ratios), min(ratios), max(ratios))
        low, _, high = quantiles(ratios, n=4)
        return cls(median(ratios), low, high)

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def take_turns(variants: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """Seconds of every variant in every round; a first round, not counted, warms up.

    Every round begins with another variant: whoever runs first would otherwise always meet the same
    state of the caches.
    """
    names = list(variants)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            seconds = _seconds(variants[name])
            if turn > 0:
                times[name].append(seconds)
    return times


def _seconds(work: Work) -> float:
    _wait()
    started = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - started


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_bytes(build: Callable[..., Work], *arguments: Any) -> int:
    """Memory that a variant needs at its peak above what it holds before.

    On a CPU it runs in a fresh process, whose allocator has nothing to reuse and keeps nothing;
    its peak is the kernel's own count (Linux).

    Args:
        build: importable; makes the variant from the arguments, which must pickle.
        arguments: of `build`.
    """
    if torch.cuda.is_available():
        return _peak_on_gpu(build(*arguments))
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report_peak, args=(sender, build, arguments))
    with patch.dict(os.environ, _KEEP_NOTHING):
        process.start()
    sender.close()
    try:
        peak: int = receiver.recv()
    except EOFError as error:
        raise MemoryError(f"{build.__name__} died before it had its peak measured") from error
    finally:
        process.join()
    return peak


def _peak_on_gpu(work: Work) -> int:
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated() - before)


def _report_peak(sender: Any, build: Callable[..., Work], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    work = build(*arguments)
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from now on
    work()
    sender.send(_resident("VmHWM") - before)


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise OSError(f"/proc/self/status has no {field}; peaks on a CPU are measured on Linux only")
