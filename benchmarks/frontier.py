"""The frontier by exit score: the paper's mean against the confidence alone, which is cheaper.

    sgl calibrate ... --output OUT          # both models answer everything, in every way
    python -m benchmarks.frontier OUT --cluster page --output benchmarks/results

The confidence comes for free with the answer; the consistency costs a pass of its own, whose FLOPs
are taken off the small model's where the confidence alone decides. Only for the testbed's pair: the
shape of that pass is taken from its small model.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import write_result
from pipeline.answered import FLOPS, Sampled, read_sampled
from sgl.bounds import Floats
from sgl.checkpoint import read_family
from sgl.flops import DecoderShape, scoring_flops
from sgl.frontier import BUDGET, Curve, Frontier, frontier
from sgl.ranking import keep_count
from sgl.strategies import BOTH, CASCADE, ORACLE, RANDOM, RANDOM_PRUNED, Answered
from testbed import model_path

METRIC = "exact_match"
CONSISTENCY_KEEP_RATIO = 0.05
"""Of the visual tokens, in the consistency pass: the pipeline's default."""
COLUMNS = (
    *("confidence", "consistency", "visual_tokens"),
    *("small_prompt_tokens", "small_completion_tokens"),
)
STRATEGIES = (CASCADE, BOTH, RANDOM, RANDOM_PRUNED, ORACLE)

Row = dict[str, Any]


def measure(output: str, cluster: str | None) -> list[Row]:
    """One row per exit score and strategy.

    Args:
        output: of `sgl calibrate` on the testbed's pair.
        cluster: column that tells which records share an image.
    """
    sampled = read_sampled(output, METRIC, cluster, more=COLUMNS)
    found = {name: frontier(one) for name, one in by_score(sampled).items()}
    return [
        {"score": name, "strategy": strategy} | _figures(one, one.curves[strategy])
        for name, one in found.items()
        for strategy in STRATEGIES
    ]


def by_score(sampled: Sampled) -> dict[str, Answered]:
    """The same records under other exit scores; what the small model costs goes with the score."""
    mean, rows = sampled.answered[FLOPS], sampled.rows
    confidence, consistency = (
        np.array([row[name] for row in rows]) for name in ("confidence", "consistency")
    )
    cheaper = mean.sample.small_cost - consistency_flops(rows)
    samples = {
        "mean of both": mean.sample,
        "confidence": replace(mean.sample, scores=confidence, small_cost=cheaper),
        "consistency": replace(mean.sample, scores=consistency),
    }
    return {name: replace(mean, sample=one) for name, one in samples.items()}


def consistency_flops(rows: Sequence[Row]) -> Floats:
    """(n,) of the second pass of the small model, as sgl/accounting.py counts it."""
    config, _ = read_family(str(model_path("small")), None)
    shape = DecoderShape.of(config.text_config)
    found = []
    for row in rows:
        visual, prompt = row["visual_tokens"], row["small_prompt_tokens"]
        seen = prompt - visual + keep_count(visual, CONSISTENCY_KEEP_RATIO)
        found.append(scoring_flops(shape, prompt=seen, new_tokens=row["small_completion_tokens"]))
    return np.array(found)


def _figures(found: Frontier, curve: Curve) -> Row:
    at = curve.within(BUDGET)
    return {
        "records": found.records,
        "clusters": found.clusters,
        "recovered": found.recovered and asdict(found.recovered),
        "cheapest_cost": min(one.cost.value for one in curve.points),
        "least": [asdict(one) for one in curve.least.values() if one is not None],
        "at_budget": at and asdict(at),
        "budgets": [
            {"cost": one.cost.value, "quality": one.quality.value, "kept": one.kept.value}
            for one in curve.budgets
        ],
    }


def report(rows: Sequence[Row]) -> str:
    """As a table of text."""
    lines = [
        f"{'score':>12} {'strategy':>15} {'cheapest':>8}  least cost that keeps; at the budget"
    ]
    for row in rows:
        told = [
            f"{one['kept']:.0%}: {_told(one['cost'])} ({_setting(one['setting'])})"
            for one in row["least"]
        ]
        if at := row["at_budget"]:
            cost = f"{at['cost']['value']:.1%}"
            told.append(f"{cost} keeps {_told(at['kept'])} ({_setting(at['setting'])})")
        head = f"{row['score']:>12} {row['strategy']:>15} {row['cheapest_cost']:>8.1%}  "
        lines.append(head + "; ".join(told))
    return "\n".join(lines)


def _told(estimate: Row) -> str:
    return f"{estimate['value']:.1%} [{estimate['low']:.1%}, {estimate['high']:.1%}]"


def _setting(setting: Row) -> str:
    knobs = [f"{setting[name]:.4g}" for name in ("threshold", "exit_share") if setting[name]]
    if pruned := setting["pruned"]:
        knobs.append(f"{pruned['prune_layer']:g}:{pruned['keep_ratio']:g}")
    return " ".join(knobs)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write the dated file if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontier", description=__doc__)
    parser.add_argument("sample", help="output of sgl calibrate on the testbed's pair")
    parser.add_argument("--cluster", metavar="COLUMN")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write a dated JSON file there")
    options = parser.parse_args(arguments)
    rows = measure(options.sample, options.cluster)
    print(report(rows))
    if options.output:
        settings = {"cluster": options.cluster, "metric": METRIC}
        print(write_result("frontier", settings, rows, options.output))


if __name__ == "__main__":
    main()
