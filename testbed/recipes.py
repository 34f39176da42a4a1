"""How each model of the pair is trained."""

from dataclasses import dataclass

from testbed import ModelName
from testbed.curriculum import Plan


@dataclass(frozen=True)
class Recipe:
    """Of the language model's training.

    Attributes:
        steps: of the optimiser.
        learning_rate: its peak.
        pages: per step.
        surroundings_weight: of the loss that makes visual tokens know their neighbours.
        plan: the curriculum.
    """

    steps: int
    learning_rate: float
    pages: int
    surroundings_weight: float
    plan: Plan


RECIPES: dict[ModelName, Recipe] = {
    "small": Recipe(
        steps=6_000,
        learning_rate=3e-3,
        pages=24,
        surroundings_weight=0.0,
        plan=Plan(
            shares={
                "lookup": 0.15,
                "inverse": 0.2,
                "neighbour": 0.25,
                "compare": 0.15,
                "count": 0.1,
                "row": 0.15,
            },
            all_kinds_from=12,
            gates=("lookup", "inverse"),
            first_patience=1_000,
            patience=1_000,
            whole_images=0.25,
            together=False,
        ),
    ),
    "large": Recipe(
        steps=5_000,
        learning_rate=2e-3,
        pages=16,
        surroundings_weight=0.2,
        plan=Plan(
            shares={
                "lookup": 0.1,
                "inverse": 0.2,
                "neighbour": 0.4,
                "compare": 0.15,
                "count": 0.05,
                "row": 0.1,
            },
            all_kinds_from=4,
            gates=("lookup", "inverse", "neighbour"),
            first_patience=800,
            patience=400,
            whole_images=0.3,
            together=True,
        ),
    ),
}
