"""The method as the paper's code runs it: the anchor that the engine is measured against.

Both models see every record, one record at a time, with eager attention. The small model answers by
transformers' own `generate`, which returns every map of every layer and step; they are summed. Its
consistency pass and the pruned large model run in our decoder loop, because `generate` can neither
prune nor score; there, too, attention is transformers' eager one.

Nothing is done that the method does not need, and some things less often than in the paper's code:
one run of each vision tower, whose attention stays fused; maps summed on the device where they
are, and only over the rows that count; masks made once per shape.

Shapes: B records (one), H heads, Q query tokens, T prompt tokens.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask
from transformers.models.qwen2.modeling_qwen2 import eager_attention_forward

from sgl import early_exit
from sgl.answers import Limits
from sgl.attention import ATTENTION_NAME
from sgl.compaction import prune_prompt
from sgl.generation import Generating
from sgl.language_model import Prompt
from sgl.ranking import top_visual_tokens
from sgl.scoring import score_answers
from sgl.selection import Selection
from sgl.types import ConsistencyForm, ImageQuestion
from sgl.vlm import VLM

_EAGER = "benchmark_eager"


@torch.inference_mode()
def answer_one_by_one(
    small: VLM,
    large: VLM,
    records: Sequence[ImageQuestion],
    *,
    threshold: float,
    prune_layer: float,
    keep_ratio: float,
    consistency: ConsistencyForm,
    max_new_tokens: int,
    consistency_keep_ratio: float = 0.05,
) -> list[tuple[int, ...]]:
    """Both models on every record; the arguments are those of `sgl.run_cascade`.

    Returns:
        Per record, the tokens of the answer that stands.
    """
    answers = []
    with eager_attention(small), eager_attention(large):
        for record in records:
            prompt = small.prompts([record], max_new_tokens).prompt
            token_ids, confidence, importance_BT = answer_with_maps(small, prompt, max_new_tokens)
            keep_BT = _kept(importance_BT, prompt, consistency_keep_ratio)
            (seen_again,) = score_answers(
                small.language_model, prune_prompt(prompt, keep_BT), [token_ids]
            )
            steady = early_exit.consistency(seen_again, consistency)
            score = early_exit.mean(confidence, steady)
            from_large = _answer_pruned(
                large, record, importance_BT, prune_layer, keep_ratio, max_new_tokens
            )
            exits = early_exit.exits(score, threshold)
            answers.append(tuple(token_ids if exits else from_large))
    return answers


def answer_with_maps(
    small: VLM, prompt: Prompt, max_new_tokens: int
) -> tuple[list[int], float, Tensor]:
    """The answer's tokens, its confidence, and the importance of the prompt's columns (B, T)."""
    output = small.model.generate(
        inputs_embeds=prompt.embeds_BTD,
        attention_mask=prompt.valid_BT.long(),
        do_sample=False,
        max_new_tokens=max_new_tokens,
        min_new_tokens=1,
        pad_token_id=small.tokenizer.pad_token_id,
        output_attentions=True,
        output_scores=True,
        return_dict_in_generate=True,
    )
    length = prompt.visual_BT.shape[1]
    after = int(prompt.visual_BT[0].nonzero().max()) + 1
    of_prompt, *of_answer = output.attentions
    importance_BT = sum(attn_BHTT[:, :, after:].sum(dim=(1, 2)) for attn_BHTT in of_prompt)
    for of_token in of_answer:
        importance_BT += sum(attn_BHQT[:, :, 0, :length].sum(dim=1) for attn_BHQT in of_token)
    log_prob_SN = torch.cat(output.scores).log_softmax(dim=-1)
    confidence = early_exit.confidence(log_prob_SN.amax(dim=-1).tolist())
    return output.sequences[0].tolist(), confidence, importance_BT


def _answer_pruned(
    large: VLM,
    record: ImageQuestion,
    importance_BT: Tensor,
    prune_layer: float,
    keep_ratio: float,
    max_new_tokens: int,
) -> list[int]:
    """The large model's tokens, its visual tokens pruned by the small one's ranking."""
    prompt = large.prompts([record], max_new_tokens).prompt
    selection = Selection(int(large.layers * prune_layer), _kept(importance_BT, prompt, keep_ratio))
    limits = Limits(large.end_token_ids, [max_new_tokens])
    answers = Generating(large.language_model, prompt, limits, selections=[selection]).finish()
    return answers.token_ids[0]


def _kept(importance_BT: Tensor, prompt: Prompt, keep_ratio: float) -> Tensor:
    return top_visual_tokens(importance_BT, prompt.visual_BT, keep_ratio) | ~prompt.visual_BT


@contextmanager
def eager_attention(vlm: VLM) -> Iterator[None]:
    """The text model's, for a while."""
    text_model = vlm.language_model.text_model
    text_model.set_attn_implementation(_EAGER)
    try:
        yield
    finally:
        text_model.set_attn_implementation(ATTENTION_NAME)


def _eager_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """As transformers', where None means all keys; our loop means causal attention by it."""
    if attention_mask is None:
        attention_mask = _causal_mask(query.shape[2], key.shape[2], query.device)
    outputs: tuple[Tensor, Tensor] = eager_attention_forward(
        module, query, key, value, attention_mask, **kwargs
    )
    return outputs


@lru_cache
def _causal_mask(queries: int, keys: int, device: torch.device) -> Tensor | None:
    """(1, 1, Q, T) to add to the scores; a last token alone sees everything."""
    if queries == 1:
        return None
    hidden_QT = torch.ones(queries, keys, dtype=torch.bool, device=device).triu(keys - queries + 1)
    return torch.zeros(1, 1, queries, keys, device=device).masked_fill(hidden_QT, float("-inf"))


AttentionInterface.register(_EAGER, _eager_attention)
AttentionMaskInterface.register(_EAGER, eager_mask)
