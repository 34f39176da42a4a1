"""What a language model is taught when."""

from collections.abc import Mapping
from dataclasses import dataclass

from testbed.packing import Difficulty

_LABELS = (4, 6, 8, 12, 16, 20, 24, 36)
_FIRST_STAGES = 2
_MASTERED = 0.85
_BASICS: Mapping[str, float] = {"lookup": 0.6, "inverse": 0.4}


@dataclass(frozen=True)
class Plan:
    """How difficulty grows over a training.

    Attributes:
        shares: of the question kinds.
        all_kinds_from: with fewer labels than this only the basics are asked.
        gates: kinds that must be mastered before the number of labels grows.
        first_patience: steps after which one of the first two stages ends, mastered or not.
        patience: the same for the later stages.
        whole_images: the share of all steps, at the end, that show whole images; before, the
            labels' tokens alone are shown, which is cheap.
        together: labels that are left on a page are close to each other.
    """

    shares: Mapping[str, float]
    all_kinds_from: int
    gates: tuple[str, ...]
    first_patience: int
    patience: int
    whole_images: float
    together: bool


@dataclass
class Curriculum:
    """Grows the number of labels as soon as the gates are mastered, or after some patience.

    Attributes:
        plan: of the training.
        stage: index into the label counts.
        since: steps on this stage.
    """

    plan: Plan
    stage: int = 0
    since: int = 0

    def difficulty(self, progress: float) -> Difficulty:
        """For the next batch; `progress` is the share of all steps done, 0 to 1."""
        whole_images = progress >= 1 - self.plan.whole_images
        most = _LABELS[-1 if whole_images else self.stage]
        shares = self.plan.shares if most >= self.plan.all_kinds_from else _BASICS
        return Difficulty(most, shares, whole_images, self.plan.together)

    def advance(self, steps: int, accuracy: Mapping[str, float]) -> None:
        """Note `steps` more steps and the accuracy by kind at this stage."""
        self.since += steps
        mastered = min(accuracy[kind] for kind in self.plan.gates) >= _MASTERED
        first = self.stage < _FIRST_STAGES
        patience = self.plan.first_patience if first else self.plan.patience
        if self.stage + 1 < len(_LABELS) and (mastered or self.since >= patience):
            self.stage, self.since = self.stage + 1, 0
