"""How each model of the pair is trained."""

from collections.abc import Mapping
from dataclasses import dataclass

from testbed import ModelName
from testbed.packing import ANSWER, AROUND, MENTION, TRAIL
from testbed.page import PageStyle

SHARES: Mapping[str, float] = {
    "lookup": 0.1,
    "inverse": 0.18,
    "exists": 0.06,
    "verify": 0.07,
    "compare": 0.12,
    "count": 0.09,
    "neighbour": 0.12,
    "two_hop": 0.1,
    "three_hop": 0.06,
    "names": 0.05,
    "caption": 0.05,
}
"""Of the question kinds in training; those of the splits are in `testbed.questions`."""


@dataclass(frozen=True)
class Stage:
    """Pages of one difficulty.

    Attributes:
        until: share of all steps at which the stage ends.
        pages: styles and how many pages of each are in a pool.
    """

    until: float
    pages: tuple[tuple[PageStyle, int], ...]


STAGES: tuple[Stage, ...] = (
    Stage(0.06, ((PageStyle(1, 8, 12), 1000),)),
    Stage(0.35, ((PageStyle(1, 12, 24), 800), (PageStyle(2, 16, 30), 200))),
    Stage(1.0, ((PageStyle(1, 20, 48), 1200), (PageStyle(2, 32, 60), 300))),
)


ROW_SHARES: Mapping[str, float] = {
    **{kind: share * 2 / 3 for kind, share in SHARES.items()},
    "names": 0.2,
    "caption": 0.2,
}
"""Four questions of ten are about a whole row, which is hardest to tell when its number is gone."""


@dataclass(frozen=True)
class Finish:
    """Further steps on whole images at a learning rate of their own, with pruning practised.

    Attributes:
        steps: of the optimiser.
        learning_rate: its peak.
        pruned: share of the steps in which, from a layer on, only what the questions are about
            and a random share of all other tokens is seen; the row numbers are not.
        deepest: that layer is drawn from 0 to this one.
        shares: of the question kinds in those steps.
        lessons: weight of the lessons at the start; none after half of the steps.
    """

    steps: int
    learning_rate: float
    pruned: float
    deepest: int
    shares: Mapping[str, float]
    lessons: float


@dataclass(frozen=True)
class Recipe:
    """Of the language model's training.

    Attributes:
        steps: of the optimiser.
        learning_rate: its peak.
        pages: per step while items alone are shown.
        reading: layer by stage of reading, at which attention is taught where to look.
        counting: layer at which attention is taught to spread over what is counted.
        binding_layer: layer before which visual tokens are taught what stands around them.
        barrier: text does not see the image in so many lowest layers, in half of the steps.
        lessons: weight of the lessons above, linear between points (share of the steps, weight);
            after the last one, at 0, the answers alone are learned.
        whole_images: share of the steps, at the end, that show whole images.
        thinned: share of these that show instead what the questions need and a random share of
            everything else, as pruning leaves it. A model that has never missed a token that it
            does not need answers worse without it.
        finish: follows; None: nothing does.
    """

    steps: int
    learning_rate: float
    pages: int
    reading: Mapping[int, int]
    counting: int
    binding_layer: int
    barrier: int
    lessons: tuple[tuple[float, float], ...]
    whole_images: float
    thinned: float
    finish: Finish | None


RECIPES: dict[ModelName, Recipe] = {
    "small": Recipe(
        steps=4_500,
        learning_rate=3e-3,
        pages=16,
        reading={MENTION: 1, ANSWER: 2, AROUND: 2},
        counting=1,
        binding_layer=1,
        barrier=0,
        lessons=((0.4, 1.0), (0.75, 0.0)),
        whole_images=0.15,
        thinned=0.0,
        finish=None,
    ),
    "large": Recipe(
        steps=6_000,
        learning_rate=2e-3,
        pages=16,
        reading={MENTION: 4, TRAIL: 6, ANSWER: 8, AROUND: 6},
        counting=5,
        binding_layer=4,
        barrier=3,
        lessons=((0.6, 1.0), (0.75, 0.0)),
        whole_images=0.3,
        thinned=0.6,
        finish=Finish(
            steps=1_200,
            learning_rate=8e-4,
            pruned=0.65,
            deepest=3,
            shares=ROW_SHARES,
            lessons=1.0,
        ),
    ),
}
