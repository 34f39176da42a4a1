"""The recipe: it resumes to the same weights, and its lessons teach what they say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from testbed import MODEL_NAMES, train, vision
from testbed.architecture import build_model
from testbed.packing import ITEMS, PackedBatch
from testbed.page import PageStyle
from testbed.recipes import RECIPES, SHARES, STAGES, Stage
from testbed.schedule import learning_rate_factor


class InterruptedTrainingError(Exception):
    pass


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = ((PageStyle(1, 8, 12), 3), (PageStyle(2, 16, 20), 2))
    monkeypatch.setattr(vision, "STEPS", 2)
    monkeypatch.setattr(train, "STAGES", (Stage(0.5, pages[:1]), Stage(1.0, pages)))
    monkeypatch.setattr(train, "_VALIDATION_POOL", ((PageStyle(1, 8, 12), 24),))
    monkeypatch.setattr(train, "_EVALUATE_EVERY", 2)
    monkeypatch.setattr(train, "_SAVE_EVERY", 2)


@pytest.mark.usefixtures("tiny")
def test_an_interrupted_training_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.train("small", 4, tmp_path / "whole")
    step = train._step

    def dies_at_the_third(*args: Any) -> dict[str, float]:
        if steps_done.pop() == 2:
            raise InterruptedTrainingError
        return step(*args)

    steps_done = [2, 1, 0]
    monkeypatch.setattr(train, "_step", dies_at_the_third)
    with pytest.raises(InterruptedTrainingError):
        train.train("small", 4, tmp_path / "resumed")
    assert not (tmp_path / "resumed" / "model").exists()
    monkeypatch.setattr(train, "_step", step)
    train.train("small", 4, tmp_path / "resumed")
    whole, resumed = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)
        for name in ("whole", "resumed")
    )
    assert whole["step"] == resumed["step"] == 4
    for name, weight in whole["model"].items():
        torch.testing.assert_close(weight, resumed["model"][name], atol=1e-6, rtol=1e-5)
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "resumed")]
    assert logs[0] == logs[1]
    assert (tmp_path / "whole" / "model" / "model.safetensors").exists()


@pytest.mark.usefixtures("tiny")
def test_a_training_that_ended_after_the_vision_tower_takes_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.train("small", 2, tmp_path / "whole")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "tower.pt").write_bytes((tmp_path / "whole" / "tower.pt").read_bytes())

    def not_again(*args: Any) -> None:
        raise AssertionError("the tower was trained twice")

    monkeypatch.setattr(train, "train_tower", not_again)
    train.train("small", 2, tmp_path / "cut")
    whole, cut = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["model"]
        for name in ("whole", "cut")
    )
    for name, weight in whole.items():
        torch.testing.assert_close(weight, cut[name], atol=1e-6, rtol=1e-5)


@pytest.mark.usefixtures("tiny")
def test_lessons_fade_out_and_the_barrier_comes_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lessons: list[tuple[Any, list[str]]] = []
    step = train._step

    def noted(model: Any, heads: Any, lesson: Any, batch: PackedBatch, optimizer: Any) -> Any:
        losses = step(model, heads, lesson, batch, optimizer)
        lessons.append((lesson, list(losses)))
        return losses

    monkeypatch.setattr(train, "_step", noted)
    train.train("small", 10, tmp_path)
    weights = [lesson.weight for lesson, _ in lessons]
    assert weights[:5] == [1.0] * 5
    assert 1 > weights[5] > weights[6] > weights[7] > 0
    assert weights[8:] == [0.0] * 2
    assert {"reading at layer 1", "memory at layer 2", "told after layer 1"} <= set(lessons[0][1])
    assert lessons[-1][1] == ["answer"]
    assert {lesson.barred for lesson, _ in lessons} == {True, False}


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_a_lesson_alone_teaches_where_to_look(name: Any) -> None:
    """A few steps lower the reading loss below that of the untrained model."""
    model = build_model(name)
    recipe = RECIPES[name]
    pool = vision.draw_pool(model, np.random.default_rng(1), [(PageStyle(1, 20, 24), 2)])
    batch = train.draw_batch(pool, [0, 1], np.random.default_rng(2), SHARES, 4, ITEMS)
    heads = torch.nn.Linear(model.config.text_config.hidden_size, sum(vision.BINDING_CLASSES))
    weights = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-3)
    lesson = train._Lesson(recipe, 1.0, barred=False)
    losses = [train._step(model, heads, lesson, batch, optimizer) for _ in range(15)]
    for part in losses[0]:
        assert losses[-1][part] < losses[0][part], part


def test_the_large_models_training_ends_with_pruning_practised() -> None:
    recipe, rng = RECIPES["large"], np.random.default_rng(1)
    assert recipe.finish is not None
    moments = [train._moment(recipe, step, 100, rng) for step in range(100 + recipe.finish.steps)]
    main, finish = moments[:100], moments[100:]
    assert all(moment.pruned_from is None for moment in main)
    pruned = [moment.pruned_from for moment in finish if moment.pruned_from is not None]
    assert set(pruned) == set(range(recipe.finish.deepest + 1))
    assert len(pruned) / len(finish) == pytest.approx(recipe.finish.pruned, abs=0.05)
    assert all(moment.whole_images for moment in finish)
    assert finish[0].taught == recipe.finish.lessons
    assert finish[-1].taught == 0
    rates = [moment.learning_rate for moment in finish]
    assert max(rates) < recipe.finish.learning_rate
    assert rates[-1] < 0.05 * max(rates)


def test_stages_cover_the_whole_training_and_shares_add_up() -> None:
    assert [stage.until for stage in STAGES] == sorted(stage.until for stage in STAGES)
    assert STAGES[-1].until == 1.0
    assert sum(SHARES.values()) == pytest.approx(1.0)


def test_the_learning_rate_warms_up_and_falls() -> None:
    factors = [learning_rate_factor(step, 1000) for step in range(1000)]
    assert factors[0] < 0.02
    assert max(factors) > 0.97
    assert factors[-1] < 0.03
