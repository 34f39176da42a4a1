"""Drafts: answers that somebody has given already, read in the prefill.

The large model reads the small one's answer behind its (pruned) prompt and keeps what it would have
said itself, token for token, or drawn itself, where tokens are sampled; from the first difference
on it decodes as always. So a draft changes no token, only how many forward passes they take.

Shapes: B records, T prompt tokens, S draft tokens, W prompt and draft, N vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sgl.answers import Answers
from sgl.compaction import add_text, compaction, take_tokens
from sgl.decoder import DecodeState, output_logits, prefill_hidden
from sgl.language_model import LanguageModel, Prompt
from sgl.selection import AnySelection


def verify(
    lm: LanguageModel,
    prompt: Prompt,
    selections: Sequence[AnySelection],
    drafts: Sequence[Sequence[int]],
    answers: Answers,
) -> tuple[Tensor, DecodeState]:
    """Prefill prompts and drafts at once; keep the agreeing tokens and the first that differs.

    Args:
        lm: the decoder.
        prompt: B prompts.
        selections: prune the prompt, by layer.
        drafts: per record, perhaps none; shorter than the record's limit.
        answers: of the batch, which get their first tokens.

    Returns:
        (B,) int64, the tokens to feed next, and the state to go on from. Rejected draft tokens stay
        in the caches, masked.
    """
    hidden_BWD, state = prefill_hidden(lm, *_append(lm, prompt, selections, drafts))
    tokens = []
    for record, draft in enumerate(drafts):
        # Left-padded, so that every draft stands at the end.
        hidden_SD = hidden_BWD[record, hidden_BWD.shape[1] - len(draft) - 1 :]
        agreed = _agreed(answers, record, draft, output_logits(lm, hidden_SD))
        answers.drafted[record], answers.accepted[record] = len(draft), agreed
        tokens.append(answers.last_token(record))
    device = hidden_BWD.device
    rejected = [d - a for d, a in zip(answers.drafted, answers.accepted, strict=True)]
    state.position_B = prompt.next_position_B + torch.tensor(answers.accepted, device=device)
    if any(rejected):
        state.take_back(torch.tensor(rejected, device=device))
    return torch.tensor(tokens, device=device), state


def _agreed(answers: Answers, record: int, draft: Sequence[int], logits_SN: Tensor) -> int:
    """How many tokens of a draft the answer begins with."""
    agreed = 0
    for place in range(len(draft) + 1):
        answers.choose([record], logits_SN[place : place + 1])
        same = place < len(draft) and answers.last_token(record) == draft[place]
        agreed += same
        if not same or record not in answers.unfinished:
            break
    return agreed


def _append(
    lm: LanguageModel,
    prompt: Prompt,
    selections: Sequence[AnySelection],
    drafts: Sequence[Sequence[int]],
) -> tuple[Prompt, list[AnySelection]]:
    """Prompts with their drafts behind them, left-padded again; nothing of a draft is pruned."""
    device, longest = prompt.embeds_BTD.device, max(len(draft) for draft in drafts)
    token_BS = torch.tensor(
        [[*draft, *[0] * (longest - len(draft))] for draft in drafts],
        dtype=torch.int64,
        device=device,
    )
    length_B1 = torch.tensor([[len(draft)] for draft in drafts], device=device)
    drafted_BS = torch.arange(longest, device=device) < length_B1
    extended = add_text(prompt, lm.text_model.embed_tokens(token_BS), drafted_BS)
    index_BW, valid_BW = compaction(extended.valid_BT)
    return take_tokens(extended, index_BW, valid_BW), [
        selection.with_draft(prompt.valid_BT, drafted_BS).moved(index_BW, valid_BW)
        for selection in selections
    ]
