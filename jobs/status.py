"""`sgl status`: how far an output is, as a table or as JSON."""

import time
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from jobs.json_text import print_json
from jobs.settings import storage_at
from jobs.tables import share
from pipeline.balance.record import BalanceRecord
from pipeline.config import absolute_path
from pipeline.output import Alarm
from pipeline.status import Status, status


def show_status(output: str, *, as_json: bool, endpoint_url: str | None = None) -> None:
    """Print the status of an output directory.

    Args:
        output: the directory, or its URI.
        as_json: one JSON object instead of a table.
        endpoint_url: of an S3 server other than AWS.

    Raises:
        ConfigurationError: there is no output of `sgl run`.
    """
    storage = storage_at(endpoint_url)
    now = time.time()
    found = status(absolute_path(output), now, storage)
    if as_json:
        print_json(plain(found))
    else:
        Console().print(status_table(found, now))


def plain(found: Status) -> dict[str, Any]:
    """For JSON."""
    writer, alarm = found.writer, found.alarm
    told = {"run_id", "host", "pid", "beat_at"}
    return asdict(found) | {
        "writer": writer and writer.model_dump(include=told),
        "alarm": alarm and alarm.model_dump(mode="json"),
        "balance": found.balance and found.balance.model_dump(mode="json"),
    }


def status_table(found: Status, now: float) -> Table:
    """Every figure of a status."""
    table = Table(show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column()
    for name, value in _rows(found, now):
        table.add_row(name, value)
    return table


def _rows(found: Status, now: float) -> list[tuple[str, str]]:
    total, failed = found.records, sum(sum(kinds.values()) for kinds in found.failed.values())
    state = f"{found.state} since {found.finished_at}" if found.finished_at else found.state
    rows = [
        ("state", state),
        ("run", f"{found.run_id}, mode {found.mode}, settings {found.fingerprint}"),
        ("records", f"{total:,}"),
        ("done", share(sum(found.done.values()), total)),
        *((f"  by the {route} model", share(n, total)) for route, n in found.done.items()),
        ("failed", share(failed, total)),
    ]
    for stage, kinds in found.failed.items():
        listed = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
        rows.append((f"  in the {stage} stage", listed))
    rows.append(("missing", share(found.missing, total)))
    if found.surplus:
        rows.append(("surplus", f"{found.surplus:,} rows; the next run removes them"))
    if found.uncommitted:
        rows.append(("not committed", f"{found.uncommitted:,} data files"))
    if found.broken:
        rows.append(("gone or damaged", f"{found.broken:,} data files; the next run redoes them"))
    if found.alarm is not None:
        rows.append(("alarm", _alarm(found.alarm)))
    if found.balance is not None:
        rows += [("pools", f"{_held(found.balance)}, {len(found.balance.moves)} moves")]
        rows += [(f"  at {move.at_s:.0f} s", move.told()) for move in found.balance.moves]
    if found.writer is not None:
        one = found.writer
        heard = f"last heard of {now - one.beat_at:.0f} s ago"
        rows.append(("writer", f"process {one.pid} on {one.host}, {heard}"))
    return rows


def _held(balance: BalanceRecord) -> str:
    return ", ".join(f"{role} {count} replicas" for role, count in balance.held.items())


def _alarm(alarm: Alarm) -> str:
    return (
        f"raised {alarm.raised_at}: agreement {alarm.promise.agreement:g} was promised, and of the "
        f"latest {alarm.latest:,} of {alarm.records:,} probed records {alarm.agreement:.1%} agreed "
        f"(p = {alarm.p:.2g})"
    )
