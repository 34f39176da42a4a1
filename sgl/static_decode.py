"""Decode steps without launch overhead: static caches, one CUDA graph over them.

A decode step of a small batch starts hundreds of kernels of a few microseconds each, and the host
cannot start them that fast. Here a step touches the same memory every time: caches are allocated
with room for all tokens to come, and where the next one goes, and who may be attended to, are
tensors that the step itself moves on. So the whole step is recorded once as a CUDA graph and
replayed with one launch per token. Without CUDA the same step runs as it is.

Shapes: B records, G kv heads, T tokens of room, D head dimension, N vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from sgl.decoder import DecodeState, output_logits, run_layers
from sgl.errors import UnsupportedModelError
from sgl.language_model import LanguageModel

_ROOM = 64
"""Room is a multiple of it: fused attention wants aligned masks."""
_WARM_UP_STEPS = 2
"""Before a graph is recorded, so that libraries have allocated what they keep."""


class StaticDecode:
    """Decodes batches of one size, pruned at the same layers, each in the same memory."""

    @torch.inference_mode()
    def __init__(self, lm: LanguageModel, state: DecodeState, new_tokens: int) -> None:
        """Allocate, record and load.

        Args:
            lm: the decoder.
            state: from `prefill`; it is copied.
            new_tokens: how many steps there is room for behind it, at least.

        Raises:
            UnsupportedModelError: some layers see a window only, which moves on with every token.
        """
        if lm.has_windows:
            raise UnsupportedModelError("sliding windows cannot be decoded in static caches")
        self._lm = lm
        self._segments = [
            _StaticSegment.beside(state, segment.layers, new_tokens) for segment in state.segments
        ]
        self._cache = Cache(layers=[cache for one in self._segments for cache in one.caches])
        self._token_B = torch.zeros_like(state.position_B)
        self._position_B = torch.zeros_like(state.position_B)
        self._graph: torch.cuda.CUDAGraph | None = None
        if state.position_B.is_cuda:
            self._record()
        self.load(state)

    @torch.inference_mode()
    def load(self, state: DecodeState) -> None:
        """Begin with another prefilled batch.

        Raises:
            ValueError: it is of another size, pruned at other layers, or too long.
        """
        theirs = [segment.layers.start for segment in state.segments]
        ours = [segment.layers.start for segment in self._segments]
        if theirs != ours:
            raise ValueError(f"caches change their length at layers {theirs}, not at {ours}")
        for static, segment in zip(self._segments, state.segments, strict=True):
            static.load(state, segment.attended.valid_BT)
        self._position_B.copy_(state.position_B)

    @torch.inference_mode()
    def step(self, token_B: Tensor) -> Tensor:
        """As `sgl.decoder.decode_step`, on the loaded batch.

        Args:
            token_B: (B,) int64.

        Returns:
            (B, N) float32 logits, which the next step overwrites.

        Raises:
            ValueError: there is no room left.
        """
        for segment in self._segments:
            segment.take_room()
        self._token_B.copy_(token_B)
        if self._graph is None:
            return self._step()
        self._graph.replay()
        return self._logits_BN

    def _step(self) -> Tensor:
        """Reads and writes nothing but this object's tensors."""
        hidden_B1D = self._lm.text_model.embed_tokens(self._token_B[:, None])
        positions = self._position_B[None, :, None]
        for segment in self._segments:
            segment.valid_BT.index_fill_(1, segment.slot, True)
            hidden_B1D = run_layers(
                self._lm, segment.layers, hidden_B1D, positions, segment.decode_mask, self._cache
            )
            segment.slot.add_(1)
        self._position_B.add_(1)
        return output_logits(self._lm, hidden_B1D[:, -1])

    def _record(self) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_STEPS):
                self._step()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._logits_BN = self._step()


@dataclass
class _StaticSegment:
    """The layers whose caches are of one length.

    Attributes:
        caches: one per layer.
        valid_BT: (B, T) bool, who may be attended to.
        slot: (1,) int64, where the next token goes.
        free: tokens that there is room for.
    """

    layers: range
    caches: "list[_SlotLayer]"
    valid_BT: Tensor
    slot: Tensor
    free: int = 0

    @classmethod
    def beside(cls, state: DecodeState, layers: range, new_tokens: int) -> "_StaticSegment":
        """Empty, with room for what the state holds and the tokens to come."""
        batch, device = state.position_B.shape[0], state.position_B.device
        filled = state.cache.layers[layers[0]].keys.shape[2]
        # Recording a graph takes steps too, before anything is loaded.
        room = -(-max(filled + new_tokens, _WARM_UP_STEPS + 1) // _ROOM) * _ROOM
        slot = torch.zeros(1, dtype=torch.int64, device=device)
        caches = [_SlotLayer(state.cache.layers[index], room, slot) for index in layers]
        valid_BT = torch.zeros(batch, room, dtype=torch.bool, device=device)
        return cls(layers, caches, valid_BT, slot)

    def load(self, state: DecodeState, valid_BT: Tensor | None) -> None:
        """Copy the state's caches of these layers."""
        sources = [state.cache.layers[index] for index in self.layers]
        filled = sources[0].keys.shape[2]
        batch, room = self.valid_BT.shape
        if state.position_B.shape[0] != batch or filled > room:
            raise ValueError(
                f"{state.position_B.shape[0]} records of {filled} cached tokens do not fit into a "
                f"static cache of {batch} records with room for {room}"
            )
        for cache, source in zip(self.caches, sources, strict=True):
            cache.keys[:, :, :filled] = source.keys
            cache.values[:, :, :filled] = source.values
        self.valid_BT.zero_()
        self.valid_BT[:, :filled] = True if valid_BT is None else valid_BT
        self.slot.fill_(filled)
        self.free = room - filled

    def decode_mask(self, _window: int | None) -> Tensor:
        """(B, 1, 1, T) bool, of the last token over all the room."""
        return self.valid_BT[:, None, None, :]

    def take_room(self) -> None:
        """Count one more token: beyond the room a replayed graph would write anywhere."""
        if self.free == 0:
            raise ValueError("the static cache is full; build it for more new tokens")
        self.free -= 1


class _SlotLayer(DynamicLayer):
    """A layer's cache with room, filled at a slot that is known to the device alone."""

    def __init__(self, like: Any, room: int, slot: Tensor) -> None:
        super().__init__()
        batch, groups, _, dim = like.keys.shape
        self.keys = like.keys.new_zeros((batch, groups, room, dim))
        self.values = like.values.new_zeros((batch, groups, room, like.values.shape[3]))
        self.is_initialized = True
        self._slot = slot

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write one token, (B, G, 1, D) of both, and return all the room of both."""
        self.keys.index_copy_(2, self._slot, key_states)
        self.values.index_copy_(2, self._slot, value_states)
        return self.keys, self.values
