"""Prefill and decoding over a native decoder's own layers.

One level below `sgl.vlm`: a bare language model and input embeddings, no images, no tokenizer.

Pruning (SGP; paper, section 3.2): at the INPUT of layer K the dropped tokens leave the sequence.
Layers below K have a full KV cache, layers from K on a short one; decoding runs with both. Pruned
at several layers, there are more such segments. What stays keeps its original order and its
original position ids, so the rotary embedding is that of the full sequence.

Batches are ragged and left-padded; pruning re-compacts them to the left-padded width of the
longest survivor. Where nothing but their padding needs a mask, layers run them padded on the right:
causal attention then never sees it, fused attention runs without a mask, and only decode steps mask
the padding in the middle of their caches. Shapes: B records, T prompt tokens, W tokens after
pruning, Q query tokens, D hidden, A position axes (1, or 3 for M-RoPE), N vocabulary.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from torch import Tensor
from transformers import Cache

from sgl.attention import Glance, GlancedError, RowCapture
from sgl.compaction import compaction, right_padded, take, take_tokens
from sgl.kv_cache import kv_cache
from sgl.language_model import LanguageModel, Prompt
from sgl.masks import Attended
from sgl.selection import AnySelection, AttentionSelection, Selection


@dataclass
class Segment:
    """Layers whose caches hold the same tokens.

    Attributes:
        layers: at least one.
        attended: the cached tokens.
    """

    layers: range
    attended: Attended


@dataclass
class DecodeState:
    """The caches of a batch that is being decoded.

    Attributes:
        cache: one KV cache whose layers have lengths of their own.
        segments: all layers, in order; each a run of layers whose caches hold the same tokens.
        position_B: (B,) int64, the position of the next token to be fed.
    """

    cache: Cache
    segments: list[Segment]
    position_B: Tensor

    def keep_rows(self, index_R: Tensor) -> None:
        """Let the other records leave the batch: (R,) int64, rows of it in the order to come."""
        for layer in self.cache.layers:  # on several devices where the model is
            layer.batch_select_indices(index_R.to(layer.keys.device))
        for segment in self.segments:
            segment.attended = segment.attended.keep_rows(index_R)
        self.position_B = self.position_B[index_R]

    def take_back(self, count_B: Tensor) -> None:
        """Hide each record's last cached tokens, (B,) int64 of them; positions stay."""
        for segment in self.segments:
            width = self.cache.layers[segment.layers[0]].keys.shape[2]
            segment.attended = segment.attended.without_last(count_B, width)


def prefill(
    lm: LanguageModel,
    prompt: Prompt,
    selections: Sequence[AnySelection] = (),
    capture: RowCapture | None = None,
) -> tuple[Tensor, DecodeState]:
    """Run the prompt through all layers, pruning at the inputs of the selections' layers.

    Args:
        lm: the decoder.
        prompt: B prompts of T tokens.
        selections: what stays from which layer on, by layer; with none nothing is pruned.
        capture: collects the watched attention rows; only without selections.

    Returns:
        (B, N) float32 logits of the next token, and the state to decode from.
    """
    hidden_BWD, state = prefill_hidden(lm, prompt, selections, capture)
    return output_logits(lm, hidden_BWD[:, -1]), state


def prefill_hidden(
    lm: LanguageModel,
    prompt: Prompt,
    selections: Sequence[AnySelection] = (),
    capture: RowCapture | None = None,
) -> tuple[Tensor, DecodeState]:
    """As `prefill`, with the last layer's hidden states, (B, W, D), in place of logits."""
    assert not (selections and capture), "columns of pruned layers would not match the prompt's"
    run = _Prefill(lm, prompt)
    waiting = list(selections)
    while waiting:
        selection = waiting.pop(0)
        if isinstance(selection, Selection):
            run.to(selection.layer)
            keep_BT = selection.keep_BT
        else:
            keep_BT = run.ranked(selection)
        moves = run.prune(keep_BT)
        waiting = [later.moved(*moves) for later in waiting]
    run.to(lm.layers, capture)
    state = DecodeState(run.cache, run.segments, prompt.next_position_B)
    return run.prompt.embeds_BTD, state


class _Prefill:
    """A batch of prompts on its way through the layers.

    Attributes:
        prompt: what enters the next layer.
        segments: of the layers behind it.
    """

    def __init__(self, lm: LanguageModel, prompt: Prompt) -> None:
        self.lm, self.prompt = lm, prompt
        self.cache = kv_cache()
        self.segments: list[Segment] = []

    @property
    def layer(self) -> int:
        """The next one."""
        return self.segments[-1].layers.stop if self.segments else 0

    def to(self, layer: int, capture: RowCapture | None = None) -> None:
        """Run the layers before another one."""
        layers = range(self.layer, layer)
        if layers:
            hidden_BTD, attended = prefill_layers(self.lm, layers, self.prompt, self.cache, capture)
            self.prompt = replace(self.prompt, embeds_BTD=hidden_BTD)
            self.segments.append(Segment(layers, attended))

    def prune(self, keep_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Drop tokens here; which stay, as `compaction` says it."""
        moves = compaction(keep_BT & self.prompt.valid_BT)
        self.prompt = take_tokens(self.prompt, *moves)
        return moves

    def ranked(self, selection: AttentionSelection) -> Tensor:
        """Run up to its layer and rank on the way: (B, T) bool, what stays."""
        self.to(selection.layer - 1 if selection.before else selection.layer)
        capture = selection.capture(self.prompt.valid_BT)
        if selection.before:
            self.to(selection.layer, capture)
        else:
            self._glance(capture)
        return selection.choose(capture.importance_BT, self.prompt.visual_BT)

    def _glance(self, capture: RowCapture) -> None:
        """Capture from the next layer's attention to what enters it, and leave the layer again."""
        with suppress(GlancedError):
            prefill_layers(
                self.lm, range(self.layer, self.layer + 1), self.prompt, None, Glance(capture)
            )


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
    for segment in state.segments:
        segment.attended = segment.attended.with_next(position_B)
        hidden_B1D = run_layers(
            lm,
            segment.layers,
            hidden_B1D,
            position_B[None, :, None],
            segment.attended.decode_mask,
            state.cache,
            capture,
        )
    return output_logits(lm, hidden_B1D[:, -1])


def output_logits(lm: LanguageModel, hidden_BD: Tensor) -> Tensor:
    """(..., N) float32 from the last layer's (..., D)."""
    return lm.lm_head(lm.text_model.norm(hidden_BD)).float()


def prefill_layers(
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
