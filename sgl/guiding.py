"""A cohort of the small model: answers, scores and rankings (paper, sections 3.2 and 3.3)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sgl import early_exit
from sgl.answers import Generation
from sgl.attention import RowCapture
from sgl.cohort import Cohort
from sgl.compaction import prune_prompt, take_records
from sgl.generation import Generating
from sgl.language_model import Prompt
from sgl.layout import DEFAULT_MAX_NEW_TOKENS, PromptLayout
from sgl.ranking import top_visual_tokens
from sgl.scoring import score_answers
from sgl.types import ConsistencyForm, Criterion, Guidance, ImageQuestion

if TYPE_CHECKING:
    from sgl.vlm import VLM


@dataclass(frozen=True)
class GuideSettings:
    """See `VLM.guide`."""

    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    min_new_tokens: int = 1
    consistency: ConsistencyForm = ConsistencyForm.PRODUCT
    consistency_keep_ratio: float = 0.05
    include_last_visual_row: bool = False
    criterion: Criterion = Criterion.MEAN
    all_criteria: bool = False

    @property
    def looks_again_at(self) -> float | None:
        """Share of the visual tokens in the consistency pass; None where there is none."""
        steady = self.all_criteria or early_exit.needs_consistency(self.criterion)
        return self.consistency_keep_ratio if steady else None


class GuideCohort(Cohort[Guidance]):
    """See `Cohort`.

    Args:
        vlm: the small model.
        records: at least one.
        settings: as of `VLM.guide`.
        heard: see `Cohort`.
        layouts: likewise.
        at_once: likewise.
    """

    def __init__(
        self,
        vlm: "VLM",
        records: Sequence[ImageQuestion],
        settings: GuideSettings,
        *,
        heard: Collection[int] = (),
        layouts: Sequence[PromptLayout] | None = None,
        at_once: bool = False,
    ) -> None:
        super().__init__(vlm, records, heard=heard, layouts=layouts, at_once=at_once)
        self._settings = settings

    def _begin(self) -> Generating:
        vlm, settings = self._vlm, self._settings
        self._batch = vlm.prompts(self._records, settings.max_new_tokens, layouts=self._layouts)
        prompt = self._batch.prompt
        self._capture = RowCapture(
            len(self._records), prompt.valid_BT.shape[1], prompt.valid_BT.device
        )
        return Generating(
            vlm.language_model,
            prompt,
            vlm.limits(self._records, self._batch, settings.min_new_tokens),
            capture=self._capture,
            include_last_visual_row=settings.include_last_visual_row,
            uncertainty=True,
        )

    def _prefill_flops(self, generation: Generation) -> list[float]:
        return [self._flops(row, 1, None) for row in range(len(generation.token_ids))]

    def _flops(self, row: int, new_tokens: int, keep_ratio: float | None) -> float:
        return self._vlm.meter.guidance_flops(
            self._batch.layouts[row],
            new_tokens,
            consistency_keep_ratio=keep_ratio,
            include_last_visual_row=self._settings.include_last_visual_row,
        )

    def _results(self, rows: Sequence[int], generation: Generation) -> list[Guidance]:
        prompt = self._batch.prompt
        index_R = torch.tensor(rows, device=prompt.valid_BT.device)
        if len(rows) < len(self._records):
            prompt = take_records(prompt, index_R)
        importance_RT = self._vlm.sum_over_heads(self._capture.importance_BT[index_R])
        steady, checked_s = self._consistency(rows, prompt, importance_RT, generation)
        return [
            self._guidance(
                row,
                generation,
                importance_RT[place, prompt.visual_BT[place]],
                steady[place],
                checked_s[place],
            )
            for place, row in enumerate(rows)
        ]

    def _consistency(
        self, rows: Sequence[int], prompt: Prompt, importance_RT: Tensor, generation: Generation
    ) -> tuple[list[float | None], list[float | None]]:
        """Of each row, and its seconds; None where there is no such pass."""
        keep_ratio = self._settings.looks_again_at
        if keep_ratio is None:
            return [None] * len(rows), [None] * len(rows)
        answers = [generation.token_ids[row] for row in rows]
        kept_RT = top_visual_tokens(importance_RT, prompt.visual_BT, keep_ratio)
        pruned = prune_prompt(prompt, kept_RT | ~prompt.visual_BT)
        seen_again = score_answers(self._vlm.language_model, pruned, answers)
        before = [self._time.seconds[row] for row in rows]
        layouts, meter = self._batch.layouts, self._vlm.meter
        self._time.share(
            {
                row: meter.scoring_flops(layouts[row], len(answer), keep_ratio)
                for row, answer in zip(rows, answers, strict=True)
            }
        )
        steady = [early_exit.consistency(one, self._settings.consistency) for one in seen_again]
        spent = [self._time.seconds[row] - then for row, then in zip(rows, before, strict=True)]
        return list(steady), list(spent)

    def _guidance(
        self,
        row: int,
        generation: Generation,
        importance_V: Tensor,
        steady: float | None,
        checked_s: float | None,
    ) -> Guidance:
        record, token_ids = self._records[row], generation.token_ids[row]
        layout, criterion = self._batch.layouts[row], self._settings.criterion
        certainty = early_exit.certainty(
            generation.log_probs[row],
            generation.entropies[row],
            generation.margins[row],
            self._vlm.meter.shape.vocabulary,
            steady,
        )
        flops = self._flops(row, len(token_ids), self._settings.looks_again_at)
        usage = self._usage(row, self._batch, len(token_ids), flops, layout.visual_tokens)
        return Guidance(
            id=record.id,
            answer=self._text(row, generation),
            token_ids=tuple(token_ids),
            certainty=certainty,
            criterion=criterion,
            exit_score=early_exit.exit_score(criterion, certainty, record.id),
            importance=importance_V.cpu().numpy(),
            grids=layout.grids,
            usage=replace(usage, consistency_s=checked_s),
            ended=generation.ended[row],
        )
