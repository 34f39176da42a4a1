"""The answers of a batch, one forward pass after the other: plain, captured, or from a draft.

Shapes: B records, R rows still in the batch, T prompt tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sgl.answers import Answers, Generation, Limits
from sgl.attention import RowCapture
from sgl.decoder import DecodeState, decode_step, prefill
from sgl.drafts import verify
from sgl.language_model import LanguageModel, Prompt
from sgl.selection import AnySelection
from sgl.static_decode import StaticDecode

HALF_LEFT = 0.5
"""Finished records leave a decode batch once so few of it are unfinished: every step that is saved
costs its share of one copy of the cache, however the lengths of the answers fall."""

_GRAPH_STEPS = 16
"""Recording a graph takes as long as a few steps without one."""


class Generating:
    """A batch whose answers are being made: the first step is the prefill, each other one a token.

    Args:
        lm: the decoder.
        prompt: B prompts.
        limits: when answers end, and how tokens are chosen.
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
    """

    def __init__(
        self,
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
    ) -> None:
        self._lm, self._prompt, self._selections = lm, prompt, selections
        # A draft of the limit's length would leave no room for the model's own token.
        most = limits.max_new_tokens
        self._drafts = [list(d[: n - 1]) for d, n in zip(drafts or (), most, strict=bool(drafts))]
        assert capture is None or not any(self._drafts), "a draft is no part of the prompt"
        self._capture = capture
        self._include_last_visual_row = include_last_visual_row
        self._graph = graph and capture is None and not lm.has_windows
        self._leave_at = leave_at
        self._answers = Answers(limits, uncertainty=uncertainty)
        self._begun = False
        self._static: StaticDecode | None = None

    @property
    def unfinished(self) -> frozenset[int]:
        """Records whose answers go on."""
        return frozenset(self._answers.unfinished)

    @property
    def generation(self) -> Generation:
        """What was generated so far."""
        return self._answers.generation

    def cancel(self, record: int) -> None:
        """Nobody waits for this record's answer any more."""
        self._answers.cancel(record)

    def step(self) -> None:
        """One forward pass; there must be unfinished records.

        Raises:
            NumericalError: the logits of a record are not finite.
        """
        if self._begun:
            logits_RN = self._static_logits() if self._static else self._logits()
            self._token_B = self._answers.choose(self._answers.records, logits_RN)
            self._answers.passes += 1
            return
        self._begun = True
        self._token_B, state = self._prefill()
        self._state = state
        if self._graph and self._answers.steps_left() >= _GRAPH_STEPS:
            # All steps that are left: a graph is of one batch size, so finished records stay.
            self._static = StaticDecode(self._lm, state, self._answers.steps_left())
            state.cache.layers.clear()  # it is copied

    def finish(self) -> Generation:
        """All steps that are left; errors as of `step`."""
        while self.unfinished:
            self.step()
        return self.generation

    def _prefill(self) -> tuple[Tensor, DecodeState]:
        answers = self._answers
        if any(self._drafts):
            return verify(self._lm, self._prompt, self._selections, self._drafts, answers)
        if self._capture:
            self._capture.watch(*_rows_after_image(self._prompt, self._include_last_visual_row))
        logits_BN, state = prefill(self._lm, self._prompt, self._selections, self._capture)
        return answers.choose(answers.records, logits_BN), state

    def _static_logits(self) -> Tensor:
        assert self._static is not None
        return self._static.step(self._token_B)

    def _logits(self) -> Tensor:
        """(R, N), of the records that have not left."""
        answers, rows = self._answers, len(self._answers.records)
        if len(answers.unfinished) <= min(self._leave_at * rows, rows - 1):
            index_R = answers.keep_unfinished(self._token_B.device)
            self._state.keep_rows(index_R)
            self._token_B = self._token_B[index_R]
        if self._capture:
            device = self._token_B.device
            fed = [[float(record in answers.unfinished)] for record in answers.records]
            records = torch.tensor(answers.records, device=device)
            self._capture.watch(torch.tensor(fed, device=device), record_B=records)
        return decode_step(self._lm, self._state, self._token_B, self._capture)


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
