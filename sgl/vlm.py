"""A native vision-language model that guides (small) or is guided (large)."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sgl.accounting import Meter
from sgl.answering import AnswerCohort, AnswerSettings
from sgl.answers import Limits
from sgl.cohort import Cohort
from sgl.families import Family
from sgl.flops import DecoderShape
from sgl.guiding import GuideCohort, GuideSettings
from sgl.language_model import LanguageModel
from sgl.layout import DEFAULT_MAX_NEW_TOKENS, PromptEncoder, PromptLayout
from sgl.memory import BatchMemory
from sgl.prompt import PromptBatch, build_prompts
from sgl.pruning import Pruner, Scene
from sgl.text_stream import cut_at
from sgl.types import Answer, ConsistencyForm, Criterion, Guidance, ImageQuestion

_TOKENS_ASIDE = 16
"""Special tokens, which have no text."""


class VLM:
    """A model with its tokenizer and family; every call is one batch.

    Attributes:
        encoder: lays out its prompts.
        memory: what its batches need.
        meter: counts what they cost.
        layers: L, decoder layers.
        end_token_ids: any of them ends an answer.
        cuda_graphs: `answer` decodes, where answers can be long, as one CUDA graph per batch.
        sum_over_heads: completes an importance, (B, T) float32, that was summed over this process's
            heads only; the identity where one process has them all.
    """

    def __init__(self, model: Any, tokenizer: Any, family: Family) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.family = family
        self.encoder = PromptEncoder(tokenizer, family)
        self.language_model = LanguageModel(
            model.get_decoder(), model.get_output_embeddings(), family.position_axes
        )
        self.layers = self.language_model.layers
        self.meter = Meter(DecoderShape.of(family.config.text_config))
        self.memory = BatchMemory(
            self.meter.shape,
            family.patch_values,
            model.dtype.itemsize,
            deepstack=family.deepstack_layers,
        )
        self.end_token_ids = _end_token_ids(model, tokenizer)
        self.cuda_graphs = False
        self.sum_over_heads: Callable[[Tensor], Tensor] = _identity

    def guide(
        self,
        records: Sequence[ImageQuestion],
        *,
        max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
        min_new_tokens: int = 1,
        consistency: ConsistencyForm = ConsistencyForm.PRODUCT,
        consistency_keep_ratio: float = 0.05,
        include_last_visual_row: bool = False,
        criterion: Criterion = Criterion.MEAN,
        all_criteria: bool = False,
    ) -> list[Guidance]:
        """Answer, score and rank (paper, sections 3.2 and 3.3).

        Args:
            records: one batch, at least one record.
            max_new_tokens: for records that name no limit of their own.
            min_new_tokens: the end token is barred before.
            consistency: product (the paper) or geometric mean (captions).
            consistency_keep_ratio: share of the top visual tokens that the consistency pass sees.
            include_last_visual_row: count the last visual token's row, as the paper's code does.
            criterion: what the exit score is; where it needs no consistency pass, none is run.
            all_criteria: run that pass all the same.

        Returns:
            One guidance per record, in order.

        Raises:
            RecordError: one of the records is bad; which kind, its subclass tells. NumericalError
                names none, so that records have to be run alone to find it.
        """
        settings = GuideSettings(
            max_new_tokens=max_new_tokens,
            min_new_tokens=min_new_tokens,
            consistency=consistency,
            consistency_keep_ratio=consistency_keep_ratio,
            include_last_visual_row=include_last_visual_row,
            criterion=criterion,
            all_criteria=all_criteria,
        )
        return GuideCohort(self, records, settings).finish()

    def guiding(
        self,
        records: Sequence[ImageQuestion],
        *,
        heard: Collection[int] = (),
        layouts: Sequence[PromptLayout] | None = None,
        **settings: Any,
    ) -> Cohort[Guidance]:
        """As `guide`, one forward pass at a time: see `Cohort`.

        Args:
            records: one batch, at least one record.
            heard: places of the records whose text is wanted as it comes.
            layouts: of the records, where they are known already.
            settings: as of `guide`.
        """
        return GuideCohort(
            self, records, GuideSettings(**settings), heard=heard, layouts=layouts, at_once=True
        )

    def answer(
        self,
        records: Sequence[ImageQuestion],
        guidance: Sequence[Guidance] | None = None,
        *,
        prune_layer: float = 0.19,
        keep_ratio: float = 0.2,
        max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
        min_new_tokens: int = 1,
        use_drafts: bool = True,
        pruner: Pruner | None = None,
    ) -> list[Answer]:
        """Answer, with the visual tokens pruned: by the guidance (paper, section 3.2), or others.

        Args:
            records: one batch, at least one record.
            guidance: of the same records, in order.
            prune_layer: K = int(L * prune_layer); read where there is a pruner.
            keep_ratio: share of the visual tokens that stays from layer K on; likewise.
            max_new_tokens: for records that name no limit of their own.
            min_new_tokens: the end token is barred before.
            use_drafts: read the guide's answer as a draft; it changes no token of the answer.
            pruner: one of `sgl.pruners`; None prunes by the guidance, and without it not at all.

        Returns:
            One answer per record, in order, with route LARGE.

        Raises:
            GridMismatchError: a ranking is of other images than the record's.
            ConfigurationError: the pruner cannot prune at this layer or in this family, or needs
                guidance.
            ValueError: prune_layer or keep_ratio is no share.
            RecordError: one of the records is bad; which kind, its subclass tells.
        """
        settings = AnswerSettings(
            prune_layer=prune_layer,
            keep_ratio=keep_ratio,
            max_new_tokens=max_new_tokens,
            min_new_tokens=min_new_tokens,
            use_drafts=use_drafts,
            pruner=pruner,
        )
        return AnswerCohort(self, records, guidance, settings).finish()

    def answering(
        self,
        records: Sequence[ImageQuestion],
        guidance: Sequence[Guidance] | None = None,
        *,
        heard: Collection[int] = (),
        layouts: Sequence[PromptLayout] | None = None,
        **settings: Any,
    ) -> Cohort[Answer]:
        """As `answer`, one forward pass at a time: see `Cohort`.

        Args:
            records: one batch, at least one record.
            guidance: of the same records, in order.
            heard: places of the records whose text is wanted as it comes.
            layouts: of the records, where they are known already.
            settings: as of `answer`.
        """
        return AnswerCohort(
            self,
            records,
            guidance,
            AnswerSettings(**settings),
            heard=heard,
            layouts=layouts,
            at_once=True,
        )

    @torch.inference_mode()
    def scene(
        self,
        records: Sequence[ImageQuestion],
        guidance: Sequence[Guidance] | None = None,
        *,
        max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
        min_new_tokens: int = 1,
        watch_vision: bool = False,
        layouts: Sequence[PromptLayout] | None = None,
    ) -> Scene:
        """A batch before it is answered, as pruners see it; arguments and errors as of `answer`."""
        batch = self.prompts(records, max_new_tokens, watch_vision=watch_vision, layouts=layouts)
        return Scene(
            lm=self.language_model,
            meter=self.meter,
            ids=[record.id for record in records],
            batch=batch,
            limits=self.limits(records, batch, min_new_tokens),
            complete=self.sum_over_heads,
            guidance=guidance,
        )

    @torch.inference_mode()
    def prompts(
        self,
        records: Sequence[ImageQuestion],
        max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
        *,
        watch_vision: bool = False,
        layouts: Sequence[PromptLayout] | None = None,
    ) -> PromptBatch:
        """What the decoder's first layer sees of a batch; layouts, where they are known already.

        Raises:
            RecordError: one of the records is bad; which kind, its subclass tells.
            UnsupportedModelError: `watch_vision`, and this family's cannot be watched.
        """
        if layouts is None:
            layouts = [self.encoder.lay_out(record, max_new_tokens) for record in records]
        return build_prompts(self.model, self.encoder, records, layouts, watch_vision=watch_vision)

    def limits(
        self, records: Sequence[ImageQuestion], batch: PromptBatch, min_new_tokens: int
    ) -> Limits:
        """When the answers of a batch end, and how their tokens are chosen."""
        return Limits(
            self.end_token_ids,
            [layout.max_new_tokens for layout in batch.layouts],
            min_new_tokens,
            [record.sampling for record in records],
            partial(self._stopped, [record.stop for record in records]),
        )

    def _stopped(
        self, stops: Sequence[tuple[str, ...]], record: int, token_ids: Sequence[int]
    ) -> bool:
        if not stops[record]:
            return False
        # A token is at least a byte, and a character at most four.
        tail = token_ids[-4 * max(map(len, stops[record])) - _TOKENS_ASIDE :]
        text = self._decoded(tail)
        return any(stop in text for stop in stops[record])

    def draft(self, guidance: Guidance) -> list[int]:
        """The guide's answer in this model's tokens, ended."""
        words: list[int] = self.tokenizer(guidance.answer, add_special_tokens=False)["input_ids"]
        eos = self.tokenizer.eos_token_id
        ends = self.end_token_ids
        return [*words, eos if eos in ends else min(ends)] if ends else words

    def text(self, token_ids: Sequence[int], stops: Sequence[str] = ()) -> str:
        """An answer's text up to a stop text, special tokens removed, stripped."""
        return cut_at(self._decoded(token_ids), stops).strip()

    def _decoded(self, token_ids: Sequence[int]) -> str:
        """As the tokens have it: some checkpoints would take blanks out of the whole text."""
        text: str = self.tokenizer.decode(
            token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


def _identity(tensor: Tensor) -> Tensor:
    return tensor


def _end_token_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    native = model.generation_config.eos_token_id
    ends = native if isinstance(native, list) else [native]
    return frozenset(int(token) for token in (*ends, tokenizer.eos_token_id) if token is not None)
