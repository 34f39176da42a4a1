"""A KV cache that grows without being copied at every token."""

from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

ROOM = 64
"""Tokens of room made when a layer is full: its cache is copied once per so many."""


class RoomyLayer(DynamicLayer):
    """As its parent, which concatenates, and so copies all it holds, at every token.

    The room is allocated once and filled; `keys` and `values`, (B, G, T, D), are views of what is
    filled so far.
    """

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add (B, G, Q, D) of both and return all of both."""
        past = self.get_seq_length()
        if past == 0:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            self._room = 0
            return self.keys, self.values
        total = past + key_states.shape[2]
        if total > self._room:
            self._room = total + ROOM
            self._all_keys = _roomy(self.keys, self._room)
            self._all_values = _roomy(self.values, self._room)
        self._all_keys[:, :, past:total] = key_states
        self._all_values[:, :, past:total] = value_states
        self.keys = self._all_keys[:, :, :total]
        self.values = self._all_values[:, :, :total]
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some records; what stays is copied, without room."""
        super().batch_select_indices(indices)
        self._room = 0


def kv_cache() -> Cache:
    """An empty cache whose layers have lengths of their own."""
    return Cache(layer_class_to_replicate=RoomyLayer)


def _roomy(states: Tensor, room: int) -> Tensor:
    batch, groups, filled, dim = states.shape
    wide = torch.empty((batch, groups, room, dim), dtype=states.dtype, device=states.device)
    wide[:, :, :filled] = states
    return wide
