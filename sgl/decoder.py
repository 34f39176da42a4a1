"""Prefill, decoding and teacher-forced scoring over a native decoder's own layers.

One level below `sgl.vlm`: a bare language model and input embeddings, no images, no tokenizer.

Pruning (SGP; paper, section 3.2): at the INPUT of layer K the dropped tokens leave the sequence.
Layers below K have a full KV cache, layers from K on a short one; decoding runs with both. What
stays keeps its original order and its original position ids, so the rotary embedding is that of
the full sequence.

Batches are ragged and left-padded; pruning re-compacts them to the left-padded width of the
longest survivor. Where nothing but their padding needs a mask, layers run them padded on the right:
causal attention then never sees it, fused attention runs without a mask, and only decode steps mask
the padding in the middle of their caches. Shapes: B records, T prompt tokens, W tokens after
pruning, Q query tokens, D hidden, A position axes (1, or 3 for M-RoPE), N vocabulary, S generated
tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import Cache

from sgl.attention import RowCapture
from sgl.compaction import Selection, add_text, prune_prompt, right_padded, take
from sgl.kv_cache import kv_cache
from sgl.language_model import LanguageModel, Prompt
from sgl.masks import Attended

SCORED_AT_ONCE = 256
"""Tokens whose logits over the whole vocabulary are held at the same time."""


@dataclass
class DecodeState:
    """Both caches of a batch that is being decoded.

    Attributes:
        cache: one KV cache whose layers have lengths of their own.
        split: K, the first layer with the short cache.
        below: the cached tokens of the layers below K.
        above: the cached tokens of the layers from K on.
        position_B: (B,) int64, the position of the next token to be fed.
    """

    cache: Cache
    split: int
    below: Attended
    above: Attended
    position_B: Tensor

    def keep_rows(self, index_R: Tensor) -> None:
        """Let the other records leave the batch: (R,) int64, rows of it in the order to come."""
        for layer in self.cache.layers:  # on several devices where the model is
            layer.batch_select_indices(index_R.to(layer.keys.device))
        self.below, self.above = self.below.keep_rows(index_R), self.above.keep_rows(index_R)
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
    hidden_BTD, below = _prefill_layers(lm, range(split), prompt, cache, capture)
    above = below
    if selection:
        assert capture is None, "columns of pruned layers would not match the prompt's"
        pruned = prune_prompt(replace(prompt, embeds_BTD=hidden_BTD), selection.keep_BT)
        hidden_BTD, above = _prefill_layers(lm, range(split, lm.layers), pruned, cache)
    return hidden_BTD, DecodeState(cache, split, below, above, prompt.next_position_B)


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
    hidden_B1D = lm.text_model.embed_tokens(token_B[:, None])
    position_B, state.position_B = state.position_B, state.position_B + 1
    state.below, state.above = state.below.with_next(position_B), state.above.with_next(position_B)
    for layers, attended in (
        (range(state.split), state.below),
        (range(state.split, lm.layers), state.above),
    ):
        hidden_B1D = run_layers(
            lm,
            layers,
            hidden_B1D,
            position_B[None, :, None],
            attended.decode_mask,
            state.cache,
            capture,
        )
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
    valid_BS = torch.ones_like(fed_BS, dtype=torch.bool)
    prompt = add_text(prompt, lm.text_model.embed_tokens(fed_BS), valid_BS)
    hidden_BTD, _ = _prefill_layers(lm, range(lm.layers), prompt, None)
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


def output_logits(lm: LanguageModel, hidden_BD: Tensor) -> Tensor:
    """(..., N) float32 from the last layer's (..., D)."""
    return lm.lm_head(lm.text_model.norm(hidden_BD)).float()


def _prefill_layers(
    lm: LanguageModel,
    layers: range,
    prompt: Prompt,
    cache: Cache | None,
    capture: RowCapture | None = None,
) -> tuple[Tensor, Attended]:
    """What leaves the layers, (B, T, D), and the tokens in their caches as these have them.

    `prompt.embeds_BTD` is what enters the layers. Rows to be captured stand at one place in every
    record as long as the padding is on the left, so with a capture it stays there.
    """
    attended = Attended.of(prompt, windows=lm.has_windows)
    back_BT = None
    if attended.only_padding_hidden and capture is None:
        prompt, back_BT = right_padded(prompt)
        attended = replace(attended, valid_BT=prompt.valid_BT)
    hidden_BTD = run_layers(
        lm,
        layers,
        prompt.embeds_BTD,
        prompt.position_ids_ABT,
        attended.prefill_mask if back_BT is None else _no_mask,
        cache,
        capture,
        prompt.deepstack,
    )
    return hidden_BTD if back_BT is None else take(hidden_BTD, back_BT), attended


def _no_mask(_window: int | None) -> None:
    """Causal attention over everything."""


def run_layers(
    lm: LanguageModel,
    layers: range,
    hidden_BQD: Tensor,
    position_ids_ABQ: Tensor,
    mask_of: Callable[[int | None], Tensor | None],
    cache: Cache | None,
    capture: RowCapture | None = None,
    deepstack: Sequence[Tensor] = (),
) -> Tensor:
    """Some of the decoder's layers on (B, Q, D); `mask_of` makes the mask of a window's width."""
    device = hidden_BQD.device
    layer_types = {lm.layer_type(index) for index in layers}
    masks = {kind: mask_of(lm.window(kind)) for kind in layer_types}
    ropes = {kind: lm.rope(hidden_BQD, position_ids_ABQ, kind) for kind in layer_types}
    for index in layers:
        # position_ids stay None: FA2 would read non-contiguous ones as packed sequences.
        hidden_BQD = lm.text_model.layers[index](
            hidden_BQD,
            attention_mask=masks[lm.layer_type(index)],
            position_embeddings=ropes[lm.layer_type(index)],
            position_ids=None,
            past_key_values=cache,
            use_cache=cache is not None,
            sgl_capture=capture,
        )
        if index < len(deepstack):
            hidden_BQD = hidden_BQD + deepstack[index].to(hidden_BQD.device)
    return hidden_BQD.to(device)
