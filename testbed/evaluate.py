"""Measure the shipped models: `python -m testbed.evaluate --split heldout`.

Choices, such as a threshold, are made on the validation split; the held-out split is for figures,
the hard one for drift. Prints tables and, with --output DIR, writes DIR/SPLIT.json and one picture
per table. Every figure has a 95 % interval from a bootstrap over pages.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import sgl
from sgl.exit_quality import auroc, exit_curve
from sgl.statistics import Bootstrap
from sgl.types import ConsistencyForm, Guidance
from testbed import GUIDES, MODEL_NAMES, ModelName, model_path
from testbed.attention_maps import LayerMaps, layer_maps
from testbed.evaluation_report import TOP_SHARES, report
from testbed.labelled import Data, load_split
from testbed.pruned import (
    BATCH,
    GUIDED,
    MAX_NEW_TOKENS,
    OWN,
    Rankings,
    all_settings,
    blind_answers,
    importance_by,
    pruned_answers,
)
from testbed.records import SPLIT_NAMES
from testbed.statistics import (
    overlap,
    rank_correlation,
    recall,
    threshold_for,
)

RECORDS = 2001
_DEPTH_RECORDS = 200
_RANDOM_SEED = 7


@dataclass(frozen=True)
class _Run:
    """What a model said and where it looked, record by record.

    Attributes:
        guidance: with the paper's consistency, a product over the answer's tokens.
        geometric: with its geometric mean; of guides only.
        maps: by layer.
    """

    guidance: list[Guidance]
    geometric: list[Guidance]
    maps: list[LayerMaps]


def evaluate(data: Data) -> dict[str, Any]:
    """All figures, as plain data.

    Returns:
        accuracy: by model and kind; gain: of the large model over each other one; layouts: by
        model; ranking: how well each ranking finds the needed tokens, and how much rankings agree;
        pruned: accuracy by preset and ranking; depth: accuracy when nothing is seen from a layer
        on; exit: AUROC by score, threshold and curve.
    """
    bootstrap = Bootstrap(data.pages)
    models = {name: sgl.load(model_path(name), device="cpu") for name in MODEL_NAMES}
    runs = {name: _run(name, model, data) for name, model in models.items()}
    right = {name: data.right(one.answer for one in run.guidance) for name, run in runs.items()}
    rankings = _rankings(runs)
    return {
        "records": len(data.records),
        "accuracy": {name: _by(bootstrap, ok, data.kinds) for name, ok in right.items()},
        "layouts": {name: _by(bootstrap, ok, data.layouts) for name, ok in right.items()},
        "gain": {
            name: asdict(bootstrap.mean(right["large"].astype(float) - right[name]))
            for name in GUIDES
        },
        "ranking": _ranking(bootstrap, data, runs, _maps(models["large"], data, runs, rankings)),
        "pruned": _pruned(bootstrap, models["large"], data, rankings, right["large"]),
        "depth": _depth(models["large"], data, rankings),
        "exit": {
            name: _exit(bootstrap, runs[name], right[name], right["large"]) for name in GUIDES
        },
    }


def _run(name: ModelName, model: sgl.VLM, data: Data) -> _Run:
    run = _Run([], [], [])
    for part in _batches(data.records):
        run.guidance.extend(model.guide(part, max_new_tokens=MAX_NEW_TOKENS))
        if name in GUIDES:
            run.geometric.extend(
                model.guide(
                    part, max_new_tokens=MAX_NEW_TOKENS, consistency=ConsistencyForm.GEOMETRIC
                )
            )
        run.maps.extend(layer_maps(model, part))
    return run


def _rankings(runs: dict[ModelName, _Run]) -> dict[str, list[Guidance]]:
    """By name, of those that a model's guidance says."""
    guided = {ranking: runs[name].guidance for ranking, name in GUIDED.items()}
    return {**guided, OWN: runs["large"].guidance}


def _maps(
    large: sgl.VLM, data: Data, runs: dict[ModelName, _Run], rankings: Rankings
) -> dict[str, list[npt.NDArray[np.float32]]]:
    """Importance by ranking, of all that are known before a token is pruned."""
    return {
        **{name: [one.importance for one in ranking] for name, ranking in rankings.items()},
        "FastV": [maps.fastv for maps in runs["large"].maps],
        **importance_by(large, data.records),
    }


