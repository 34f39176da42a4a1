"""Results as dated files: what was run, on what, with which versions."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def write_result(
    name: str, settings: dict[str, Any], rows: Sequence[dict[str, Any]], folder: Path
) -> Path:
    """Write FOLDER/NAME-DATE.json.

    Args:
        name: of the benchmark.
        settings: it was run with.
        rows: what it measured.
        folder: made where it is missing.

    Returns:
        The file.
    """
    now = datetime.now(UTC)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{now:%Y-%m-%d}.json"
    result = {
        "benchmark": name,
        "date": f"{now:%Y-%m-%d %H:%M} UTC",
        "machine": machine(),
        "settings": settings,
        "rows": list(rows),
    }
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "commit": _commit(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _commit() -> str | None:
    """Of the code, where it runs from its repository."""
    try:
        done = subprocess.run(
            ("git", "describe", "--always", "--dirty"),
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def use_threads(count: int) -> None:
    """Of torch; one is calm on a shared machine."""
    torch.set_num_threads(count)
