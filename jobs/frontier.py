"""`sgl evaluate --frontier`: what every cascade costs at a stated quality, as tables or as JSON."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from infra.s3 import StorageConfig
from jobs.figures import check_drawable
from jobs.frontier_figure import draw_frontier
from jobs.json_text import json_text, print_json
from jobs.tables import without_width
from pipeline.answered import FLOPS, Sampled, read_sampled
from pipeline.config import absolute_path
from sgl.calibration import NOBODY_EXITS, UNPRUNED, Pruned
from sgl.frontier import BUDGET, KEPT, SPLITS, Curve, Frontier, frontier
from sgl.metrics import DEFAULT as DEFAULT_METRIC
from sgl.statistics import Estimate
from sgl.strategies import BOTH, LARGE, PRUNE, SMALL, Setting


def show_frontier(options: argparse.Namespace, storage: StorageConfig) -> None:
    """Compute the frontier of an output and print it.

    Args:
        options: of the command line: output, metric, cluster, json, figures.
        storage: how S3 is reached.

    Raises:
        ConfigurationError: see pipeline.answered; or figures are wanted and cannot be drawn.
    """
    if options.figures:
        check_drawable()
    metric = options.metric[0] if options.metric else DEFAULT_METRIC
    sampled = read_sampled(absolute_path(options.output), metric, options.cluster, storage)
    found = {unit: frontier(one) for unit, one in sampled.answered.items()}
    result = plain(found, sampled, metric, options.cluster)
    if options.figures:
        write_figures(result, Path(options.figures))
    if options.json:
        print_json(result)
        return
    console = Console()
    for unit, one in found.items():
        console.print(frontier_table(one, unit))
    console.print(ways_table(found[FLOPS], sampled))
    for line in remarks(found[FLOPS], sampled, metric, options.cluster):
        console.print(line, highlight=False, soft_wrap=True)


def write_figures(result: dict[str, Any], folder: Path) -> None:
    """Write frontier.png and frontier.json; the folder is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    draw_frontier(result, folder / "frontier.png")
    (folder / "frontier.json").write_text(json_text(result), encoding="utf-8")


def plain(
    found: dict[str, Frontier], sampled: Sampled, metric: str, cluster: str | None
) -> dict[str, Any]:
    """For JSON; costs are shares of large only."""
    first = found[FLOPS]
    return {
        "records": first.records,
        "metric": metric,
        "reference": sampled.reference,
        "cluster": cluster,
        "clusters": first.clusters,
        "left_out": sampled.left_out,
        "ways": [
            asdict(way) | {"average_retention": None if share is None else round(share, 4)}
            for way, share in sampled.retention.items()
        ],
        "recovered": first.recovered and asdict(first.recovered),
        "costs": {
            unit: {name: _plain_curve(curve) for name, curve in one.curves.items()}
            for unit, one in found.items()
        },
    }


def _plain_curve(curve: Curve) -> dict[str, Any]:
    return {
        "points": [
            _plain_setting(one.setting) | {"cost": asdict(one.cost), "quality": asdict(one.quality)}
            for one in curve.points
        ],
        "budgets": [
            {"budget": one.budget, "chosen": _plain_setting(one.setting)}
            | {name: asdict(getattr(one, name)) for name in ("cost", "quality", "kept")}
            for one in curve.budgets
        ],
        "least": [
            {"kept": one.kept, "chosen": _plain_setting(one.setting), "cost": asdict(one.cost)}
            for one in curve.least.values()
            if one is not None
        ],
    }


def _plain_setting(setting: Setting) -> dict[str, Any]:
    return {name: value for name, value in asdict(setting).items() if value is not None}


def frontier_table(found: Frontier, unit: str) -> Table:
    """One line per strategy: the least cost of a stated quality, and the quality of a cost."""
    table = Table(f"cost in {unit}", box=None, header_style="bold")
    headers = ["quality of all its policies"]
    headers += [f"least cost that keeps {share:.0%}" for share in KEPT]
    for header in (*headers, f"quality at {BUDGET:.0%} of the cost"):
        table.add_column(header, justify="right")
    for name, curve in found.curves.items():
        values = [one.quality.value for one in curve.points]
        span = f"{min(values):.1%}" if len(values) == 1 else f"{min(values):.1%}-{max(values):.1%}"
        at_budget = curve.within(BUDGET)
        least = ("" if one is None else _told(one.cost) for one in curve.least.values())
        table.add_row(name, span, *least, "" if at_budget is None else _told(at_budget.quality))
    return table


def ways_table(found: Frontier, sampled: Sampled) -> Table:
    """The plain ways to answer, without a choice."""
    table = Table("without a choice", box=None, header_style="bold")
    for header in ("average retention", "quality", "cost, of large only"):
        table.add_column(header, justify="right")
    for name in (SMALL, LARGE, PRUNE):
        for point in found.curves[name].points if name in found.curves else ():
            told, way = f"{name}, {described(point.setting)}", point.setting.pruned
            share = None if way is None else sampled.retention[way]
            kept = "" if share is None else f"{share:.0%}"
            table.add_row(told.removesuffix(", "), kept, _told(point.quality), _told(point.cost))
    return table


def remarks(found: Frontier, sampled: Sampled, metric: str, cluster: str | None) -> list[str]:
    """What the tables do not tell, one line each."""
    lines = []
    for share, least in found.curves[BOTH].least.items():
        if least is not None:
            lines.append(f"{BOTH}, for {share:.0%}: {described(least.setting)}")
    if found.recovered is not None:
        lines.append(
            "of what routing could gain between chance and a perfect order, the exit score "
            f"realises {_told(found.recovered)}"
        )
    lines += [f"left out: {count:,} records, {why}" for why, count in sampled.left_out.items()]
    lines.append(
        "least costs and the quality at a cost are cross-fitted: chosen on one half of the "
        f"{'images' if cluster else 'records'}, measured on the other, averaged over {2 * SPLITS} "
        "halves"
    )
    qualities = [one.quality for curve in found.curves.values() for one in curve.points]
    if any(quality.low == quality.high for quality in qualities):
        lines.append(without_width(found.clusters, "images" if cluster else "records"))
    images = f"images by '{cluster}'" if cluster else "every record by itself"
    lines.append(
        f"{found.records:,} records; quality: {metric}, reference: {sampled.reference}; in "
        f"brackets: 95 % intervals, {images}"
    )
    return lines


def described(setting: Setting) -> str:
    """One policy in words."""
    parts = []
    if setting.threshold is not None:
        nobody = setting.threshold == NOBODY_EXITS
        parts.append("no exits" if nobody else f"threshold {setting.threshold:.4g}")
    if setting.exit_share is not None:
        parts.append(f"{setting.exit_share:.0%} exit")
    if setting.pruned is not None:
        parts.append(way_named(setting.pruned))
    return ", ".join(parts)


def way_named(way: Pruned) -> str:
    """As `--pruning` has it; a pruner that is not the guided one by its name."""
    by = "pruned" if way.pruner == UNPRUNED.pruner else way.pruner
    return "unpruned" if way == UNPRUNED else f"{by} {way.prune_layer:g}:{way.keep_ratio:g}"


def _told(estimate: Estimate) -> str:
    return f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"
