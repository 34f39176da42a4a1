"""A native vision-language model that guides (small) or is guided (large)."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from sgl import early_exit
from sgl.attention import RowCapture
from sgl.decoder import (
    LanguageModel,
    Prompt,
    Selection,
    generate_greedy,
    prune_prompt,
    score_answers,
)
from sgl.errors import ModelLoadError
from sgl.families import Family, family_of
from sgl.flops import DecoderShape, capture_flops, generation_flops, scoring_flops
from sgl.prompt import PromptBatch, build_prompts, check_context
from sgl.ranking import (
    average_retention,
    check_same_tokens,
    keep_count,
    spread,
    top_visual_tokens,
)
from sgl.types import (
    Answer,
    ConsistencyForm,
    Guidance,
    ImageQuestion,
    Pruning,
    Route,
    Usage,
)

DEFAULT_MAX_NEW_TOKENS = 64


def load(
    path_or_id: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
) -> "VLM":
    """Load a checkpoint in native transformers format.

    Args:
        path_or_id: a folder or a hub id.
        device: default: CUDA where there is one, else the CPU.
        dtype: default: bfloat16 on CUDA, float32 on a CPU.
        revision: of a hub id.

    Raises:
        ModelLoadError: it cannot be read.
        UnsupportedModelError: its architecture cannot be guided or pruned.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(device)
    if dtype is None:
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    source = str(path_or_id)
    try:
        config = AutoConfig.from_pretrained(source, revision=revision)
        family = family_of(config.model_type)
        # The PIL backend needs no torchvision, and pixels of the two backends differ by up to
        # 0.03: one of them has to be pinned.
        image_processor = AutoImageProcessor.from_pretrained(
            source, revision=revision, backend="pil"
        )
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
        model = AutoModelForImageTextToText.from_pretrained(
            source, revision=revision, dtype=dtype, attn_implementation="sdpa"
        )
    except OSError as error:
        raise ModelLoadError(f"cannot load the checkpoint {source!r}: {error}") from error
    return VLM(model.to(device).eval(), tokenizer, family(config, image_processor))


