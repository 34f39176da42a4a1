"""The figure of the load test: `python -m benchmarks.serve_plot RESULT.json FIGURE.svg`."""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.serve_closed import SYSTEMS

_LINES = {
    "pair:small": ("small model alone", "o", "tab:green"),
    "pair:large": ("large model alone", "s", "tab:red"),
    "pair": ("cascade", "^", "tab:blue"),
}


def draw(result: dict[str, Any], figure: Path) -> None:
    """Throughput and latency against the number of users.

    Args:
        result: of `sgl bench serve`, as written.
        figure: to write; its folder is made where it is missing.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = [row for row in result["rows"] if row["part"] == "closed"]
    canvas = Figure(figsize=(9.5, 3.8), layout="constrained")
    panels = canvas.subplots(1, 3)
    for name in SYSTEMS:
        label, marker, colour = _LINES[name]
        own = [row for row in rows if row["system"] == name]
        users = [row["users"] for row in own]
        style = {"marker": marker, "color": colour}
        panels[0].plot(users, [row["per_s"] for row in own], label=label, **style)
        for panel, what in zip(panels[1:], ("latency_ms", "first_text_ms"), strict=True):
            panel.plot(users, [row[what]["p50"] for row in own], **style)
            panel.plot(users, [row[what]["p99"] for row in own], linestyle=":", **style)
    titles = ("answers per second", "latency in ms", "time to first text in ms")
    for panel, title in zip(panels, titles, strict=True):
        panel.set(title=title, xlabel="users, each asking without a pause", xscale="log")
        panel.set_xticks(users, [str(count) for count in users])
        panel.xaxis.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylim(bottom=0)
    for panel in panels[1:]:
        panel.set_yscale("log")
    panels[1].plot([], [], color="0.4", label="median")
    panels[1].plot([], [], color="0.4", linestyle=":", label="99th percentile")
    canvas.legend(loc="outside lower center", ncols=5, fontsize="small")
    figure.parent.mkdir(parents=True, exist_ok=True)
    # Equal figures are equal files.
    with mpl.rc_context({"svg.hashsalt": "sgl"}):
        canvas.savefig(figure, metadata={"Date": None} if figure.suffix == ".svg" else None)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve_plot", description=__doc__)
    parser.add_argument("result", type=Path, help="JSON file of sgl bench serve")
    parser.add_argument("figure", type=Path, help="file to write; its suffix names the format")
    options = parser.parse_args()
    draw(json.loads(options.result.read_text(encoding="utf-8")), options.figure)


if __name__ == "__main__":
    main()
