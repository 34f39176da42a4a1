"""The figure of the memory benchmark: `python -m benchmarks.memory_plot RESULT.json FIGURE.png`."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

_MIB = 2**20
_LINES = (
    ("ray", "Ray's processes (workers, raylet, GCS, agents)", "s"),
    ("store", "object store, in use", "o"),
    ("driver", "driver", "^"),
)


def draw(result: dict[str, Any], figure: Path) -> None:
    """Peaks against the number of records.

    Args:
        result: of `sgl bench memory`, as written.
        figure: to write; its folder is made where it is missing.
    """
    from matplotlib.figure import Figure

    rows = result["rows"]
    records = [row["records"] for row in rows]
    canvas = Figure(figsize=(7.5, 4.8), dpi=150, layout="constrained")
    axes = canvas.add_subplot()
    for name, label, marker in _LINES:
        peaks = [row[name] / _MIB for row in rows]
        axes.plot(records, peaks, marker=marker, label=label)
    size = rows[0]["store_size"] / _MIB
    axes.axhline(size, color="0.5", linestyle="--", label=f"object store, size ({size:.0f} MiB)")
    along = np.geomspace(records[0], records[-1], 200)
    streamed = along * rows[0]["picture_bytes"] / _MIB
    axes.plot(along, streamed, color="0.6", linestyle=":", label="decoded pictures, in all")
    axes.set(
        xscale="log",
        xlabel="records (256 x 256 pictures)",
        ylabel="peak memory in MiB",
        title="Peak memory of the pipeline",
    )
    axes.set_ylim(0, 1.1 * max(*(row["ray"] / _MIB for row in rows), size))
    axes.set_xticks(records, [f"{count:,}" for count in records], minor=False)
    axes.xaxis.minorticks_off()
    axes.grid(alpha=0.3)
    canvas.legend(loc="outside lower center", ncols=2, fontsize="small")
    figure.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(figure)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory_plot", description=__doc__)
    parser.add_argument("result", type=Path, help="JSON file of sgl bench memory")
    parser.add_argument("figure", type=Path, help="file to write; its suffix names the format")
    options = parser.parse_args()
    draw(json.loads(options.result.read_text(encoding="utf-8")), options.figure)


if __name__ == "__main__":
    main()
