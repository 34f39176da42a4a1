"""What a pruner is: what it may look at, and what it has to say.

Shapes: B records, T prompt tokens, V visual tokens of one record, K the prune layer, L layers.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from sgl.accounting import Meter
from sgl.answers import Limits
from sgl.families import Family
from sgl.language_model import LanguageModel
from sgl.layout import PromptLayout
from sgl.prompt import PromptBatch
from sgl.ranking import Cut, Stage, keep_count, top_visual_counts
from sgl.selection import Plan, Selection
from sgl.types import Guidance


@dataclass(frozen=True)
class Scene:
    """What a pruner may look at.

    Attributes:
        lm: the large model's decoder.
        meter: counts for it.
        ids: of the records.
        batch: their prompts.
        limits: of their answers.
        complete: completes an importance, (B, T), that was summed over this process's heads only.
        guidance: per record; None where there is none.
    """

    lm: LanguageModel
    meter: Meter
    ids: Sequence[str]
    batch: PromptBatch
    limits: Limits
    complete: Callable[[Tensor], Tensor]
    guidance: Sequence[Guidance] | None = None

    @property
    def visual_BT(self) -> Tensor:  # noqa: N802
        """(B, T) bool."""
        return self.batch.prompt.visual_BT

    @property
    def visual_tokens(self) -> list[int]:
        """V of each record."""
        return [layout.visual_tokens for layout in self.batch.layouts]

    def guided_by(self, guidance: Sequence[Guidance]) -> "Scene":
        """The same with somebody's guidance, per record."""
        return replace(self, guidance=guidance)

    def on_device(self, counts: Sequence[int]) -> Tensor:
        """(B,) int64."""
        return torch.tensor(counts, dtype=torch.int64, device=self.visual_BT.device)


class Pruner(ABC):
    """Chooses visual tokens.

    Attributes:
        name: in settings and reports.
        needs_guidance: prunes by what a small model says.
        watches_vision: needs what the vision tower attends to.
        answers_first: runs the model once unpruned, with the attention captured.
    """

    name: ClassVar[str]
    needs_guidance: ClassVar[bool] = False
    watches_vision: ClassVar[bool] = False
    answers_first: ClassVar[bool] = False

    def obstacle(self, family: Family, layer: int) -> str | None:
        """Why it cannot prune at layer K of a model of this family; None where it can."""
        return family.vision_obstacle if self.watches_vision else None

    def stages(self, layer: int, layers: int, keep_ratio: float) -> list[Stage]:
        """What share of the visual tokens is left from which layer on, rounding aside.

        Args:
            layer: K, 0 to L.
            layers: L.
            keep_ratio: see `plan`.
        """
        return [Stage(layer, keep_ratio)]

    def choosing_bytes(self, family: Family, layouts: Sequence[PromptLayout]) -> int:
        """What it takes beside the vision tower or before the first layer, about, of a batch."""
        return 0

    @abstractmethod
    def plan(self, scene: Scene, layer: int, keep_ratio: float) -> Plan:
        """Decide, or say who decides on the way.

        Args:
            scene: at least one record.
            layer: K, 0 to L.
            keep_ratio: share of the visual tokens in the layers from K on; each record keeps
                `keep_count` of them.

        Raises:
            ConfigurationError: it cannot prune at this layer, or lacks what it ranks by.
        """


class OneCut(Pruner):
    """Prunes once, by what is known before the first layer."""

    def plan(self, scene: Scene, layer: int, keep_ratio: float) -> Plan:
        """See `Pruner`."""
        kept = [keep_count(visual, keep_ratio) for visual in scene.visual_tokens]
        kept_BT, flops = self.choose(scene, kept)
        selection = Selection(layer, kept_BT | ~scene.visual_BT)
        return Plan([selection], [[Cut(layer, count)] for count in kept], flops)

    @abstractmethod
    def choose(self, scene: Scene, kept: Sequence[int]) -> tuple[Tensor, list[float]]:
        """(B, T) bool, so many visual tokens of each record, and what choosing them cost each."""


class Ranked(OneCut):
    """Keeps the visual tokens of highest importance, ties going to the lower index."""

    def choose(self, scene: Scene, kept: Sequence[int]) -> tuple[Tensor, list[float]]:
        """See `OneCut`."""
        importance_BT, flops = self.rank(scene)
        kept_B = scene.on_device(kept)
        return top_visual_counts(importance_BT, scene.visual_BT, kept_B), flops

    @abstractmethod
    def rank(self, scene: Scene) -> tuple[Tensor, list[float]]:
        """(B, T) float32, read at visual tokens only, and what it cost each record."""
