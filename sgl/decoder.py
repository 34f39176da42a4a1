"""Prefill, decoding and teacher-forced scoring over a native decoder's own layers.

One level below `sgl.vlm`: a bare language model and input embeddings, no images, no tokenizer.

Pruning (SGP; paper, section 3.2): at the INPUT of layer K the dropped tokens leave the sequence.
Layers below K have a full KV cache, layers from K on a short one; decoding runs with both. What
stays keeps its original order and its original position ids, so the rotary embedding is that of
the full sequence.

Batches are ragged and left-padded; pruning re-compacts them to the left-padded width of the
longest survivor. Shapes: B records, T prompt tokens, W tokens after pruning, Q query tokens,
D hidden, A position axes (1, or 3 for M-RoPE), N vocabulary, S generated tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache

from sgl.attention import RowCapture
from sgl.compaction import Selection, compaction, take, take_positions
from sgl.kv_cache import kv_cache
from sgl.language_model import LanguageModel, Prompt


@dataclass
class DecodeState:
    """Both caches of a batch that is being decoded.

    Attributes:
        cache: one KV cache whose layers have lengths of their own.
        split: K, the first layer with the short cache.
        valid_below_BT: (B, T') bool, cached tokens of the layers below K; None: all are valid.
        valid_above_BT: (B, W') bool, cached tokens of the layers from K on; None: all are valid.
        position_B: (B,) int64, the position of the next token to be fed.
    """

    cache: Cache
    split: int
    valid_below_BT: Tensor | None
    valid_above_BT: Tensor | None
    position_B: Tensor

    def keep_rows(self, index_R: Tensor) -> None:
        """Let the other records leave the batch: (R,) int64, rows of it in the order to come."""
        self.cache.batch_select_indices(index_R)
        self.valid_below_BT, self.valid_above_BT = (
            None if valid_BT is None else valid_BT[index_R]
            for valid_BT in (self.valid_below_BT, self.valid_above_BT)
        )
        self.position_B = self.position_B[index_R]


def prefill(
    lm: LanguageModel,
    prompt: Prompt,
    selection: Selection | None = None,
    capture: RowCapture | None = None,
) -> tuple[Tensor, DecodeState]:
    """Run the prompt through all layers, pruning at the input of layer `selection.layer`.

    Args:
        lm: the decoder.
        prompt: B prompts of T tokens.
        selection: what stays from which layer on; None prunes nothing.
        capture: collects the watched attention rows; only without a selection.

    Returns:
        (B, N) float32 logits of the next token, and the state to decode from.
    """
    hidden_BTD, state = prefill_hidden(lm, prompt, selection, capture)
    return output_logits(lm, hidden_BTD[:, -1]), state


def prefill_hidden(
    lm: LanguageModel,
    prompt: Prompt,
    selection: Selection | None = None,
    capture: RowCapture | None = None,
) -> tuple[Tensor, DecodeState]:
    """As `prefill`, with the last layer's hidden states, (B, W, D), in place of logits."""
    split = selection.layer if selection else lm.layers
    cache = kv_cache()
    hidden_BTD, positions = prompt.embeds_BTD, prompt.position_ids_ABT
    below_BT = above_BT = _none_if_all(prompt.valid_BT)
    mask = _causal_mask(below_BT)
    hidden_BTD = run_layers(lm, range(split), hidden_BTD, positions, mask, cache, capture)
    if selection:
        assert capture is None, "columns of pruned layers would not match the prompt's"
        index_BW, valid_BW = compaction(selection.keep_BT & prompt.valid_BT)
        hidden_BTD = take(hidden_BTD, index_BW)
        positions = take_positions(positions, index_BW)
        above_BT = _none_if_all(valid_BW)
        mask = _causal_mask(above_BT)
        hidden_BTD = run_layers(lm, range(split, lm.layers), hidden_BTD, positions, mask, cache)
    state = DecodeState(cache, split, below_BT, above_BT, prompt.next_position_B)
    return hidden_BTD, state


def decode_step(
    lm: LanguageModel,
    state: DecodeState,
    token_B: Tensor,
    capture: RowCapture | None = None,
) -> Tensor:
    """Feed one token per record; advances `state`.

    Args:
        lm: the decoder.
        state: from `prefill`.
        token_B: (B,) int64.
        capture: collects the watched attention rows.

    Returns:
        (B, N) float32 logits of the token after it.
    """
    state.valid_below_BT = _append_valid(state.valid_below_BT)
    state.valid_above_BT = _append_valid(state.valid_above_BT)
    hidden_B1D = lm.text_model.embed_tokens(token_B[:, None])
    positions = state.position_B[None, :, None]
    state.position_B = state.position_B + 1
    for layers, valid_BT in (
        (range(state.split), state.valid_below_BT),
        (range(state.split, lm.layers), state.valid_above_BT),
    ):
        mask = None if valid_BT is None else valid_BT[:, None, None, :]
        hidden_B1D = run_layers(lm, layers, hidden_B1D, positions, mask, state.cache, capture)
    return output_logits(lm, hidden_B1D[:, -1])


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
    position_BS = prompt.next_position_B[:, None] + torch.arange(longest - 1, device=device)
    axes = prompt.position_ids_ABT.shape[0]
    hidden_BTD = torch.cat([prompt.embeds_BTD, lm.text_model.embed_tokens(fed_BS)], dim=1)
    positions = torch.cat([prompt.position_ids_ABT, position_BS.expand(axes, -1, -1)], dim=2)
    valid_BT = torch.cat([prompt.valid_BT, torch.ones_like(fed_BS, dtype=torch.bool)], dim=1)
    mask = _causal_mask(_none_if_all(valid_BT))
    hidden_BTD = run_layers(lm, range(lm.layers), hidden_BTD, positions, mask, None)
    logits_BSN = output_logits(lm, hidden_BTD[:, width - 1 :])
    log_probs_BSN = logits_BSN.log_softmax(dim=-1)
    log_probs_BS = log_probs_BSN.gather(2, target_BS[..., None])[..., 0].tolist()
    return [row[: len(answer)] for row, answer in zip(log_probs_BS, answers, strict=True)]


def run_layers(
    lm: LanguageModel,
    layers: range,
    hidden_BQD: Tensor,
    position_ids_ABQ: Tensor,
    mask: Tensor | None,
    cache: Cache | None,
    capture: RowCapture | None = None,
) -> Tensor:
    """Some of the decoder's layers on (B, Q, D), at the given positions, under one mask."""
    if not layers:
        return hidden_BQD
    rope = lm.rope(hidden_BQD, position_ids_ABQ)
    for index in layers:
        # position_ids stay None: FA2 would read non-contiguous ones as packed sequences.
        hidden_BQD = lm.text_model.layers[index](
            hidden_BQD,
            attention_mask=mask,
            position_embeddings=rope,
            position_ids=None,
            past_key_values=cache,
            use_cache=cache is not None,
            sgl_capture=capture,
        )
    return hidden_BQD


def output_logits(lm: LanguageModel, hidden_BD: Tensor) -> Tensor:
    """(..., N) float32 from the last layer's (..., D)."""
    return lm.lm_head(lm.text_model.norm(hidden_BD)).float()


def _none_if_all(valid_BT: Tensor) -> Tensor | None:
    """Nothing is padded: fused attention runs without a mask, on its fast path."""
    return None if bool(valid_BT.all()) else valid_BT


def _causal_mask(valid_BT: Tensor | None) -> Tensor | None:
    """(B, 1, T, T) bool, or None where plain causal attention is right.

    A padding row attends to itself: a row without any key would turn into NaN.
    """
    if valid_BT is None:
        return None
    causal_TT = torch.ones(valid_BT.shape[1:] * 2, dtype=torch.bool, device=valid_BT.device).tril()
    itself_TT = torch.eye(valid_BT.shape[1], dtype=torch.bool, device=valid_BT.device)
    return (causal_TT & valid_BT[:, None, None, :]) | itself_TT


def _append_valid(valid_BT: Tensor | None) -> Tensor | None:
    if valid_BT is None:
        return None
    return torch.cat([valid_BT, valid_BT.new_ones(valid_BT.shape[0], 1)], dim=1)
