"""Measure the shipped pair: `python -m testbed.evaluate --split heldout`.

Choices, such as a threshold, are made on the validation split; the held-out split is for figures.
Prints a table and writes the same as JSON.
"""

import argparse
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

import sgl
from sgl.types import Guidance, ImageQuestion
from testbed import heldout_path, model_path, validation_path

Split = Literal["validation", "heldout"]
PRESETS: tuple[tuple[float, float], ...] = ((0.4, 0.4), (0.19, 0.2), (0.04, 0.05))
"""The paper's (prune layer, keep ratio)."""
_BATCH = 32
_RANDOM_SEED = 7


@dataclass(frozen=True)
class Data:
    """Records with their answers and question kinds."""

    records: list[ImageQuestion]
    answers: list[str]
    kinds: list[str]


def load_split(split: Split, limit: int | None = None) -> Data:
    """Read shipped records."""
    path = validation_path() if split == "validation" else heldout_path()
    rows = pq.read_table(path).slice(0, limit).to_pylist()
    return Data(
        [ImageQuestion(row["id"], row["question"], (_decode(row["image"]),)) for row in rows],
        [row["answers"][0] for row in rows],
        [row["kind"] for row in rows],
    )


def evaluate(data: Data) -> dict[str, Any]:
    """Accuracy of both models, of pruned ones, and how well the exit score tells right from wrong.

    Returns:
        accuracy: by model, over all and by kind; pruned: by preset and ranking; auroc: by score;
        threshold: the lowest one whose exits are right in 95 % of the cases, with their share.
    """
    small, large = (sgl.load(model_path(name), device="cpu") for name in ("small", "large"))
    guidance = [one for part in _batches(data.records) for one in small.guide(part)]
    right = {"small": _right([one.answer for one in guidance], data)}
    full = [one.text for part in _batches(data.records) for one in large.answer(part)]
    right["large"] = _right(full, data)
    scores = {
        name: np.array([getattr(one, name) for one in guidance])
        for name in ("confidence", "consistency", "exit_score")
    }
    return {
        "records": len(data.records),
        "accuracy": {name: _by_kind(ok, data.kinds) for name, ok in right.items()},
        "pruned": _pruned(large, data, guidance),
        "auroc": {
            name: round(float(roc_auc_score(right["small"], score)), 3)
            for name, score in scores.items()
        },
        "threshold": threshold_for(scores["exit_score"], right["small"], accuracy=0.95),
    }


def threshold_for(
    scores: np.ndarray, right: np.ndarray, accuracy: float
) -> dict[str, float] | None:
    """The lowest threshold whose exits are right often enough, or None.

    Args:
        scores: (n,) exit scores.
        right: (n,) bool, whether the small model was.
        accuracy: wanted among the exits, 0 to 1.
    """
    order = np.argsort(-scores, kind="stable")
    running = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    last_of_ties = np.append(np.diff(scores[order]) != 0, True)
    good = np.flatnonzero((running >= accuracy) & last_of_ties)
    if len(good) == 0:
        return None
    exits = int(good[-1]) + 1
    return {
        "threshold": round(float(scores[order][exits - 1]), 4),
        "exit_rate": round(exits / len(order), 4),
        "accuracy_of_exits": round(float(running[exits - 1]), 4),
    }


def _pruned(large: sgl.VLM, data: Data, guidance: Sequence[Guidance]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(_RANDOM_SEED)
    by_chance = [
        replace(one, importance=rng.random(len(one.importance), dtype=np.float32))
        for one in guidance
    ]
    rows = []
    for prune_layer, keep_ratio in PRESETS:
        for ranking, source in (("guided", guidance), ("random", by_chance)):
            answers = [
                answer
                for part, of_part in zip(_batches(data.records), _batches(source), strict=True)
                for answer in large.answer(
                    part, of_part, prune_layer=prune_layer, keep_ratio=keep_ratio
                )
            ]
            retention = [one.pruning.average_retention for one in answers if one.pruning]
            rows.append(
                {
                    "prune_layer": prune_layer,
                    "keep_ratio": keep_ratio,
                    "average_retention": round(float(np.mean(retention)), 4),
                    "ranking": ranking,
                    "accuracy": round(float(_right([a.text for a in answers], data).mean()), 4),
                }
            )
    return rows


def _batches(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[start : start + _BATCH] for start in range(0, len(items), _BATCH)]


def _right(answers: Sequence[str], data: Data) -> np.ndarray:
    return np.array([a == b for a, b in zip(answers, data.answers, strict=True)])


def _by_kind(right: np.ndarray, kinds: Sequence[str]) -> dict[str, float]:
    of_kind = np.array(kinds)
    return {
        "all": round(float(right.mean()), 4),
        **{kind: round(float(right[of_kind == kind].mean()), 4) for kind in sorted(set(kinds))},
    }


def _decode(image: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image["bytes"])).convert("RGB"))


def _print(result: dict[str, Any]) -> None:
    print(f"{result['records']} records")
    for name, accuracy in result["accuracy"].items():
        print(f"  {name:6}", "  ".join(f"{kind} {value:.3f}" for kind, value in accuracy.items()))
    for row in result["pruned"]:
        print(
            f"  large, {row['ranking']:6} ranking, prune layer {row['prune_layer']}, keep ratio "
            f"{row['keep_ratio']}, average retention {row['average_retention']:.3f}: "
            f"{row['accuracy']:.3f}"
        )
    print("  AUROC of the small model's", result["auroc"])
    print("  threshold for 95 % right exits:", result["threshold"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m testbed.evaluate", description=__doc__)
    parser.add_argument("--split", choices=get_args(Split), default="heldout")
    parser.add_argument("--limit", type=int, help="the first N records only")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {"split": options.split, **evaluate(load_split(options.split, options.limit))}
    _print(result)
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
