"""The picture of a frontier: quality against cost, one line or mark per strategy.

Strategies differ in line, mark and lightness, so that the picture reads in grey too.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.answered import FLOPS
from sgl.calibration import UNPRUNED
from sgl.frontier import BUDGET, KEPT, front
from sgl.strategies import (
    BOTH,
    CASCADE,
    LARGE,
    ORACLE,
    PRUNE,
    RANDOM,
    RANDOM_PRUNED,
    SMALL,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINES: dict[str, dict[str, Any]] = {
    ORACLE: {"color": "0.45", "linestyle": "-.", "linewidth": 1.3},
    BOTH: {"color": "#08306b", "linestyle": "-", "linewidth": 2.4},
    CASCADE: {
        "color": "#e6850e",
        "linestyle": "-",
        "linewidth": 1.6,
        "marker": ".",
        "markevery": 5,
    },
    RANDOM_PRUNED: {"color": "0.35", "linestyle": "--", "linewidth": 1.1},
    RANDOM: {"color": "0.6", "linestyle": ":", "linewidth": 1.6},
}
_CROSS_FITTED = (BOTH, RANDOM_PRUNED)
"""Strategies with several knobs, whose best is drawn; the others' lines have no choice in them."""
_MARKS = {SMALL: "v", LARGE: "s", PRUNE: "D"}
_OFFSETS = {SMALL: (-12, -13), LARGE: (7, 4)}
"""Of a mark's words, in points."""
_MOST_COST = 112


def draw_frontier(result: dict[str, Any], path: Path) -> None:
    """Write the picture.

    Args:
        result: of `sgl evaluate --frontier`, as plain data.
        path: its suffix names the format.
    """
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(8, 5.2), dpi=150, layout="constrained")
    axes = canvas.add_subplot()
    curves = result["costs"][FLOPS]
    for name, style in _LINES.items():
        if name in curves:
            _draw_line(axes, name, curves[name], style)
    for name, mark in _MARKS.items():
        if name in curves:
            _draw_marks(axes, name, curves[name]["points"], mark)
    _draw_aims(axes, curves[LARGE]["points"][0]["quality"]["value"])
    _frame(axes, result)
    canvas.legend(loc="outside lower center", ncols=4, fontsize="small")
    canvas.savefig(path, metadata={"Software": None} if path.suffix == ".png" else None)


def _draw_line(axes: "Axes", name: str, curve: dict[str, Any], style: dict[str, Any]) -> None:
    fitted = name in _CROSS_FITTED
    points = curve["budgets" if fitted else "points"]
    costs, qualities = ([100 * one[of]["value"] for one in points] for of in ("cost", "quality"))
    axes.plot(costs, qualities, label=f"{name} (cross-fitted)" if fitted else name, **style)
    if name == BOTH:
        low, high = ([100 * one["quality"][end] for one in points] for end in ("low", "high"))
        axes.fill_between(costs, low, high, color=style["color"], alpha=0.13, linewidth=0)


def _draw_marks(axes: "Axes", name: str, points: list[dict[str, Any]], mark: str) -> None:
    costs, qualities = ([100 * one[of]["value"] for one in points] for of in ("cost", "quality"))
    face, size = ("white", 5) if name == PRUNE else ("black", 6)
    axes.plot(
        costs,
        qualities,
        marker=mark,
        color="black",
        linestyle="none",
        markerfacecolor=face,
        markersize=size,
        label=name,
        zorder=4,
    )
    # Those that no other one beats lie close together: their words go above and below in turns.
    above = set(front(costs, qualities)[1::2])
    for place, at in enumerate(zip(costs, qualities, strict=True)):
        told = name
        if "pruned" in points[place]:
            told = _way_named(**points[place]["pruned"])
        offset = _OFFSETS.get(name, (-32, 6) if place in above else (6, -9))
        axes.annotate(told, at, offset, textcoords="offset points", fontsize=6.5, zorder=5)


def _way_named(pruner: str, prune_layer: float, keep_ratio: float) -> str:
    by = "" if pruner == UNPRUNED.pruner else f"{pruner} "
    return f"{by}{prune_layer:g}:{keep_ratio:g}"


def _draw_aims(axes: "Axes", full: float) -> None:
    """The quality to keep and the cost to keep to."""
    axes.axhline(100 * KEPT[0] * full, color="0.75", linewidth=0.8, zorder=0)
    axes.axvline(100 * BUDGET, color="0.75", linewidth=0.8, zorder=0)
    told = f"{KEPT[0]:.0%} of large only"
    axes.annotate(
        told,
        (0, 100 * KEPT[0] * full),
        xycoords=("axes fraction", "data"),
        xytext=(4, 3),
        textcoords="offset points",
        fontsize=6.5,
        color="0.4",
    )


def _frame(axes: "Axes", result: dict[str, Any]) -> None:
    curves = result["costs"][FLOPS]
    seen = [curves[name]["points"][0]["quality"]["value"] for name in (SMALL, LARGE)]
    best = max(one["quality"]["value"] for one in curves[ORACLE]["points"])
    room = max(best - min(seen), 0.02)
    axes.set(
        xlim=(0, _MOST_COST),
        ylim=(100 * (min(seen) - 0.25 * room), 100 * (best + 0.08 * room)),
        xlabel="cost, % of the FLOPs of large only",
        ylabel=f"quality, % ({result['metric']})",
        title=f"Cost and quality of {result['records']:,} records, 95 % interval shaded",
    )
    axes.grid(alpha=0.25)
