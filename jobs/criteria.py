"""`sgl evaluate --criteria`: what records could exit by, side by side, as a table or as JSON."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from infra.s3 import StorageConfig
from jobs.figures import check_drawable
from jobs.json_text import json_text, print_json
from pipeline.config import absolute_path
from pipeline.criteria import RIGHT, Candidates, read_candidates
from pipeline.scores import Wanted
from sgl.errors import ConfigurationError
from sgl.exit_quality import ExitOrder, exit_curve, lead, quality
from sgl.metrics import BY_KIND
from sgl.statistics import Bootstrap, Estimate, mean_score
from sgl.types import Criterion

FIGURE = "criteria.png"
FIGURES = "criteria.json"
_HEADERS = {
    "auroc": "AUROC",
    "exits_area": "accuracy of exits",
    "lead": "over mean",
    "cascade_area": "accuracy of cascade",
    "calibration_error": "calibration error",
}


def show_criteria(options: argparse.Namespace, wanted: Wanted, storage: StorageConfig) -> int:
    """Compare the criteria on an output; prints what it came to.

    Args:
        options: of the command line: output, figures, json.
        wanted: how answers are scored.
        storage: how S3 is reached.

    Raises:
        ConfigurationError: nothing to compare, or groups that nothing is done with; or figures are
            wanted and cannot be drawn.
    """
    if wanted.by and not wanted.metrics and wanted.metric != BY_KIND:
        raise ConfigurationError(
            f"--by {wanted.by}: --criteria takes all records together, and needs groups only for "
            f"--metric GROUP=NAME or --metric {BY_KIND}; leave it out"
        )
    if options.figures:
        check_drawable()
    found = read_candidates(absolute_path(options.output), wanted, storage)
    result = compare(found, wanted)
    if options.figures:
        _write(result, Path(options.figures))
    if options.json:
        print_json(result)
        return 0
    console = Console()
    console.print(criteria_table(result))
    for line in remarks(result):
        console.print(line, highlight=False, soft_wrap=True)
    return 0


def compare(found: Candidates, wanted: Wanted) -> dict[str, Any]:
    """Every figure, as plain data; criteria in the order of their AUROC, the best first."""
    bootstrap = Bootstrap(found.clusters)
    by_name = {one: _criterion(bootstrap, found, one) for one in found.scores}
    large = found.large
    return {
        "records": len(found.right),
        "metric": wanted.metric if not wanted.metrics else "several",
        "reference": wanted.reference,
        "cluster": wanted.cluster,
        "used": list(found.used),
        "small": asdict(mean_score(found.right, found.clusters)),
        "large": None if large is None else asdict(mean_score(large, found.clusters)),
        "large_pruned": None if large is None else found.pruned,
        "criteria": dict(
            sorted(by_name.items(), key=lambda item: -(item[1]["auroc"] or {"value": 0})["value"])
        ),
        "left_out": {one.value: count for one, count in found.left_out.items()},
        "unscored": found.unscored,
        "unanswered": found.unanswered,
        "damaged_files": found.damaged,
    }


def _criterion(bootstrap: Bootstrap, found: Candidates, criterion: Criterion) -> dict[str, Any]:
    scores = found.scores[criterion]
    order = ExitOrder(scores, found.right)
    return {
        **asdict(quality(bootstrap, scores, found.right, found.large)),
        "lead": _lead(bootstrap, found, criterion),
        "curve": exit_curve(scores, found.right, found.large, points=41),
        "reliability": [asdict(one) for one in order.reliability()],
    }


def _lead(bootstrap: Bootstrap, found: Candidates, criterion: Criterion) -> dict[str, float] | None:
    """Over the paper's score; of that one itself there is none."""
    if criterion is Criterion.MEAN or Criterion.MEAN not in found.scores:
        return None
    orders = (ExitOrder(found.scores[one], found.right) for one in (criterion, Criterion.MEAN))
    return asdict(lead(bootstrap, *orders))


def _write(result: dict[str, Any], folder: Path) -> None:
    from jobs.criteria_figure import draw_criteria

    folder.mkdir(parents=True, exist_ok=True)
    (folder / FIGURES).write_text(json_text(result), encoding="utf-8")
    draw_criteria(result, folder / FIGURE)


def criteria_table(result: dict[str, Any]) -> Table:
    """One line per criterion."""
    headers = {
        name: text
        for name, text in _HEADERS.items()
        if any(one[name] is not None for one in result["criteria"].values())
    }
    table = Table("criterion", box=None, header_style="bold")
    for text in headers.values():
        table.add_column(text, justify="right")
    for criterion, one in result["criteria"].items():
        table.add_row(criterion, *(_text(one[name]) for name in headers))
    return table


def remarks(result: dict[str, Any]) -> list[str]:
    """What the table does not tell, one line each."""
    lines = [f"records: {result['records']:,}, the small model right on {_text(result['small'])}"]
    if result["large"]:
        which = "as the run pruned it" if result["large_pruned"] else "unpruned"
        lines[0] += f", the large one ({which}) on {_text(result['large'])}"
    if result["used"]:
        lines.append(f"exit scores of this run: {', '.join(result['used'])}")
    lines += [
        f"left out: {criterion}, which {count:,} records do not have"
        for criterion, count in result["left_out"].items()
    ]
    if {Criterion.CONSISTENCY, Criterion.MEAN} & result["left_out"].keys():
        lines.append("for these: sgl run --set guidance.all_criteria=true")
    for name, text in (
        ("unscored", "without a reference"),
        ("unanswered", "without an answer of the small model's"),
    ):
        if result[name]:
            lines.append(f"not compared, {text}: {result[name]:,} records")
    if result["damaged_files"]:
        lines.append(f"not read: {result['damaged_files']:,} data files, gone or damaged")
    lines += [
        "accuracy: mean over all exit rates, and by how much it is above the paper's score",
        f"right: a score of {RIGHT:g} or more by {result['metric']}",
    ]
    cluster = result["cluster"]
    images = f"images by '{cluster}'" if cluster else "every record by itself"
    lines.append(f"in brackets: 95 % intervals, {images}; reference: {result['reference']}")
    return lines


def _text(estimate: dict[str, float] | None) -> str:
    return "" if estimate is None else str(Estimate(**estimate))
