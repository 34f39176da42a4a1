"""`sgl evaluate`: how right an output is, as a table or as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from infra.s3 import DEFAULT, StorageConfig
from jobs.json_text import print_json
from jobs.tables import share
from pipeline.config import absolute_path
from pipeline.evaluation import Evaluation, Line, evaluate, scale_of
from pipeline.scores import Wanted
from pipeline.scoring import score_output
from sgl.errors import ConfigurationError
from sgl.metrics import BY_KIND
from sgl.metrics import DEFAULT as DEFAULT_METRIC
from sgl.metrics.yes_no import YesNoCounts
from sgl.statistics import Estimate


def show_evaluation(
    output: str, wanted: Wanted, *, as_json: bool, storage: StorageConfig = DEFAULT
) -> None:
    """Score an output directory and print the figures.

    Args:
        output: the directory, or its URI.
        wanted: measures, groups and reference.
        as_json: one JSON object instead of tables.
        storage: how S3 is reached.

    Raises:
        ConfigurationError: there is no output, or nothing in it that could be scored so.
    """
    found = evaluate(score_output(absolute_path(output), wanted, storage))
    if as_json:
        print_json(plain(found, wanted))
        return
    console = Console()
    console.print(evaluation_table(found, wanted))
    for line in remarks(found, wanted):
        console.print(line, highlight=False, soft_wrap=True)


def wanted_of(
    metrics: Sequence[str], by: str | None, cluster: str | None, reference: str | None
) -> Wanted:
    """What the command line asks for.

    Args:
        metrics: names of measures, or GROUP=NAME.
        by: see Wanted.
        cluster: likewise.
        reference: likewise; None means the accepted answers.

    Raises:
        ConfigurationError: two measures for the same rows, or groups that nothing tells.
    """
    named: dict[str, str] = {}
    for text in metrics:
        group, _, name = text.rpartition("=")
        if group in named:
            raise ConfigurationError(f"--metric: two for {group or 'all records'}; leave one out")
        named[group] = name
    metric = named.pop("", DEFAULT_METRIC)
    if named and by is None:
        raise ConfigurationError("--metric GROUP=NAME: needs --by COLUMN, which tells the groups")
    if metric == BY_KIND and by is None:
        raise ConfigurationError(f"--metric {BY_KIND}: needs --by COLUMN, which tells the kinds")
    return Wanted(metric, named, by, cluster, reference or Wanted().reference)


def plain(found: Evaluation, wanted: Wanted) -> dict[str, Any]:
    """For JSON."""
    return {
        "reference": wanted.reference,
        "by": wanted.by,
        "cluster": wanted.cluster,
        "overall": _plain(found.overall),
        "routes": {line.name: _plain(line) for line in found.routes},
        "groups": {line.name: _plain(line) for line in found.groups},
        "unscored": found.unscored,
        "damaged_files": found.damaged,
    }


def _plain(line: Line) -> dict[str, Any]:
    data = asdict(line)
    del data["name"]
    return data | {"yes_no": line.yes_no and yes_no_figures(line.yes_no)}


def yes_no_figures(counts: YesNoCounts) -> dict[str, float]:
    """The figures that POPE reports, and how many answers said neither."""
    return {
        "accuracy": counts.accuracy,
        "precision": counts.precision,
        "recall": counts.recall,
        "f1": counts.f1,
        "yes_share": counts.yes_share,
        "unclear": counts.unclear,
    }


def evaluation_table(found: Evaluation, wanted: Wanted) -> Table:
    """One line for all records, each route and each group."""
    table = Table("", box=None, header_style="bold")
    small = found.overall.small_answer is not None
    for header in ("metric", "records", "score", *(["small model alone"] if small else [])):
        table.add_column(header, justify="right")
    lines = [("all", found.overall)]
    lines += [(f"by the {line.name} model", line) for line in found.routes]
    lines += [(f"{wanted.by} {line.name}", line) for line in found.groups]
    for name, line in lines:
        cells = [name, line.metric, f"{line.records:,}", _score(line, line.answer)]
        table.add_row(*cells, *([_score(line, line.small_answer)] if small else []))
    return table


def remarks(found: Evaluation, wanted: Wanted) -> list[str]:
    """What the table does not tell, one line each."""
    overall = found.overall
    lines = []
    if overall.failed:
        told = share(overall.failed, overall.records)
        lines.append(f"failed: {told} of the scored records, with score 0")
    if found.unscored:
        lines.append(f"not scored, without a reference: {found.unscored:,} records")
    if found.damaged:
        lines.append(f"not read: {found.damaged:,} data files, which are gone or damaged")
    for line in (overall, *found.groups):
        if line.yes_no is not None:
            figures = yes_no_figures(line.yes_no)
            told = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
            lines.append(f"yes or no, {line.name}: {told}")
    images = f"images by '{wanted.cluster}'" if wanted.cluster else "every record by itself"
    lines.append(f"in brackets: 95 % intervals, {images}; reference: {wanted.reference}")
    return lines


def _score(line: Line, estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    if scale_of(line.metric) != 1:
        return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
    return f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"
