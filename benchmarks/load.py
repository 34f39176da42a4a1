"""Drives the load generator, and says what came of it."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

import numpy as np

from benchmarks.load_plan import Plan, Sample

_ROOT = Path(__file__).parents[1]


class Loader:
    """The load generator, in a process of its own, until the block ends."""

    def __enter__(self) -> "Loader":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load_client"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, plan: Plan) -> list[Sample]:
        """Wait until a plan is done.

        Raises:
            ChildProcessError: the generator has ended; its last words are on the terminal.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(asdict(plan)) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise ChildProcessError("the load generator has ended")
        return [Sample.of(one) for one in json.loads(line)]


@dataclass(frozen=True)
class Latency:
    """Percentiles in milliseconds."""

    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        """Of at least one request."""
        return cls(*(float(1e3 * one) for one in np.percentile(seconds, (50, 90, 99))))

    def __str__(self) -> str:
        return f"{self.p50:.0f} / {self.p90:.0f} / {self.p99:.0f}"


def outcomes(samples: Sequence[Sample]) -> dict[str, Any]:
    """How many requests ended how, and how long refusals took."""
    refused = [one for one in samples if one.refused]
    lost = [one for one in samples if not one.answered and not one.refused]
    return {
        "requests": len(samples),
        "answered": sum(one.answered for one in samples),
        "refused": len(refused),
        "refused_told_when": sum(one.told_when for one in refused),
        "refused_ms": 1e3 * median(one.seconds for one in refused) if refused else None,
        "lost": len(lost),
        "lost_statuses": sorted({one.statuses[-1] for one in lost}),
        "failed_first": sum(one.statuses[0] != 200 for one in samples),
    }


def rate(samples: Sequence[Sample], begin: float, end: float, within_s: float) -> float:
    """Answers per second that came in a span of time, each within so long."""
    good = [
        one
        for one in samples
        if one.answered and one.seconds <= within_s and begin <= one.at + one.seconds <= end
    ]
    return len(good) / (end - begin)
