"""Logs as JSON, one object per line, each with the id of its run: for those who collect them.

The driver's own lines go to its standard output; those of workers stay in Ray's log folder on their
nodes, where collectors of a cluster look for them.
"""

import json
import logging
import os
import secrets
import socket
import sys
from datetime import UTC, datetime
from io import TextIOBase
from typing import Any, Literal, TextIO

from actors.config import StrictModel

HOOK = "pipeline.logs.in_worker"
"""For Ray: called in each worker before anything else."""
_RUN_ID = "SGL_RUN_ID"
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class LogsConfig(StrictModel):
    """How a run tells what it does.

    Attributes:
        format: lines for people, or JSON for programs.
    """

    format: Literal["text", "json"] = "text"


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; what was given as `extra` is in it."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        data = _line(record.levelname, record.getMessage(), record.created) | {
            "logger": record.name,
            **{name: value for name, value in vars(record).items() if name not in _PLAIN},
        }
        if record.exc_info:
            data["exception"] = self.formatException(record.exc_info)
        return json.dumps(data, default=str)


class JsonLines(TextIOBase):
    """A stream for what would be printed: each line that is no blank becomes one of JSON.

    Args:
        stream: where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._rest = ""

    def write(self, text: str) -> int:
        """See TextIOBase."""
        *lines, self._rest = (self._rest + text).split("\n")
        now = datetime.now(UTC).timestamp()
        for line in filter(None, (one.strip() for one in lines)):
            self._stream.write(json.dumps(_line("INFO", line, now)) + "\n")
        self._stream.flush()
        return len(text)

    def writable(self) -> bool:
        """It is."""
        return True


def made_run_id() -> str:
    """For one run: when it begins, and a few digits at random."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def log_as_json(run_id: str) -> None:
    """From now on, in this process and in workers that it starts."""
    os.environ[_RUN_ID] = run_id
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.root.handlers[:] = [handler]
    logging.captureWarnings(True)


def in_worker() -> None:
    """The hook."""
    log_as_json(os.environ.get(_RUN_ID, ""))


def runtime_env(run_id: str) -> dict[str, Any]:
    """For ray.init."""
    return {"env_vars": {_RUN_ID: run_id}, "worker_process_setup_hook": HOOK}


def _line(level: str, message: str, seconds: float) -> dict[str, Any]:
    return {
        "time": datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds"),
        "level": level,
        "message": message,
        "run_id": os.environ.get(_RUN_ID, ""),
        "node": socket.gethostname(),
        "pid": os.getpid(),
    }
