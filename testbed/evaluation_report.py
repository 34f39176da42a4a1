"""The figures of testbed.evaluate as text."""

from typing import Any

from sgl.statistics import Estimate

TOP_SHARES = (0.2, 0.09)
"""Of the visual tokens, by which rankings are compared."""


def report(result: dict[str, Any]) -> str:
    """The figures as tables of text."""
    lines = [f"{result['split']}: {result['records']} records", "", "accuracy"]
    for name, by_kind in result["accuracy"].items():
        figures = "  ".join(f"{kind} {one['value']:.3f}" for kind, one in by_kind.items())
        lines.append(f"  {name:7} {_text(by_kind['all'])}  {figures}")
    for name, gain in result["gain"].items():
        lines.append(f"  large over {name}: {_text(gain)}")
    lines += ["", "needed tokens among the top 20 %, and agreement with the large model's own map"]
    agreement = result["ranking"]["agreement_with_own_global"]
    for name, found in result["ranking"]["recall"][str(TOP_SHARES[0])].items():
        line = f"  {name:16} {_text(found)}"
        if name in agreement:
            line += f"  Spearman {_text(agreement[name]['spearman'])}"
            line += f"  top-20 % overlap {_text(agreement[name]['overlap_0.2'])}"
        lines.append(line)
    for name, by_rows in result["ranking"]["recall_by_layer"].items():
        figures = " ".join(f"{one['value']:.2f}" for one in by_rows["after_image_LV"])
        lines.append(f"  by layer of {name}: {figures}")
    lines += ["", "large model pruned: average retention, ranking, accuracy, share of the full one"]
    for row in result["pruned"]:
        lines.append(
            f"  {row['average_retention']:.3f} (K {row['prune_layer']}, keep {row['keep_ratio']})"
            f"  {row['ranking']:16} {_text(row['accuracy'])}  {_text(row['share_of_full'])}"
        )
    depth = " ".join(f"{row['accuracy']['value']:.2f}" for row in result["depth"])
    lines += ["", f"accuracy when no visual token stays from layer 0, 1, ... on: {depth}"]
    for name, exits in result["exit"].items():
        lines += ["", f"exit score of {name}"]
        lines += [f"  AUROC {score:24} {_text(one)}" for score, one in exits["auroc"].items()]
        lines.append(f"  threshold for 95 % right exits: {exits['threshold']}")
    return "\n".join(lines)


def _text(estimate: dict[str, Any]) -> str:
    return str(Estimate(estimate["value"], estimate["low"], estimate["high"]))
