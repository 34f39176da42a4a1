"""The picture of `sgl evaluate --criteria`: accuracy against exit rate, and calibration."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgl.types import Criterion

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {
    Criterion.MEAN: "#4c78a8",
    Criterion.CONFIDENCE: "#e45756",
    Criterion.CONSISTENCY: "#54a24b",
    Criterion.ENTROPY: "#f58518",
    Criterion.MARGIN: "#9d755d",
    Criterion.QUANTILE: "#b279a2",
    Criterion.RANDOM: "#888888",
}
_FEWEST = 5
"""Records of a bin; the share of right ones among fewer says nothing."""
_DPI = 110


def draw_criteria(result: dict[str, Any], path: Path) -> None:
    """Write the picture.

    Args:
        result: of jobs.criteria.compare.
        path: a PNG file in an existing folder.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8))
    _draw_exits(result, left)
    _draw_calibration(result, right)
    of_images = f", images by '{result['cluster']}'" if result["cluster"] else ""
    where = f"{result['records']:,} records, 95 % intervals{of_images}; {result['metric']}"
    figure.suptitle(where, fontsize=9, color="#555555")
    figure.tight_layout()
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
    plt.close(figure)


def _draw_exits(result: dict[str, Any], axis: "Axes") -> None:
    for criterion, one in result["criteria"].items():
        points = [point for point in one["curve"] if point["exit_rate"] > 0]
        area = one["exits_area"]
        axis.plot(
            [point["exit_rate"] for point in points],
            [point["accuracy_of_exits"] for point in points],
            color=_COLOURS[Criterion(criterion)],
            label=f"{criterion}  {area['value']:.3f} [{area['low']:.3f}, {area['high']:.3f}]",
        )
    axis.axhline(result["small"]["value"], color="black", linewidth=0.8, linestyle=":")
    axis.set_title("Accuracy of the records that exit", fontsize=10)
    axis.set_xlabel("exit rate")
    axis.set_ylabel("accuracy of exits")
    axis.set_xlim(0, 1)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, title="area under the curve", title_fontsize=8)


def _draw_calibration(result: dict[str, Any], axis: "Axes") -> None:
    """Of all but chance, which is calibrated to nothing."""
    axis.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
    for criterion, one in result["criteria"].items():
        if criterion == Criterion.RANDOM:
            continue
        bins = [each for each in one["reliability"] if each["records"] >= _FEWEST]
        axis.plot(
            [each["score"] for each in bins],
            [each["accuracy"] for each in bins],
            color=_COLOURS[Criterion(criterion)],
            marker="o",
            markersize=3,
            label=f"{criterion}  {one['calibration_error']['value']:.3f}",
        )
    axis.set_title("How far a score is the share of right answers", fontsize=10)
    axis.set_xlabel("score, in 15 equal bins")
    axis.set_ylabel("accuracy in the bin")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1.02)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, title="calibration error", title_fontsize=8)
