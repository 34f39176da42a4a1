"""The figure of a study: quality against average retention, one line per pruner."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

_STYLES = {
    "guided": ("guided by the small model", "#4c78a8", "o"),
    "own": ("own attention, a first full pass", "#54a24b", "^"),
    "fastv": ("FastV", "#f58518", "s"),
    "pyramid": ("PyramidDrop", "#b8860b", "D"),
    "vision": ("vision tower's attention", "#9d755d", "v"),
    "diverse": ("DivPrune", "#e45756", "P"),
    "uniform": ("uniform", "#8a7fb8", "X"),
    "random": ("random", "#666666", "*"),
}
_DPI = 130
_APART = 0.018
"""Between neighbours at one retention, as a share of it, so that error bars do not hide others."""


def draw_pruners(data: dict[str, Any], path: Path) -> None:
    """Draw the share of the unpruned model's score against average retention and FLOPs.

    Args:
        data: as `jobs.study.plain` makes it.
        path: of the picture.
    """
    figure, axes = plt.subplots(1, 2, figsize=(14, 5.2), sharey=True)
    drawn = [one for one in data["pruned"] if None not in (one["share_of_unpruned"], _flops(one))]
    names = [name for name in _STYLES if any(one["pruner"] == name for one in drawn)]
    for place, name in enumerate(names):
        lines = sorted(
            (one for one in drawn if one["pruner"] == name),
            key=lambda one: one["average_retention"],
        )
        aside = 1 + _APART * (place - (len(names) - 1) / 2)
        _line(axes[0], name, [one["average_retention"] * aside for one in lines], lines)
        _line(axes[1], name, [_flops(one) or 0.0 for one in lines], lines)
    _label(axes[0], "average retention of visual tokens")
    _label(axes[1], "FLOPs, as a share of the unpruned large model's, ranking included")
    axes[0].set_ylabel(f"{data['metric']}, of the unpruned large model")
    axes[0].yaxis.set_major_formatter(PercentFormatter(1))
    if names:
        axes[1].legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1))
    unpruned = data["unpruned"]["value"]
    figure.suptitle(
        f"{data['records']:,} records, 95 % intervals; the large model alone scores {unpruned:.1%}",
        fontsize=10,
        color="#555555",
    )
    figure.tight_layout()
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
    plt.close(figure)


def _line(axis: Axes, name: str, at: Sequence[float], lines: Sequence[dict[str, Any]]) -> None:
    label, colour, marker = _STYLES[name]
    shares = [one["share_of_unpruned"] for one in lines]
    values = [one["value"] for one in shares]
    errors = [
        [one["value"] - one["low"] for one in shares],
        [one["high"] - one["value"] for one in shares],
    ]
    axis.errorbar(
        at,
        values,
        yerr=errors,
        label=label,
        color=colour,
        marker=marker,
        markersize=6,
        linewidth=1.6,
        elinewidth=1,
        capsize=2.5,
    )


def _flops(line: dict[str, Any]) -> float | None:
    """All that it takes: what the small model costs too, where it guides; None of a failed way."""
    with_small: float | None = line["flops_share_with_small"]
    alone: float | None = line["flops_share"]
    return alone if with_small is None else with_small


def _label(axis: Axes, x: str) -> None:
    axis.axhline(1, color="black", linewidth=0.8, linestyle=":")
    axis.set_xscale("log")
    ticks = (0.05, 0.09, 0.2, 0.35, 0.64, 1, 1.5)
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set_xlabel(x)
    axis.set_ylim(0, 1.08)
    axis.grid(alpha=0.3)
