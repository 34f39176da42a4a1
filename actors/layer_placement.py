"""One process, several GPUs: a model's decoder layers spread over them, one after the other.

The way of models that cannot be split by tensor parallelism. It holds a model that one GPU cannot,
at the speed of one GPU: a batch passes from device to device. All that is no decoder layer stays
on the first device, where the decoder loop also keeps its masks, positions and rotary embeddings.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def balanced(layer_bytes: Sequence[int], rest_bytes: int, devices: int) -> list[int]:
    """The device of every layer: contiguous, in order, each device's bytes near the mean.

    Args:
        layer_bytes: of each layer.
        rest_bytes: of everything else; it is on the first device.
        devices: how many.
    """
    total = rest_bytes + sum(layer_bytes)
    placed, before = [], rest_bytes
    for size in layer_bytes:
        # A layer belongs where its middle falls when the bytes are cut into equal parts.
        placed.append(min(devices - 1, int((before + size / 2) * devices / total)))
        before += size
    return placed


def spread(model: Any, devices: Sequence[torch.device]) -> None:
    """Move a native model to the devices; its layers fetch their inputs themselves."""
    decoder = model.get_decoder()
    layers = decoder.layers
    sizes = [_bytes(layer) for layer in layers]
    place = balanced(sizes, _bytes(model) - sum(sizes), len(devices))
    inputs = [_Inputs(device) for device in devices]
    for layer, index in zip(layers, place, strict=True):
        layer.to(devices[index])
        layer.register_forward_pre_hook(inputs[index], with_kwargs=True)
    decoder.layers = torch.nn.ModuleList()  # so that all the rest moves without them
    model.to(devices[0])
    decoder.layers = layers


def _bytes(module: torch.nn.Module) -> int:
    return sum(one.numel() * one.element_size() for one in module.parameters())


class _Inputs:
    """Brings a layer's arguments to its device.

    What all layers share (mask, rotary embedding) moves once: masks of long prompts are large.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._moved: dict[str, tuple[Any, Any]] = {}

    def __call__(self, _layer: Any, args: Any, kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
        return _to(args, self._device), {
            name: self._shared(name, value) for name, value in kwargs.items()
        }

    def _shared(self, name: str, value: Any) -> Any:
        if not isinstance(value, Tensor | tuple):
            return value
        source, moved = self._moved.get(name, (None, None))
        if source is not value:
            moved = _to(value, self._device)
            self._moved[name] = (value, moved)
        return moved


def _to(value: Any, device: torch.device) -> Any:
    if isinstance(value, tuple):
        return tuple(_to(one, device) for one in value)
    return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
