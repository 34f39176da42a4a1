"""One picture per table of the evaluation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

_COLOURS = {
    "small": "#4c78a8",
    "large": "#e45756",
    "guided by small": "#4c78a8",
    "own global": "#54a24b",
    "FastV": "#f58518",
    "PyramidDrop": "#eeca3b",
    "vision attention": "#9d755d",
    "DivPrune": "#ff9da6",
    "uniform": "#bab0ac",
    "random": "#888888",
}
_DPI = 110


def draw_figures(result: dict[str, Any], folder: Path) -> list[Path]:
    """Write SPLIT_accuracy.png, SPLIT_ranking.png, SPLIT_pruned.png and SPLIT_exit.png.

    Args:
        result: of `testbed.evaluate`, with its split's name.
        folder: an existing one.
    """
    paths = []
    for name, draw in (
        ("accuracy", _accuracy),
        ("ranking", _ranking),
        ("pruned", _pruned),
        ("exit", _exit),
    ):
        figure, axes = plt.subplots(1, 1 if name == "accuracy" else 2, figsize=(11, 4.2))
        draw(result, list(np.atleast_1d(axes)))
        where = f"{result['split']} split, {result['records']} questions, 95 % intervals"
        figure.suptitle(where, fontsize=9, color="#555555")
        figure.tight_layout()
        path = folder / f"{result['split']}_{name}.png"
        figure.savefig(path, dpi=_DPI, metadata={"Software": None})
        plt.close(figure)
        paths.append(path)
    return paths


def _accuracy(result: dict[str, Any], axes: Sequence[Axes]) -> None:
    by_model = result["accuracy"]
    kinds = list(next(iter(by_model.values())))
    width = 0.8 / len(by_model)
    for place, (name, by_kind) in enumerate(by_model.items()):
        estimates = [by_kind[kind] for kind in kinds]
        at = np.arange(len(kinds)) + (place - (len(by_model) - 1) / 2) * width
        values, errors = _bars(estimates)
        axes[0].bar(at, values, width, yerr=errors, label=name, color=_colour(name), capsize=2)
    axes[0].set_xticks(range(len(kinds)), kinds, rotation=20)
    _label(axes[0], "Accuracy by kind of question", "", "exact match")


def _ranking(result: dict[str, Any], axes: Sequence[Axes]) -> None:
    ranking = result["ranking"]
    recalls = ranking["recall"]["0.2"]
    values, errors = _bars(list(recalls.values()))
    axes[0].bar(
        list(recalls), values, yerr=errors, color=[_colour(name) for name in recalls], capsize=3
    )
    axes[0].axhline(0.2, color="black", linewidth=0.8, linestyle=":")
    axes[0].tick_params(axis="x", rotation=15)
    _label(axes[0], "Needed tokens among the top 20 %", "", "recall", legend=False)
    for name, by_rows in ranking["recall_by_layer"].items():
        for rows, style, text in (
            ("after_image_LV", "-", "rows after the image"),
            ("last_row_LV", "--", "last prompt token"),
        ):
            line = [one["value"] for one in by_rows[rows]]
            axes[1].plot(line, style, color=_colour(name), marker=".", label=f"{name}, {text}")
    depth = [row["accuracy"]["value"] for row in result["depth"]]
    axes[1].plot(depth, color="black", linewidth=1, label="large: accuracy if blind from here on")
    _label(axes[1], "Where each layer looks", "layer (0 = first)", "recall at 20 %, or accuracy")


def _pruned(result: dict[str, Any], axes: Sequence[Axes]) -> None:
    names = list(dict.fromkeys(row["ranking"] for row in result["pruned"]))
    for axis, figure, title in (
        (axes[0], "accuracy", "Accuracy of the pruned large model"),
        (axes[1], "share_of_full", "Share of the unpruned accuracy"),
    ):
        for name in names:
            rows = [row for row in result["pruned"] if row["ranking"] == name]
            at = [100 * row["average_retention"] for row in rows]
            values, errors = _bars([row[figure] for row in rows])
            axis.errorbar(
                at, values, yerr=errors, marker="o", capsize=3, label=name, color=_colour(name)
            )
        _label(axis, title, "average retention of visual tokens, %", figure.replace("_", " "))
    full = result["accuracy"]["large"]["all"]["value"]
    axes[0].axhline(full, color="black", linewidth=0.8, linestyle=":")
    axes[1].axhline(1, color="black", linewidth=0.8, linestyle=":")


def _exit(result: dict[str, Any], axes: Sequence[Axes]) -> None:
    for name, exits in result["exit"].items():
        rates = [point["exit_rate"] for point in exits["curve"]]
        for figure, style in (("accuracy", "-"), ("accuracy_of_exits", "--")):
            text = "cascade" if figure == "accuracy" else "exits alone"
            line = [point[figure] for point in exits["curve"]]
            axes[0].plot(rates, line, style, color=_colour(name), label=f"{name}: {text}")
        ends = [exits["curve"][0]["accuracy"], exits["curve"][-1]["accuracy"]]
        axes[0].plot([0, 1], ends, ":", color="black", linewidth=0.8, label="exits at random")
    _label(axes[0], "Accuracy against exit rate", "exit rate", "accuracy")
    aurocs = {
        f"{score}\n({name})" if len(result["exit"]) > 1 else score: estimate
        for name, exits in result["exit"].items()
        for score, estimate in exits["auroc"].items()
    }
    values, errors = _bars(list(aurocs.values()))
    axes[1].barh(list(aurocs), values, xerr=errors, color="#4c78a8", capsize=3)
    axes[1].set_xlim(0.5, 1)
    axes[1].set_title("AUROC: right against wrong answers of the guide", fontsize=10)


def _bars(estimates: Sequence[dict[str, float]]) -> tuple[list[float], list[list[float]]]:
    """Heights, and error bars below and above them."""
    values = [one["value"] for one in estimates]
    below = [one["value"] - one["low"] for one in estimates]
    return values, [below, [one["high"] - one["value"] for one in estimates]]


def _label(axis: Axes, title: str, x: str, y: str, *, legend: bool = True) -> None:
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.set_ylim(0, 1.05)
    axis.grid(axis="y", alpha=0.3)
    if legend:
        axis.legend(fontsize=8)


def _colour(name: str) -> str:
    return _COLOURS.get(name, "#b279a2")
