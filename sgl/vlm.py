"""A native vision-language model that guides (small) or is guided (large)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sgl import early_exit
from sgl.accounting import Meter, Stopwatch, usages
from sgl.attention import RowCapture
from sgl.compaction import prune_prompt
from sgl.errors import ConfigurationError
from sgl.families import Family
from sgl.flops import DecoderShape
from sgl.generation import Generation, Limits, generate_greedy
from sgl.language_model import LanguageModel, Prompt
from sgl.layout import DEFAULT_MAX_NEW_TOKENS, PromptEncoder
from sgl.memory import BatchMemory
from sgl.prompt import PromptBatch, build_prompts
from sgl.pruners import PRUNERS
from sgl.pruning import Pruner, Scene
from sgl.ranking import top_visual_tokens
from sgl.results import guidances, large_answers, prunings_of
from sgl.scoring import score_answers
from sgl.selection import Plan
from sgl.types import Answer, Certainty, ConsistencyForm, Criterion, Guidance, ImageQuestion


class VLM:
    """A model with its tokenizer and family; every call is one batch.

    Attributes:
        encoder: lays out its prompts.
        memory: what its batches need.
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
        self._meter = Meter(DecoderShape.of(family.config.text_config))
        self.memory = BatchMemory(
            self._meter.shape,
            family.patch_values,
            model.dtype.itemsize,
            deepstack=family.deepstack_layers,
        )
        self.end_token_ids = _end_token_ids(model, tokenizer)
        self.cuda_graphs = False
        self.sum_over_heads: Callable[[Tensor], Tensor] = _identity

    @torch.inference_mode()
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
        watch = Stopwatch(self.model.device)
        batch = self.prompts(records, max_new_tokens)
        prompt = batch.prompt
        capture = RowCapture(len(records), prompt.valid_BT.shape[1], prompt.valid_BT.device)
        answers = generate_greedy(
            self.language_model,
            prompt,
            self._limits(batch, min_new_tokens),
            capture=capture,
            include_last_visual_row=include_last_visual_row,
            uncertainty=True,
        )
        importance_BT = self.sum_over_heads(capture.importance_BT)
        steady = all_criteria or early_exit.needs_consistency(criterion)
        again = consistency_keep_ratio if steady else None
        answered_s = watch.seconds()
        certainties = self._certainties(prompt, importance_BT, answers, again, consistency)
        seconds = watch.seconds()
        flops = self._meter.guidance_flops(
            batch.layouts,
            answers,
            consistency_keep_ratio=again,
            include_last_visual_row=include_last_visual_row,
        )
        usage = usages(
            batch,
            kept=[layout.visual_tokens for layout in batch.layouts],
            answers=answers.token_ids,
            flops=flops,
            seconds=seconds,
            consistency_s=seconds - answered_s if steady else None,
        )
        texts = self._texts(answers)
        return guidances(
            records, batch, answers, texts, certainties, importance_BT, usage, criterion
        )

    @torch.inference_mode()
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
        _check_shares(prune_layer, keep_ratio)
        watch = Stopwatch(self.model.device)
        pruner = pruner or (PRUNERS["guided"] if guidance else None)
        layer = int(self.layers * prune_layer)
        if pruner and (obstacle := pruner.obstacle(self.family, layer)):
            raise ConfigurationError(f"pruner {pruner.name!r}: {obstacle}")
        scene = self.scene(
            records,
            guidance,
            max_new_tokens=max_new_tokens,
            min_new_tokens=min_new_tokens,
            watch_vision=pruner is not None and pruner.watches_vision,
        )
        batch, plan = scene.batch, Plan.of_nothing(len(records))
        if pruner:
            plan = pruner.plan(scene, layer, keep_ratio)
        answers = generate_greedy(
            self.language_model,
            batch.prompt,
            scene.limits,
            selections=plan.selections,
            drafts=[self._draft(one) for one in guidance] if guidance and use_drafts else None,
            graph=self.cuda_graphs,
        )
        visual = [layout.visual_tokens for layout in batch.layouts]
        usage = usages(
            batch,
            kept=plan.kept(visual),
            answers=answers.token_ids,
            flops=self._meter.answer_flops(batch.layouts, answers, plan),
            seconds=watch.seconds(),
        )
        prunings = prunings_of(pruner, plan, visual, self.layers, prune_layer, keep_ratio)
        return large_answers(records, guidance, answers, self._texts(answers), prunings, usage)

    @torch.inference_mode()
    def scene(
        self,
        records: Sequence[ImageQuestion],
        guidance: Sequence[Guidance] | None = None,
        *,
        max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
        min_new_tokens: int = 1,
        watch_vision: bool = False,
    ) -> Scene:
        """A batch before it is answered, as pruners see it; arguments and errors as of `answer`."""
        batch = self.prompts(records, max_new_tokens, watch_vision=watch_vision)
        return Scene(
            lm=self.language_model,
            meter=self._meter,
            ids=[record.id for record in records],
            batch=batch,
            limits=self._limits(batch, min_new_tokens),
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
    ) -> PromptBatch:
        """What the decoder's first layer sees of a batch.

        Raises:
            RecordError: one of the records is bad; which kind, its subclass tells.
            UnsupportedModelError: `watch_vision`, and this family's cannot be watched.
        """
        layouts = [self.encoder.lay_out(record, max_new_tokens) for record in records]
        return build_prompts(self.model, self.encoder, records, layouts, watch_vision=watch_vision)

    def _limits(self, batch: PromptBatch, min_new_tokens: int) -> Limits:
        limits = [layout.max_new_tokens for layout in batch.layouts]
        return Limits(self.end_token_ids, limits, min_new_tokens)

    def _certainties(
        self,
        prompt: Prompt,
        importance_BT: Tensor,
        answers: Generation,
        keep_ratio: float | None,
        form: ConsistencyForm,
    ) -> list[Certainty]:
        """Of each answer, with a consistency pass that sees that share, or without one."""
        steady: list[float | None] = [None] * len(answers.token_ids)
        if keep_ratio is not None:
            kept_BT = top_visual_tokens(importance_BT, prompt.visual_BT, keep_ratio)
            pruned = prune_prompt(prompt, kept_BT | ~prompt.visual_BT)
            seen_again = score_answers(self.language_model, pruned, answers.token_ids)
            steady = [early_exit.consistency(one, form) for one in seen_again]
        vocabulary = self._meter.shape.vocabulary
        return [
            early_exit.certainty(log_probs, entropies, margins, vocabulary, again)
            for log_probs, entropies, margins, again in zip(
                answers.log_probs, answers.entropies, answers.margins, steady, strict=True
            )
        ]

    def _draft(self, guidance: Guidance) -> list[int]:
        """The guide's answer in this model's tokens, ended."""
        words: list[int] = self.tokenizer(guidance.answer, add_special_tokens=False)["input_ids"]
        eos = self.tokenizer.eos_token_id
        ends = self.end_token_ids
        return [*words, eos if eos in ends else min(ends)] if ends else words

    def _texts(self, answers: Generation) -> list[str]:
        return [self.decode(ids) for ids in answers.token_ids]

    def decode(self, token_ids: Sequence[int]) -> str:
        """An answer's text, special tokens removed, stripped."""
        text: str = self.tokenizer.decode(token_ids, skip_special_tokens=True)
        return text.strip()


def _check_shares(prune_layer: float, keep_ratio: float) -> None:
    if not (0 <= prune_layer <= 1 and 0 <= keep_ratio <= 1):
        raise ValueError(
            f"prune_layer ({prune_layer}) and keep_ratio ({keep_ratio}) are shares, 0 to 1"
        )


def _identity(tensor: Tensor) -> Tensor:
    return tensor


def _end_token_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    native = model.generation_config.eos_token_id
    ends = native if isinstance(native, list) else [native]
    return frozenset(int(token) for token in (*ends, tokenizer.eos_token_id) if token is not None)
