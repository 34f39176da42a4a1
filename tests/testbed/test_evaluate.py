"""The figures' arithmetic, the layer maps, and the shipped pair's bar."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sgl
from sgl.attention import RowCapture
from sgl.decoder import prefill
from sgl.equal_retention import RETENTIONS, place_at
from sgl.exit_quality import auroc, exit_curve
from sgl.statistics import Bootstrap
from testbed import GUIDES, model_path
from testbed.attention_maps import FASTV_LAYER, layer_maps
from testbed.evaluate import evaluate
from testbed.evaluation_report import report
from testbed.figures import draw_figures
from testbed.labelled import load_split
from testbed.pruned import PRESETS, all_settings
from testbed.statistics import (
    overlap,
    rank_correlation,
    recall,
    threshold_for,
)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40))
def test_the_threshold_is_the_lowest_that_keeps_the_promise(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score / 5 for score, _ in pairs])
    right = np.array([ok for _, ok in pairs])
    found = threshold_for(scores, right, accuracy=0.8)
    good = [t for t in set(scores) if right[scores >= t].mean() >= 0.8]
    if not good:
        assert found is None
        return
    assert found is not None
    exits = scores >= min(good)
    assert found["threshold"] == pytest.approx(min(good), abs=1e-4)
    assert found["exit_rate"] == pytest.approx(exits.mean(), abs=1e-4)
    assert found["accuracy_of_exits"] == pytest.approx(right[exits].mean(), abs=1e-4)


def test_estimates_of_parts_ratios_and_scores() -> None:
    bootstrap = Bootstrap([0, 0, 1, 1, 2, 2])
    values = np.array([1, 0, 1, 1, 0, 1])
    assert bootstrap.mean(values).value == pytest.approx(4 / 6, abs=1e-4)
    firsts = np.array([True, False] * 3)
    assert bootstrap.mean(values, firsts).value == pytest.approx(2 / 3, abs=1e-4)
    ratio = bootstrap.ratio(values, np.ones(6))
    assert (ratio.low, ratio.high) == (
        bootstrap.mean(values).low,
        bootstrap.mean(values).high,
    )
    right = np.array([True, False, True, False, True, False])
    assert auroc(bootstrap, right, right.astype(float)).value == 1.0
    assert auroc(bootstrap, right, np.zeros(6)).value == 0.5


def test_rankings_are_measured_by_what_they_find_and_share() -> None:
    importance = np.array([0.1, 0.5, 0.2, 0.9, 0.3], np.float32)
    assert recall(importance, (1, 3), 0.4) == 1.0
    assert recall(importance, (0, 3), 0.4) == 0.5
    assert np.isnan(recall(importance, (), 0.4))
    assert overlap(importance, importance[::-1].copy(), 0.4) == 1.0
    assert overlap(importance, -importance, 0.4) == 0.0
    assert rank_correlation(importance, importance**2) == pytest.approx(1.0)
    assert rank_correlation(importance, -importance) == pytest.approx(-1.0)


def test_the_exit_curve_runs_from_the_large_model_to_the_small_one() -> None:
    scores = np.array([0.9, 0.8, 0.2, 0.1])
    small, large = np.array([True, True, False, False]), np.array([False, True, True, True])
    curve = exit_curve(scores, small, large, points=5)
    assert [point["accuracy"] for point in curve] == [0.75, 1.0, 1.0, 0.75, 0.5]
    assert [point["accuracy_of_exits"] for point in curve] == [1.0, 1.0, 1.0, 0.6667, 0.5]


@torch.inference_mode()
def test_layer_maps_add_up_to_the_captured_importance_of_the_prompt() -> None:
    data = load_split("validation", 6)
    model = sgl.load(model_path("large"), device="cpu")
    maps = layer_maps(model, data.records)
    prompt = model.prompts(data.records).prompt
    capture = RowCapture(len(maps), prompt.valid_BT.shape[1], prompt.valid_BT.device)
    steps = np.arange(prompt.valid_BT.shape[1])
    last = (steps * prompt.visual_BT.numpy()).max(axis=1)
    rows = prompt.valid_BT.new_tensor(steps[None] > last[:, None]).float()
    capture.watch(rows)
    prefill(model.language_model, prompt, capture=capture)
    for b, one in enumerate(maps):
        captured = capture.importance_BT[b, prompt.visual_BT[b]].numpy()
        np.testing.assert_allclose(one.after_image_LV.sum(axis=0), captured, rtol=1e-4, atol=1e-6)
        assert one.fastv.shape == captured.shape
        assert (one.last_row_LV <= one.after_image_LV + 1e-6).all()
        np.testing.assert_array_equal(one.fastv, one.last_row_LV[FASTV_LAYER])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_shipped_pair_discriminates(tmp_path: Path) -> None:
    """On a few validation pages: the large model is better, good rankings beat bad ones, the score
    tells; and the figures are drawn, printed and written."""
    result = {"split": "validation", **evaluate(load_split("validation", 24))}
    small, large = (result["accuracy"][name]["all"]["value"] for name in ("small", "large"))
    assert large > small > 0.4
    exits = result["exit"]["small"]
    assert exits["auroc"]["exit score, geometric"]["value"] > 0.7
    found = result["ranking"]["recall"]["0.2"]
    assert found["guided by small"]["value"] > 0.8 > found["random"]["value"]
    least = {
        row["ranking"]: row["accuracy"]["value"]
        for row in result["pruned"]
        if tuple(row["preset"]) == PRESETS[-1]
    }
    assert least["guided by small"] > least["FastV"]
    assert least["guided by small"] > least["random"] + 0.2
    assert least["guided by small"] > max(
        least[name] for name in ("PyramidDrop", "vision attention", "DivPrune", "uniform")
    )
    for row in result["pruned"]:
        layer, keep_ratio = row["preset"]
        assert row["average_retention"] == pytest.approx(
            (layer + (12 - layer) * keep_ratio) / 12, abs=0.01
        )
    assert len(result["pruned"]) == len(all_settings(12))
    assert len(result["depth"]) >= 12
    assert set(result["exit"]) == set(GUIDES)
    json.dumps(result)
    assert "guided by small" in report(result)
    paths = draw_figures(result, tmp_path)
    assert [path.name.split("_")[1] for path in paths] == [
        "accuracy.png",
        "ranking.png",
        "pruned.png",
        "exit.png",
    ]
    assert all(path.stat().st_size > 10_000 for path in paths)


def test_presets_are_the_places_of_equal_retention() -> None:
    """Those of twelve layers, written out; and with them the place of every other pruner."""
    layers = 12
    for preset, retention in zip(PRESETS, RETENTIONS, strict=True):
        assert place_at("guided", retention, layers) == pytest.approx(preset)
        places = {one.ranking: one for one in all_settings(layers) if one.preset == preset}
        fastv = places.pop("FastV")
        assert (fastv.layer, fastv.keep_ratio) == place_at("fastv", retention, layers)
        assert {(one.layer, one.keep_ratio) for one in places.values()} == {preset}
