"""The answers of a batch while they are made: which tokens, how likely, and which go on.

Shapes: R rows still in the batch, N vocabulary.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sgl.errors import NumericalError
from sgl.sampling import Sampler
from sgl.types import Sampling
from sgl.uncertainty import entropy_and_margin


def _never(_record: int, _token_ids: Sequence[int]) -> bool:
    return False


@dataclass(frozen=True)
class Limits:
    """When answers end, and how their tokens are chosen.

    Attributes:
        end_token_ids: any of them ends an answer.
        max_new_tokens: per record, at least 1.
        min_new_tokens: end tokens are barred from the answer's first tokens; their probability
            is then spread over the rest of the vocabulary.
        sampling: per record; None, and nothing at all, are greedy.
        stopped: whether a record's tokens so far end its answer for another reason.
    """

    end_token_ids: Collection[int]
    max_new_tokens: Sequence[int]
    min_new_tokens: int = 1
    sampling: Sequence[Sampling | None] = ()
    stopped: Callable[[int, Sequence[int]], bool] = _never


@dataclass(frozen=True)
class Generation:
    """Answers of a batch.

    Attributes:
        token_ids: per record, the end token included when it was generated.
        log_probs: per record, log p(y_t) of those tokens, of a sampled one too before temperature
            and top-p.
        entropies: per record, of the distributions that they were chosen from, in nats; nothing
            unless asked for.
        margins: per record, p of the likeliest token less p of the next best one; likewise.
        ended: per record, whether it ended of itself, and not at its limit.
        drafted: per record, draft tokens that were read.
        accepted: per record, draft tokens that are in the answer.
        passes: forward passes of the decoder, the prefill included.
    """

    token_ids: list[list[int]]
    log_probs: list[list[float]]
    entropies: list[list[float]]
    margins: list[list[float]]
    ended: list[bool]
    drafted: list[int]
    accepted: list[int]
    passes: int


class Answers:
    """The answers so far, and which records are still in the batch.

    Args:
        limits: when they end.
        uncertainty: also look at entropies and margins.

    Attributes:
        records: of the batch's rows.
        unfinished: records whose answers go on.
        generation: what was generated so far.
    """

    def __init__(self, limits: Limits, *, uncertainty: bool = False) -> None:
        self._limits = limits
        self._uncertainty = uncertainty
        self.records = list(range(len(limits.max_new_tokens)))
        self.unfinished = set(self.records)
        ways = limits.sampling or [None] * len(self.records)
        self._samplers = [Sampler(way) if way else None for way in ways]
        self.drafted = [0] * len(self.records)
        self.accepted = [0] * len(self.records)
        self.passes = 1
        self._token_ids: list[list[int]] = [[] for _ in self.records]
        self._log_probs: list[list[float]] = [[] for _ in self.records]
        self._entropies: list[list[float]] = [[] for _ in self.records]
        self._margins: list[list[float]] = [[] for _ in self.records]
        self._ended = [False] * len(self.records)

    def choose(self, records: Sequence[int], logits_RN: Tensor) -> Tensor:
        """The next token of every row, (R,) int64; unfinished answers get it.

        Raises:
            NumericalError: the logits of an unfinished record are not finite.
        """
        self._bar_ends(records, logits_RN)
        log_prob_RN = logits_RN.log_softmax(dim=-1)
        log_prob_R, token_R = log_prob_RN.max(dim=-1)
        if self._uncertainty:
            self._look_around(records, log_prob_RN)
        tokens, log_probs = token_R.tolist(), log_prob_R.tolist()
        for row, record in enumerate(records):
            if record not in self.unfinished:
                continue
            if not math.isfinite(log_probs[row]):
                raise NumericalError(
                    "the model's numbers are not finite on this record; load the model in "
                    "bfloat16 or float32 (its dtype), or look at the image"
                )
            if sampler := self._samplers[record]:
                token = sampler.draw(log_prob_RN[row])
                token_R[row] = token
                self._add(record, token, float(log_prob_RN[row, token]))
            else:
                self._add(record, tokens[row], log_probs[row])
        return token_R

    def cancel(self, record: int) -> None:
        """Nobody waits for this answer any more."""
        self.unfinished.discard(record)

    def keep_unfinished(self, device: torch.device) -> Tensor:
        """Let finished records leave: (R,) int64, the rows that stay."""
        rows = [row for row, record in enumerate(self.records) if record in self.unfinished]
        self.records = [self.records[row] for row in rows]
        return torch.tensor(rows, device=device)

    def steps_left(self) -> int:
        """At most."""
        limits, done = self._limits.max_new_tokens, self._token_ids
        return max((limits[record] - len(done[record]) for record in self.unfinished), default=0)

    def last_token(self, record: int) -> int:
        """The last one chosen."""
        return self._token_ids[record][-1]

    @property
    def generation(self) -> Generation:
        """What was generated."""
        return Generation(
            token_ids=self._token_ids,
            log_probs=self._log_probs,
            entropies=self._entropies,
            margins=self._margins,
            ended=self._ended,
            drafted=self.drafted,
            accepted=self.accepted,
            passes=self.passes,
        )

    def _bar_ends(self, records: Sequence[int], logits_RN: Tensor) -> None:
        least = self._limits.min_new_tokens
        early = [len(self._token_ids[record]) < least for record in records]
        if any(early) and self._limits.end_token_ids:
            barred = torch.tensor(sorted(self._limits.end_token_ids), device=logits_RN.device)
            rows = torch.tensor(early, device=logits_RN.device).nonzero()
            logits_RN[rows, barred] = float("-inf")

    def _look_around(self, records: Sequence[int], log_prob_RN: Tensor) -> None:
        """What else the tokens of unfinished answers might have been."""
        entropies, margins = torch.stack(entropy_and_margin(log_prob_RN)).tolist()
        for record, entropy, margin in zip(records, entropies, margins, strict=True):
            if record in self.unfinished:
                self._entropies[record].append(entropy)
                self._margins[record].append(margin)

    def _add(self, record: int, token: int, log_prob: float) -> None:
        said = self._token_ids[record]
        said.append(token)
        self._log_probs[record].append(log_prob)
        ends = token in self._limits.end_token_ids or self._limits.stopped(record, said)
        if ends or len(said) == self._limits.max_new_tokens[record]:
            self._ended[record] = ends
            self.unfinished.discard(record)
