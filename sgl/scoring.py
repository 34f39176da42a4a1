"""Teacher-forced scoring: how probable given answers are, in one forward pass.

Shapes: B records, T prompt tokens, D hidden, N vocabulary, S answer tokens, X scored tokens of all
records, Y some of them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sgl.compaction import add_text
from sgl.decoder import output_logits, prefill_layers
from sgl.language_model import LanguageModel, Prompt

SCORED_AT_ONCE = 256
"""Tokens whose logits over the whole vocabulary are held at the same time."""


def score_answers(
    lm: LanguageModel,
    prompt: Prompt,
    answers: Sequence[Sequence[int]],
) -> list[list[float]]:
    """Log probabilities of given answers in ONE teacher-forced forward.

    Args:
        lm: the decoder.
        prompt: B prompts, pruned already if they are to be.
        answers: per record, at least one token.

    Returns:
        Per record, log p(y_t) of its tokens. No token is barred here, as in the paper's code.
    """
    device, width = prompt.embeds_BTD.device, prompt.embeds_BTD.shape[1]
    longest = max(len(answer) for answer in answers)
    target_BS = torch.tensor(
        [[*answer, *[0] * (longest - len(answer))] for answer in answers], device=device
    )
    # The last token is scored, never fed. Right padding needs no mask: nobody looks at it.
    fed_BS = target_BS[:, :-1]
    valid_BS = torch.ones_like(fed_BS, dtype=torch.bool)
    prompt = add_text(prompt, lm.text_model.embed_tokens(fed_BS), valid_BS)
    hidden_BTD, _ = prefill_layers(lm, range(lm.layers), prompt, None)
    lengths = [len(answer) for answer in answers]
    hidden_XD = torch.cat(
        [hidden_BTD[record, width - 1 :][:length] for record, length in enumerate(lengths)]
    )
    target_X = torch.cat([target_BS[record, :length] for record, length in enumerate(lengths)])
    log_probs = iter(_log_probs(lm, hidden_XD, target_X))
    return [[next(log_probs) for _ in range(length)] for length in lengths]


def _log_probs(lm: LanguageModel, hidden_XD: Tensor, target_X: Tensor) -> list[float]:
    """Of some tokens behind some hidden states, one each."""
    found: list[float] = []
    for hidden_YD, target_Y in zip(
        hidden_XD.split(SCORED_AT_ONCE), target_X.split(SCORED_AT_ONCE), strict=True
    ):
        log_probs_YN = output_logits(lm, hidden_YD).log_softmax(dim=-1)
        found += log_probs_YN.gather(1, target_Y[:, None])[:, 0].tolist()
    return found
