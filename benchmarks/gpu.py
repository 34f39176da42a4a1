"""The engine on one GPU: shares of what the device gives, not seconds.

`python -m benchmarks.gpu --output DIR` measures the device's matmul peak and copy bandwidth, then a
random decoder in the shape of InternVL3-8B's, bfloat16: prefill as a share of the peak, what the
capture adds in torch and fused, pruning against its ideal, decode against the time that reading the
weights and both caches takes, whether both captures agree, and peak memory. No checkpoint, no
network. A part that fails is reported as such and the others go on; the result is written after
every part.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu_parts import PARTS, Part, Row, Setup
from benchmarks.record import write_result

MINUTES = 8.0
"""No part begins later."""


def measure(
    setup: Setup,
    parts: Mapping[str, Part] = PARTS,
    minutes: float = MINUTES,
    after_part: Callable[[list[Row]], object] | None = None,
) -> list[Row]:
    """Every part that time is left for; a part that fails leaves a row with its error.

    Args:
        setup: what is measured.
        parts: by name.
        minutes: no part begins later.
        after_part: gets all rows so far.
    """
    started = time.monotonic()
    rows: list[Row] = []
    for name, part in parts.items():
        begun = time.monotonic()
        if begun - started > 60 * minutes:
            done: list[Row] = [{"error": f"left out: {minutes:g} minutes were over"}]
        else:
            done = _guarded(part, setup)
        took_s = time.monotonic() - begun
        rows += [{"part": name, "part_s": round(took_s, 1)} | row for row in done]
        if after_part:
            after_part(rows)
    return rows


def _guarded(part: Part, setup: Setup) -> list[Row]:
    try:
        return part(setup)
    except Exception as error:  # whatever it is, the other parts shall have their figures
        return [{"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}]
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def report(rows: Sequence[Row]) -> str:
    """As a table of text."""
    lines = [f"{'part':15} {'case':38} {'figure':28} {'value':>10}  goal"]
    for row in rows:
        if "error" in row:
            lines.append(f"{row['part']:15} failed: {row['error'].splitlines()[0]}")
            continue
        goal = f"{row['goal']}, {'met' if row['met'] else 'MISSED'}" if "goal" in row else ""
        lines.append(
            f"{row['part']:15} {row['case']:38} {row['figure']:28} {row['value']:>10.4g}  {goal}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=Setup.rounds, metavar="N")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("benchmarks.gpu measures a GPU, and torch sees none on this machine", file=sys.stderr)
        return 1
    setup = Setup(rounds=options.rounds)
    settings = asdict(setup) | {"dtype": str(setup.dtype)}
    write = partial(write_result, "gpu", settings, folder=options.output)
    rows = measure(setup, after_part=write)
    print(report(rows))
    return int(any("error" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
