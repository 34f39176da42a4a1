"""What it gives that devices move between the pools: balanced runs beside fixed splits.

On nodes with GPUs that are none, and models that sleep: what is measured is how the pools are
shared out, and everything that moving costs, but for the loading of real weights. A split whose
models alone need longer than another split took cannot be the best one, and is not run.

    jump          the escalation rate goes from 10 % to 60 % halfway; it starts at the first's best
    constant      it stays; the start is the best split
    wrong start   it stays, and the start is far from the best split

Time is from the first start of a model to the last end of one: the first loading is the same for
all. Escalated records wait in memory without a limit that counts here, which favours fixed splits.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from benchmarks.balance_runs import Seconds, Stretch, local_cluster, run, write_stream

RECORDS = 800
GPUS = 8
LOW, HIGH = 0.1, 0.6

Row = dict[str, Any]


@dataclass(frozen=True)
class Scenario:
    """One stream.

    Attributes:
        name: for people.
        stretches: of it.
        start: replicas of the small and the large pool, of the balanced run.
    """

    name: str
    stretches: tuple[Stretch, ...]
    start: tuple[int, int]


def scenarios(records: int) -> tuple[Scenario, ...]:
    """Those of the module's docstring."""
    half = records // 2
    return (
        Scenario("jump", (Stretch(half, LOW), Stretch(half, HIGH)), (6, 2)),
        Scenario("constant", (Stretch(half, LOW),), (6, 2)),
        Scenario("wrong start", (Stretch(3 * half, LOW),), (2, 6)),
    )


def measure(records: int = RECORDS, only: int = 0) -> list[Row]:
    """One row per run.

    Args:
        records: of the stream that jumps.
        only: the number of one scenario, from 1 on; 0 for all.
    """
    chosen = scenarios(records)[only - 1 :][:1] if only else scenarios(records)
    with tempfile.TemporaryDirectory(prefix="sgl-bench-") as name, local_cluster(GPUS):
        return [row for one in chosen for row in _rows(one, Path(name) / one.name)]


def _rows(scenario: Scenario, folder: Path) -> Iterator[Row]:
    folder.mkdir()
    stream, seconds = write_stream(scenario.stretches, folder / "in.parquet"), Seconds()
    yield _row(scenario, scenario.start, _run(stream, folder, seconds, scenario.start, True), True)
    best_s = float("inf")
    for split, least_s in sorted(floors(scenario, seconds).items(), key=lambda item: item[1]):
        if least_s >= best_s:
            yield _row(scenario, split, {"least_s": least_s}, False)
            continue
        told = _run(stream, folder, seconds, split, False) | {"least_s": least_s}
        best_s = min(best_s, told["stream_s"])
        yield _row(scenario, split, told, False)


def floors(scenario: Scenario, seconds: Seconds) -> dict[tuple[int, int], float]:
    """What each fixed split's models need at least, were everything else for nothing."""
    return {
        (GPUS - large, large): _floor(scenario, seconds, GPUS - large, large)
        for large in range(1, GPUS)
    }


def _floor(scenario: Scenario, seconds: Seconds, small: int, large: int) -> float:
    """Of one; no record reaches the large model before the small one has come to its stretch."""
    small_s = large_s = 0.0
    for one in scenario.stretches:
        large_s = max(large_s, small_s) + one.records * one.rate * seconds.large / large
        small_s += one.records * seconds.small / small
    return max(small_s, large_s)


def _run(
    stream: Path, folder: Path, seconds: Seconds, split: tuple[int, int], balance: bool
) -> dict[str, Any]:
    name = f"{'balanced' if balance else 'fixed'}-{split[0]}-{split[1]}"
    outcome, record = run(stream, folder / name, seconds, split, balance=balance)
    told: dict[str, Any] = {"stream_s": outcome.summary.stream_s}
    if record.balance:
        told["moves"] = [one.model_dump(mode="json") for one in record.balance.moves]
    return told


def _row(scenario: Scenario, split: tuple[int, int], told: dict[str, Any], balanced: bool) -> Row:
    return {
        "scenario": scenario.name,
        "records": sum(one.records for one in scenario.stretches),
        "seconds": vars(Seconds()),
        "ray": ray.__version__,
        "balanced": balanced,
        "small": split[0],
        "large": split[1],
        **told,
    }


def ratio(rows: Sequence[Row]) -> float:
    """A balanced run's time to that of the best fixed split, of one scenario."""
    fixed = min(row["stream_s"] for row in rows if not row["balanced"] and "stream_s" in row)
    return _took(rows) / float(fixed)


def _took(rows: Sequence[Row]) -> float:
    """A balanced run."""
    (balanced,) = (row["stream_s"] for row in rows if row["balanced"])
    return float(balanced)


def report(rows: Sequence[Row]) -> str:
    """As a table of text."""
    lines = []
    for name in dict.fromkeys(row["scenario"] for row in rows):
        some = [row for row in rows if row["scenario"] == name]
        lines.append(f"{name}: {some[0]['records']} records on {GPUS} GPUs")
        lines += map(_line, some)
        least_s = min(row["least_s"] for row in some if not row["balanced"])
        lines.append(f"  balanced / best fixed split: {ratio(some):.2f}")
        lines.append(f"  balanced / least that any of them needs: {_took(some) / least_s:.2f}")
    return "\n".join(lines)


def _line(row: Row) -> str:
    split = f"{row['small']} small, {row['large']} large"
    if row["balanced"]:
        moves = "; ".join(
            f"{one['at_s']:.0f} s: {one['small'][1]} and {one['large'][1]}" for one in row["moves"]
        )
        return f"  balanced from {split}: {row['stream_s']:.1f} s ({moves or 'no moves'})"
    if "stream_s" in row:
        return f"  fixed {split}: {row['stream_s']:.1f} s"
    return f"  fixed {split}: at least {row['least_s']:.1f} s, not run"
