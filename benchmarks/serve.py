"""The live endpoint under load: what it adds, how it scales, what it refuses, what deaths cost.

`sgl serve` runs as an operator runs it, with the trained pair; clients, endpoint and models share
the machine, so that figures are ratios within a run or hold for this machine alone. The load comes
from Locust in a process of its own.

1. Overhead: one client, record by record in turns with the bare engine, medians.
2. Closed loop: both models alone and the cascade, against the number of users. Streams.
3. Streams that nobody reads.
4. Overload: an open loop at four times what the cascade has done for sixteen users.
5. Kills: a replica of each kind, at half of what the endpoint can do.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.endpoint import Endpoint, endpoint, write_bodies
from benchmarks.load import Latency, Loader, rate
from benchmarks.load_plan import Plan
from benchmarks.measure import Ratio
from benchmarks.serve_closed import USERS, closed, overhead
from benchmarks.serve_kills import SETTINGS, VICTIMS, kill
from benchmarks.serve_overload import deaf, overloaded
from serving.config import ServeConfig
from testbed.records import Record, draw_records

RECORDS = 12
_DEAF = 64
_KILL_S = 30.0
_HALF = 0.5

Row = dict[str, Any]


def measure(
    rounds: int = 5,
    seconds: int = 4,
    overload: int = 60,
    records: int = RECORDS,
    users: Sequence[int] = USERS,
) -> list[Row]:
    """All parts, in the order above; see `report`.

    Args:
        rounds: of 1 and 2.
        seconds: of each closed loop.
        overload: seconds of 4.
        records: of the held-out split, which are asked in turn.
        users: of 2.
    """
    drawn = list(draw_records("heldout", records))
    with tempfile.TemporaryDirectory(prefix="sgl-bench-") as name, Loader() as loader:
        folder = Path(name)
        with endpoint() as one:
            rows = overhead(one, endpoint_config(), drawn, rounds)
            rows += closed(one, loader, drawn, folder, rounds=rounds, seconds=seconds, users=users)
            rows.append(deaf(one, drawn, _DEAF))
            most = max(row["per_s"] for row in rows if row.get("system") == "pair")
            rows.append(overloaded(one, loader, drawn, folder, capacity=most, seconds=overload))
        with endpoint(SETTINGS) as one:
            per_s = _HALF * _capacity(one, loader, drawn, folder, seconds)
            for victim in VICTIMS:
                rows.append(kill(one, victim, loader, drawn, folder, per_s=per_s, seconds=_KILL_S))
    return rows


def endpoint_config() -> ServeConfig:
    """Of an endpoint without options."""
    from argparse import ArgumentParser

    from jobs.serve import add_arguments, config_of

    parser = ArgumentParser()
    add_arguments(parser)
    return config_of(parser.parse_args([]))


def _capacity(
    one: Endpoint, loader: Loader, records: Sequence[Record], folder: Path, seconds: float
) -> float:
    """Answers per second of the cascade for sixteen users."""
    path = write_bodies(records, "pair", folder, stream=False)
    samples = loader.run(Plan(one.url, path, 2 * seconds, users=USERS[-1]))
    end = max(sample.at for sample in samples)
    return rate(samples, min(sample.at for sample in samples), end, within_s=float("inf"))


def report(rows: Sequence[Row]) -> str:
    """As tables of text."""
    parts: dict[str, Callable[[Sequence[Row]], list[str]]] = {
        "overhead": _overheads,
        "closed": _closed,
        "deaf": _deaf,
        "overload": _overloads,
        "kill": _kills,
    }
    told = []
    for part, tell in parts.items():
        if found := [row for row in rows if row["part"] == part]:
            told += [*tell(found), ""]
    return "\n".join(told).rstrip()


def _overheads(rows: Sequence[Row]) -> list[str]:
    return [
        f"{row['system']:<11} bare engine {row['bare_ms']:.1f} ms, served {row['served_ms']:.1f}: "
        f"+{row['overhead_ms']:.1f} [{row['overhead_low_ms']:.1f}, {row['overhead_high_ms']:.1f}], "
        f"of which {row['inside_ms']:.1f} in the endpoint's own part ({row['requests']} requests)"
        for row in rows
    ]


def _closed(rows: Sequence[Row]) -> list[str]:
    lines = [
        f"{'users':>5} {'system':<11} {'answers/s':>9} {'of pair:large':>24} "
        f"{'latency p50/90/99 ms':>21} {'first text p50/90/99':>21} {'unanswered':>10}"
    ]
    for row in rows:
        latency, first = Latency(**row["latency_ms"]), Latency(**row["first_text_ms"])
        lines.append(
            f"{row['users']:>5} {row['system']:<11} {row['per_s']:>9.1f} "
            f"{Ratio(**row['per_s_to_large'])!s:>24} {latency!s:>21} {first!s:>21} "
            f"{row['unanswered']:>10}"
        )
    return lines


def _deaf(rows: Sequence[Row]) -> list[str]:
    return [
        f"{row['clients']} streams that nobody reads: no slot held after {row['freed_s']:.1f} s; "
        f"another client's median {row['before_ms']:.0f} ms before, {row['meanwhile_ms']:.0f} after"
        for row in rows
    ]


def _overloads(rows: Sequence[Row]) -> list[str]:
    lines = []
    for row in rows:
        refused, recovered = row["refused_ms"], row["recovered_s"]
        slopes = ", ".join(f"{n} {v:+.1f}" for n, v in row["memory_mib_per_minute"].items())
        memory = row["memory_mib"]
        lines += [
            f"overload: {row['asked_per_s']:.0f} requests/s for {row['seconds']} s at a capacity "
            f"of {row['capacity_per_s']:.1f}/s",
            f"  answered {row['answered']} in {Latency(**row['answered_ms'])} ms, refused "
            f"{row['refused']} ({row['refused_told_when']} said when to come again) in "
            f"{f'{refused:.0f} ms' if refused else '-'}, "
            f"lost {row['lost']} {row['lost_statuses']}",
            f"  goodput {row['goodput_per_s']:.1f}/s, {row['goodput_to_capacity']:.2f} of the "
            f"capacity; recovered "
            f"{f'{recovered:.1f} s' if recovered is not None else 'NOT'} after its end",
            f"  memory {memory['begin']:.0f} MiB, peak {memory['peak']:.0f}, at the end "
            f"{memory['end']:.0f}; MiB per minute in the second half: {slopes}",
        ]
    return lines


def _kills(rows: Sequence[Row]) -> list[str]:
    lines = []
    for row in rows:
        back, last = row["back_s"], row["last_failure_s"]
        lines.append(
            f"kill 1 of {row['of']} {row['victim']}, at {row['per_s']:.1f}/s: of {row['requests']} "
            f"requests {row['failed_first']} failed, {row['lost'] + row['refused']} with the "
            f"client's retries; statuses {row['first_statuses']}; last failure "
            f"{f'{last:.1f} s' if last is not None else '-'} after, back after "
            f"{f'{back:.1f} s' if back is not None else 'TOO LONG'}"
        )
    return lines
