"""How far a job is: as a line, as a table, and from the line that another machine wrote."""

import re
from dataclasses import dataclass

from rich.table import Table

_LINE = re.compile(r" *(?P<seconds>\d+) s  (?P<stages>\S.*)")
_STAGE = re.compile(
    r"(?P<name>\w+) (?P<rows>\d+)/(?P<total>\d+) \((?P<rate>[\d.]+) rows/s\)"
    r"(?:, (?P<escalated>\d+)% escalated)?(?:, (?P<failed>\d+) failed)?"
)
_BETWEEN = "   "


@dataclass(frozen=True)
class StageProgress:
    """Of one stage.

    Attributes:
        name: of the stage.
        rows: that left it.
        rate: rows per second.
        escalated: share of them that goes on to the large model; None where none can.
        failed: of the rows.
    """

    name: str
    rows: int
    rate: float
    escalated: float | None
    failed: int


@dataclass(frozen=True)
class Progress:
    """Of a job.

    Attributes:
        seconds: since its start.
        total: rows that it has to do.
        stages: in their order.
    """

    seconds: float
    total: int
    stages: tuple[StageProgress, ...]


def progress_line(progress: Progress) -> str:
    """For logs."""
    parts = []
    for stage in progress.stages:
        text = f"{stage.name} {stage.rows}/{progress.total} ({stage.rate:.1f} rows/s)"
        if stage.escalated is not None:
            text += f", {stage.escalated:.0%} escalated"
        if stage.failed:
            text += f", {stage.failed} failed"
        parts.append(text)
    return f"{progress.seconds:5.0f} s  " + _BETWEEN.join(parts)


def parsed_progress(line: str) -> Progress | None:
    """What `progress_line` told, to its digits; None of any other line."""
    whole = _LINE.fullmatch(line)
    if whole is None:
        return None
    stages = [_STAGE.fullmatch(part) for part in whole["stages"].split(_BETWEEN)]
    found = [stage for stage in stages if stage is not None]
    if len(found) < len(stages):
        return None
    return Progress(float(whole["seconds"]), int(found[0]["total"]), tuple(map(_stage, found)))


def progress_table(progress: Progress) -> Table:
    """For a terminal."""
    table = Table("stage", box=None, header_style="bold")
    for header in ("rows", "of", "rows/s", "escalated", "failed"):
        table.add_column(header, justify="right")
    for stage in progress.stages:
        table.add_row(
            stage.name,
            f"{stage.rows:,}",
            f"{progress.total:,}",
            f"{stage.rate:.1f}",
            "" if stage.escalated is None else f"{stage.escalated:.0%}",
            f"{stage.failed:,}" if stage.failed else "",
        )
    return table


def _stage(found: re.Match[str]) -> StageProgress:
    escalated = found["escalated"]
    return StageProgress(
        found["name"],
        int(found["rows"]),
        float(found["rate"]),
        None if escalated is None else int(escalated) / 100,
        int(found["failed"] or 0),
    )
