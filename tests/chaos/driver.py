"""The driver: `sgl run` in a process of its own, which can be killed and started again."""

import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.chaos.cluster import ROOT


class Driver:
    """One life of the command, started at once.

    Args:
        config: YAML file of the job.
        log: file that gets what it prints, after what earlier lives printed.
        environment: of the process.
    """

    def __init__(self, config: Path, log: Path, environment: Mapping[str, str]) -> None:
        self.started = time.monotonic()
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jobs.cli", "run", "--config", str(config)],
                cwd=ROOT,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def kill(self) -> bool:
        """SIGKILL; whether that is what ended it."""
        self._process.kill()
        return self._process.wait() == -signal.SIGKILL

    def wait(self, limit_s: float) -> int:
        """Its exit code, once it has ended by itself.

        Raises:
            subprocess.TimeoutExpired: it has not.
        """
        return self._process.wait(limit_s)