class VLM:
    """A model with its tokenizer and family; every call is one batch.

    Attributes:
        layers: L, decoder layers.
    """

    def __init__(self, model: Any, tokenizer: Any, family: Family) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.family = family
        self.language_model = LanguageModel(
            model.get_decoder(), model.get_output_embeddings(), family.position_axes
        )
        self.layers = self.language_model.layers
        self._shape = DecoderShape.of(family.config.text_config)
        self._end_token_ids = _end_token_ids(model, tokenizer)

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
    ) -> list[Guidance]:
        """Answer, score and rank (paper, sections 3.2 and 3.3).

        Args:
            records: one batch, at least one record.
            max_new_tokens: for records that name no limit of their own.
            min_new_tokens: the end token is barred before.
            consistency: product (the paper) or geometric mean (captions).
            consistency_keep_ratio: share of the top visual tokens that the consistency pass sees.
            include_last_visual_row: count the last visual token's row, as the paper's code does.

        Returns:
            One guidance per record, in order.

        Raises:
            RecordError: one of the records is bad; which kind, its subclass tells.
        """
        started = time.perf_counter()
        batch, limits = self._prepare(records, max_new_tokens)
        prompt = batch.prompt
        capture = RowCapture(len(records), prompt.valid_BT.shape[1], prompt.valid_BT.device)
        answers = generate_greedy(
            self.language_model,
            prompt,
            end_token_ids=self._end_token_ids,
            max_new_tokens=limits,
            min_new_tokens=min_new_tokens,
            capture=capture,
            include_last_visual_row=include_last_visual_row,
        )
        importance_BT = capture.importance_BT
        kept_BT = top_visual_tokens(importance_BT, prompt.visual_BT, consistency_keep_ratio)
        pruned = prune_prompt(prompt, kept_BT | ~prompt.visual_BT)
        seen_again = score_answers(self.language_model, pruned, answers.token_ids)
        flops = [
            self._guide_flops(batch, b, len(ids), consistency_keep_ratio, include_last_visual_row)
            for b, ids in enumerate(answers.token_ids)
        ]
        seconds = self._shares(started, flops)
        results = []
        for b, record in enumerate(records):
            tokens = answers.token_ids[b]
            sure = early_exit.confidence(answers.log_probs[b])
            steady = early_exit.consistency(seen_again[b], consistency)
            visual = batch.visual_tokens(b)
            results.append(
                Guidance(
                    id=record.id,
                    answer=self._decode(tokens),
                    token_ids=tuple(tokens),
                    confidence=sure,
                    consistency=steady,
                    exit_score=early_exit.exit_score(sure, steady),
                    importance=importance_BT[b, prompt.visual_BT[b]].cpu().numpy(),
                    grids=batch.grids[b],
                    usage=Usage(
                        batch.lengths[b], visual, visual, len(tokens), flops[b], seconds[b]
                    ),
                )
            )
        return results

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
    ) -> list[Answer]:
        """Answer, with the visual tokens pruned by the guidance (paper, section 3.2).

        Args:
            records: one batch, at least one record.
            guidance: of the same records, in order; None answers unpruned.
            prune_layer: K = int(L * prune_layer); read with guidance only.
            keep_ratio: share of the visual tokens that stays from layer K on; likewise.
            max_new_tokens: for records that name no limit of their own.
            min_new_tokens: the end token is barred before.

        Returns:
            One answer per record, in order, with route LARGE.

        Raises:
            GridMismatchError: a ranking is of other visual tokens than this model's.
            RecordError: one of the records is bad; which kind, its subclass tells.
        """
        started = time.perf_counter()
        batch, limits = self._prepare(records, max_new_tokens)
        split = int(self.layers * prune_layer) if guidance else self.layers
        selection = None
        if guidance:
            for record_guidance, grids in zip(guidance, batch.grids, strict=True):
                check_same_tokens(record_guidance, grids)
            selection = Selection(split, self._keep(batch.prompt, guidance, keep_ratio))
        answers = generate_greedy(
            self.language_model,
            batch.prompt,
            end_token_ids=self._end_token_ids,
            max_new_tokens=limits,
            min_new_tokens=min_new_tokens,
            selection=selection,
        )
        kept = [batch.visual_tokens(b) for b in range(len(records))]
        if guidance:
            kept = [keep_count(count, keep_ratio) for count in kept]
        flops = [
            self.family.vision_flops(batch.grids[b])
            + self._generation_flops(batch, b, len(ids), split, kept[b])
            for b, ids in enumerate(answers.token_ids)
        ]
        seconds = self._shares(started, flops)
        results = []
        for b, record in enumerate(records):
            tokens, visual = answers.token_ids[b], batch.visual_tokens(b)
            retention = average_retention(split, self.layers, kept[b], visual)
            results.append(
                Answer(
                    id=record.id,
                    text=self._decode(tokens),
                    token_ids=tuple(tokens),
                    route=Route.LARGE,
                    usage=Usage(
                        batch.lengths[b], visual, kept[b], len(tokens), flops[b], seconds[b]
                    ),
                    pruning=Pruning(prune_layer, keep_ratio, retention) if guidance else None,
                    guidance=guidance[b] if guidance else None,
                )
            )
        return results

    def _prepare(
        self, records: Sequence[ImageQuestion], max_new_tokens: int
    ) -> tuple[PromptBatch, list[int]]:
        limits = [record.max_new_tokens or max_new_tokens for record in records]
        batch = build_prompts(self.model, self.tokenizer, self.family, records)
        check_context(batch, limits, self.family.config.text_config.max_position_embeddings)
        return batch, limits

    def _keep(self, prompt: Prompt, guidance: Sequence[Guidance], keep_ratio: float) -> Tensor:
        importance_BT = spread([one.importance for one in guidance], prompt.visual_BT)
        return top_visual_tokens(importance_BT, prompt.visual_BT, keep_ratio) | ~prompt.visual_BT

    def _decode(self, token_ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(token_ids, skip_special_tokens=True)
        return text.strip()

    def _generation_flops(
        self, batch: PromptBatch, b: int, new_tokens: int, split: int, kept: int
    ) -> float:
        dropped = batch.visual_tokens(b) - kept
        return generation_flops(
            self._shape,
            prompt=batch.lengths[b],
            pruned_prompt=batch.lengths[b] - dropped,
            prune_layer=split,
            new_tokens=new_tokens,
        )

    def _guide_flops(
        self,
        batch: PromptBatch,
        b: int,
        new_tokens: int,
        consistency_keep_ratio: float,
        include_last_visual_row: bool,
    ) -> float:
        visual, length = batch.visual_tokens(b), batch.lengths[b]
        rows = batch.rows_after_image[b] + (include_last_visual_row and visual > 0)
        seen_again = length - visual + keep_count(visual, consistency_keep_ratio)
        return (
            self.family.vision_flops(batch.grids[b])
            + self._generation_flops(batch, b, new_tokens, self.layers, visual)
            + capture_flops(self._shape, prompt=length, rows=rows, new_tokens=new_tokens)
            + scoring_flops(self._shape, prompt=seen_again, new_tokens=new_tokens)
        )

    def _shares(self, started: float, flops: Sequence[float]) -> list[float]:
        """The batch's device-seconds, shared by FLOPs."""
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)
        seconds = time.perf_counter() - started
        shares = np.asarray(flops) / sum(flops)
        return [float(seconds * share) for share in shares]


def _end_token_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    native = model.generation_config.eos_token_id
    ends = native if isinstance(native, list) else [native]
    return frozenset(int(token) for token in (*ends, tokenizer.eos_token_id) if token is not None)
