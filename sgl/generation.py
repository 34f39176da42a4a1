"""Greedy answers of a batch: plain, guided-and-captured, or begun from a draft.

A draft is an answer that somebody has given already: the small model's, when a record goes on to
the large one. That one reads it behind its (pruned) prompt in the same prefill and keeps what it
would have said itself, token for token; from the first difference on it decodes as always. So a
draft changes no token, only how many forward passes they take.

Shapes: B records, R rows still in the batch, T prompt tokens, S draft tokens, N vocabulary.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sgl.attention import RowCapture
from sgl.compaction import add_text, compaction, take_tokens
from sgl.decoder import DecodeState, decode_step, output_logits, prefill, prefill_hidden
from sgl.errors import NumericalError
from sgl.language_model import LanguageModel, Prompt
from sgl.selection import AnySelection
from sgl.static_decode import StaticDecode
from sgl.uncertainty import entropy_and_margin

HALF_LEFT = 0.5
"""Finished records leave a decode batch once so few of it are unfinished: every step that is saved
costs its share of one copy of the cache, however the lengths of the answers fall."""

_GRAPH_STEPS = 16
"""Recording a graph takes as long as a few steps without one."""


@dataclass(frozen=True)
class Limits:
    """When answers end.

    Attributes:
        end_token_ids: any of them ends an answer.
        max_new_tokens: per record, at least 1.
        min_new_tokens: end tokens are barred from the answer's first tokens; their probability
            is then spread over the rest of the vocabulary.
    """

    end_token_ids: Collection[int]
    max_new_tokens: Sequence[int]
    min_new_tokens: int = 1


@dataclass(frozen=True)
class Generation:
    """Greedy answers of a batch.

    Attributes:
        token_ids: per record, the end token included when it was generated.
        log_probs: per record, log p(y_t) of those tokens.
        entropies: per record, of the distributions that they were chosen from, in nats; nothing
            unless asked for.
        margins: per record, p of the token less p of the next best one; likewise.
        drafted: per record, draft tokens that were read.
        accepted: per record, draft tokens that are in the answer.
        passes: forward passes of the decoder, the prefill included.
    """

    token_ids: list[list[int]]
    log_probs: list[list[float]]
    entropies: list[list[float]]
    margins: list[list[float]]
    drafted: list[int]
    accepted: list[int]
    passes: int


def generate_greedy(
    lm: LanguageModel,
    prompt: Prompt,
    limits: Limits,
    *,
    selections: Sequence[AnySelection] = (),
    drafts: Sequence[Sequence[int]] | None = None,
    capture: RowCapture | None = None,
    include_last_visual_row: bool = False,
    uncertainty: bool = False,
    graph: bool = False,
    leave_at: float = HALF_LEFT,
) -> Generation:
    """Answer greedily.

    Args:
        lm: the decoder.
        prompt: B prompts.
        limits: when answers end.
        selections: prune the prompt, by layer.
        drafts: per record, tokens of this model's vocabulary, perhaps none; not with `capture`.
        capture: receives the importance of the prompt's columns: the rows of the prompt tokens
            after the last visual one, and of each generated token that is fed back.
        include_last_visual_row: also count the row of the last visual token.
        uncertainty: also tell entropies and margins.
        graph: decode long answers in static caches, on a GPU as one CUDA graph; where that cannot
            be (with `capture`, or sliding windows), as always.
        leave_at: finished records leave the batch when at most this share of it is unfinished; 0 is
            never, 1 at once.

    Returns:
        Tokens and their log probabilities.

    Raises:
        NumericalError: the logits of a record are not finite.
    """
    answers = _Answers(limits, uncertainty)
    if drafts is not None and any(drafts):
        assert capture is None, "draft tokens would be captured as part of the prompt"
        token_B, state = _verify(lm, prompt, selections, drafts, answers)
    else:
        if capture:
            capture.watch(*_rows_after_image(prompt, include_last_visual_row))
        logits_BN, state = prefill(lm, prompt, selections, capture)
        token_B = answers.choose(answers.records, logits_BN)
    if graph and capture is None and not lm.has_windows and answers.steps_left() >= _GRAPH_STEPS:
        _decode_in_graph(lm, state, token_B, answers)
    while answers.unfinished:
        rows = len(answers.records)
        if len(answers.unfinished) <= min(leave_at * rows, rows - 1):
            index_R = answers.keep_unfinished(token_B.device)
            state.keep_rows(index_R)
            token_B = token_B[index_R]
        if capture:
            record_R = torch.tensor(answers.records, device=token_B.device)
            fed = [[float(record in answers.unfinished)] for record in answers.records]
            capture.watch(torch.tensor(fed, device=token_B.device), record_B=record_R)
        token_B = answers.choose(answers.records, decode_step(lm, state, token_B, capture))
        answers.passes += 1
    return answers.generation()


def _decode_in_graph(
    lm: LanguageModel, state: DecodeState, token_B: Tensor, answers: "_Answers"
) -> None:
    """All steps that are left; finished records stay, as a graph is of one batch size."""
    static = StaticDecode(lm, state, answers.steps_left())
    state.cache.layers.clear()  # it is copied
    while answers.unfinished:
        token_B = answers.choose(answers.records, static.step(token_B))
        answers.passes += 1


@dataclass
class _Answers:
    """The answers so far, and which records are still in the batch.

    Attributes:
        records: of the batch's rows.
        unfinished: records whose answers go on.
    """

    limits: Limits
    uncertainty: bool
    records: list[int] = field(init=False)
    unfinished: set[int] = field(init=False)
    drafted: list[int] = field(init=False)
    accepted: list[int] = field(init=False)
    passes: int = 1

    def __post_init__(self) -> None:
        self.records = list(range(len(self.limits.max_new_tokens)))
        self.unfinished = set(self.records)
        self.drafted = [0] * len(self.records)
        self.accepted = [0] * len(self.records)
        self._token_ids: list[list[int]] = [[] for _ in self.records]
        self._log_probs: list[list[float]] = [[] for _ in self.records]
        self._entropies: list[list[float]] = [[] for _ in self.records]
        self._margins: list[list[float]] = [[] for _ in self.records]

    def choose(self, records: Sequence[int], logits_RN: Tensor) -> Tensor:
        """The next token of every row, (R,) int64; unfinished answers get it."""
        early = [len(self._token_ids[record]) < self.limits.min_new_tokens for record in records]
        if any(early) and self.limits.end_token_ids:
            barred = torch.tensor(sorted(self.limits.end_token_ids), device=logits_RN.device)
            rows = torch.tensor(early, device=logits_RN.device).nonzero()
            logits_RN[rows, barred] = float("-inf")
        log_prob_RN = logits_RN.log_softmax(dim=-1)
        log_prob_R, token_R = log_prob_RN.max(dim=-1)
        if self.uncertainty:
            self._look_around(records, log_prob_RN)
        for record, token, log_prob in zip(
            records, token_R.tolist(), log_prob_R.tolist(), strict=True
        ):
            if record in self.unfinished:
                if not math.isfinite(log_prob):
                    raise NumericalError(
                        "the model's numbers are not finite on this record; load the model in "
                        "bfloat16 or float32 (its dtype), or look at the image"
                    )
                self._token_ids[record].append(token)
                self._log_probs[record].append(log_prob)
                full = len(self._token_ids[record]) == self.limits.max_new_tokens[record]
                if full or token in self.limits.end_token_ids:
                    self.unfinished.discard(record)
        return token_R

    def _look_around(self, records: Sequence[int], log_prob_RN: Tensor) -> None:
        """What else the tokens of unfinished answers might have been."""
        entropies, margins = torch.stack(entropy_and_margin(log_prob_RN)).tolist()
        for record, entropy, margin in zip(records, entropies, margins, strict=True):
            if record in self.unfinished:
                self._entropies[record].append(entropy)
                self._margins[record].append(margin)

    def keep_unfinished(self, device: torch.device) -> Tensor:
        """Let finished records leave: (R,) int64, the rows that stay."""
        rows = [row for row, record in enumerate(self.records) if record in self.unfinished]
        self.records = [self.records[row] for row in rows]
        return torch.tensor(rows, device=device)

    def steps_left(self) -> int:
        """At most."""
        limits, done = self.limits.max_new_tokens, self._token_ids
        return max((limits[record] - len(done[record]) for record in self.unfinished), default=0)

    def last_token(self, record: int) -> int:
        """The last one chosen."""
        return self._token_ids[record][-1]

    def generation(self) -> Generation:
        """What was generated."""
        return Generation(
            token_ids=self._token_ids,
            log_probs=self._log_probs,
            entropies=self._entropies,
            margins=self._margins,
            drafted=self.drafted,
            accepted=self.accepted,
            passes=self.passes,
        )


def _verify(
    lm: LanguageModel,
    prompt: Prompt,
    selections: Sequence[AnySelection],
    drafts: Sequence[Sequence[int]],
    answers: _Answers,
) -> tuple[Tensor, DecodeState]:
    """Prefill prompts and drafts at once; keep the agreeing tokens and the first that differs.

    Returns:
        (B,) int64, the tokens to feed next, and the state to go on from. Rejected draft tokens stay
        in the caches, masked.
    """
    limits = answers.limits.max_new_tokens
    # A draft of the limit's length would leave no room for the model's own token.
    drafts = [list(draft[: limit - 1]) for draft, limit in zip(drafts, limits, strict=True)]
    hidden_BWD, state = prefill_hidden(lm, *_append(lm, prompt, selections, drafts))
    tokens = []
    for record, draft in enumerate(drafts):
        # Left-padded, so that every draft stands at the end.
        hidden_SD = hidden_BWD[record, hidden_BWD.shape[1] - len(draft) - 1 :]
        logits_SN = output_logits(lm, hidden_SD)
        agreed = 0
        for place in range(len(draft) + 1):
            answers.choose([record], logits_SN[place : place + 1])
            same = place < len(draft) and answers.last_token(record) == draft[place]
            agreed += same
            if not same or record not in answers.unfinished:
                break
        answers.drafted[record], answers.accepted[record] = len(draft), agreed
        tokens.append(answers.last_token(record))
    device = hidden_BWD.device
    rejected = [d - a for d, a in zip(answers.drafted, answers.accepted, strict=True)]
    state.position_B = prompt.next_position_B + torch.tensor(answers.accepted, device=device)
    if any(rejected):
        state.take_back(torch.tensor(rejected, device=device))
    return torch.tensor(tokens, device=device), state


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


def _rows_after_image(prompt: Prompt, include_last_visual_row: bool) -> tuple[Tensor, int]:
    """Weights (B, T) of the rows that count, and the first row with any.

    A record without an image has no columns to rank, so none of its rows counts.
    """
    steps_T = torch.arange(prompt.visual_BT.shape[1], device=prompt.visual_BT.device)
    last_B = (steps_T * prompt.visual_BT).amax(dim=1)
    first_B = last_B if include_last_visual_row else last_B + 1
    first_B = first_B.masked_fill(~prompt.visual_BT.any(dim=1), len(steps_T))
    rows_BT = steps_T >= first_B[:, None]
    return rows_BT.float(), int(first_B.min())