def _ranking(
    bootstrap: Bootstrap,
    data: Data,
    runs: dict[ModelName, _Run],
    maps: dict[str, list[npt.NDArray[np.float32]]],
) -> dict[str, Any]:
    needing = np.array([bool(needed) for needed in data.needed])

    def recalls(importance: Iterable[npt.NDArray[np.float32]], share: float) -> dict[str, Any]:
        found = [recall(a, n, share) for a, n in zip(importance, data.needed, strict=True)]
        return asdict(bootstrap.mean(found, needing))

    own = maps[OWN]
    return {
        "recall": {
            str(share): {name: recalls(ranking, share) for name, ranking in maps.items()}
            for share in TOP_SHARES
        },
        "recall_by_layer": {
            name: {
                rows: [
                    recalls([getattr(one, rows)[layer] for one in run.maps], TOP_SHARES[0])
                    for layer in range(len(run.maps[0].last_row_LV))
                ]
                for rows in ("after_image_LV", "last_row_LV")
            }
            for name, run in runs.items()
        },
        "agreement_with_own_global": {
            name: {
                "spearman": asdict(bootstrap.mean(list(map(rank_correlation, ranking, own)))),
                **{
                    f"overlap_{share}": asdict(
                        bootstrap.mean(
                            [overlap(a, b, share) for a, b in zip(ranking, own, strict=True)]
                        )
                    )
                    for share in TOP_SHARES
                },
            }
            for name, ranking in maps.items()
            if name != OWN
        },
    }


def _pruned(
    bootstrap: Bootstrap,
    large: sgl.VLM,
    data: Data,
    rankings: Rankings,
    full: npt.NDArray[np.bool_],
) -> list[dict[str, Any]]:
    outcomes = pruned_answers(large, data.records, rankings, all_settings(large.layers))
    rows = []
    for setting, outcome in outcomes.items():
        right = data.right(outcome.texts)
        rows.append(
            {
                "preset": list(setting.preset),
                "prune_layer": setting.layer,
                "keep_ratio": round(setting.keep_ratio, 4),
                "average_retention": round(float(np.mean(outcome.retention)), 4),
                "ranking": setting.ranking,
                "accuracy": asdict(bootstrap.mean(right)),
                "share_of_full": asdict(bootstrap.ratio(right, full)),
            }
        )
    return rows


def _depth(large: sgl.VLM, data: Data, rankings: Rankings) -> list[dict[str, Any]]:
    """Accuracy when all visual tokens leave at each layer: where reading happens."""
    some = np.random.default_rng(_RANDOM_SEED).permutation(len(data.records))[:_DEPTH_RECORDS]
    chosen = sorted(some.tolist())
    records, own = ([of[i] for i in chosen] for of in (data.records, rankings[OWN]))
    bootstrap = Bootstrap([data.pages[i] for i in chosen])
    rows = []
    for layer in range(large.layers):
        texts = blind_answers(large, records, own, layer)
        right = [text == data.answers[i] for text, i in zip(texts, chosen, strict=True)]
        rows.append({"layer": layer, "accuracy": asdict(bootstrap.mean(right))})
    return rows


def _exit(
    bootstrap: Bootstrap,
    run: _Run,
    small: npt.NDArray[np.bool_],
    large: npt.NDArray[np.bool_],
) -> dict[str, Any]:
    scores = {
        "confidence": [one.certainty.confidence for one in run.guidance],
        "consistency, product": [one.certainty.consistency for one in run.guidance],
        "consistency, geometric": [one.certainty.consistency for one in run.geometric],
        "exit score, product": [one.exit_score for one in run.guidance],
        "exit score, geometric": [one.exit_score for one in run.geometric],
    }
    chosen = np.array(scores["exit score, geometric"])
    return {
        "auroc": {
            name: asdict(auroc(bootstrap, small, np.array(score))) for name, score in scores.items()
        },
        "threshold": threshold_for(chosen, small, accuracy=0.95),
        "curve": exit_curve(chosen, small, large),
    }


def _by(
    bootstrap: Bootstrap, right: npt.NDArray[np.bool_], groups: npt.NDArray[np.str_]
) -> dict[str, Any]:
    return {
        "all": asdict(bootstrap.mean(right)),
        **{
            str(group): {
                **asdict(bootstrap.mean(right, groups == group)),
                "records": int((groups == group).sum()),
            }
            for group in np.unique(groups)
        },
    }


def _batches(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m testbed.evaluate", description=__doc__)
    parser.add_argument("--split", choices=SPLIT_NAMES, default="heldout")
    parser.add_argument("--records", type=int, default=RECORDS, help="the first N of the split")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write JSON and pictures")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = {"split": options.split, **evaluate(load_split(options.split, options.records))}
    print(report(result))
    if options.output:
        from testbed.figures import draw_figures

        options.output.mkdir(parents=True, exist_ok=True)
        path = options.output / f"{options.split}.json"
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        draw_figures(result, options.output)


if __name__ == "__main__":
    main()
