"""The `sgl` objects of made answers, in the endpoint's wire format."""

from typing import Any

import numpy as np

from sgl.ranking import average_retention, keep_count

LAYERS, PRUNE_LAYER, KEEP_RATIO = 12, 2, 0.4
THRESHOLD = 0.9
ROWS = COLUMNS = 8


def importance(images: int = 1) -> dict[str, Any]:
    """Of one grid for each image, with ties, relative to the largest."""
    rng = np.random.default_rng(8)
    values = rng.integers(0, 9, images * ROWS * COLUMNS) / 8
    values[3] = 1
    grids = [
        {"image": image, "rows": ROWS, "columns": COLUMNS, "box": [0, 0, 1, 1], "thumbnail": False}
        for image in range(images)
    ]
    return {"grids": grids, "values": values.tolist()}


def told(route: str, exit_score: float, images: int = 1, **changes: Any) -> dict[str, Any]:
    """An answer's decision, ranking and cost."""
    large = route == "large"
    return {
        "route": route,
        "reason": f"exit score {exit_score} (criterion confidence), threshold {THRESHOLD}",
        "criterion": "confidence",
        "exit_score": exit_score,
        "threshold": THRESHOLD,
        "policy": None,
        "scores": {
            "confidence": exit_score,
            "consistency": None,
            "entropy": 0.91,
            "margin": 0.83,
            "quantile": 0.71,
        },
        "small_answer": "87",
        "degraded": None,
        "pruning": pruning(images) if large else None,
        "cost": {
            "small_device_s": 0.02,
            "large_device_s": 0.06 if large else 0.0,
            "usd": 0.0000031,
            "currency": "USD",
            "flops": 2.4e9,
        },
        "timing_ms": {
            "small_queued": 4.0,
            "small": 21.0,
            "large_queued": 9.0 if large else 0.0,
            "large": 66.0 if large else 0.0,
            "total": 112.0 if large else 31.0,
        },
        "accepted_draft_tokens": 2 if large else 0,
        "importance": importance(images),
        **changes,
    }


def pruning(images: int) -> dict[str, Any]:
    visual = images * ROWS * COLUMNS
    kept = keep_count(visual, KEEP_RATIO)
    return {
        "pruner": "guided",
        "prune_layer": 0.19,
        "keep_ratio": KEEP_RATIO,
        "average_retention": average_retention(PRUNE_LAYER, LAYERS, kept, visual),
        "visual_tokens": visual,
        "kept_tokens": kept,
    }
