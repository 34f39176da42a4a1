"""The recipe: it resumes to the same weights, and its curriculum grows."""

from pathlib import Path
from typing import Any

import pytest
import torch

from testbed import train, vision
from testbed.curriculum import Curriculum
from testbed.recipes import RECIPES
from testbed.schedule import learning_rate_factor


class InterruptedTrainingError(Exception):
    pass


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision, "STEPS", 2)
    monkeypatch.setattr(train, "_POOL", (4, 2))
    monkeypatch.setattr(train, "_VALIDATION_POOL", (2, 1))
    monkeypatch.setattr(train, "_EVALUATE_EVERY", 2)
    monkeypatch.setattr(train, "_SAVE_EVERY", 2)


@pytest.mark.usefixtures("tiny")
def test_an_interrupted_training_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.train("small", 4, tmp_path / "whole")
    step = train._step

    def dies_at_the_third(*args: Any) -> float:
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


def test_the_curriculum_grows_when_mastered_or_out_of_patience() -> None:
    curriculum = Curriculum(RECIPES["small"].plan)
    patience = RECIPES["small"].plan.first_patience
    first = curriculum.difficulty(0.0)
    curriculum.advance(200, {"lookup": 0.9, "inverse": 0.5})
    assert curriculum.difficulty(0.0) == first
    curriculum.advance(200, {"lookup": 0.9, "inverse": 0.9})
    second = curriculum.difficulty(0.1).most_labels
    assert second > first.most_labels
    curriculum.advance(patience - 1, {"lookup": 0.0, "inverse": 0.0})
    assert curriculum.difficulty(0.2).most_labels == second
    curriculum.advance(1, {"lookup": 0.0, "inverse": 0.0})
    assert curriculum.difficulty(0.2).most_labels > second
    assert not curriculum.difficulty(0.74).whole_images
    assert curriculum.difficulty(0.75).whole_images


def test_the_learning_rate_warms_up_and_falls() -> None:
    factors = [learning_rate_factor(step, 1000) for step in range(1000)]
    assert max(factors) <= 1
    assert factors[0] < 0.02
    assert factors[99:] == sorted(factors[99:], reverse=True)
    assert 0 < factors[-1] < 0.03
