"""A cohort of the large model: answers, pruned by the guidance or by another rule."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sgl.answers import Generation
from sgl.cohort import Cohort
from sgl.errors import ConfigurationError
from sgl.generation import Generating
from sgl.layout import DEFAULT_MAX_NEW_TOKENS, PromptLayout
from sgl.pruners import PRUNERS
from sgl.pruning import Pruner, Scene
from sgl.ranking import staged_retention
from sgl.selection import Plan
from sgl.types import Answer, Guidance, ImageQuestion, Pruning, Route

if TYPE_CHECKING:
    from sgl.vlm import VLM


@dataclass(frozen=True)
class AnswerSettings:
    """See `VLM.answer`.

    Raises:
        ValueError: prune_layer or keep_ratio is no share.
    """

    prune_layer: float = 0.19
    keep_ratio: float = 0.2
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    min_new_tokens: int = 1
    use_drafts: bool = True
    pruner: Pruner | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.prune_layer <= 1 and 0 <= self.keep_ratio <= 1):
            raise ValueError(
                f"prune_layer ({self.prune_layer}) and keep_ratio ({self.keep_ratio}) are shares, "
                "0 to 1"
            )


class AnswerCohort(Cohort[Answer]):
    """See `Cohort`.

    Args:
        vlm: the large model.
        records: at least one.
        guidance: of the same records, in order.
        settings: as of `VLM.answer`.
        heard: see `Cohort`.
        layouts: likewise.
        at_once: likewise.

    Raises:
        ConfigurationError: the pruner cannot prune at this layer or in this family.
    """

    def __init__(
        self,
        vlm: "VLM",
        records: Sequence[ImageQuestion],
        guidance: Sequence[Guidance] | None,
        settings: AnswerSettings,
        *,
        heard: Collection[int] = (),
        layouts: Sequence[PromptLayout] | None = None,
        at_once: bool = False,
    ) -> None:
        super().__init__(vlm, records, heard=heard, layouts=layouts, at_once=at_once)
        self._guidance, self._settings = guidance, settings
        self._pruner = settings.pruner or (PRUNERS["guided"] if guidance else None)
        self._layer = int(vlm.layers * settings.prune_layer)
        if self._pruner and (obstacle := self._pruner.obstacle(vlm.family, self._layer)):
            raise ConfigurationError(f"pruner {self._pruner.name!r}: {obstacle}")

    def _begin(self) -> Generating:
        vlm, settings, pruner = self._vlm, self._settings, self._pruner
        scene: Scene = vlm.scene(
            self._records,
            self._guidance,
            max_new_tokens=settings.max_new_tokens,
            min_new_tokens=settings.min_new_tokens,
            watch_vision=pruner is not None and pruner.watches_vision,
            layouts=self._layouts,
        )
        self._batch = scene.batch
        self._plan = Plan.of_nothing(len(self._records))
        if pruner:
            self._plan = pruner.plan(scene, self._layer, settings.keep_ratio)
        drafts = self._guidance if settings.use_drafts else None
        return Generating(
            vlm.language_model,
            scene.batch.prompt,
            scene.limits,
            selections=self._plan.selections,
            drafts=[vlm.draft(one) for one in drafts] if drafts else None,
            graph=vlm.cuda_graphs,
        )

    def _prefill_flops(self, generation: Generation) -> list[float]:
        plan = self._plan
        return [
            plan.flops[row]
            + self._vlm.meter.answer_flops(layout, plan.cuts[row], drafted=generation.drafted[row])
            for row, layout in enumerate(self._batch.layouts)
        ]

    def _results(self, rows: Sequence[int], generation: Generation) -> list[Answer]:
        return [self._answer(row, generation) for row in rows]

    def _answer(self, row: int, generation: Generation) -> Answer:
        plan, layout = self._plan, self._batch.layouts[row]
        token_ids, cuts = generation.token_ids[row], self._plan.cuts[row]
        flops = plan.flops[row] + self._vlm.meter.answer_flops(
            layout,
            cuts,
            new_tokens=len(token_ids),
            drafted=generation.drafted[row],
            accepted=generation.accepted[row],
        )
        kept = cuts[-1].kept if cuts else layout.visual_tokens
        return Answer(
            id=self._records[row].id,
            text=self._text(row, generation),
            token_ids=tuple(token_ids),
            route=Route.LARGE,
            usage=self._usage(row, self._batch, len(token_ids), flops, kept),
            pruning=self._pruning(row),
            guidance=self._guidance[row] if self._guidance else None,
            accepted_draft_tokens=generation.accepted[row],
            ended=generation.ended[row],
        )

    def _pruning(self, row: int) -> Pruning | None:
        """None where nothing was pruned."""
        visual = self._batch.layouts[row].visual_tokens
        if self._pruner is None or not visual:
            return None
        settings = self._settings
        retention = staged_retention(self._plan.cuts[row], self._vlm.layers, visual)
        return Pruning(settings.prune_layer, settings.keep_ratio, retention, self._pruner.name)
