"""What the language model is taught when."""

from collections.abc import Mapping
from dataclasses import dataclass

from testbed.packing import Difficulty

_BASICS: Mapping[str, float] = {"lookup": 0.6, "inverse": 0.4}
_ALL: Mapping[str, float] = {
    "lookup": 0.15,
    "inverse": 0.2,
    "neighbour": 0.25,
    "compare": 0.15,
    "count": 0.1,
    "row": 0.15,
}
"""Shares in training: less of what is learned early than in the data."""

_LABELS = (4, 6, 8, 12, 16, 20, 24, 36)
_FIRST_STAGES = 2
_ALL_KINDS_FROM = 12
_MASTERED = 0.85
_FIRST_PATIENCE = 1000


@dataclass
class Curriculum:
    """Grows the number of labels as soon as the basics are mastered, or after some patience.

    Most of the training shows the labels' tokens alone, which is cheap; the end whole images.

    Attributes:
        patience: steps after which a stage of 8 labels or more ends, mastered or not.
        whole_images: the share of all steps, at the end, that show whole images, 0 to 1.
        stage: index into the label counts.
        since: steps on this stage.
    """

    patience: int
    whole_images: float
    stage: int = 0
    since: int = 0

    def difficulty(self, progress: float) -> Difficulty:
        """For the next batch; `progress` is the share of all steps done, 0 to 1."""
        if progress >= 1 - self.whole_images:
            return Difficulty(_LABELS[-1], _ALL, whole_images=True)
        most = _LABELS[self.stage]
        return Difficulty(most, _ALL if most >= _ALL_KINDS_FROM else _BASICS, whole_images=False)

    def advance(self, steps: int, accuracy: Mapping[str, float]) -> None:
        """Note `steps` more steps and the accuracy by kind at this stage."""
        self.since += steps
        mastered = min(accuracy[kind] for kind in _BASICS) >= _MASTERED
        patience = _FIRST_PATIENCE if self.stage < _FIRST_STAGES else self.patience
        if self.stage + 1 < len(_LABELS) and (mastered or self.since >= patience):
            self.stage, self.since = self.stage + 1, 0
